"""`seal adapt` on a tiny model: the verb, the gate, resuming, documents that come and go, and loading the result elsewhere."""

from __future__ import annotations

import contextlib
import errno
import io
import json
import os
import re
from pathlib import Path
from typing import Any

import pytest
import torch
from hand_made import an_adaptation
from peft import LoraConfig, get_peft_model
from safetensors.torch import load_file
from small_adapt import ADAPT, folder, little, only_run, passage, settled
from small_runs import die, killed_until_done, rows, stop_after, weights
from tiny import make_tiny, write_gguf
from transformers import AutoTokenizer

from seal.cli.adapt import _counter
from seal.cli.app import run
from seal.cli.output import UNSEEN
from seal.domains.knowledge import Knowledge
from seal.domains.retrieval import Retrieval
from seal.domains.self_questions import Candidate
from seal.edits.questions import question_prompt
from seal.engine import Engine
from seal.loops import adapt as loop
from seal.loops.gate import HARM, NOTHING, UNKNOWN, WORSE, Verdict, judge
from seal.loops.rest_em import promising
from seal.loops.stages import Stages
from seal.models import open_model
from seal.report.card import VLLM_RANKS, Loading, notes, transformers_snippet, vllm_command
from seal.store import Store, runs
from seal.types import Answer, Fault, Outcome, Problem, Sampling, SelfEdit, Trial


