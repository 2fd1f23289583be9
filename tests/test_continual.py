"""Learning in sequence on a tiny model: what the loop keeps, and what each strategy promises."""

from __future__ import annotations

import io
import json
import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from statistics import fmean, pstdev
from typing import Any
from unittest import mock

import pytest
import torch
from hand_made import a_record
from rich.console import Console
from small_runs import Watched, an_engine, die, killed_until_done
from tiny import make_lively

from seal.cli.app import run
from seal.cli.policies import learnt_by
from seal.config import load
from seal.domains.knowledge import Knowledge
from seal.domains.knowledge_table import KnowledgeTable
from seal.domains.probes import probes
from seal.edits.clashes import clashes
from seal.edits.harmful import harmful
from seal.engine import Engine
from seal.engine.export import load_adapter, save_adapter
from seal.errors import UserError
from seal.loops import build
from seal.loops import continual as continual_loop
from seal.loops.continual import Course, continual, step_key, streams
from seal.loops.evaluate import Evaluation
from seal.loops.refuse import refuse_few_probes
from seal.loops.undo import adapters_without, undone
from seal.models.adapter import About, write_about
from seal.report import render
from seal.report.export import export_files
from seal.report.forgetting import backward, continual_tables, diagonal, forgetting, forward, read_official
from seal.report.html import cells
from seal.report.page import page, report_data
from seal.report.tables import evaluation_table
from seal.stats import mean
from seal.store import Store, keys
from seal.strategies import GateSettings, Settings, Workbench, strategy
from seal.strategies.gate import largest
from seal.trials import unchanged
from seal.types import Ask, Bounds, Example, Job, Prompt, Reply, Sampling, Tuning

TUNING = Tuning(rank=2, alpha=8, lr=3e-2, epochs=3, batch=2, targets=("q_proj", "v_proj", "down_proj"))


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Engine:
    return an_engine(make_lively(tmp_path_factory.mktemp("lively")))


def a_domain(folder: Path) -> Knowledge:
    nouns = ("ferry", "mill", "bridge", "school")
    passages = [
        {
            "title": f"The {noun}",
            "context": f"Ada built the {noun} in 190{number}.",
            "questions": [
                {"question": f"Who built the {noun}?", "answer": "Ada"},
                {"question": "When?", "answer": f"190{number}"},
            ],
        }
        for number, noun in enumerate(nouns)
    ]
    (folder / "dev.json").write_text(json.dumps(passages))
    return KnowledgeTable(data={"dev": str(folder / "dev.json")}).build(TUNING, Bounds())


def a_bench(engine: Engine, folder: Path) -> Workbench:
    path = folder / "probes.json"
    path.write_text(
        '{"questions": [{"question": "What is water?", "answer": "wet"}], "texts": [{"text": "The sun is up.", "logprob": -9.0}]}'
    )
    return Workbench(engine, probes(path))


def a_course(domain: Knowledge, *names: str, length: int = 3, number: int = 1, settings: Settings = Settings()) -> Course:
    problems = tuple(domain.problems("dev"))
    given = {problem.id: (f"{problem.title} is old.\nIt stands.",) for problem in problems}
    edits = Evaluation(("given",), problems, Sampling(n=1), given=given)
    drawn = streams(problems, number=number, length=length, seeds=1, seed=5)
    return Course(drawn, {name: strategy(name, settings) for name in names}, edits)


def a_run(engine: Engine, folder: Path, *names: str, **sizes: Any) -> Store:
    store = Store.create(folder / "runs", "stream", "", {})
    domain = a_domain(folder)
    continual(a_bench(engine, folder), domain, store, a_course(domain, *names, **sizes), seed=5)
    return store


def logits(engine: Engine) -> list[float | None]:
    ask = Ask("q", Prompt("Who built the mill?"), "Ada and Bo", 0)
    return [reply.target_logprob for one in engine.run([Job("j", (), (ask,))]) for reply in one.replies]


def test_a_stream_names_no_problem_twice_and_says_when_there_are_too_few(tmp_path):
    problems = a_domain(tmp_path).problems("dev")
    drawn = streams(problems, number=3, length=4, seeds=2, seed=1)
    assert [one.name for one in drawn] == ["0.0", "0.1", "1.0", "1.1", "2.0", "2.1"]
    assert all(len({problem.id for problem in one.problems}) == 4 for one in drawn)
    assert drawn[0].problems == drawn[1].problems != drawn[2].problems
    with pytest.raises(UserError, match=r"continual.length = 5: the split has 4"):
        streams(problems, number=1, length=5, seeds=1, seed=1)


def test_every_row_asks_what_was_seen_and_the_next(engine, tmp_path):
    with a_run(engine, tmp_path, "merge") as store:
        rows = [store.get_state(step_key("merge", "0", step)) for step in range(4)]
    order = rows[0]["order"]
    assert [list(row["row"]) for row in rows] == [order, order[:2], order[:3], order]
    assert all(0 <= cell["score"] <= 1 for row in rows for cell in row["row"].values())
    assert all(row["probes"]["logprob"] < 0 for row in rows)
    assert len({row["probes"]["logprob"] for row in rows}) == 4  # every step changes the model


def test_a_strategy_is_no_quicker_for_coming_after_one_that_trained_the_same(engine, tmp_path):
    with a_run(engine, tmp_path, "merge", "library") as store:
        for name in ("merge", "library"):
            for step in (store.get_state(step_key(name, "0", number)) for number in (1, 2, 3)):
                assert step["learning_seconds"] >= step["cost"]["train_seconds"]


def test_merging_is_the_sum_of_the_adapters(engine, tmp_path):
    with a_run(engine, tmp_path, "merge") as store:
        worn = adapters_without(store, "merge", "0")
    engine.wear(())
    base = {name: linear.weight.clone() for name, linear in engine.host.linears.items()}
    total = {name: torch.zeros_like(weight) for name, weight in base.items()}
    for one in worn:
        engine.wear([one])
        for name, linear in engine.host.linears.items():
            total[name] += linear.weight - base[name]
    engine.wear(worn)
    assert len(worn) == 3
    for name, linear in engine.host.linears.items():
        torch.testing.assert_close(linear.weight, base[name] + total[name], rtol=0, atol=1e-5)


