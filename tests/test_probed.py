"""Probes in the trials: asked beside a problem's own queries, in no score, and what `retained` is made of."""

from __future__ import annotations

import statistics
from copy import copy
from dataclasses import replace
from inspect import getattr_static
from pathlib import Path

import pytest
from small_runs import OUTER, Watched, a_domain, changed, train

from seal.domains.knowledge import Knowledge
from seal.domains.probes import Probed, probes
from seal.engine import Engine
from seal.offers import Counted
from seal.report.tables import problems_table
from seal.rewards import REWARDS, Compose
from seal.rewards.proxy import Hints, Informs
from seal.store import Store
from seal.types import Problem, Prompt, Query, Reply, SelfEdit

KNOWN = Problem("probes", "", "{}", tuple(Query(f"probes/q{n}", f"What is {n}?", f"number {n}", "probe") for n in range(10)))


@pytest.fixture
def domain(tmp_path: Path) -> Probed:
    return Probed(a_domain(tmp_path), KNOWN, each=3)


def test_each_problem_has_its_own_probes_after_its_own_queries(domain: Probed) -> None:
    first, second = domain.problems("train")[:2]
    assert [query.role for query in first.queries] == ["target"] * 2 + ["probe"] * 3
    assert first == domain.problems("train")[0]
    assert {query.question for query in first.queries[2:]} != {query.question for query in second.queries[2:]}
    assert len({query.id for one in (first, second) for query in one.queries}) == 10
    assert [ask.query_id for ask in domain.ask(first)] == [query.id for query in first.queries]
    assert domain.ask(first)[:2] == domain.inner.ask(domain.inner.problems("train")[0])
    assert len(Probed(domain.inner, KNOWN, each=99).problems("train")[0].queries) == 12
    assert len(Probed(domain.inner, probes()).problems("train")[0].queries) == 2 + 8


def test_a_probe_is_judged_beside_the_score(domain: Probed) -> None:
    problem = domain.problems("train")[0]
    replies = [Reply(query.answer if at != 3 else "no idea", query_id=query.id) for at, query in enumerate(problem.queries)]
    answers = domain.grade(problem, replies)
    assert [answer.query_id for answer in answers] == [query.id for query in problem.queries]
    assert [answer.score for answer in answers] == [1.0, 1.0, None, None, None]
    assert [answer.metrics.get("probe") for answer in answers] == [None, None, 1.0, 0.0, 1.0]


def test_hints_asks_no_probe(domain: Probed, engine: Engine) -> None:
    asked: list[str] = []

    class Told:
        def run(self, jobs):
            jobs = list(jobs)
            asked.extend(ask.query_id for job in jobs for ask in job.asks)
            yield from engine.run(jobs)

    problem = domain.problems("train")[0]
    edit = SelfEdit("e", problem.id, "Ada built it.", 1, 0, Prompt(""))
    probed = Hints().rate(Told(), domain, problem, [edit])  # type: ignore[arg-type]
    assert set(asked) == {query.id for query in problem.queries if query.role == "target"}
    assert probed == Hints().rate(engine, domain.inner, domain.inner.problems("train")[0], [edit])


def test_what_the_inner_domain_offers_stays(domain: Probed, tmp_path: Path) -> None:
    assert isinstance(domain.inner, Knowledge)
    for method in ("finish_edit", "go_on", "passage_only", "own_examples"):  # as isinstance() looks them up from Python 3.12 on
        assert callable(getattr_static(domain, method))
        assert callable(getattr_static(Probed(domain, KNOWN), method))
    problem = domain.problems("train")[0]
    assert domain.passage_only(problem) == domain.inner.passage_only(problem)
    assert domain.edit_prompt(problem) == domain.inner.edit_prompt(problem)
    with pytest.raises(AttributeError):
        domain.nothing_of_the_kind  # noqa: B018


def test_the_trials_that_are_rewarded_are_asked_them(engine: Engine, domain: Probed, tmp_path: Path) -> None:
    domain._known = tuple(replace(query, answer="") if at else query for at, query in enumerate(KNOWN.queries))
    # an empty target is met by an answer without words only: the tiny model forgets some and keeps some
    reward = Compose({"accuracy": 1.0, "logprob": 0.1, "retained": 0.5})
    with Store.create(tmp_path / "runs", "probed", "", {}) as store:
        train(engine, domain, store, changed(OUTER, rounds=1), reward=reward)  # type: ignore[arg-type]
        outcomes = [one for one in store.outcomes("train", 1) if one.fault is None]
        assert outcomes
        rewards = store.rewards("train", 1)
        for outcome in outcomes:
            assert len(outcome.before) == len(outcome.after) == 5
            own = [answer.score for answer in outcome.after[:2]]
            assert REWARDS["accuracy"](outcome, []) == statistics.mean(own)  # type: ignore[type-var]
            assert outcome.trial.edit is not None
            assert rewards[outcome.trial.edit.id]["retained"] == REWARDS["retained"](outcome, [])
        asked = problems_table(store)[0]["edits"][0]["answers"]
        assert len(asked) in (0, 2)


def test_raters_see_through_it(engine: Engine, domain: Probed) -> None:
    problem = domain.problems("train")[0]
    watched = Watched(engine)
    edit = SelfEdit("train/1/p/0", problem.id, "Ada built the ferry.", 1, 0, Prompt(""))
    (said,) = Informs().rate(watched, domain, problem, [edit])  # type: ignore[arg-type]
    assert said.value is not None
    assert len(watched.jobs) == 2


def test_evaluation_is_asked_the_gold_questions_alone(tmp_path: Path) -> None:
    """What `seal train` evaluates with is the domain as the recipe has it; the probes are only wrapped around for training."""
    from seal.config import loads
    from seal.loops import build

    a_domain(tmp_path)
    recipe = loads(
        f'[domain]\ndata = {{ train = "{tmp_path}/train.json", test = "{tmp_path}/test.json" }}\n[reward]\nretained = 1.0',
        source="mine.toml",
    )
    plain = build.domain(recipe)
    assert isinstance(build.train_domain(recipe, plain, build.reward(recipe), None, None, lambda *what: None), Probed)  # type: ignore[arg-type]
    assert all(query.role == "target" for problem in build.evaluation(recipe, plain, None).problems for query in problem.queries)


def test_a_domain_that_counts_keeps_its_probes(domain: Probed, tmp_path: Path) -> None:
    """`Counted`: the domain is given the tokenizer once the model is open, whatever stands around it by then."""

    class Counting(Knowledge):
        count = None

        def counted(self, count: object) -> Knowledge:
            made = copy(self)
            made.count = count  # type: ignore[assignment]
            return made

    inner = domain.inner
    inner.__class__ = Counting  # type: ignore[assignment]
    around = Probed(Probed(inner, KNOWN, each=3), KNOWN, each=1)
    assert isinstance(around, Counted)
    counted = around.counted(len)
    assert isinstance(counted, Probed)
    assert counted.problems("train") == around.problems("train")
    assert counted.inner.inner.count is len  # type: ignore[attr-defined]
    assert counted.passage_only.__self__ is counted.inner.inner  # type: ignore[attr-defined]
    assert not isinstance(Probed(a_domain(tmp_path), KNOWN), Counted)