@pytest.fixture
def home(tmp_path: Path, lively_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    return settled(tmp_path, lively_path, monkeypatch)


# ---- the verb


def test_documents_become_an_adapter_with_its_card_and_its_table(home, seal, lively_path):
    code, out, error = seal(*ADAPT)
    assert (code, error) == (0, "")
    assert "not read: docs/broken.pdf: " in out
    assert "not absorbed: A note: no question about it, so that nothing could be tried" in out
    assert "2 of 3 passages absorbed" in out
    for name in ("plain model", "retrieval (BM25", "whole passage in the prompt", "adapter", "adapter + retrieval"):
        assert name in out
    assert "held out from choosing edits" in out

    assert json.loads((home / "out" / "seal.json").read_text())["base"] == str(lively_path)
    assert json.loads((home / "out" / "adapter_config.json").read_text())["base_model_name_or_path"] == str(lively_path)
    card = (home / "out" / "README.md").read_text()
    assert f"base_model: {json.dumps(str(lively_path))}" in card
    assert re.search(r"- `docs/a.jsonl`, passages: 2, sha256 `[0-9a-f]{64}`", card)
    assert "`docs/broken.pdf`: " in card
    assert "- A note: no question about it" in card
    assert "(self-edits: 2), of which every one was tried. The adapter was trained on the best accepted one" in card
    assert all(words in card for words in ("answers to questions about them", "replies about other things"))
    trained = json.loads((home / "out" / "seal.json").read_text())["trained"]
    assert [id.partition("-")[2].partition("-")[0] for id in trained] == ["mill", "tower"]
    assert "passage_tokens = 150" in card
    assert not any(f"\n{key} =" in card for key in ("rounds", "retrain", "source", "data"))  # it does not go by these
    assert re.search(r"\| adapter \| \d\.\d{3} \[", card)
    for said in ("2 documents are too few for an interval", "That the adapter knows more than the plain model is not shown"):
        assert said in out
        assert said in card
    assert runs(Path("out/runs"))[0].status == "done"
    assert seal("show", str(only_run()))[0] == 0


def test_the_questions_of_the_table_chose_no_edit(home, seal):
    code, out, _ = seal(*ADAPT, "--json")
    document = json.loads(out)
    assert code == 0
    assert document["held_out"] is True
    absorbed = [one for one in document["passages"] if one["accepted"]]
    assert [(one["choosing"], one["held_out"]) for one in absorbed] == [
        (["Who built it?", "Of what?"], ["When?", "For whom?"])
    ] * 2
    assert document["questions"] == 4
    with Store.open(only_run(), write=False) as store:
        tried = {answer.query_id for one in store.outcomes("train", 1) for answer in one.after if answer.score is not None}
        asked = {answer.query_id for answers in store.base("adapter", 1).values() for answer in answers}
    assert not tried & asked
    assert len(asked) == 4
    by_name = {row["condition"]: row for row in document["table"]}
    assert list(by_name) == list(loop.CONDITIONS)
    assert by_name["whole"]["tokens"] > by_name["plain"]["tokens"] + 40  # the passage is some 50 bytes
    assert by_name["retrieval"]["tokens"] > by_name["plain"]["tokens"] + 40
    assert by_name["plain"]["minus_plain"] is None
    assert all(row["seconds"] > 0 for row in by_name.values())
    assert by_name["adapter"]["logprob"] > by_name["plain"]["logprob"]


def test_the_models_own_questions_are_asked_and_the_table_says_what_that_means(home, seal, monkeypatch):
    assert "they are the model's own" not in seal(*ADAPT)[1]
    own = [
        Candidate("Who?", "Ada", "kept", "cloze"),
        Candidate("Why?", "no", "repeated", "cloze"),
        Candidate("When?", "1", "kept", "cloze"),
    ]
    monkeypatch.setattr("seal.loops.questions.write_questions", lambda *a, **b: own)
    out = ("adapt", "docs", "--recipe", "small.toml", "--out", "own")
    document = json.loads(seal(*out, "--json")[1])
    (note,) = [one for one in document["passages"] if one["title"] == "A note"]
    assert (note["choosing"], note["held_out"]) == (["Who?"], ["When?"])
    assert "they are the model's own" in seal(*out)[1]


def test_with_one_question_a_passage_the_table_says_what_it_is_read_on(home, seal, monkeypatch):
    monkeypatch.setattr("seal.loops.adapt.judge", lambda outcomes, retained: Verdict(0.0, 1.0, None, None))
    line = json.loads(passage("mill", 1901))
    (home / "docs" / "a.jsonl").write_text(json.dumps(line | {"questions": line["questions"][:1]}) + "\n")
    document = json.loads(seal(*ADAPT, "--json")[1])
    assert (document["held_out"], document["questions"]) == (False, 1)
    assert "too good to be believed" in seal(*ADAPT)[1]


def test_a_policy_writes_the_edits_and_is_part_of_the_adapter(home, seal, monkeypatch):
    assert seal(*ADAPT)[0] == 0
    loaded: list[Any] = []
    load = Engine.load
    monkeypatch.setattr(Engine, "load", lambda self, path: loaded.append(path) or load(self, path))
    code, _, error = seal("adapt", "docs", "--recipe", "small.toml", "--out", "second", "--policy", "out")
    assert (code, error) == (0, "")
    # is it of this model, and off again; questions by the plain model; edits; rehearsal by the plain model; what learns it all
    assert loaded[:6] == [Path("out"), None, None, Path("out"), None, Path("out")]
    ranks = [json.loads((home / name / "adapter_config.json").read_text())["r"] for name in ("out", "second")]
    assert ranks == [4, 8]
    card = (home / "second" / "README.md").read_text()
    assert f"The policy `{home / 'out'}` wrote training data" in card
    assert f"The policy {home / 'out'} is part of the adapter" in card
    code, _, error = seal("adapt", "docs", "--recipe", "small.toml", "--out", "second")
    assert (code, "was made with other settings" in error) == (2, True)


def test_a_policy_that_only_writes_is_no_part_of_the_adapter(home, seal, monkeypatch):
    assert seal(*ADAPT)[0] == 0
    loaded: list[Any] = []
    load = Engine.load
    monkeypatch.setattr(Engine, "load", lambda self, path: loaded.append(path) or load(self, path))
    code, _, error = seal(*ADAPT[:-1], "second", "--policy", "out", "outer.learner=base")
    assert (code, error) == (0, "")
    # as above, but trials from the base model and the policy back; rehearsal; what learns it all
    assert loaded[:8] == [Path("out"), None, None, Path("out"), None, Path("out"), None, None]
    assert json.loads((home / "second" / "adapter_config.json").read_text())["r"] == 4
    card = (home / "second" / "README.md").read_text()
    assert f"The policy `{home / 'out'}` wrote training data" in card
    assert "is part of the adapter" not in card


def test_a_policy_of_another_model_is_refused_before_anything_is_made(home, seal, other_policy):
    code, _, error = seal(*ADAPT, "--policy", str(other_policy))
    assert (code, "the policy is for another model" in error, "resume with" in error) == (2, True, False)
    assert not (home / "out").exists()


def test_list_shows_the_passages_and_does_nothing(home, seal):
    for name in ("one.png", "two.png"):
        (home / "docs" / name).touch()
    code, out, _ = seal(*ADAPT, "--list")
    assert code == 0
    assert all(words in out for words in ("docs/a.jsonl", "The mill", "A note", "not read: docs/broken.pdf"))
    assert not (home / "out").exists()
    assert "not read: docs/one.png: unsupported kind '.png', and 1 more like it; read are .md .markdown .txt" in out
    assert "two.png" not in out
    document = json.loads(seal(*ADAPT, "--list", "--json")[1])
    assert [one["path"] for one in document["unread"]] == ["docs/broken.pdf", "docs/one.png", "docs/two.png"]
    assert [(one["title"], one["questions"]) for one in document["passages"]] == [
        ("The mill", 4),
        ("The tower", 4),
        ("A note", 0),
    ]


@pytest.mark.parametrize("gguf", [False, True])
def test_list_opens_the_tokenizer_alone_and_counts_as_the_model_would(home, seal, tmp_path, monkeypatch, gguf):
    """So that a large model's weights need not be here."""
    bare = tmp_path / ("Tiny.gguf" if gguf else "bare")
    write_gguf(bare) if gguf else make_tiny(bare)
    named = f"model.name={bare}"
    with monkeypatch.context() as patch:
        patch.setattr("seal.cli.work.Work.counter", lambda work: _counter(work, None))
        whole = seal(*ADAPT, "--list", "--json", named)
    assert whole[0] == 0
    for file in bare.glob("*.safetensors") if bare.is_dir() else ():
        file.unlink()
    monkeypatch.setattr("transformers.AutoModelForCausalLM.from_pretrained", None)
    assert seal(*ADAPT, "--list", "--json", named) == whole
    assert all(one["tokens"] > 1 for one in json.loads(whole[1])["passages"])
    code, _, error = seal(*ADAPT, "--list", "model.name=./none")
    assert (code, "no model at './none'" in error) == (2, True)


def test_reading_many_files_is_shown(home, seal, monkeypatch):
    said: list[str] = []
    monkeypatch.setattr("seal.cli.progress.Display.say", lambda display, line: said.append(line))
    assert seal(*ADAPT, "--list")[0] == 0
    assert [line.partition(" in ")[0] for line in said if "opening" not in line] == ["reading · documents 3/3"]


def test_what_cannot_be_is_said_in_one_line(home, seal):
    for arguments, words in (
        (["adapt", "outer.edits=1"], "needs a file or a folder"),
        (["adapt", "nowhere", "--recipe", "small.toml"], "nowhere: no such file or folder"),
        (["adapt", "docs/broken.pdf", "--recipe", "small.toml"], "nothing to absorb"),
        ([*ADAPT, "--policy", "docs"], "--policy docs: no PEFT adapter there"),
        ([*ADAPT, "domain.kind=arc", "domain.data=", "domain.style=", "domain.grader="], "domain"),
        ([*ADAPT, "adapt.retained=2"], "adapt.retained"),
        (
            [*ADAPT, "outer={rounds=2,edits=2}", "questions.source=gold", 'select.rule="gaining"', "eval.match=tokens"],
            "outer.rounds, questions.source, select.rule, eval.match: `seal adapt` does not go by them, only other verbs do",
        ),
        ([*ADAPT, "outer.retrain=8"], "outer.retrain: `seal adapt` does not go by it"),
    ):
        code, _, error = seal(*arguments)
        assert (code, words in error) == (2, True), error
    (home / "docs" / "a.jsonl").unlink()
    code, _, error = seal(*ADAPT)
    assert (code, "no questions about any passage" in error) == (1, True)


def test_what_is_a_users_is_neither_overwritten_nor_deleted(home, seal):
    for name in ("README.md", "adapter_config.json", "model/mine.bin"):
        place = home / Path(name).stem
        (place / name).parent.mkdir(parents=True)
        (place / name).write_text("mine")
        code, _, error = seal("adapt", "docs", "--recipe", "small.toml", "--out", str(place), "--merge")
        assert (code, Path(name).name in error, error.count("\n")) == (2, True, 1), error
        assert [one.name for one in place.iterdir()] == [Path(name).parts[0]]
        assert (place / name).read_text() == "mine"
    code, _, error = seal("adapt", "docs", "--recipe", "small.toml", "--out", "small.toml")
    assert (code, "--out small.toml is there already and is no folder" in error) == (2, True)
    (home / "whole").mkdir()
    (home / "whole" / "config.json").write_text("{}")
    code, _, error = seal("adapt", "docs", "--recipe", "small.toml", "--out", "whole")
    assert (code, "--out whole holds a model" in error, error.count("\n")) == (2, True, 1), error
    assert [one.name for one in (home / "whole").iterdir()] == ["config.json"]
    for more in ([], ["--list"]):
        code, _, error = seal("adapt", "docs", "whole", "--recipe", "small.toml", "--out", "whole", *more)
        assert (code, "--out whole is among what is read" in error) == (2, True), error


def test_what_another_version_said_is_taken_back_by_name_and_a_misspelt_key_is_not(home, seal):
    recipe = (home / "small.toml").read_text().replace("[outer]\n", "[outer]\nkept_only = true\n")
    Store.create(home / "out" / "runs", "small", recipe, {}).close()
    code, _, error = seal(*ADAPT)
    assert (code, "without what it says: outer.kept_only=" in error) == (2, True)
    assert seal(*ADAPT, "--list", "outer.kept_only=")[0] == 0
    mine = home / "small.toml"
    plain = mine.read_text()
    mine.write_text(recipe)  # the recipe's own file may say it still
    assert seal(*ADAPT, "--list", "outer.kept_only=")[0] == 0
    mine.write_text(plain)
    code, _, error = seal(*ADAPT, "--list", "outer.shortlst=")
    assert (code, "outer.shortlst: unknown; did you mean shortlist?" in error) == (2, True)


def test_what_was_put_beside_an_adapter_since_is_kept(home, seal):
    assert seal(*ADAPT, "--merge")[0] == 0
    card = home / "out" / "README.md"
    assert seal(*ADAPT, "--merge")[0] == 0  # the whole model and the card in place of the earlier ones
    assert not (home / "out" / "README-1.md").exists()
    card.write_text("my own words")
    assert seal(*ADAPT)[0] == 0
    assert (home / "out" / "README-1.md").read_text() == "my own words"
    assert "base_model" in card.read_text()
    (home / "out" / "model" / "mine.bin").write_text("mine")
    code, _, error = seal(*ADAPT, "--merge")
    assert (code, "model has what would be deleted: mine.bin" in error) == (2, True)
    assert (home / "out" / "model" / "mine.bin").exists()


def test_the_card_is_that_of_the_weights_beside_it_whatever_fails(home, seal, monkeypatch):
    assert seal(*ADAPT)[0] == 0
    files = [home / "out" / name for name in ("adapter_model.safetensors", "seal.json", "README.md")]
    before = [one.read_bytes() for one in files]
    (home / "docs" / "b.jsonl").write_text(passage("barn", 1903))

    def full(*a: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    for whose in ("seal.models.adapter.save_merged", "seal.models.adapter.write_about"):
        with monkeypatch.context() as patch:
            patch.setattr(whose, full)
            assert seal(*ADAPT, "--merge")[0] == 1
        assert [one.read_bytes() for one in files] == before
    assert seal(*ADAPT, "--merge")[0] == 0
    assert not any(old == one.read_bytes() for one, old in zip(files, before, strict=True))
    assert not (home / "out" / "README-1.md").exists()


def test_no_adapter_is_a_document(home, seal):
    all_of_it = ("adapt", ".", "--recipe", "small.toml")
    titles = ["The mill", "The tower", "A note"]
    for out in ("adapted", "second"):  # its own folder, and that of an earlier one
        assert seal(*all_of_it, "--out", out)[0] == 0
        listed = json.loads(seal(*all_of_it, "--out", out, "--list", "--json")[1])
        assert [one["title"] for one in listed["passages"]] == titles
    for out in (".", str(home)):
        code, _, error = seal(*all_of_it, "--out", out)
        assert (code, f"--out {out} is among what is read" in error) == (2, True)
    assert json.loads(seal("adapt", "second", "--recipe", "small.toml", "--list", "--json")[1])["passages"]  # named, it is read


def test_an_adapter_of_a_model_by_a_relative_path_is_asked_from_any_folder(home, seal, lively_path, monkeypatch):
    (home / "tiny").symlink_to(lively_path)
    assert seal(*ADAPT, "model.name=tiny")[0] == 0
    assert json.loads((home / "out" / "seal.json").read_text())["base"] == str(home / "tiny")
    monkeypatch.chdir(home / "docs")
    code, out, error = seal("ask", "../out", "Who built it?")
    assert (code, bool(out)) == (0, True), error


def test_the_table_of_each_round_is_listed_and_tracked(home, seal):
    accumulator = pytest.importorskip(
        "tensorboard.backend.event_processing.event_accumulator", reason="pip install -e '.[track]'"
    )
    assert seal(*ADAPT)[0] == 0
    tracked = (*ADAPT, "track=tensorboard")  # from now on, which changes nothing that was measured
    first = json.loads(seal(*tracked, "--json")[1])
    (line,) = json.loads(seal("runs", "--runs", "out/runs", "--json")[1])["runs"]
    assert line["means"] == {row["condition"]: row["mean"] for row in first["table"]}
    assert list(line["means"]) == ["plain", "retrieval", "whole", "adapter", "adapter_retrieval"]
    (home / "docs" / "note.md").unlink()  # what is left is learnt anew, and no edit is written
    second = json.loads(seal(*tracked, "--json")[1])
    assert seal(*tracked)[0] == 0  # nothing is left to send
    events = accumulator.EventAccumulator(str(only_run() / "tensorboard"))
    events.Reload()
    for key, name in (("mean", "score"), ("logprob", "logprob")):
        rows = [next(row for row in one["table"] if row["condition"] == "adapter") for one in (first, second)]
        found = [(one.step, one.value) for one in events.Scalars(f"eval/adapter/{name}")]
        assert found == [(step, pytest.approx(row[key])) for step, row in enumerate(rows, 1)]
    assert [one.step for one in events.Scalars("train/policy_loss_last")] == [1, 2]
    assert [one.step for one in events.Scalars("train/reward")] == [1]


# ---- the gate


def an_outcome(before: float | None, after: float | None, nats: float = 0.0, knew: str = "", knows: str = "") -> Outcome:
    """A trial with one question; `knew`, `knows`: a letter a probe that is answered right."""
    trial = Trial("t", Problem("p", "", "", ()), SelfEdit("e", "p", "", 1, 0, None))  # type: ignore[arg-type]

    def answers(score: float | None, logprob: float, known: str) -> tuple[Answer, ...]:
        asked = [Answer(letter, "", None, {"probe": float(letter in known)}) for letter in "abcde"]
        return (Answer("q", "", score, {"logprob": logprob}), *asked)

    return Outcome(trial, answers(before, -5.0, knew), answers(after, -5.0 + nats, knows))


@pytest.mark.parametrize(
    ("outcome", "refused"),
    [
        (an_outcome(0.0, 1.0), None),
        (an_outcome(0.0, 0.0, 0.5), None),
        (an_outcome(0.0, 0.0, 0.0), NOTHING),
        (an_outcome(0.0, 0.0, -1.0), NOTHING),
        (an_outcome(1.0, 0.0, 5.0), WORSE),
        (an_outcome(None, None), UNKNOWN),
        (an_outcome(0.0, 1.0, 0.0, "abcd", "abce"), f"{HARM}: 75% of it is left, and 80% must be"),
        (an_outcome(0.0, 1.0, 0.0, "abcde", "abcd"), None),
        (an_outcome(0.0, 1.0, 0.0, "", "abc"), None),
    ],
)
def test_the_gate(outcome, refused):
    assert judge([outcome], 0.8).refused == refused


def test_the_gate_takes_the_mean_of_trials_and_refuses_a_fault():
    assert judge([an_outcome(0.0, 1.0), an_outcome(1.0, 0.0), an_outcome(1.0, 0.0)], 0.0).refused == WORSE
    broken = Outcome(an_outcome(0, 0).trial, (), (), fault=Fault("nan", "loss"))
    assert judge([an_outcome(0.0, 1.0), broken], 0.0) == Verdict(None, None, None, "nan: loss")


@pytest.mark.parametrize(
    ("outcomes", "verdict"),
    [
        ([an_outcome(0.4, 0.6, 1.0), an_outcome(0.4, 0.2, 1.0)], Verdict(0.0, 1.0, None, None)),  # -3e-17 in floats
        ([an_outcome(0.4, 0.6, 1.0, "abcde", "abcd")] * 6, Verdict(0.2, 1.0, 0.8, None)),  # 0.8 - 1e-16 in floats
    ],
)
def test_the_gate_refuses_nothing_for_rounding(outcomes, verdict):
    assert judge(outcomes, 0.8) == verdict


def test_what_the_gate_refuses_is_not_absorbed(home, seal, monkeypatch):
    refused = Verdict(0.0, -1.0, None, NOTHING)

    def picky(outcomes: list[Outcome], retained: float) -> Verdict:
        return refused if "tower" in outcomes[0].trial.problem.id else Verdict(0.0, 1.0, None, None)

    monkeypatch.setattr("seal.loops.adapt.judge", picky)
    seen: list[Any] = []
    absorb = Engine.absorb
    monkeypatch.setattr(Engine, "absorb", lambda self, rows, *a, **b: seen.extend(rows) or absorb(self, rows, *a, **b))
    document = json.loads(seal(*ADAPT, "--json")[1])
    verdicts = {one["title"]: one["verdict"] for one in document["passages"]}
    assert verdicts["The tower"] == NOTHING
    assert verdicts["The mill"] == "accepted"
    assert seen
    assert not any("tower" in row.completion for row in seen)
    card = (home / "out" / "README.md").read_text()
    assert "2 of 4 edits:" in card
    assert f"| The tower | +0.000 | -1.000 | – | {NOTHING} |" in card


@pytest.mark.parametrize(("given", "edits"), [((), 0.6), (("adapt.edit_retained=0.2",), 0.2)])
def test_a_single_edit_may_have_a_bound_of_its_own(given, edits, home, seal, monkeypatch):
    bounds: dict[str, set[float]] = {}
    for place in ("adapt", "adapter_gate"):

        def noting(outcomes: list[Outcome], retained: float, place: str = place) -> Verdict:
            bounds.setdefault(place, set()).add(retained)
            return Verdict(0.0, 1.0, None, None)

        monkeypatch.setattr(f"seal.loops.{place}.judge", noting)
    assert seal(*ADAPT, "adapt.retained=0.6", *given)[0] == 0
    assert bounds == {"adapt": {edits}, "adapter_gate": {0.6}}


def test_a_passage_whose_edits_are_all_refused_may_be_absorbed_by_its_own_sentences(home, seal, monkeypatch):
    def picky(outcomes: list[Outcome], retained: float) -> Verdict:
        edit = outcomes[0].trial.edit
        assert edit is not None
        good = edit.source == "sentences" and "mill" in edit.problem_id
        return Verdict(0.0, 1.0, None, None) if good else Verdict(0.0, -1.0, None, NOTHING)

    monkeypatch.setattr("seal.loops.adapt.judge", picky)
    here = (*ADAPT, "adapt.sentences=true", 'outer.shortlist={by="informs",size=1}')
    document = json.loads(seal(*here, "--json")[1])
    assert [(one["title"], one["accepted"]) for one in document["passages"][:2]] == [("The mill", True), ("The tower", False)]
    own = [edit["text"] for edit in document["edits"] if edit["source"] == "sentences"]
    assert own == [f"Ada built the {one} for the guild." for one in ("mill of oak in 1901", "tower of oak in 1902")]
    tried = len(document["edits"])
    assert tried > 2  # those that the model wrote, too
    counted = f"1 of 3 passages absorbed, 1 of them by their own sentences: of {tried} edits tried {tried - 1} were refused."
    assert counted in seal(*here)[1]
    assert "rates highest were tried, and beside them the passage's own sentences." in (home / "out" / "README.md").read_text()
    assert "its own sentences" in seal("show", str(only_run()))[1]


def test_own_sentences_are_tried_of_a_document_that_is_added_too(home, seal):
    assert seal(*ADAPT, "adapt.sentences=true")[0] == 0
    (home / "docs" / "b.jsonl").write_text(passage("ferry", 1903))
    document = json.loads(seal(*ADAPT, "adapt.sentences=true", "--json")[1])
    own = [edit["text"] for edit in document["edits"] if edit["source"] == "sentences"]
    assert (document["round"], len(document["edits"])) == (2, 9)
    assert [text.split()[3] for text in own] == ["mill", "tower", "ferry"]

    assert seal("export", str(only_run()), "--out", "files")[0] == 0  # they are in it, and are no model's
    files = home / "files"
    said = {name: (files / name).read_text() for name in ("edits.jsonl", "kept/train.jsonl", "official-train-round-1.json")}
    assert [text in said["edits.jsonl"] for text in own] == [True, True, True]
    kept = [json.loads(line)["completion"] for line in said["kept/train.jsonl"].splitlines()]
    completions = [one["completions"] for one in json.loads(said["official-train-round-1.json"])["articles"]]
    assert completions
    assert all(len(found) == 2 for found in completions)
    assert not {*kept, *(one["text"] for found in completions for one in found)} & set(own)


def test_own_sentences_are_none_of_the_edits_that_the_model_wrote(home, seal):
    """They would take a place on the shortlist of an adaptation that goes on."""
    assert seal(*ADAPT, "adapt.sentences=true")[0] == 0
    with Store.open(only_run(), write=True) as store:
        wrote = {edit.problem_id for edit in store.edits("train", 1)}
        stages = Stages(None, None, store, "train", 1, 0)  # type: ignore[arg-type]  # all is there, and nobody is asked
        found = stages.sample([store.problems()[id] for id in wrote], Sampling(n=2))
        assert len(store.edits("train", 1)) == 6
    assert [edit.source for edit in found] == ["policy"] * 4


def test_an_adapter_of_a_version_without_own_sentences_is_gone_on_with_without_them(home, seal):
    assert seal(*ADAPT)[0] == 0
    (recipe,) = (home / "out" / "runs").glob("*/recipe.toml")
    recipe.write_text(recipe.read_text().replace("sentences = false\n", ""))
    assert seal(*ADAPT)[0] == 0
    code, _, error = seal(*ADAPT, "adapt.sentences=true")
    assert (code, error.splitlines()[1:]) == (2, ["  adapt.sentences: False, not True"])


def test_an_adapter_that_diverges_names_the_setting_to_lower(home, seal):
    code, _, error = seal(*ADAPT, "adapt.lr=1e39")
    assert code == 1
    first, way_out = error.splitlines()
    assert first.startswith("seal: the update failed: the l")
    assert "adapt.lr" in way_out
    assert "the same command again" not in error  # it would fail the same way


def test_where_all_is_refused_there_is_no_adapter(home, seal, monkeypatch):
    monkeypatch.setattr("seal.loops.adapt.judge", lambda outcomes, retained: Verdict(0.0, 0.0, None, NOTHING))
    code, _, error = seal(*ADAPT)
    assert (code, "no edit was accepted" in error) == (1, True)
    shown = seal("show", str(only_run()))[1]
    assert "nothing was kept" in shown
    assert "not finished" not in shown
    assert not (home / "out" / "adapter_config.json").exists()


# ---- the same command again


@pytest.fixture
def counted(monkeypatch: pytest.MonkeyPatch) -> dict[str, int]:
    """How many prompts are sampled and how often an adapter is trained."""
    seen = {"sampled": 0, "absorbed": 0}
    sample, absorb = Engine.sample, Engine.absorb

    def sampled(self: Engine, prompts: Any, how: Any, **more: Any) -> Any:
        seen["sampled"] += len(prompts)
        return sample(self, prompts, how, **more)

    def absorbed(self: Engine, *a: Any, **b: Any) -> Any:
        seen["absorbed"] += 1
        return absorb(self, *a, **b)

    monkeypatch.setattr(Engine, "sample", sampled)
    monkeypatch.setattr(Engine, "absorb", absorbed)
    return seen


def test_a_document_that_is_added_is_all_that_is_tried(home, seal, counted):
    first = json.loads(seal(*ADAPT, "--json")[1])
    assert counted == {"sampled": 4, "absorbed": 1}
    again = json.loads(seal(*ADAPT, "--json")[1])
    assert counted == {"sampled": 4, "absorbed": 1}
    assert again["table"] == first["table"]

    (home / "docs" / "b.jsonl").write_text(passage("ferry", 1903))
    more = json.loads(seal(*ADAPT, "--json")[1])
    assert counted == {"sampled": 5, "absorbed": 2}
    assert (more["round"], more["questions"], len(more["edits"])) == (2, 6, 6)
    with Store.open(only_run(), write=False) as store:
        assert [edit.problem_id.split("-")[1] for edit in loop.accepted(store, 2)] == ["mill", "tower", "ferry"]

    (home / "docs" / "a.jsonl").unlink()
    less = json.loads(seal(*ADAPT, "--json")[1])
    assert counted == {"sampled": 5, "absorbed": 3}
    assert [one["title"] for one in less["passages"] if one["accepted"]] == ["The ferry"]
    with Store.open(only_run(), write=False) as store:
        assert [edit.problem_id.split("-")[1] for edit in loop.accepted(store, 3)] == ["ferry"]


def test_only_the_most_promising_edits_are_tried(home, seal):
    here = (*ADAPT[:-1], ".", "adapt.lessons=0", "adapt.rehearsal=0")
    document = json.loads(seal(*here, "outer.edits=4", 'outer.shortlist={by="informs",size=1}', "--json")[1])
    card = Path("README.md").read_text()
    assert "(self-edits: 4), of which the 1 that `informs` rates highest were tried" in card
    assert not any(words in card for words in ("answers to questions about them", "replies about other things", "was taught"))
    assert f"# {home.name}\n" in card
    assert f"--lora-modules {home.name}={home} " in document["load"]["vllm"]
    with Store.open(only_run(Path()), write=False) as store:
        written = store.edits("train", 1)
    judged = {edit["id"] for edit in document["edits"]}
    readable: dict[str, list[str]] = {}
    for edit in written:
        if edit.fault is None:
            readable.setdefault(edit.problem_id, []).append(edit.id)
    assert len(written) == 8
    assert max(map(len, readable.values())) > 1
    assert all(len(judged & set(ids)) == 1 for ids in readable.values())


def test_a_passage_none_of_whose_edits_could_be_rated_is_not_tried_again(home, seal, counted, monkeypatch):
    def of_the_mill(edits: Any, ratings: Any, shortlist: Any) -> Any:
        return promising([one for one in edits if "mill" in one.problem_id], ratings, shortlist)

    monkeypatch.setattr("seal.loops.adapt.promising", of_the_mill)
    rated = (*ADAPT, 'outer.shortlist={by="informs",size=1}', "--json")
    first = json.loads(seal(*rated)[1])
    (tower,) = [one for one in first["passages"] if one["title"] == "The tower"]
    assert tower["verdict"] == "none of its edits could be rated, so that none was tried"
    seen = dict(counted)
    again = json.loads(seal(*rated)[1])
    assert (first["round"], again["round"], counted) == (1, 1, seen)


def test_a_document_may_go_while_its_edits_are_tried(home, seal, monkeypatch):
    def interrupt(*a: Any, **b: Any) -> None:
        raise KeyboardInterrupt

    rated = (*ADAPT, 'outer.shortlist={by="informs",size=1}', "--json")
    with monkeypatch.context() as patch:
        patch.setattr(Stages, "attempt", interrupt)
        assert seal(*rated)[0] == 130
    (home / "docs" / "a.jsonl").write_text(passage("mill", 1901))
    code, out, error = seal(*rated)
    assert (code, {edit["passage"].split("-")[1] for edit in json.loads(out)["edits"]}) == (0, {"mill"}), error


def test_what_another_version_began_is_gone_on_with_by_name(home, seal):
    assert seal(*ADAPT)[0] == 0
    (recipe,) = (home / "out" / "runs").glob("*/recipe.toml")
    recipe.write_text(recipe.read_text().replace("[outer]\n", "[outer]\nkept_only = true\n"))
    code, _, error = seal(*ADAPT)
    assert (code, "without what it says: outer.kept_only=" in error) == (2, True)
    code, _, error = seal(*ADAPT, "outer.kept_only=")
    assert (code, error) == (0, "")


def test_other_settings_need_another_place(home, seal):
    assert seal(*ADAPT)[0] == 0
    code, _, error = seal(*ADAPT, "outer.edits=1", "questions.most=3")
    assert (code, "was made with other settings" in error) == (2, True)
    assert error.splitlines()[1:] == ["  outer.edits: 2, not 1", "  questions.most: 5, not 3"]  # and nothing to resume with
    assert seal(*ADAPT, "engine.slots=2")[0] == 0
    settings = home / "small.toml"  # what a whole recipe says for other verbs is no other setting
    settings.write_text(settings.read_text().replace("[outer]\n", "[outer]\nrounds = 3\nretrain = 8\n"))
    assert seal(*ADAPT)[0] == 0


def test_other_questions_about_a_passage_need_another_place(home, seal):
    asked = home / "docs" / "a.jsonl"
    mill, tower = (json.loads(passage(*one)) for one in (("mill", 1901), ("tower", 1902)))

    def ask_about_the_tower(questions: list[dict[str, str]]) -> None:
        asked.write_text("".join(json.dumps(one) + "\n" for one in (mill, tower | {"questions": questions})))

    first = json.loads(seal(*ADAPT, "--json")[1])
    with Store.open(only_run(), write=False) as store:
        before = rows(store)
    for other in ([*tower["questions"], {"question": "Where?", "answer": "Ely"}], tower["questions"][:2], []):
        ask_about_the_tower(other)
        code, _, error = seal(*ADAPT)
        says = "the questions about 'The tower' are not those this adapter was made with; take them back, or name another --out"
        assert (code, error) == (2, f"seal: {says}\n")
    assert runs(Path("out/runs"))[0].status == "done"  # nothing of it was touched
    with Store.open(only_run(), write=False) as store:
        assert rows(store) == before
    ask_about_the_tower(tower["questions"])
    code, out, error = seal(*ADAPT, "--json")
    assert (code, json.loads(out)["table"]) == (0, first["table"]), error


def test_questions_of_the_models_own_are_not_followed_by_those_of_a_file(home, seal, monkeypatch):
    own = [Candidate("Who?", "Ada", "kept", "cloze"), Candidate("Why?", "no", "repeated", "cloze")]
    monkeypatch.setattr("seal.loops.questions.write_questions", lambda *a, **b: own)
    asked = home / "docs" / "a.jsonl"
    mill = json.loads(passage("mill", 1901))
    asked.write_text(json.dumps(mill | {"questions": []}) + "\n")
    assert seal(*ADAPT)[0] == 0
    asked.write_text(json.dumps(mill) + "\n")
    code, _, error = seal(*ADAPT)
    assert (code, "the questions about 'The mill' are not those" in error) == (2, True)
    asked.write_text(json.dumps(mill | {"questions": []}) + "\n")
    assert seal(*ADAPT)[0] == 0


def test_a_passage_that_is_given_questions_later_is_tried_then(home, seal, monkeypatch):
    monkeypatch.setattr("seal.loops.adapt.judge", lambda outcomes, retained: Verdict(0.0, 1.0, None, None))
    first = json.loads(seal(*ADAPT, "--json")[1])
    note = {"title": "A note", "text": "nothing here can be asked about"}
    (home / "docs" / "note.md").unlink()
    (home / "docs" / "note.jsonl").write_text(json.dumps(note | {"questions": json.loads(passage("barn", 1903))["questions"]}))
    code, out, error = seal(*ADAPT, "--json")
    again = json.loads(out)
    assert (code, first["round"], again["round"]) == (0, 1, 2), error
    assert [one["title"] for one in again["passages"] if one["accepted"]] == ["The mill", "The tower", "A note"]
    assert (first["questions"], again["questions"]) == (4, 6)
    assert len(again["edits"]) == len(first["edits"]) + 2
    assert json.loads(seal(*ADAPT, "--json")[1])["table"] == again["table"]  # and then there is nothing more to do


def one_life(home: str, commits: int) -> None:
    """A process that adapts until it is done, or until it has committed so often and kills itself."""
    os.chdir(home)
    little(pytest.MonkeyPatch())  # for the rest of its life
    stop_after(commits, die)
    with contextlib.redirect_stdout(io.StringIO()):
        code = run([*ADAPT, "adapt.sentences=true"])
    os._exit(code)


def test_killed_again_and_again_it_is_the_adapter_that_never_was(home, seal, lively_path, tmp_path):
    assert seal(*ADAPT, "adapt.sentences=true")[0] == 0
    killed = tmp_path / "killed"
    killed.mkdir()
    folder(killed, lively_path)
    killed_until_done(one_life, str(killed), 11, most=12)
    with Store.open(only_run(), write=False) as whole, Store.open(only_run(killed / "out"), write=False) as store:
        mine, theirs = rows(store), rows(whole)
        assert mine == theirs
    one, other = weights(home / "out"), weights(killed / "out")
    assert all(torch.equal(one[name], other[name]) for name in other)


def test_interrupted_it_says_how_to_go_on(home, seal, monkeypatch):
    def interrupt(*a: Any, **b: Any) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(Engine, "absorb", interrupt)
        code, _, error = seal(*ADAPT)
    assert (code, "resume with: the same command again" in error) == (130, True)
    assert seal(*ADAPT)[0] == 0


# ---- elsewhere


def said_by(snippet: str) -> str:
    """What a snippet prints."""
    return made_by(snippet)["said"]


def made_by(snippet: str) -> dict[str, Any]:
    """The names a snippet leaves, and as `said` what it prints."""
    out, names = io.StringIO(), dict[str, Any]()
    with contextlib.redirect_stdout(out):
        exec(compile(snippet, "snippet", "exec"), names)
    return names | {"said": out.getvalue().strip()}


def test_the_snippets_say_what_seal_ask_says(home, seal):
    document = json.loads(seal(*ADAPT, "--merge", "--json")[1])
    asked = seal("ask", "out", "Who built it?", "--topic", "The mill")[1].strip()
    assert asked
    base = json.loads((home / "out" / "adapter_config.json").read_text())["base_model_name_or_path"]
    how = Loading(Path("out"), base, True, 4)
    with_adapter = said_by(transformers_snippet(how, "Who built it?", "The mill"))
    merged = said_by(transformers_snippet(Loading(Path("out"), base, True, 4, Path("out/model")), "Who built it?", "The mill"))
    assert " ".join(with_adapter.translate(UNSEEN).split()) == " ".join(asked.removesuffix("...").split())
    assert merged == with_adapter
    for load, place in (("load", home / "out"), ("load_merged", home / "out" / "model")):
        assert compile(document[load]["transformers"], "shown", "exec")
        assert repr(str(place)) in document[load]["transformers"]
    assert f"--lora-modules out={home / 'out'} " in document["load"]["vllm"]
    assert document["load_merged"]["vllm"] == f"vllm serve {home / 'out' / 'model'}"


def test_adapter_and_whole_model_are_both_said_to_be_loaded_and_have_their_cards(home, seal):
    printed = seal(*ADAPT, "--merge")[1]
    cards = [(home / "out" / name / "README.md").read_text() for name in (".", "model")]
    for text, place in ((printed, f"{home}/out"), (cards[0], "out")):  # a card keeps no more of this machine than was typed
        assert f"model = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(base), '{place}')" in text
        assert f"base = '{place}/model'" in text
        assert f"--lora-modules out={place} --max-lora-rank 8" in text
        assert f"vllm serve {place}/model\n" in text
    assert not any(f"{home}/out" in text for text in cards)
    assert "library_name: transformers" in cards[1]
    assert "`README.md` in the folder above" in cards[1]
    assert cards[1].count("out/model") == 2  # as it is loaded, and served
    assert "PeftModel" not in cards[1]
    table = [line for line in cards[0].splitlines() if line.startswith("| ")][:6]
    assert "\n".join([table[0], "|---|---|---|---|---|---|", *table[1:]]) in cards[1]
    alone = seal(*ADAPT)[1]
    assert "PeftModel" in alone
    assert "out/model" not in alone


def test_a_whole_model_of_before_is_said_to_be_and_its_changed_card_is_kept(home, seal):
    assert seal(*ADAPT, "--merge")[0] == 0
    whole = {path: path.read_bytes() for path in (home / "out" / "model").iterdir()}
    (home / "docs" / "note.md").unlink()
    assert seal(*ADAPT)[2] == "out/model is of an earlier adapter; --merge saves it again\n"
    assert {path: path.read_bytes() for path in (home / "out" / "model").iterdir()} == whole
    card = home / "out" / "model" / "README.md"
    card.write_text("my own words")
    assert seal(*ADAPT, "--merge")[2] == "out/model/README.md is not as seal wrote it; it is kept as out/model-README-1.md\n"
    assert (home / "out" / "model-README-1.md").read_text() == "my own words"
    assert "the whole model" in card.read_text()
    assert seal(*ADAPT, "--merge")[2] == ""


def test_the_snippet_opens_a_gguf_file_by_its_folder_and_name(tmp_path):
    write_gguf(tmp_path / "Tiny.gguf")
    opened = open_model(str(tmp_path / "Tiny.gguf"), device="cpu")
    asked = opened.encode_prompt(question_prompt("Who?", "A"))
    get_peft_model(opened.model, LoraConfig(r=2, target_modules=["q_proj"])).save_pretrained(tmp_path / "out")
    snippet = transformers_snippet(Loading(tmp_path / "out", str(tmp_path / "Tiny.gguf"), True, 2), "Who?", "A")
    assert snippet.count("gguf_file='Tiny.gguf'") == 2
    assert made_by(snippet)["given"]["input_ids"][0].tolist() == asked
    whole = transformers_snippet(Loading(tmp_path / "out", str(tmp_path / "Tiny.gguf"), True, 2, tmp_path / "out" / "model"))
    assert "gguf_file" not in whole


def test_the_snippet_asks_as_seal_does_for_a_reply_without_thinking(tmp_path):
    tokenizer = AutoTokenizer.from_pretrained(make_tiny(tmp_path))
    tokenizer.chat_template += "{% if enable_thinking is not defined or enable_thinking %}<think>{% endif %}"
    tokenizer.save_pretrained(tmp_path)
    found = made_by(transformers_snippet(Loading(Path("out"), "b", True, 4, tmp_path), "Who?", "A"))["given"]["input_ids"][0]
    assert found.tolist() == open_model(str(tmp_path), device="cpu").encode_prompt(question_prompt("Who?", "A"))
    assert "<think>" not in tokenizer.decode(found)


def test_the_adapter_is_what_vllm_takes(home, seal):
    document = json.loads(seal(*ADAPT, "--json")[1])
    config = json.loads((home / "out" / "adapter_config.json").read_text())
    assert (config["peft_type"], config["r"], config["lora_alpha"], config["bias"]) == ("LORA", 4, 4, "none")
    assert not config["modules_to_save"]
    assert not config["use_dora"]
    assert config["target_modules"]
    names = load_file(home / "out" / "adapter_model.safetensors").keys()
    assert all(re.fullmatch(r"base_model\.model\.model\.layers\.\d+\.\w+\.\w+\.lora_[AB]\.weight", name) for name in names)
    command = document["load"]["vllm"]
    assert command.endswith(f"--enable-lora --lora-modules out={home / 'out'} --max-lora-rank 8")
    assert document["load_merged"] is None
    assert "vllm serve" in command


def test_a_rank_or_a_file_that_vllm_does_not_take_needs_the_whole_model():
    assert vllm_command(Loading(Path("a"), "hub/id", True, 16)).endswith("--max-lora-rank 16")
    assert "--merge" in vllm_command(Loading(Path("a"), "hub/id", True, max(VLLM_RANKS) + 1))
    assert "--merge" in vllm_command(Loading(Path("a"), "/b/c.gguf", True, 16))


def test_the_embedded_model_is_named_as_the_hub_has_it(tmp_path):
    from seal.models.adapter import loadable

    assert loadable("smollm2-135m") == "HuggingFaceTB/SmolLM2-135M-Instruct"
    assert loadable("org/model@abc") == "org/model"
    assert loadable(str(tmp_path)) == str(tmp_path)


# ---- retrieval


def test_the_best_passages_that_fit_stand_before_the_question(home, lively_path):
    from seal.config import load
    from seal.domains.passages import to_problems
    from seal.loops import build

    domain: Knowledge = build.passages_domain(load("small.toml"))
    nouns = ("mill", "tower", "ferry", "school")
    found = to_problems((f"The {noun}", f"Ada built the {noun}.", [(f"Who built the {noun}?", "Ada")]) for noun in nouns)
    (ask,) = Retrieval(domain, found, lambda one: True).ask(found[2])
    assert ask.prompt.text.startswith("Passage:\nThe ferry\nAda built the ferry.\n\nPassage:\n")
    assert ask.prompt.text.count("Passage:") == 3
    assert ask.prompt.text.endswith(domain.ask(found[2])[0].prompt.text)
    (ask,) = Retrieval(domain, found, lambda one: one.prompt.text.count("Passage:") < 2).ask(found[2])
    assert ask.prompt.text.count("Passage:") == 1
    assert "Ada built the ferry." in ask.prompt.text
    (ask,) = Retrieval(domain, found, lambda one: False).ask(found[2])
    assert ask == domain.ask(found[2])[0]


def test_a_card_says_that_a_taught_sentence_may_hold_an_answer_that_was_held_out():
    said = [" ".join(notes(an_adaptation() | {"made": {"policy": None, "lessons": number}})) for number in (0, 1)]
    assert ["may hold that answer all the same" in one for one in said] == [False, True]
