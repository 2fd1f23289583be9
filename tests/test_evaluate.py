"""The evaluation on a tiny model: every condition, once, whenever it is stopped; nothing on what was trained on."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterable, Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from small_runs import (
    CONDITIONS,
    INNER,
    OUTER,
    Watched,
    a_domain,
    changed,
    interrupt,
    interrupted_until_done,
    rows,
    stop_after,
    train,
    whole_run,
)

from seal.cli.evaluate import _recipe
from seal.domains.knowledge import Knowledge
from seal.edits.styles import style
from seal.edits.text_plan import TextPlans
from seal.engine import Engine
from seal.errors import UserError
from seal.loops.build import given_edits
from seal.loops.curve import curve
from seal.loops.evaluate import Evaluation, evaluate
from seal.loops.refuse import refuse_missing
from seal.report.curve import curve_table
from seal.report.measured import read
from seal.store import Store
from seal.types import Bounds, Example, Finished, Job, Sampling


@pytest.fixture(scope="module")
def whole(engine: Engine, tmp_path_factory: pytest.TempPathFactory) -> Store:
    """A run that was never stopped."""
    return whole_run(engine, tmp_path_factory.mktemp("whole"))


def an_evaluation(domain: Knowledge, policy: Path | None, **changes: Any) -> Evaluation:
    problems = tuple(domain.problems("test"))
    evaluation = Evaluation(
        conditions=CONDITIONS,
        problems=problems,
        sampling=Sampling(n=2, max_tokens=16),
        tuning=INNER,
        given={problem.id: ("Ada built it.\nIt stands by the sea.", "...") for problem in problems},
        policy=policy,
    )
    return replace(evaluation, **changes)


UNWRITTEN = ("passage", "sentences")


@pytest.mark.parametrize("pooled", [False, True])
def test_every_condition_is_measured_once(engine: Engine, domain: Knowledge, store: Store, whole: Store, pooled: bool) -> None:
    evaluation = an_evaluation(domain, whole.policy_dir(2), pooled=pooled, repeats=2)
    evaluate(engine, domain, store, evaluation, seed=1)
    ids = [problem.id for problem in evaluation.problems]
    assert store.rounds() == sorted((condition, 0) for condition in CONDITIONS)
    base = store.base("base", 0)
    for condition in CONDITIONS:
        assert list(store.base(condition, 0)) == ids
        if condition in ("base", "in_context"):
            assert store.edits(condition, 0) == store.outcomes(condition, 0) == []
            continue
        edits, outcomes = store.edits(condition, 0), store.outcomes(condition, 0)
        assert [edit.problem_id for edit in edits] == [id for id in ids for _ in range(1 if condition in UNWRITTEN else 2)]
        assert [outcome.trial.id for outcome in outcomes] == [f"{edit.id}/{repeat}" for edit in edits for repeat in (0, 1)]
        assert all(outcome.fault == outcome.trial.edit.fault for outcome in outcomes)  # type: ignore[union-attr]
        assert all(len(outcome.after) == 2 for outcome in outcomes if outcome.fault is None)
        assert any(outcome.after != outcome.before for outcome in outcomes)
    assert store.base("in_context", 0) != base
    assert texts(store.base("seal", 0)) != texts(base)  # the trained policy, unadapted
    assert texts(store.base("untrained", 0)) == texts(base)
    assert [edit.source for edit in store.edits("given", 0)] == ["given"] * 4
    assert [edit.fault.kind if edit.fault else None for edit in store.edits("given", 0)] == [None, "unreadable"] * 2
    assert [edit.text for edit in store.edits("seal", 0)] != [edit.text for edit in store.edits("untrained", 0)]


def test_the_base_model_is_asked_once_a_problem_whatever_is_measured(engine: Engine, domain: Knowledge, store: Store) -> None:
    watched = Watched(engine)
    evaluation = an_evaluation(domain, None, conditions=("untrained", "given", "passage"))
    for condition in evaluation.conditions:  # one by one, as the verb does
        evaluate(watched, domain, store, replace(evaluation, conditions=(condition,)), seed=1)  # type: ignore[arg-type]
    assert [job.id for job in watched.jobs if not job.examples] == [problem.id for problem in evaluation.problems]
    assert store.base("passage", 0) == store.base("given", 0) == store.base("untrained", 0)


def texts(base: Any) -> list[list[str]]:
    return [[answer.text for answer in answers] for answers in base.values()]


@pytest.mark.parametrize("pooled", [False, True])
def test_a_second_evaluation_does_nothing_new(
    engine: Engine, domain: Knowledge, store: Store, whole: Store, pooled: bool
) -> None:
    evaluation = an_evaluation(domain, whole.policy_dir(1), pooled=pooled)
    evaluate(engine, domain, store, evaluation, seed=1)
    before = rows(store)
    watched = Watched(engine)
    evaluate(watched, domain, store, evaluation, seed=1)  # type: ignore[arg-type]
    assert (watched.jobs, watched.sampled) == ([], 0)
    assert rows(store) == before


def test_problems_that_changed_between_two_lives_are_refused(engine: Engine, domain: Knowledge, store: Store) -> None:
    evaluation = an_evaluation(domain, None, conditions=("base",))
    evaluate(engine, domain, store, evaluation, seed=1)
    fewer = replace(evaluation, problems=evaluation.problems[:1], conditions=("untrained",))
    with pytest.raises(UserError, match="the problems of split 'test' are not those"):
        evaluate(engine, domain, store, fewer, seed=1)


def test_a_passage_in_its_own_sentences_is_an_edit_that_nobody_wrote(engine: Engine, domain: Knowledge, store: Store) -> None:
    evaluate(engine, domain, store, an_evaluation(domain, None, conditions=("sentences",)), seed=1)
    for edit, problem in zip(store.edits("sentences", 0), domain.problems("test"), strict=True):
        assert (edit.source, edit.tokens, edit.fault) == ("sentences", 0, None)
        assert f"{problem.title}\n{edit.text}" == edit.examples[0].completion == edit.examples[1].completion  # of one sentence
    with pytest.raises(UserError, match=r"has no 'sentences' \(no method in_sentences\)"):
        refuse_missing(SimpleNamespace(name="puzzles"), ["sentences"])  # type: ignore[arg-type]


def test_what_another_version_made_of_a_passage_stands(engine: Engine, domain: Knowledge, store: Store) -> None:
    evaluation = an_evaluation(domain, None, conditions=("passage",))
    evaluate(engine, domain, store, evaluation, seed=1)
    with closing(sqlite3.connect(store.path / "run.db")) as other, other:  # one whose rows had a field less
        other.execute("UPDATE edits SET examples = replace(examples, ',\"keep\":false', '')")
    before = rows(store)
    evaluate(engine, domain, store, evaluation, seed=1)
    assert rows(store) == before


@pytest.mark.parametrize("pooled", [False, True])
def test_an_interrupted_evaluation_goes_on_to_the_same_rows(
    engine: Engine, domain: Knowledge, store: Store, whole: Store, tmp_path: Path, pooled: bool
) -> None:
    evaluation = an_evaluation(domain, whole.policy_dir(1), pooled=pooled)
    evaluate(engine, domain, store, evaluation, seed=1)
    with Store.create(tmp_path / "other", "stopped", "", {}) as stopped:
        interrupted_until_done(lambda: evaluate(engine, domain, stopped, evaluation, seed=1), commits=10)
        mine, theirs = rows(stopped), rows(store)
        for table in theirs:
            assert mine[table] == theirs[table], table


def test_a_pooled_adapter_learns_from_all_readable_edits_together(engine: Engine, domain: Knowledge, store: Store) -> None:
    watched = Watched(engine)
    evaluation = an_evaluation(domain, None, pooled=True, conditions=("given",))
    evaluate(watched, domain, store, evaluation, seed=1)  # type: ignore[arg-type]
    (job,) = [job for job in watched.jobs if job.examples]
    facts = [example.completion for example in job.examples]
    assert {outcome.trial.seed for outcome in store.outcomes("given", 0)} == {job.seed}
    assert len(facts) == len(set(facts)) == 6  # two facts and the passage, of two problems; the unreadable add nothing
    assert [ask.query_id for ask in job.asks] == [query.id for problem in evaluation.problems for query in problem.queries]
    # the adapter learnt these passages from their other edits, and what it answers is the passage's, whatever was unreadable
    for problem in evaluation.problems:
        good, bad = (one for one in store.outcomes("given", 0) if one.trial.problem.id == problem.id)
        assert (good.fault, bad.fault is None) == (None, False)
        assert bad.after == good.after
    measured = read(store, "given", 0)
    assert measured.faults == len(evaluation.problems)
    assert all(first == second for first, second in measured.answers.values())


def test_a_pooled_adapter_learns_a_passage_with_each_of_its_edits(engine: Engine, domain: Knowledge, store: Store) -> None:
    watched = Watched(engine)
    problems = tuple(domain.problems("test")[:1])
    given = {problem.id: ("Ada built it.\nIt stands.", "Ada built it.") for problem in problems}
    evaluation = an_evaluation(domain, None, pooled=True, conditions=("given",), problems=problems, given=given)
    evaluate(watched, domain, store, evaluation, seed=1)  # type: ignore[arg-type]
    (job,) = [job for job in watched.jobs if job.examples]
    facts, passage = ["Ada built it.", "It stands."], "Ada built the garden in 1900."
    assert [one.completion.partition("\n")[2] for one in job.examples] == [*facts, passage, facts[0], passage]


def test_what_the_policy_writes_may_be_learnt_by_the_base_model(
    engine: Engine, domain: Knowledge, store: Store, whole: Store, tmp_path: Path
) -> None:
    conditions = ("base", "untrained", "seal")
    policy = whole.policy_dir(2)
    for learner in ("policy", "base"):
        with Store.create(tmp_path, learner, "", {}) as own:
            evaluation = an_evaluation(domain, policy, conditions=conditions, learner=learner)
            evaluate(engine, domain, own, evaluation, seed=1)
            same = own.base("seal", 0) == own.base("base", 0)
            texts = [edit.text for edit in own.edits("seal", 0)]
            losses = [one.losses[0] for one in own.outcomes("seal", 0) if one.losses]
        if learner == "policy":
            assert not same
            written, first = texts, losses
        else:
            assert same  # what is adapted is the model that was asked in `base`
            assert texts == written  # and the policy has written
            assert losses != first


def test_problems_that_were_trained_on_are_refused_by_name(engine: Engine, domain: Knowledge, store: Store) -> None:
    train(engine, domain, store, changed(OUTER, rounds=1, contexts=4))
    before = rows(store)
    with pytest.raises(UserError, match=r"'The \w+' \(the-\w+-\w+\) was trained on"):
        evaluate(engine, domain, store, an_evaluation(domain, None, problems=tuple(domain.problems("train"))), seed=1)
    assert rows(store) == before


def test_a_passage_without_a_given_edit_is_the_users_mistake(engine: Engine, domain: Knowledge, store: Store) -> None:
    with pytest.raises(UserError, match="the given edits have none for passage 'The garden'"):
        evaluate(engine, domain, store, an_evaluation(domain, None, conditions=("given",), given={}), seed=1)
    none = {problem.id: () for problem in domain.problems("test")}  # or the base model's answers would be called theirs
    with pytest.raises(UserError, match="the given edits have none for passage 'The garden'"):
        evaluate(engine, domain, store, an_evaluation(domain, None, given=none, conditions=("base", "given")), seed=1)
    assert store.rounds() == []  # said before anything is measured


def test_a_passage_that_stands_twice_in_a_file_has_the_edits_of_both(tmp_path: Path) -> None:
    articles = [{"title": "T", "context": "C", "completions": [text]} for text in ("one", "two")]
    (tmp_path / "edits.json").write_text(json.dumps(articles))
    assert list(given_edits(str(tmp_path / "edits.json"), "test").values()) == [("one", "two")]


def test_seal_without_a_policy_is_not_the_base_model(engine: Engine, domain: Knowledge, store: Store) -> None:
    with pytest.raises(ValueError, match="needs a policy"):
        evaluate(engine, domain, store, an_evaluation(domain, None), seed=1)


def test_a_pooled_training_that_comes_out_a_last_bit_different_goes_on_where_it_was_killed(
    engine: Engine, domain: Knowledge, store: Store
) -> None:
    class Rounded(Watched):
        def run(self, jobs: Iterable[Job]) -> Iterator[Finished]:
            for finished in super().run(jobs):
                yield replace(finished, losses=tuple(loss + 1e-7 for loss in finished.losses))

    evaluation = an_evaluation(domain, None, pooled=True, conditions=("given",))
    with pytest.MonkeyPatch.context() as patch:
        stop_after(5, interrupt, patch.setattr)  # problems, edits, two passages' base answers, one outcome
        with pytest.raises(KeyboardInterrupt):
            evaluate(engine, domain, store, evaluation, seed=1)
    (first,) = store.outcomes("given", 0)
    evaluate(Rounded(engine), domain, store, evaluation, seed=1)  # type: ignore[arg-type]
    assert first == store.outcomes("given", 0)[0]
    assert len(store.outcomes("given", 0)) == 4


# ---- at equal tokens, and by the number of synthetic ones


@pytest.mark.parametrize("pooled", [False, True])
def test_under_a_budget_every_training_has_the_same_steps(
    engine: Engine, domain: Knowledge, store: Store, whole: Store, pooled: bool
) -> None:
    watched = Watched(engine)
    evaluation = an_evaluation(domain, whole.policy_dir(1), budget=(60, 3), pooled=pooled)
    evaluate(watched, domain, store, evaluation, seed=1)  # type: ignore[arg-type]
    times = len(evaluation.problems) if pooled else 1
    trained = [job.tuning for job in watched.jobs if job.examples]
    assert {(tuning.tokens, tuning.steps) for tuning in trained} == {(60 * times, 3 * times)}
    for condition in ("passage", "sentences", "untrained", "given", "seal"):
        assert {(edit.tuning.tokens, edit.tuning.steps) for edit in store.edits(condition, 0) if not edit.fault} == {(60, 3)}
        if not pooled:
            assert {len(one.losses) for one in store.outcomes(condition, 0) if not one.fault} == {3}
    before = rows(store)
    evaluate(engine, domain, store, evaluation, seed=1)
    assert rows(store) == before


def test_a_curve_takes_of_each_passages_edits_what_fits(engine: Engine, domain: Knowledge, store: Store, whole: Store) -> None:
    evaluation = an_evaluation(
        domain,
        whole.policy_dir(1),
        conditions=("passage", "sentences", "given", "seal"),
        curve=(1, 60, 500),
        given={problem.id: ("Ada built it.\nIt stands.", "Ada built it.\nAda sang.") for problem in domain.problems("test")},
    )
    evaluate(engine, domain, store, evaluation, seed=1)
    curve(engine, domain, store, evaluation, seed=1)
    title = {problem.id: problem.title for problem in evaluation.problems}
    for most, lines in ((1, 1), (60, 2), (500, 3)):  # one row at least; two of about 22 bytes each; all but the repeated one
        for edit in store.edits(f"tokens-{most}/given", 0):
            facts, passage = edit.examples[:-1], edit.examples[-1:]
            said = ["Ada built it.", "It stands.", "Ada sang."][:lines]
            assert [example.completion for example in facts] == [f"{title[edit.problem_id]}\n{line}" for line in said]
            assert edit.tokens == sum(map(engine.count, facts))
            assert passage == domain.passage_examples(next(one for one in evaluation.problems if one.id == edit.problem_id))
            assert most == 1 or edit.tokens <= most
    assert texts(store.base("tokens-60/seal", 0)) == texts(store.base("seal", 0))
    assert {phase.partition("/")[2] for phase, _ in store.rounds() if phase.startswith("tokens")} == {
        "sentences",
        "given",
        "seal",
    }
    before = rows(store)
    watched = Watched(engine)
    curve(watched, domain, store, evaluation, seed=1)  # type: ignore[arg-type]
    assert (watched.jobs, rows(store)) == ([], before)
    table = curve_table(store)
    assert [(row["condition"], row["most"]) for row in table] == [
        ("passage", 0), *((condition, most) for condition in ("sentences", "given", "seal") for most in (1, 60, 500))
    ]  # fmt: skip


def test_a_row_that_is_the_passage_is_written_all_the_same(engine: Engine, domain: Knowledge, store: Store) -> None:
    evaluation = an_evaluation(domain, None, conditions=("sentences",), curve=(1,))
    evaluate(engine, domain, store, evaluation, seed=1)
    curve(engine, domain, store, evaluation, seed=1)
    for edit, problem in zip(store.edits("tokens-1/sentences", 0), domain.problems("test"), strict=True):
        (row,) = domain.passage_examples(problem)  # of one sentence
        assert (edit.examples, edit.text, edit.tokens) == ((row, row), row.completion, engine.count(row))


def test_a_curve_never_cuts_what_every_edit_is_learnt_with(engine: Engine, store: Store, tmp_path: Path) -> None:
    domain = a_domain(tmp_path, train_on_passage="sentences")
    given = {problem.id: ("Ada built it.\nIt stands.",) for problem in domain.problems("test")}
    evaluation = an_evaluation(domain, None, conditions=("sentences", "given"), curve=(1,), given=given)
    evaluate(engine, domain, store, evaluation, seed=1)
    curve(engine, domain, store, evaluation, seed=1)
    for problem in evaluation.problems:
        own, fact = domain.own_examples(problem), Example(f"{problem.title}\nAda built it.")
        assert {edit.examples for edit in store.edits("tokens-1/given", 0) if edit.problem_id == problem.id} == {(fact, *own)}
        assert {edit.examples for edit in store.edits("tokens-1/sentences", 0) if edit.problem_id == problem.id} == {own}


def test_a_point_of_a_curve_of_continued_pretraining_is_one_adapter(engine: Engine, domain: Knowledge, store: Store) -> None:
    given = {problem.id: ("Ada built it.",) for problem in domain.problems("test")}
    evaluation = an_evaluation(domain, None, conditions=("given",), curve=(60,), pooled=True, given=given)
    evaluate(engine, domain, store, evaluation, seed=1)
    curve(engine, domain, store, evaluation, seed=1)
    outcomes = store.outcomes("tokens-60/given", 0)
    assert len(outcomes) == 2
    assert len({one.trial.seed for one in outcomes}) == 1


def test_a_curves_rows_of_several_plans_are_trained_by_the_recipes_tuning(engine: Engine, store: Store, tmp_path: Path) -> None:
    domain = a_domain(tmp_path, plans=TextPlans(style("atomic-facts"), {}, {}, Bounds()))
    given = {problem.id: ('Ada built it.\n{"epochs": 1}', 'It stands.\n{"epochs": 3}') for problem in domain.problems("test")}
    evaluation = an_evaluation(domain, None, conditions=("given",), curve=(500,), given=given)
    evaluate(engine, domain, store, evaluation, seed=1)
    assert {edit.tuning.epochs for edit in store.edits("given", 0)} == {1, 3}
    curve(engine, domain, store, evaluation, seed=1)
    assert {(edit.tuning, len(edit.examples)) for edit in store.edits("tokens-500/given", 0)} == {(INNER, 3)}


def test_a_passage_without_a_usable_edit_is_a_fault_at_every_point(engine: Engine, domain: Knowledge, store: Store) -> None:
    given = {problem.id: ("...",) for problem in domain.problems("test")}
    evaluation = an_evaluation(domain, None, conditions=("given",), curve=(50,), given=given)
    evaluate(engine, domain, store, evaluation, seed=1)
    curve(engine, domain, store, evaluation, seed=1)
    assert [one.fault.kind for one in store.outcomes("tokens-50/given", 0)] == ["unreadable"] * 2  # type: ignore[union-attr]


def test_a_quick_look_takes_the_sizes_that_are_given_with_it():
    sizes = [
        _recipe("bundled", changes, True).eval for changes in ([], ["eval.limit=12"], ["eval.quick.limit=3", "eval.edits=2"])
    ]
    assert [(one.limit, one.edits) for one in sizes] == [(4, 1), (12, 1), (3, 2)]