def test_the_last_step_undone_gives_the_bits_before_it(engine, tmp_path):
    with a_run(engine, tmp_path, "merge", length=2) as store:
        engine.wear(adapters_without(store, "merge", "0", 2))
        undone = {name: linear.weight.clone() for name, linear in engine.host.linears.items()}
        said = logits(engine)
        engine.wear(adapters_without(store, "merge", "0")[:1])
        assert all(torch.equal(undone[name], linear.weight) for name, linear in engine.host.linears.items())
        assert logits(engine) == said
        engine.wear(adapters_without(store, "merge", "0"))
        assert logits(engine) != said
        with pytest.raises(UserError, match="merge has steps 1 to 2"):
            adapters_without(store, "merge", "0", 3)


def test_a_run_that_was_stopped_goes_on_where_it_was(engine, tmp_path):
    """Stopped in its third step: the others are not trained again, and all is as in a run never stopped."""
    (tmp_path / "whole").mkdir()
    with a_run(engine, tmp_path / "whole", "merge") as store:
        whole = [_scores(store.get_state(step_key("merge", "0", step))) for step in range(4)]

    domain = a_domain(tmp_path)
    course = a_course(domain, "merge")
    with Store.create(tmp_path / "runs", "stream", "", {}) as store:
        told: list[tuple[int, int]] = []

        def tell(what: str, done: int, total: int) -> None:
            if what == "steps of merge":
                told.append((done, total))

        def stop(what: str, done: int, total: int) -> None:
            if what == "steps of merge" and done == 2:
                raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            continual(a_bench(engine, tmp_path), domain, store, course, seed=5, notify=stop)
        first = store.get_state(step_key("merge", "0", 1))
        assert store.get_state(step_key("merge", "0", 3)) is None
        continual(a_bench(engine, tmp_path), domain, store, course, seed=5, notify=tell)
        assert told == [(2, 3), (3, 3)]  # what is there is no work of this moment's
        assert store.get_state(step_key("merge", "0", 1)) == first
        assert [_scores(store.get_state(step_key("merge", "0", step))) for step in range(4)] == whole


def one_life(tiny: str, folder: str, run: str, commits: int) -> None:
    """A process that goes on with a run until it is done, or until it has a step to put down for the so-many-th time: then it
    kills itself, its adapters on disk and no word of them in the run."""
    torch.set_num_threads(1)
    put, left = Store.set_state, commits

    def counted(store: Store, key: str, value: object) -> None:
        nonlocal left
        left -= key.startswith("continual/")
        if left == 0:
            die()
        put(store, key, value)

    with mock.patch.object(Store, "set_state", counted), Store.open(Path(run), write=True) as store:
        domain = a_domain(Path(folder))
        continual(a_bench(an_engine(Path(tiny)), Path(folder)), domain, store, a_course(domain, *KILLED), seed=5)


KILLED = ("gate+replay", "superposition")


def test_a_run_killed_again_and_again_is_the_run_that_never_was(engine, tmp_path):
    (tmp_path / "whole").mkdir()
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # as the processes that are killed
    with a_run(engine, tmp_path / "whole", *KILLED) as store:
        whole = store.states("continual/"), store.path
    torch.set_num_threads(threads)
    Store.create(tmp_path / "runs", "killed", "", {}).close()
    (path,) = (tmp_path / "runs").iterdir()
    killed_until_done(one_life, engine.language.name, str(tmp_path), str(path), 4, most=9)
    with Store.open(path, write=False) as store:
        found = store.states("continual/")
    assert {key: _scores(record) for key, record in found.items()} == {key: _scores(record) for key, record in whole[0].items()}
    for record in found.values():
        if record.get("adapter"):
            one, other = (load_adapter(place / record["adapter"]) for place in (path, whole[1]))
            assert all(torch.equal(one[name][at], other[name][at]) for name in other for at in (0, 1))


def _scores(record: dict[str, Any]) -> tuple[Any, Any]:
    return record["row"], record["probes"]


def test_a_question_by_itself_is_timed_at_the_end(engine, tmp_path):
    names = ("merge", "library", "superposition")
    with a_run(engine, tmp_path, *names) as store:
        ends = {name: store.get_state(step_key(name, "0", 3)) for name in names}
        first = store.get_state(step_key("library", "0", 1))
        rows = {row["strategy"]: row for row in continual_tables(store)}
        files = {name: adapters_without(store, name, "0") for name in names}
        for end in ends.values():
            assert end["alone"]["questions"] == 3
            assert end["alone"]["seconds"] > 0 < end["alone"]["tokens"]
        assert "alone" not in first
        assert rows["library"]["alone"] == ends["library"]["alone"]
        one = sum(file.stat().st_size for file in files["library"][0][0].iterdir()) / 1e6
        held = {name: end["alone"]["held_mb"] for name, end in ends.items()}
        assert held["merge"] == 0
        assert held["library"] == pytest.approx(3 * one, rel=0.05)
        assert held["library"] < 2 * held["superposition"] < 4 * held["library"]
        shown = page(report_data(store))
        assert "MB held beside the model" in shown

        del ends["library"]["alone"]  # a run of before it was measured
        store.set_state(step_key("library", "0", 3), ends["library"])
        assert {row["strategy"]: row["alone"] is None for row in continual_tables(store)} == {
            name: name == "library" for name in names
        }


