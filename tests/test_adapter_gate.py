"""What the finished adapter learns besides the edits, and the gate before it."""

from __future__ import annotations

import json
import shlex
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from small_adapt import ADAPT, few_probes, only_run, settled

from seal.cli.app import run
from seal.domains.knowledge import Knowledge
from seal.domains.lessons import lessons
from seal.domains.passages import to_problems
from seal.domains.probes import probes
from seal.domains.self_questions import SAME
from seal.edits.questions import question_prompt
from seal.engine import Engine
from seal.loops import adapt as loop
from seal.loops.adapter_gate import AdapterGate, probes_phase, refusal
from seal.loops.gate import HARM, NOTHING, UNKNOWN, WORSE, Verdict
from seal.loops.rehearsal import QUESTIONS, rehearsal
from seal.protocols import nobody
from seal.report.card import Loading, _refused, vllm_command
from seal.report.page import page, report_data
from seal.store import Store
from seal.text import f1
from seal.types import Example, Finished, Job, Prompt, Reply, Sampling

# ---- lessons


def test_a_question_is_answered_by_the_sentence_it_was_asked_about(domain: Knowledge) -> None:
    text = "Opening\n\nAda built the mill\nin 1901. It grinds rye.\n\nBo keeps the keys."
    (mill,) = to_problems([("The mill", text, [])])
    asked = [("Who built it?", "Ada"), ("When?", "1901"), ("What?", "rye"), ("Who?", "Bo"), ("Where?", "nowhere")]
    assert lessons(domain, mill, asked, each=1, without=["RYE."]) == (
        Example("Ada built the mill in 1901.", question_prompt("Who built it?", "The mill"), "completion"),
        Example("Bo keeps the keys.", question_prompt("Who?", "The mill"), "completion"),
    )
    assert [one.completion for one in lessons(domain, mill, asked, each=2)] == [
        *["Ada built the mill in 1901."] * 2,
        "It grinds rye.",
        "Bo keeps the keys.",
    ]
    assert lessons(domain, mill, asked, each=0) == ()
    (dam,) = to_problems([("The dam", "It was built in 1840. It turns 4 mills.", [])])
    (four,) = lessons(domain, dam, [("How many mills does it turn?", "4")], each=1)
    assert four.completion == "It turns 4 mills."


def test_of_several_sentences_with_the_answer_the_one_the_question_is_about_answers_it(domain: Knowledge) -> None:
    text = "Kellin lies on the lake. It is 3.9 miles long. The ferry leaves Kellin at ten. A ticket is 3 crowns."
    (ferry,) = to_problems([("The ferry", text, [])])
    asked = [("Where does the ferry leave?", "Kellin"), ("On what does it lie?", "Kellin"), ("How many is it?", "3")]
    assert [one.completion for one in lessons(domain, ferry, asked, each=1)] == [
        "The ferry leaves Kellin at ten.",
        "Kellin lies on the lake.",
        "A ticket is 3 crowns.",
    ]


# ---- rehearsal


class Talker:
    """An engine that has something to say about everything, and about volcanoes more than there is room for."""

    def __init__(self) -> None:
        self.asked: list[Prompt] = []

    def load(self, path: Path | None) -> None:
        assert path is None

    def sample(self, prompts: Sequence[Prompt], how: Sampling, *, seed: int) -> list[list[Reply]]:
        assert how.temperature == 0
        self.asked += prompts
        return [[Reply(f" That is {at}. ", ended="volcano" not in one.text)] for at, one in enumerate(prompts)]


def test_what_is_rehearsed_is_said_once(tmp_path: Path) -> None:
    engine = Talker()
    with Store.create(tmp_path, "run", "", {}) as store:
        found = rehearsal(engine, store, 3, seed=1)  # type: ignore[arg-type]
        assert found == tuple(Example(f"That is {at}.", question_prompt(QUESTIONS[at]), "completion") for at in (1, 2))
        assert rehearsal(engine, store, 3, seed=1) == found  # type: ignore[arg-type]
        assert len(engine.asked) == 3
    with Store.create(tmp_path, "none", "", {}) as store:
        assert rehearsal(engine, store, 0, seed=1) == ()  # type: ignore[arg-type]
    assert len(engine.asked) == 3


def test_no_probe_is_rehearsed() -> None:
    assert len(set(QUESTIONS)) == 48
    for query in probes().queries:
        assert max(f1(query.question, one) for one in QUESTIONS) < SAME, query.question


# ---- the gate


