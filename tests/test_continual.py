"""Learning in sequence on a tiny model: what the loop keeps, and what each strategy promises."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from small_runs import an_engine
from tiny import make_lively

from seal.domains.knowledge import Knowledge
from seal.domains.knowledge_table import KnowledgeTable
from seal.domains.probes import probes
from seal.engine import Engine
from seal.errors import UserError
from seal.loops.continual import Plan, adapters_without, continual, step_key, streams
from seal.loops.evaluate import Evaluation
from seal.store import Store
from seal.strategies import Bench, GateSettings, Settings, strategy
from seal.strategies.gate import largest
from seal.types import Bounds, Prompt, Sampling, Tuning

TUNING = Tuning(rank=2, alpha=8, lr=3e-2, epochs=3, batch=2, targets=("q_proj", "v_proj", "down_proj"))


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Engine:
    return an_engine(make_lively(tmp_path_factory.mktemp("lively")))


def a_domain(folder: Path) -> Knowledge:
    import json

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


def a_bench(engine: Engine, folder: Path) -> Bench:
    path = folder / "probes.json"
    path.write_text(
        '{"questions": [{"question": "What is water?", "answer": "wet"}], "texts": [{"text": "The sun is up.", "logprob": -9.0}]}'
    )
    return Bench(engine, probes(path))


def a_plan(domain: Knowledge, *names: str, length: int = 3, number: int = 1, settings: Settings = Settings()) -> Plan:
    problems = tuple(domain.problems("dev"))
    given = {problem.id: (f"{problem.title} is old.\nIt stands.",) for problem in problems}
    edits = Evaluation(("given",), problems, Sampling(n=1), given=given)
    drawn = streams(problems, number=number, length=length, seeds=1, seed=5)
    return Plan(drawn, {name: strategy(name, settings) for name in names}, edits)


def a_run(engine: Engine, folder: Path, *names: str, **sizes: Any) -> Store:
    store = Store.create(folder / "runs", "stream", "", {})
    domain = a_domain(folder)
    continual(a_bench(engine, folder), domain, store, a_plan(domain, *names, **sizes), seed=5)
    return store


def logits(engine: Engine) -> list[float | None]:
    from seal.types import Ask, Job

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
        with pytest.raises(UserError, match="has the steps 1 to 2"):
            adapters_without(store, "merge", "0", 3)


def test_a_run_that_was_stopped_goes_on_where_it_was(engine, tmp_path):
    """Stopped in its second step: the first is not trained again, and all is as in a run never stopped."""
    (tmp_path / "whole").mkdir()
    with a_run(engine, tmp_path / "whole", "merge") as store:
        whole = [_scores(store.get_state(step_key("merge", "0", step))) for step in range(4)]

    domain, plan = a_domain(tmp_path), None
    plan = a_plan(domain, "merge")
    with Store.create(tmp_path / "runs", "stream", "", {}) as store:

        def stop(what: str, done: int, total: int) -> None:
            if what == "steps of merge" and done == 1:
                raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            continual(a_bench(engine, tmp_path), domain, store, plan, seed=5, notify=stop)
        first = store.get_state(step_key("merge", "0", 1))
        assert store.get_state(step_key("merge", "0", 2)) is None
        continual(a_bench(engine, tmp_path), domain, store, plan, seed=5)
        assert store.get_state(step_key("merge", "0", 1)) == first
        assert [_scores(store.get_state(step_key("merge", "0", step))) for step in range(4)] == whole


def _scores(record: dict[str, Any]) -> tuple[Any, Any]:
    return record["row"], record["probes"]


def test_a_library_answers_as_the_adapter_alone_at_every_step(engine, tmp_path):
    with a_run(engine, tmp_path, "library") as store:
        records = [store.get_state(step_key("library", "0", step)) for step in range(4)]
        worn = adapters_without(store, "library", "0")
        bench, domain = a_bench(engine, tmp_path), a_domain(tmp_path)
        for (path, weight), id in zip(worn, records[0]["order"], strict=True):
            problem = next(one for one in domain.problems("dev") if one.id == id)
            from seal.trials import unchanged

            ((_, alone, _),) = unchanged(bench.wear(((path, weight),)), domain, [problem])
            place = records[0]["order"].index(id) + 1
            for record in records[place:]:
                assert [one["text"] for one in record["row"][id]["answers"]] == [one.text for one in alone]
        assert records[3]["routing"] == 1.0 and records[0]["routing"] is None


def test_a_higher_bound_never_gives_a_smaller_weight():
    harms = {0.125: 0.3, 0.25: 0.1, 0.375: 0.2, 0.5: 0.4, 0.625: 0.35, 0.75: 0.5, 0.875: 0.9, 1.0: 0.6}  # not even monotone
    weights = [largest(lambda weight: harms[weight], bound / 20, 3) for bound in range(20)]
    assert weights == sorted(weights)
    assert weights[0] == 0 and weights[-1] == 1 and len(set(weights)) > 3


@pytest.mark.parametrize(
    ("settings", "weight", "why"),
    [
        (GateSettings(bound=-1.0), 0.0, "refused: harm"),
        (GateSettings(bound=9.0), 1.0, ""),
        (GateSettings(surprise=0.1), 0.0, "refused: .* nats a token"),
    ],
)
def test_the_gate_says_what_it_refused_and_why(engine, tmp_path, settings, weight, why):
    import re

    settings = replace_gate(settings)
    with Store.create(tmp_path / "runs", "stream", "", {}) as store:
        domain = a_domain(tmp_path)
        continual(a_bench(engine, tmp_path), domain, store, a_plan(domain, "gate", length=1, settings=settings), seed=5)
        record = store.get_state(step_key("gate", "0", 1))
        before = store.get_state(step_key("gate", "0", 0))
    assert record["weight"] == weight and re.match(why, record["why"])
    assert (record["probes"] == before["probes"]) == (weight == 0)


def replace_gate(gate: GateSettings) -> Settings:
    return Settings(gate=gate)


def test_replay_learns_earlier_examples_and_its_own_words_again(engine, tmp_path):
    from small_runs import Watched

    watched = Watched(engine)
    with a_run(watched, tmp_path, "replay"):
        sizes = [len(job.examples) for job in watched.jobs if job.examples]
    assert sizes == [3 + 0 + 4, 3 + 3 + 4, 3 + 6 + 4]
    assert watched.sampled == 12