class Clocked:
    """An engine by whose clock every adapter that is put in place takes a second, and every call to answer a quarter of one."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._worn: tuple[Any, ...] = ()
        self.now = 0.0

    def wear(self, adapters: Any) -> None:
        self.now += 0 if tuple(adapters) == self._worn else len(adapters)
        self._worn = tuple(adapters)
        self._engine.wear(adapters)

    def run(self, jobs: Any) -> Any:
        self.now += 0.25
        return self._engine.run(jobs)

    def perf_counter(self) -> float:
        return self.now

    def __getattr__(self, name: str) -> Any:
        return getattr(self._engine, name)


def test_whose_seconds_a_question_by_itself_takes(engine, tmp_path, monkeypatch):
    """A library and a superposition put an adapter in place for each question; one set of weights has it all in place."""
    names, clocked = ("merge", "library", "superposition"), Clocked(engine)
    monkeypatch.setattr("seal.loops.continual.time", clocked)
    with a_run(clocked, tmp_path, *names) as store:
        rows = {row["strategy"]: row for row in continual_tables(store)}
        table = cells(render.taken(list(rows.values())))
    seconds = {name: (rows[name]["alone"]["seconds"], rows[name]["alone"]["worn_seconds"]) for name in names}
    assert seconds == {"merge": (0.25, 0.25), "library": (1.25, 0.25), "superposition": (1.25, 0.25)}
    columns = [table["head"].index(name) for name in ("s a question", "with its weights in place")]
    shown = {row[0]: tuple(float(row[column]) for column in columns) for row in table["rows"]}
    assert shown == seconds


def test_what_is_worn_already_is_not_read_again_unless_it_is_another_file(engine, tmp_path):
    with a_run(engine, tmp_path, "merge", length=2) as store:
        first, second = adapters_without(store, "merge", "0")
        engine.wear([first])
        said = logits(engine)
        with mock.patch("seal.engine.weights.load_adapter", side_effect=AssertionError):
            engine.wear([first])
            engine.load(first[0])
        assert logits(engine) == said
        engine.load(None)
        assert logits(engine) != said
        engine.wear([first])
        assert logits(engine) == said
        save_adapter(first[0], load_adapter(second[0]), engine.language.model)
        engine.wear([first])
        other = logits(engine)
        assert other != said
        engine.wear([second])
        assert logits(engine) == other
        with pytest.raises(UserError, match="no PEFT adapter"):
            engine.wear([(tmp_path / "nothing", 1.0)])
        engine.wear([second])
        assert logits(engine) == other


def test_a_library_answers_as_the_adapter_alone_at_every_step(engine, tmp_path):
    with a_run(engine, tmp_path, "library") as store:
        records = [store.get_state(step_key("library", "0", step)) for step in range(4)]
        worn = adapters_without(store, "library", "0")
        bench, domain = a_bench(engine, tmp_path), a_domain(tmp_path)
        for (path, weight), id in zip(worn, records[0]["order"], strict=True):
            problem = next(one for one in domain.problems("dev") if one.id == id)
            ((_, alone, _),) = unchanged(bench.wear(((path, weight),)), domain, [problem])
            place = records[0]["order"].index(id) + 1
            for record in records[place:]:
                assert [one["text"] for one in record["row"][id]["answers"]] == [one.text for one in alone]
        assert [record["routing"] for record in records] == [None, 1.0, 1.0, 1.0]


def test_a_higher_bound_never_gives_a_smaller_weight():
    harms = {0.125: 0.3, 0.25: 0.1, 0.375: 0.2, 0.5: 0.4, 0.625: 0.35, 0.75: 0.5, 0.875: 0.9, 1.0: 0.6}  # not even monotone
    weights = [largest(lambda weight: harms[weight], bound / 20, 3) for bound in range(20)]
    assert weights == sorted(weights)
    assert (weights[0], weights[-1]) == (0, 1)
    assert len(set(weights)) > 3


@pytest.mark.parametrize(
    ("settings", "weight", "why"),
    [
        (GateSettings(bound=-1.0), 0.0, "refused: harm"),
        (GateSettings(bound=9.0), 1.0, ""),
        (GateSettings(surprise=0.1), 0.0, "refused: .* nats a token"),
    ],
)
def test_the_gate_says_what_it_refused_and_why(engine, tmp_path, settings, weight, why):
    with Store.create(tmp_path / "runs", "stream", "", {}) as store:
        domain = a_domain(tmp_path)
        continual(
            a_bench(engine, tmp_path), domain, store, a_course(domain, "gate", length=1, settings=Settings(gate=settings)), seed=5
        )
        record = store.get_state(step_key("gate", "0", 1))
        before = store.get_state(step_key("gate", "0", 0))
    assert record["weight"] == weight
    assert re.match(why, record["why"])
    assert ("clash" in record["facts"]) == ("nats" not in why)  # where it came as far as that
    assert (record["probes"] == before["probes"]) == (weight == 0)


def test_replay_learns_earlier_examples_and_its_own_words_again(engine, tmp_path):
    """Not those that were cut: it would learn to stop there."""
    watched = Cut(engine)
    with a_run(watched, tmp_path, "replay"):
        learnt = [[example.completion for example in job.examples] for job in watched.jobs if job.examples]
    assert [len(rows) for rows in learnt] == [3 + 0 + 2, 3 + 3 + 2, 3 + 6 + 2]
    assert all({row for row in rows if row.startswith("reply")} == {"reply 1.", "reply 3."} for rows in learnt)
    assert watched.sampled == 12


class Cut(Watched):
    """An engine that brings every second of its replies to an end."""

    def sample(self, prompts: Sequence[Prompt], how: Sampling, *, seed: int) -> list[list[Reply]]:
        found = super().sample(prompts, how, seed=seed)
        ends = (place % 2 == 1 for place in range(len(found)))
        return [[Reply(f"reply {place}" + "." * end, ended=end)] for place, end in enumerate(ends)]


RECIPE = """\
[model]
name = {model!r}
[domain]
kind = "knowledge"
data = {{ dev = "dev.json" }}
[edit]
max_tokens = 12
[tuning]
rank = 2
epochs = 1
[continual]
split = "dev"
streams = 2
length = 2
edits = "untrained"
probes = 2
strategies = ["merge", "library"]
[engine]
slots = 1
threads = 1
"""


def test_the_verbs_measure_go_on_and_undo(tiny_path, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    a_domain(tmp_path)
    (tmp_path / "small.toml").write_text(RECIPE.format(model=str(tiny_path)))
    assert run(["continual", "small.toml", "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    rows = {row["strategy"]: row for row in document["continual"]}
    assert list(rows) == ["library", "merge"]
    assert [[cell is None for cell in row] for row in rows["merge"]["matrix"]] == [[False, False]] * 3
    assert rows["merge"]["streams"] == 2
    assert rows["merge"]["base"] == rows["library"]["base"]
    assert run(["continual", "last"]) == 0
    assert "diagonal" in capsys.readouterr().out
    assert run(["watch", "last", "--json"]) == 0
    looked = json.loads(capsys.readouterr().out)
    assert (looked["status"], looked["phase"], looked["last"]) == ("done", None, None)  # no edit has a trial here
    with Store.open(Path(document["run"]), write=False) as store:
        noted = store.get_state(keys.PROGRESS)
    assert (noted["where"], noted["stage"], noted["done"], noted["total"]) == ("in sequence", "steps of library", 4, 4)

    assert run(["undo", "last", "--step", "2"]) == 2
    assert "--strategy NAME" in capsys.readouterr().err
    assert run(["undo", "last", "--step", "1", "--strategy", "merge", "--out", "without", "--json"]) == 0
    undone = json.loads(capsys.readouterr().out)
    assert (undone["later"], len(undone["adapters"]), undone["merged"]) == (1, 1, True)
    assert load_adapter(tmp_path / "without").keys() == load_adapter(Path(undone["adapters"][0]["path"])).keys()
    with Store.open(Path(document["run"]), write=False) as store:
        (first, second) = (store.get_state(step_key("merge", "0", step))["problem"] for step in (1, 2))
    assert learnt_by(tmp_path / "without") == {second}
    assert (undone["policy"], json.loads((tmp_path / "without" / "seal.json").read_text())["base"]) == (None, str(tiny_path))
    assert {first, second} <= learnt_by(Path(undone["adapters"][0]["path"]))  # all that the run's streams have learnt
    assert run(["undo", "last", "--step", "2", "--strategy", "merge", "--out", "without"]) == 0
    assert learnt_by(tmp_path / "without") == {first}
    capsys.readouterr()
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.md").write_text("years of work")
    with mock.patch("seal.loops.build.engine", side_effect=AssertionError):  # no model is opened for it
        assert run(["undo", "last", "--step", "1", "--strategy", "merge", "--out", "mine"]) == 2
    assert "mine has what would be deleted: thesis.md" in capsys.readouterr().err
    assert (tmp_path / "mine" / "thesis.md").read_text() == "years of work"
    assert run(["undo", "last", "--step", "3", "--strategy", "library"]) == 2
    assert "has steps 1 to 2" in capsys.readouterr().err


def test_at_equal_tokens_every_step_is_as_long_whatever_is_learnt_with_it(tiny_path, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    a_domain(tmp_path)
    (tmp_path / "small.toml").write_text(RECIPE.format(model=str(tiny_path)))
    more = ['continual.strategies=["merge", "replay"]', "continual.guards=1"]
    assert run(["continual", "small.toml", *more, "eval.match=tokens", "eval.tokens=40", "eval.steps=4"]) == 0
    with Store.open(next((tmp_path / "runs").iterdir()), write=False) as store:
        found = [one.record for one in continual_loop.steps(store) if one.number]
        edits = store.edits("untrained", 0)
    assert [one["cost"]["train_steps"] for one in found] == [4] * len(found) == [4] * 8
    assert {(edit.tuning.tokens, edit.tuning.steps) for edit in edits} == {(40, 4)}


def test_more_probes_and_guards_than_there_are_is_refused(tiny_path, tmp_path, monkeypatch, seal):
    monkeypatch.chdir(tmp_path)
    a_domain(tmp_path)
    (tmp_path / "small.toml").write_text(RECIPE.format(model=str(tiny_path)))
    code, _, error = seal("continual", "small.toml", "continual.probes=100", 'continual.strategies=["gate"]')
    assert code == 2
    assert "continual.probes = 100 and continual.guards = 24 are more than the 100 probes there are" in error
    assert not Path("runs").exists()
    refuse_few_probes(load("small.toml", ["continual.probes=100", "continual.guards=0"]))


def test_a_run_takes_more_strategies_and_none_away(tiny_path, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    a_domain(tmp_path)
    (tmp_path / "small.toml").write_text(RECIPE.format(model=str(tiny_path)))
    assert run(["continual", "small.toml", "--json"]) == 0
    first = json.loads(capsys.readouterr().out)
    assert run(["continual", "last", 'continual.strategies=["merge", "superposition"]']) == 2
    assert "has library too; strategies may be added, none left out" in capsys.readouterr().err
    assert run(["continual", "last", "continual.length=1"]) == 2
    assert "a run keeps its recipe" in capsys.readouterr().err
    more = ["continual", "last", 'continual.strategies=["merge", "superposition", "library"]', "engine.threads=2", "--json"]
    assert run(more) == 0
    second = json.loads(capsys.readouterr().out)
    assert second["run"] == first["run"]
    rows = {row["strategy"]: row for row in second["continual"]}
    assert [rows[row["strategy"]] for row in first["continual"]] == first["continual"]
    assert rows["superposition"]["streams"] == 2
    assert load(f"{first['run']}/recipe.toml").continual.strategies == ("merge", "superposition", "library")
    assert load(f"{first['run']}/recipe.toml").engine.threads == 1  # that was for once
    assert run(["continual", "last"]) == 0  # and it goes on with what it has now
    assert "superposition" in capsys.readouterr().out

    recipe = Path(first["run"]) / "recipe.toml"
    recipe.write_text(recipe.read_text().replace("[continual]\n", "[continual]\nold_word = 1\n"))
    again = ["continual", "last", 'continual.strategies=["merge", "superposition", "library"]']
    assert run(again) == 2
    assert "without what it says: continual.old_word=" in capsys.readouterr().err
    assert run([*again, "continual.old_word="]) == 0
    assert "old_word" not in recipe.read_text()

    with Store.open(Path(first["run"]), write=False) as store:
        assert (store.status, store.get_state("kind")) == ("done", "continual")
    with mock.patch("seal.loops.continual._Run.follow", side_effect=KeyboardInterrupt):
        assert run(["continual", "last", 'continual.strategies=["merge", "superposition", "library", "leash"]']) == 130
    with Store.open(Path(first["run"]), write=False) as store:
        assert store.status == "stopped"  # its new strategy is not there


def test_its_steps_and_strategies_are_tracked_and_listed(tiny_path, tmp_path, monkeypatch, seal):
    accumulator = pytest.importorskip(
        "tensorboard.backend.event_processing.event_accumulator", reason="pip install -e '.[track]'"
    )
    monkeypatch.chdir(tmp_path)
    a_domain(tmp_path)
    (tmp_path / "small.toml").write_text(RECIPE.format(model=str(tiny_path)))
    taken, learn = [], continual_loop._Run._learn

    def stopping(*how: Any) -> Any:
        taken.append(None)
        if len(taken) == 3:
            raise KeyboardInterrupt
        return learn(*how)

    with monkeypatch.context() as patch:
        patch.setattr(continual_loop._Run, "_learn", stopping)
        assert seal("continual", "small.toml", "track=tensorboard")[0] == 130
    assert seal("continual", "last")[0] == 0
    more = 'continual.strategies=["merge", "library", "gate+replay"]'
    document = json.loads(seal("continual", "last", more, "--json")[1])
    rows = {row["strategy"]: row for row in document["continual"]}
    (line,) = json.loads(seal("runs", "--json")[1])["runs"]
    assert line["means"] == {name: row["last"]["mean"] for name, row in rows.items()}
    with Store.open(Path(document["run"]), write=False) as store:
        assert evaluation_table(store)[0]["mean"] is None  # its edits have no trials
        assert report_data(store)["table"] == []
        records = [store.get_state(step_key("merge", "1", step)) for step in (1, 2)]
    events = accumulator.EventAccumulator(str(Path(document["run"]) / "tensorboard"))
    events.Reload()

    def sent(name: str) -> list[tuple[int, float]]:
        return [(one.step, one.value) for one in events.Scalars(f"continual/{name}")]

    # two streams of two steps each, strategy by strategy; then their tables; then what was added
    assert [sent(f"{one}/step") for one in ("merge/0", "merge/1", "library/1")] == [
        [(1, 1), (2, 2)], [(3, 1), (4, 2)], [(7, 1), (8, 2)],
    ]  # fmt: skip
    assert [step for step, _ in sent("gate_replay/0/learnt") + sent("gate_replay/1/learnt")] == [11, 12, 13, 14]
    assert sent("merge/1/weight") == [(3, 1.0), (4, 1.0)]
    scores = [[record["row"][one["problem"]]["score"] for one in records[: place + 1]] for place, record in enumerate(records)]
    assert sent("merge/1/seen") == [(3, pytest.approx(fmean(scores[0]))), (4, pytest.approx(fmean(scores[1])))]
    assert sorted(sent("merge/last") + sent("library/last") + sent("gate_replay/last")) == [
        (9, pytest.approx(rows["library"]["last"]["mean"])),
        (10, pytest.approx(rows["merge"]["last"]["mean"])),
        (15, pytest.approx(rows["gate+replay"]["last"]["mean"])),
    ]


def a_policy(engine: Engine, path: Path) -> None:
    engine.load(None)
    engine.absorb([Example("Ada built the mill.")], TUNING, seed=0)
    engine.export(path)
    engine.load(None)


def test_where_the_base_model_is_the_learner_the_policy_writes_alone(engine, tmp_path, monkeypatch, seal):
    """Also when the run goes on; and a step undone leaves the base model with the others."""
    monkeypatch.chdir(tmp_path)
    a_domain(tmp_path)
    (tmp_path / "small.toml").write_text(RECIPE.format(model=engine.language.name))
    a_policy(engine, tmp_path / "policy")
    written, first = {}, {}
    seals = ("continual.edits=seal", "--policy", "policy")
    for name, changes in {"untrained": (), "policy": seals, "base": (*seals, "outer.learner=base")}.items():
        made = seal("continual", "small.toml", "continual.streams=1", 'continual.strategies=["merge"]', *changes, "--json")
        path = Path(json.loads(made[1])["run"])
        with Store.open(path, write=False) as store:
            written[name] = [edit.text for edit in store.edits("seal" if changes else "untrained", 0)]
            first[name] = _scores(store.get_state(step_key("merge", "0", 0)))
    assert written["base"] == written["policy"] != written["untrained"]
    assert first["base"] == first["untrained"] != first["policy"]

    assert seal("continual", str(path), 'continual.strategies=["merge", "library"]')[0] == 0
    with Store.open(path, write=False) as store:
        assert _scores(store.get_state(step_key("library", "0", 0))) == first["base"]
    document = json.loads(seal("undo", str(path), "--step", "1", "--strategy", "merge", "--out", "without", "--json")[1])
    assert document["policy"] is None
    assert json.loads((tmp_path / "without" / "adapter_config.json").read_text())["r"] == 2  # no policy beside it


def test_edits_of_a_stream_are_written_in_as_many_passes_as_in_training(tiny_path, tmp_path, monkeypatch, seal):
    monkeypatch.chdir(tmp_path)
    a_domain(tmp_path)
    (tmp_path / "small.toml").write_text(RECIPE.format(model=str(tiny_path)))
    one = ("continual.streams=1", 'continual.strategies=["merge"]', "outer.rounds_on_same=2", "--json")
    with Store.open(Path(json.loads(seal("continual", "small.toml", *one)[1])["run"]), write=False) as store:
        assert {phase for phase, _ in store.rounds()} == {"untrained.1", "untrained"}


def test_a_policy_counts_where_its_edits_are_learnt_and_nowhere_else(engine, tmp_path, monkeypatch, seal):
    monkeypatch.chdir(tmp_path)
    a_domain(tmp_path)
    (tmp_path / "small.toml").write_text(RECIPE.format(model=engine.language.name))
    small = ("continual", "small.toml", "continual.streams=1", 'continual.strategies=["merge"]')
    a_policy(engine, tmp_path / "policy")
    code, _, error = seal(*small, "--policy", "policy")
    assert (code, "--policy writes the edits for continual.edits = 'seal', not 'untrained'" in error) == (2, True)

    (learnt, *_) = a_domain(tmp_path).problems("dev")
    write_about(tmp_path / "policy", About(engine.language.name, trained=(learnt.id,)))
    code, _, error = seal(*small, "continual.edits=seal", "continual.length=4", "--policy", "policy")
    assert (code, f"{learnt.title!r}" in error, "was trained on" in error) == (2, True, True)
    assert not (tmp_path / "runs").exists()

    ranks = {}
    (tmp_path / "policy" / "seal.json").unlink()
    for edits in ("untrained", "seal"):
        given = ("--policy", "policy") if edits == "seal" else ()
        assert seal(*small, f"continual.edits={edits}", *given)[0] == 0
        (path,) = [one for one in (tmp_path / "runs").iterdir() if one.name not in ranks]
        with Store.open(path, write=True) as store:  # a run of before it was refused has a policy that it never wore
            store.set_state("continual", {"policy": str(tmp_path / "policy")})
        code, told, _ = seal("undo", str(path), "--step", "1", "--out", edits)
        assert (code, "the policy and 1 adapters" in told, str(tmp_path / "policy") in told) == (
            0,
            edits == "seal",
            edits == "seal",
        )
        document = json.loads(seal("undo", str(path), "--step", "1", "--json")[1])
        assert document["policy"] == (str(tmp_path / "policy") if edits == "seal" else None)
        ranks[path.name] = json.loads((tmp_path / edits / "adapter_config.json").read_text())["r"]
    assert list(ranks.values()) == [2, 4]  # the adapter's, and the policy's beside it


def test_a_superposition_without_a_step_is_the_one_that_never_learnt_it(engine, tmp_path, monkeypatch, seal):
    """The run's own weights are not: they were fitted to all three."""
    monkeypatch.chdir(tmp_path)
    a_domain(tmp_path)
    changes = ["continual.streams=1", "continual.length=3", 'continual.strategies=["superposition", "replay+superposition"]']
    (tmp_path / "small.toml").write_text(RECIPE.format(model=engine.language.name))
    assert seal("continual", "small.toml", *changes)[0] == 0
    undo = ("undo", "last", "--step", "2", "--strategy", "superposition")
    told = seal(*undo)[1]
    assert "--out DIR binds the others anew" in told
    assert "in its presence" not in told
    document = json.loads(seal(*undo, "--out", "without", "--json")[1])
    assert (document["merged"], document["bound"], document["exact"]) == (False, True, True)
    assert list(document["keys"].values()) == [1, 3]

    folders = [Path(one["path"]).parent for one in document["adapters"]]
    never = tmp_path / "never"  # one step after the other, as the stream learns them
    never.mkdir()
    held = [(folder / "adapter", folder / "inputs.safetensors", key) for folder, key in zip(folders, (1, 3), strict=True)]
    engine.superpose(held[:1], never / "first", never / "binding")
    engine.superpose(held[1:], never / "both", never / "again", never / "binding")
    for bound in (tmp_path / "without", folders[1] / "superposed"):
        with pytest.raises(UserError, match="adapters bound to keys"):
            engine.load(bound)
        engine.wear([(bound, 1.0, 3)])
        with pytest.raises(UserError, match="say nothing without one"):
            engine.wear([(bound, 1.0)])
    code, _, error = seal("ask", "without", "Who built the mill?")
    assert (code, "adapters bound to keys" in error) == (2, True)
    found, wanted = (load_adapter(path) for path in (tmp_path / "without", never / "both"))
    assert found.keys() == wanted.keys()
    assert all(torch.equal(found[name][at], wanted[name][at]) for name in wanted for at in (0, 1))
    everything = load_adapter(folders[1] / "superposed")
    parts = {name: torch.cat([a[:2], a[4:]]) for name, (a, _) in everything.items()}  # rank 2 a step
    assert any((parts[name] - a).abs().max() > 1e-3 * a.abs().max() for name, (a, _) in found.items())

    told = seal("undo", "last", "--step", "2", "--strategy", "replay+superposition", "--out", "other")[1]
    assert "1 later steps were learnt in its presence" in told
    code, _, error = seal("undo", "last", "--step", "4", "--strategy", "superposition", "--out", "x")
    assert (code, "has steps 1 to 3" in error) == (2, True)