class Wearing:
    """An engine that knows all probes and no question; of an adapter above the weight `bears` it knows fewer probes, and with any
    adapter it finds the answers likelier by `gain` nats."""

    def __init__(self, bears: float, gain: float = 1.0) -> None:
        self.bears, self.gain = bears, gain
        self.weight: float | None = None
        self.asked: list[tuple[float | None, int]] = []

    def wear(self, adapters: Sequence[tuple[Path, float]]) -> None:
        self.weight = adapters[0][1] if adapters else None

    def run(self, jobs: Iterable[Job]) -> Iterator[Finished]:
        for job in jobs:
            self.asked.append((self.weight, len(job.asks)))
            yield Finished(job.id, tuple(self.reply(ask, at) for at, ask in enumerate(job.asks)))

    def reply(self, ask: Any, at: int) -> Reply:
        probe, harmed = ask.query_id.startswith("probes"), self.weight is not None and self.weight > self.bears
        right = probe and not (harmed and at % 2)
        nats = -5.0 + (self.gain if self.weight else 0.0)
        return Reply(ask.target if right else "?", query_id=ask.query_id, target_logprob=nats)


def decided(engine: Wearing, domain: Knowledge, store: Store) -> tuple[float, Verdict]:
    known = replace(few_probes(), payload="{}")
    passages = domain.problems("train")[:2]
    store.put_problems([*passages, known])
    gate = AdapterGate(engine, domain, store, 1, 0, passages, known, 0.7, nobody)  # type: ignore[arg-type]
    return gate.decide(Path("whole"))


@pytest.mark.parametrize(
    ("bears", "gain", "weight", "refused"),
    [
        (1.0, 1.0, 1.0, None),
        (0.7, 1.0, 0.625, None),
        (0.13, 1.0, 0.125, None),
        (0.1, 1.0, 0.0, f"the finished adapter is refused: even at 0.125 of its weight: {HARM}: 67% of it is left, and 70%"),
        (0.1, -1.0, 0.0, f"the finished adapter is refused: even at 0.125 of its weight: {HARM}: 67% of it is left, and 70%"),
        (1.0, 0.0, 1.0, f"the finished adapter is refused: {NOTHING}"),
        (0.5, -1.0, 0.5, f"the finished adapter is refused: at 0.5 of its weight: {NOTHING}"),
    ],
)
def test_a_harmful_adapter_is_made_smaller_until_the_probes_hold_or_refused(bears, gain, weight, refused, domain, tmp_path):
    engine = Wearing(bears, gain)
    with Store.create(tmp_path, "run", "", {}) as store:
        taken, verdict = decided(engine, domain, store)
        assert taken == weight
        why = refusal(verdict, taken)
        assert (why is None) == (refused is None)
        assert refused is None or (why or "").startswith(refused)
        probed = [worn for worn, asks in engine.asked if asks == 3]
        assert len(probed) == len(set(probed))  # no weight is asked twice
        again = Wearing(bears, gain)
        assert decided(again, domain, store) == (taken, verdict)
        assert again.asked == []


def test_what_was_answered_is_read_once_however_many_passages_there_are(domain, tmp_path, monkeypatch):
    base, reads = Store.base, []
    monkeypatch.setattr(Store, "base", lambda self, *which: reads.append(which) or base(self, *which))
    with Store.create(tmp_path, "run", "", {}) as store:
        decided(Wearing(1.0), domain, store)
        of_two = len(reads)
        store.set_state("adapt.finished", {})
        reads.clear()
        decided(Wearing(1.0), domain, store)  # all of it is there, so every passage is looked for
    assert len(reads) == of_two


class Growing(Wearing):
    """Above half its weight the adapter harms every probe, and what it gains grows with its weight."""

    def reply(self, ask: Any, at: int) -> Reply:
        reply, weight = super().reply(ask, at), self.weight or 0.0
        right = reply.text == ask.target and weight <= 0.5
        return replace(reply, text=ask.target if right else "?", target_logprob=-5.0 + weight * self.gain)


def test_a_refusal_at_every_weight_is_measured_at_the_smallest(domain, tmp_path):
    with Store.create(tmp_path, "run", "", {}) as store:
        weight, verdict = decided(Growing(0.1, 4.0), domain, store)
        whole = store.get_state("adapt.finished")["1"]["whole"]
    assert (weight, verdict.logprob, verdict.retained) == (0.0, 0.5, pytest.approx(2 / 3))
    assert (whole["logprob"], whole["retained"]) == (4.0, 0.0)
    assert "at 0.125 of its weight: " in (refusal(verdict, weight) or "")
    assert "67% of it is left" in (refusal(verdict, weight) or "")