def test_of_which_strategies_a_step_undone_leaves_the_rest_exact():
    names = (
        "merge",
        "leash",
        "library",
        "superposition",
        "leash+library",
        "replay+library",
        "gate+library",
        "null-space+library",
    )
    assert {name for name in names if strategy(name).independent} == {"library", "superposition", "leash+library"}


def test_transfer_and_forgetting_of_a_matrix_made_by_hand():
    matrix = [[0.1, 0.2, 0.3], [0.9, 0.3, None], [0.7, 0.8, 0.2], [0.5, 0.9, 0.6]]
    assert diagonal(matrix) == [0.9, 0.8, 0.6]
    assert backward(matrix) == pytest.approx(((0.5 - 0.9) + (0.9 - 0.8)) / 2)
    assert forward(matrix) == pytest.approx(((0.3 - 0.2) + (0.2 - 0.3)) / 2)
    assert forgetting(matrix) == pytest.approx(((0.9 - 0.5) + (0.8 - 0.9)) / 2)


def test_asked_at_the_ends_alone_it_is_said_why_forward_transfer_is_not_known(engine, tmp_path):
    domain, shown = a_domain(tmp_path), {}
    for ends in (False, True):
        with Store.create(tmp_path / "runs", "stream", "", {}) as store:
            continual(a_bench(engine, tmp_path), domain, store, replace(a_course(domain, "merge"), ends=ends), seed=5)
            (row,) = continual_tables(store)
            shown[ends] = page(report_data(store))
        assert (row["forward"]["mean"] is None) is ends
        assert row["forgetting"]["mean"] is not None
        console = Console(width=200, file=io.StringIO())
        console.print(render.sequence([row]))
        said = "Forward transfer is not known" in console.file.getvalue()  # type: ignore[attr-defined]
        assert said is ends
    assert ["Forward transfer is not known" in shown[ends] for ends in (False, True)] == [False, True]


def test_what_is_left_at_the_end_is_a_share_of_what_merge_had_learnt(tmp_path):
    """Over the streams that both have; which are drawn together if they share their problems."""
    with Store.create(tmp_path, "made", "", {}) as store:
        for strategy, streams, last in (("merge", ("0.0", "0.1", "1.0"), 0.0), ("library", ("0.0", "1.0"), 0.5)):
            for stream in streams:
                learnt = 0.5 if stream == "1.0" else 1.0
                store.set_state(step_key(strategy, stream, 0), a_record(0, {"a": 0.0, "b": 0.0}, order=["a", "b"]))
                store.set_state(step_key(strategy, stream, 1), a_record(1, {"a": learnt}))
                store.set_state(step_key(strategy, stream, 2), a_record(2, {"a": last, "b": learnt}))
        rows = {row["strategy"]: row for row in continual_tables(store)}
        assert rows["library"]["of_merge"] == pytest.approx({"mean": (0.75 + 0.5) / 1.5, "low": 0.75, "high": 1.0})
        assert rows["merge"]["of_merge"]["mean"] == pytest.approx(0.5)
        assert (rows["merge"]["diagonal"]["low"], rows["merge"]["diagonal"]["high"]) == (0.5, 1.0)
        console = Console(width=300, file=io.StringIO())
        console.print(render.sequence(list(rows.values())))
        shown = console.file.getvalue()  # type: ignore[attr-defined]
        assert "0.833 [0.500, 1.000]" in shown  # of merge's diagonal
        assert "2 streams are too few for an interval" in shown  # seeds of a stream are one
        assert [undone(store, name, "0.0", 1)["merged"] for name in ("merge", "library")] == [True, False]
        with pytest.raises(UserError, match=r"--stream 0 --step 1: merge has the streams 0\.0, 0\.1, 1\.0 in "):
            undone(store, "merge", "0", 1)