@pytest.mark.parametrize("why", [WORSE, NOTHING, HARM, UNKNOWN])
def test_a_refusal_reads_well_for_every_reason(why):
    told = [refusal(Verdict(0.0, 0.0, 1.0, why), weight) for weight in (0.0, 0.5, 1.0)]
    at = [f"{weight} of its weight: " for weight in ("even at 0.125", "at 0.5")]
    assert told == [f"the finished adapter is refused: {taken}{why}" for taken in (*at, "")]


@pytest.fixture
def home(tmp_path: Path, lively_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    return settled(tmp_path, lively_path, monkeypatch)


@pytest.fixture
def halved(home: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr("seal.loops.adapter_gate.largest", lambda harm, bound, halvings: 0.5)
    assert run(ADAPT) == 0
    return home


def test_what_was_made_smaller_is_the_adapter_and_everything_says_so(halved, capsys):
    assert run(ADAPT) == 0
    out = capsys.readouterr().out
    with Store.open(only_run(), write=False) as store:
        whole, taken = (load_file(store.policy_dir(1, form) / "adapter_model.safetensors") for form in ("whole", ""))
        state = store.get_state("adapt.finished")["1"]
    published = load_file(Path("out/adapter_model.safetensors"))
    for name, weight in taken.items():
        torch.testing.assert_close(weight, whole[name] * (0.5 if "lora_B" in name else 1.0))
        assert torch.equal(weight, published[name])
    assert state["weight"] == 0.5
    words = "The adapter is taken at 0.5 of its weight"
    assert words in " ".join(out.split())
    assert words in Path("out/README.md").read_text()
    assert run([*ADAPT, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["finished"] == state


def test_the_report_has_the_table_of_seal_adapt(halved, capsys):
    capsys.readouterr()
    assert run([*ADAPT, "--json"]) == 0
    printed = json.loads(capsys.readouterr().out)
    with Store.open(only_run(), write=False) as store:
        data = report_data(store)
    assert data["adapted"]["table"] == printed["table"]
    html = page(data)
    for row in printed["table"]:
        assert f"<td>{row['mean']:.3f} [{row['low']:.3f},\N{NO-BREAK SPACE}{row['high']:.3f}]</td>" in html
    assert "docs/a.jsonl: The mill: " in html
    assert "docs/broken.pdf: not read: " in html
    assert "taken at 0.5 of its weight" in html


def test_a_refused_adapter_is_not_put_anywhere_and_the_same_command_says_so_again(home, capsys, monkeypatch):
    monkeypatch.setattr("seal.loops.adapter_gate.judge", lambda outcomes, retained: Verdict(0.0, -1.0, 1.0, NOTHING))
    for _ in range(2):
        assert run(ADAPT) == 1
        error = capsys.readouterr().err
        assert f"the finished adapter is refused: {NOTHING}" in error
        assert "another --out" in error
        assert not Path("out/adapter_config.json").exists()
        monkeypatch.setattr(Engine, "absorb", None)  # it is not trained again


def test_the_adapter_learns_lessons_but_none_of_what_the_table_asks(home, monkeypatch):
    seen: list[Example] = []
    absorb = Engine.absorb
    monkeypatch.setattr(Engine, "absorb", lambda self, rows, *a, **b: seen.extend(rows) or absorb(self, rows, *a, **b))
    assert run([*ADAPT, "adapt.lessons=4"]) == 0
    asked = [one.prompt.text for one in seen if one.prompt is not None]
    assert sum("Who built it?" in one for one in asked) == 2  # of the mill and of the tower
    assert sum("Of what?" in one for one in asked) == 2
    assert not any(held in one for one in asked for held in ("When?", "For whom?"))
    assert loop.CONDITIONS[3] == "adapter"
    with Store.open(only_run(), write=False) as store:
        assert set(store.base(probes_phase(None), 1)) == {"probes"}


def test_a_command_for_a_folder_with_a_space_can_be_pasted() -> None:
    how = Loading(Path("my adapters/a b"), "base", True, 4)
    assert shlex.split(vllm_command(how))[4:6] == ["--lora-modules", "a b=my adapters/a b"]


def test_a_title_with_a_bar_is_one_cell_of_the_card() -> None:
    edit = {"passage": "p", "gain": 0.1, "logprob": None, "retained": 1.0, "refused": "no | gain"}
    document = {"passages": [{"id": "p", "title": "Ferries | Mill", "accepted": True}], "edits": [edit]}
    assert _refused(document).splitlines()[-1].startswith("| Ferries \\| Mill | +0.100 | ")
    assert _refused(document).endswith("| no \\| gain |")