def test_a_refused_step_is_told_by_the_name_of_its_stream(tmp_path):
    """The name that `seal undo` takes: the store has streams in the order of their names as text."""
    why = "refused: 9.00 nats a token, more than 5"
    with Store.create(tmp_path, "made", "", {}) as store:
        for stream in ("0", "10", "2"):
            refused = {"weight": 0.0, "why": why} if stream == "10" else {"facts": {"gain": 0.25}}
            store.set_state(step_key("gate", stream, 0), a_record(0, {"a": 0.0}, order=["a"]))
            store.set_state(step_key("gate", stream, 1), a_record(1, {"a": 1.0}, **refused))
        (row,) = continual_tables(store)
        shown = page(report_data(store))
        assert undone(store, "gate", "10", 1)["why"] == why
    assert [one["stream"] for one in row["not_whole"]] == ["10"]
    console = Console(width=200, file=io.StringIO())
    console.print(render.sequence([row]))
    assert f"stream 10, step 1: {why}" in console.file.getvalue()  # type: ignore[attr-defined]
    assert "gate, means over the steps where it was measured: gain 0.25" in console.file.getvalue()  # type: ignore[attr-defined]
    assert f"stream 10, step 1: {why}" in shown


def test_what_could_not_be_learnt_was_refused_by_nobody(engine, tmp_path):
    """Nor is it made harmful: a gate would be praised for it."""
    domain = a_domain(tmp_path)
    course = a_course(domain, "merge")
    unwritten = replace(course, edits=replace(course.edits, given=dict.fromkeys(course.edits.given, ("",))), harmful="scrambled")
    with Store.create(tmp_path / "runs", "stream", "", {}) as store:
        for _ in range(2):  # the second time there is nothing to do
            continual(a_bench(engine, tmp_path), domain, store, unwritten, seed=5)
        steps = [store.get_state(step_key("merge", "0", number)) for number in (1, 2, 3)]
        (row,) = continual_tables(store)
        assert [(one["weight"], one["source"], one["fault"]["kind"]) for one in steps] == [(0.0, "given", "empty")] * 3
        assert (row["refused"], row["refused_harmful"], len(row["not_whole"])) == (None, None, 3)
        for one in steps[:2]:  # of a run of before it was kept
            del one["fault"]
            store.set_state(step_key("merge", "0", one["step"]), one)
        assert continual_tables(store)[0]["refused"] == 1.0


def test_what_is_left_is_unknown_without_merge(engine, tmp_path):
    with a_run(engine, tmp_path, "library", length=2) as store:
        (row,) = continual_tables(store)
    assert row["of_merge"] is None
    assert row["last"]["low"] is None  # one stream says nothing of another


SUMMARY = Path(__file__).parents[2] / "shared" / "data" / "official" / "continual" / "overall_results.json"


@pytest.mark.shared
@pytest.mark.skipif(not SUMMARY.is_file(), reason="no data folder beside the checkout")
def test_the_released_summary_gives_the_published_numbers():
    one = read_official([SUMMARY])
    assert one.streams == 64
    assert mean(one.mean[0]) == pytest.approx(0.307, abs=5e-4)
    assert mean(diagonal(one.mean)) == pytest.approx(0.415, abs=5e-4)
    assert mean(one.mean[-1]) == pytest.approx(0.247, abs=5e-4)
    assert [sum(cell is None for cell in row) for row in one.mean] == [0, 7, 6, 5, 4, 3, 2, 1, 0]
    assert read_official([SUMMARY, SUMMARY]).mean[-1] == pytest.approx(one.mean[-1])


SQUAD = SUMMARY.parents[2] / "squad" / "val_200_official_order.json"


@pytest.mark.shared
@pytest.mark.skipif(not SQUAD.is_file(), reason="no data folder beside the checkout")
def test_a_stream_of_a_hundred_squad_passages_names_none_twice():
    changes = [f'domain.data={{test="{SQUAD}"}}', "continual.length=100", "continual.edits=untrained", "continual.streams=2"]
    recipe = load("continual", changes)
    course = build.continual(recipe, build.domain(recipe), None)
    assert [len({problem.id for problem in stream.problems}) for stream in course.streams] == [100, 100]


def test_files_are_pooled_as_if_their_streams_had_been_one_file(tmp_path):
    for name, values in (("a", [0.0, 1.0]), ("b", [0.5, 0.5, 1.0, 1.0])):
        middle, spread = fmean(values), pstdev(values)
        matrix = {"mean_over_sequences": [[middle], [middle]], "std_over_sequences": [[spread], [spread]]}
        (tmp_path / name).write_text(json.dumps({**matrix, "n_sequences": len(values)}))
    found = read_official([tmp_path / "a", tmp_path / "b"])
    together = [0.0, 1.0, 0.5, 0.5, 1.0, 1.0]
    assert found.mean[1][0] == pytest.approx(fmean(together))
    assert found.deviation[1][0] == pytest.approx(pstdev(together))


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"n_sequences": 0}, "field 'n_sequences' must be a whole number from 1 on, not 0"),
        ({"n_sequences": -2}, "field 'n_sequences' must be a whole number from 1 on, not -2"),
        ({"n_sequences": 1.5}, "field 'n_sequences' must be a whole number from 1 on, not 1.5"),
        ({"n_sequences": 10**400}, "field 'n_sequences' must be a finite number"),
        ({"mean_over_sequences": [[0.5], ["0.5"]]}, "mean_over_sequences, row 2, column 1 must be a finite number, not text"),
        ({"std_over_sequences": [[None], [0.5]]}, "std_over_sequences, row 1, column 1 must be a finite number, not null"),
        ({"mean_over_sequences": [[0.5], [float("nan")]]}, "row 2, column 1 must be a finite number, not nan"),
        ({"mean_over_sequences": [[]], "std_over_sequences": [[]]}, "mean_over_sequences must have a row more than columns"),
        ({"mean_over_sequences": [0.5, 0.5]}, "mean_over_sequences must have a row more than columns"),
    ],
)
def test_a_summary_that_cannot_be_right_is_named_by_file_and_field(tmp_path, capsys, change, says):
    file, matrix = tmp_path / "summary.json", [[0.5], [0.5]]
    file.write_text(json.dumps({"mean_over_sequences": matrix, "std_over_sequences": matrix, "n_sequences": 4, **change}))
    assert run(["official", "continual", str(file)]) == 2
    error = capsys.readouterr().err
    assert says in " ".join(error.split())
    assert "summary.json" in error


def test_a_summary_of_streams_of_one_problem_says_nothing_of_forgetting(tmp_path, capsys):
    file, matrix = tmp_path / "summary.json", [[0.25], [0.5]]
    file.write_text(json.dumps({"mean_over_sequences": matrix, "std_over_sequences": matrix, "n_sequences": 4}))
    assert run(["official", "continual", str(file)]) == 0
    shown = " ".join(capsys.readouterr().out.split())
    assert "4 streams: base 0.250, diagonal 0.500, last 0.500, backward –, forgetting –" in shown


def test_the_report_shows_the_matrix_and_what_was_refused(engine, tmp_path):
    with Store.create(tmp_path / "runs", "stream", "", {}) as store:
        domain, settings = a_domain(tmp_path), Settings(gate=GateSettings(surprise=0.1))
        continual(a_bench(engine, tmp_path), domain, store, a_course(domain, "merge", "gate", settings=settings), seed=5)
        shown = page(report_data(store))
    assert shown.count('class="heat learnt"') == 6
    assert shown.count("not asked") == 2  # of each strategy: the third problem after the first step
    assert "gate: 3 steps were not kept whole" in shown
    assert "nats a token, more than 0.1" in shown
    assert 'id="result"' not in shown
    assert shown.count("merge · stream 0, step ") == shown.count("gate · stream 0, step ") == 3


def test_of_an_edit_made_harmful_it_is_shown_what_was_learnt(engine, tmp_path):
    domain = a_domain(tmp_path)
    course = replace(a_course(domain, "merge", length=3), harmful="scrambled")
    watched = Watched(engine)
    with Store.create(tmp_path / "runs", "stream", "", {}) as store:
        continual(a_bench(watched, tmp_path), domain, store, course, seed=5)
        learnt = [[example.completion for example in job.examples] for job in watched.jobs if job.examples]
        steps = [store.get_state(step_key("merge", "0", number)) for number in (1, 2, 3)]
        rows = {row["id"]: row for row in map(json.loads, export_files(store)["edits.jsonl"].splitlines())}
        shown = page(report_data(store))
    harmed = [step["source"] == "scrambled" for step in steps]
    assert set(harmed) == {True, False}
    for step, examples, bad in zip(steps, learnt, harmed, strict=True):
        row = rows[step["edit"]]
        assert ("harmed" in row) is bad
        assert [one["completion"] for one in (row["harmed"] if bad else row)["examples"]] == examples
    assert shown.count("Put to the strategies, made harmful (scrambled):") == shown.count("As it was before:") > 0
    for row in (row for row in rows.values() if "harmed" in row):
        assert all(one["completion"].strip() in shown for one in row["harmed"]["examples"])


def test_harm_is_done_to_the_words_and_not_to_the_topic():
    good = Example("The ferry\nAda built the ferry in 1901. Bo sold it.")
    (mixed,) = harmful([good], "scrambled", seed=1)
    assert mixed.completion.startswith("The ferry\n")
    assert mixed != good
    assert sorted(mixed.completion.split()) == sorted(good.completion.split())
    (contrary,) = harmful([good], "contradictory", seed=1)
    topic, first, second = contrary.completion.split("\n")
    assert (topic, first) == tuple(good.completion.split("\n"))
    assert "1901" not in second
    assert ("Ada built" in second) is False


def test_claims_that_exclude_each_other_are_counted():
    good = Example("The ferry\nAda built the old ferry in 1901. Bo sold it.\nAda sold the old ferry in 1907.\nThe ferry is red.")
    assert clashes([good]) == 0
    assert clashes([good, good]) == 0  # said twice is no contradiction
    (contrary,) = harmful([good], "contradictory", seed=1)
    assert clashes([contrary]) == pytest.approx(2 / 7)


def test_the_summary_verb_tells_what_was_never_asked_from_all_wrong(tmp_path, capsys):
    values = [[0.5, 0.0], [0.5, 0.0], [0.25, 0.75]]
    file = tmp_path / "summary.json"
    file.write_text(json.dumps({"mean_over_sequences": values, "std_over_sequences": values, "n_sequences": 4}))
    assert run(["official", "continual", str(file), "--json"]) == 0
    row = json.loads(capsys.readouterr().out)
    assert row["matrix"] == [[0.5, 0.0], [0.5, None], [0.25, 0.75]]
    assert (row["base"], row["diagonal"], row["last"], row["backward"]) == (0.25, 0.625, 0.5, -0.25)
    assert run(["official", "continual", str(file)]) == 0
    assert "4 streams: base 0.250, diagonal 0.625" in capsys.readouterr().out
    file.write_text(json.dumps({"mean_over_sequences": [[0.5]], "std_over_sequences": [[0.5]], "n_sequences": 4}))
    assert run(["official", "continual", str(file)]) == 2
    assert "a row more than columns" in capsys.readouterr().err
