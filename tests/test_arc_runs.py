"""ARC on a tiny model: the loss of marked outputs, the grid of plans, the table's conditions, the verbs."""

from __future__ import annotations

import io
import json
import sqlite3
from collections.abc import Sequence
from contextlib import closing, nullcontext
from dataclasses import replace
from pathlib import Path

import pytest
from rich.console import Console
from small_runs import an_engine

from seal.config import load, loads, shipped_policies
from seal.domains.arc.domain import Arc
from seal.domains.arc.plans import Choices
from seal.domains.arc.puzzles import Pair, Puzzle, of_problem, to_problem
from seal.domains.arc.record import divide, read_record, write_record
from seal.domains.arc.table import ArcTable
from seal.engine.pack import IGNORE
from seal.engine.rows import Prepared, prepare
from seal.errors import UserError
from seal.loops import build
from seal.loops.evaluate import Evaluation, evaluate
from seal.loops.refuse import refuse_missing
from seal.loops.solvable import made_with, record, refuse_unlike, remarks, try_plans
from seal.loops.stages import reward_edits
from seal.models.adapter import read_about
from seal.report.compare import comparison, of_run, only
from seal.report.metrics import condition_metrics
from seal.report.page import page, report_data
from seal.report.pictures import coloured, draw
from seal.report.plan_grid import grid_table
from seal.report.puzzles import of_puzzles, puzzle_table
from seal.report.render import comparison as render_comparison
from seal.report.render import puzzles as render_puzzles
from seal.rewards import Compose
from seal.store import Store, edit_id, keys, trial_id
from seal.types import (
    LLAMA_LINEAR,
    Answer,
    Ask,
    Bounds,
    Example,
    Fault,
    Job,
    Outcome,
    Problem,
    Prompt,
    Sampling,
    SelfEdit,
    Trial,
    Tuning,
)

INNER = Tuning(rank=2, alpha=4, targets=LLAMA_LINEAR, lr=1e-2, batch=2)
BOUNDS = Bounds(examples=4, tools=("turns",), lr=(1e-4, 1e-1), epochs=(1, 4), loss=("all", "outputs", "completion"))
PLANS = (
    '{"tools": ["turns"], "colours": "kept", "loss": "outputs", "lr": 0.01, "epochs": 1}',
    '{"tools": [], "colours": "permuted", "loss": "answer", "lr": 0.001, "epochs": 2}',
)
RECIPE = """
[model]
name = "{model}"
chat = false
[domain]
kind = "arc"
data = "none"
pool = "{pool}"
tokens = 2000
views = ["as it is"]
shares = {{ train = 0.5, test = 0.5 }}
[domain.grid]
tools = [["turns"], []]
epochs = [1]
[tuning]
rank = 2
batch = 2
[bounds]
examples = 2
tools = ["turns"]
loss = ["all", "outputs", "completion"]
[outer]
contexts = 1
edits = 2
[edit]
max_tokens = 4
[eval]
conditions = ["in_context", "untrained", "fixed", "oracle", "seal"]
edits = 2
quick = {{ limit = 1, edits = 1 }}
[engine]
slots = 1
memory_gb = 0.5
"""


@pytest.fixture
def pool(tmp_path: Path) -> Path:
    """Four puzzles of one cell, in which the output is the input."""
    folder = tmp_path / "pool"
    folder.mkdir()
    for number in range(4):
        pairs = [{"input": [[cell]], "output": [[cell]]} for cell in (number, number + 1, number + 2)]
        (folder / f"p{number}.json").write_text(json.dumps({"train": pairs[:2], "test": pairs[2:]}))
    return folder


def a_domain(pool: Path) -> Arc:
    table = ArcTable(data="none", pool=str(pool), side=2, views=("as it is", "turn 90"))
    return table.build(INNER, BOUNDS)


def labels(loss: str, example: Example, language) -> str:
    prepared = prepare(Job("x", (example,), (), Tuning(loss=loss)), language)  # type: ignore[arg-type]
    assert isinstance(prepared, Prepared)
    return language.decode([label for label in prepared.rows[0].labels if label != IGNORE])


def test_loss_on_outputs_is_on_the_marked_spans_and_the_completion(tiny, pool):
    domain = a_domain(pool)
    example = domain.read_edit(domain.problems("pool")[1], PLANS[0]).examples[0]
    assert example.prompt is not None
    for chat in (True, False):
        tiny.chat = chat
        marked = "".join(example.prompt.text[a:b] for a, b in example.spans)
        assert labels("outputs", example, tiny) == marked + example.completion
        assert labels("completion", example, tiny) == example.completion
        assert example.prompt.text.strip() in labels("all", example, tiny)
    tiny.chat = True


def test_a_plan_is_trained_and_asked_in_the_papers_layout(tiny, tiny_path, pool):
    table = ArcTable(data="none", pool=str(pool), codec="paper", plan="paper", rounds=1, orders=3, leave_one="paper")
    domain = table.build(replace(INNER, pad_loss="official", pad_length="longest"), Bounds(lr=(1e-4, 1e-1)))
    problem = domain.problems("pool")[1]
    reading = domain.read_edit(problem, domain.form.write(Choices(("size",), loss="answer", lr=1e-2, epochs=1)))
    assert len(reading.examples) == 2 * 4 * 2  # two tasks under four transforms, as they are and in other colours
    prepared = prepare(Job("x", reading.examples, (), reading.tuning), tiny)
    assert isinstance(prepared, Prepared)
    assert len({len(row.ids) for row in prepared.rows}) == 1
    for row, example in zip(prepared.rows, reading.examples, strict=True):
        learnt = [label for label in row.labels if label != IGNORE]
        assert tiny.decode(learnt).startswith(example.completion)
        assert example.prompt is not None
        assert (example.prompt.system or "").strip() in tiny.decode(list(row.ids))
    asks = tuple(replace(ask, max_tokens=3) for ask in domain.ask(problem))
    (done,) = an_engine(tiny_path).run([Job("a", reading.examples, asks, reading.tuning)])
    assert (done.fault, len(done.losses)) == (None, 8)
    assert domain.grade(problem, done.replies)[0].score in (0.0, 1.0)


def test_spans_are_found_where_a_template_strips_and_where_tokens_are_longer(tiny):
    prompt = Prompt("\n ab cd\n", system="be brief")
    places = tiny.places(Example("", prompt, spans=((2, 4), (5, 6))))
    ids = tiny.encode_prompt(prompt)
    assert tiny.decode([ids[place] for place in places]) == "abc"
    assert tiny.places(Example("", prompt)) == []


def test_the_replys_logprob_is_its_score_as_a_target(tiny_path):
    engine = an_engine(tiny_path)
    ask = Ask("q", Prompt("Input\n1\n"), max_tokens=3, logprob=True)
    (reply,) = next(engine.run([Job("a", (), (ask,))])).replies
    assert reply.logprob is not None
    (again,) = next(engine.run([Job("b", (), (Ask("q", ask.prompt, target=reply.text, max_tokens=0),))])).replies
    if not reply.ended:
        assert reply.logprob == pytest.approx(again.target_logprob, abs=1e-4)
    (plain,) = next(engine.run([Job("c", (), (Ask("q", ask.prompt, max_tokens=3),))])).replies
    assert plain.logprob is None


def test_a_grid_of_plans_is_recorded_and_goes_on_where_it_stopped(tiny_path, pool, tmp_path):
    engine, domain = an_engine(tiny_path), a_domain(pool)
    problems = domain.problems("pool")
    with Store.create(tmp_path / "runs", "grid", "", {}) as store:
        try_plans(engine, domain, store, problems, PLANS[:1], seed=0)
        first = record(store, "tiny", 0, {"train": 0.5, "test": 0.5}, {})
        assert [len(own) for own in first.scores.values()] == [1] * 4
        with closing(sqlite3.connect(store.path / "run.db")) as other, other:  # another version read other examples out of a plan
            other.execute("UPDATE edits SET cut = cut + 1")
        try_plans(engine, domain, store, problems, PLANS, seed=0)
        whole = record(store, "tiny", 0, {"train": 0.5, "test": 0.5}, {})
        assert whole.plans == PLANS
        assert {id: own[0] for id, own in whole.scores.items()} == {id: own[0] for id, own in first.scores.items()}
        assert sorted(id for own in whole.splits.values() for id in own) == whole.solvable()
        for split, ids in first.splits.items():
            assert set(ids) <= set(whole.splits[split])
        tried = {one.trial.id: one.trial.seed for one in store.outcomes("grid", 0)}
        rows = grid_table(store, whole)
        assert [row["tried"] for row in rows] == [4, 4]
        assert [row["solved"] for row in rows] == [sum(bool(own[place]) for own in whole.scores.values()) for place in (0, 1)]
    with Store.create(tmp_path / "runs", "again", "", {}) as store:
        domain.chosen_plan = lambda condition, problem: PLANS[0]  # type: ignore[method-assign]
        evaluate(engine, domain, store, Evaluation(("fixed",), tuple(problems), Sampling(n=1)), seed=0)
        again = {one.trial.seed for one in store.outcomes("fixed", 0)}
        assert len(again) == 4
        assert not again & set(tried.values())  # a plan in the table is not the very trial that chose it


def test_the_record_has_what_each_plan_did_and_chooses_by_it(tmp_path):
    """By puzzle, of each plan whether it solved the puzzle (None: nobody knows) and by how many nats the output became more
    likely; () is a fault. `open` has no known output, and its second plan is not tried yet."""
    told: dict[str, list[tuple[()] | tuple[float | None, float | None]]] = {
        "one": [(1.0, 4.0), (0.0, 1.0)],
        "two": [(), (1.0, 2.0)],
        "both": [(1.0, 1.0), (1.0, 3.0)],
        "none": [(0.0, -1.0), ()],
        "open": [(None, None)],
    }
    pair = Pair(((1,),), ((2,),))
    problems = {id: to_problem(Puzzle(id, (pair,), (pair,))) for id in told}

    def answers(id: str, right: float | None, nats: float | None) -> tuple[Answer, ...]:
        return (Answer(problems[id].queries[0].id, "12", right, {} if nats is None else {"logprob": nats}),)

    with Store.create(tmp_path, "grid", "", {}) as store:
        store.put_problems(problems.values())
        for id, plans in told.items():
            before = answers(id, None if id == "open" else 0.0, None if id == "open" else -9.0)
            store.put_base("grid", 0, id, before)
            for index, found in enumerate(plans):
                fault = None if found else Fault("too_long", "no room")
                edit = SelfEdit(edit_id("grid", 0, id, index), id, PLANS[index], 0, index, Prompt(""), fault=fault)
                store.put_edits([edit])
                right, gain = found or (None, None)
                after = () if fault else answers(id, right, None if gain is None else gain - 9.0)
                store.put_outcome("grid", 0, Outcome(Trial(trial_id(edit.id, 0), problems[id], edit), before, after, fault=fault))
        whole = record(store, "tiny", 0, {"train": 1.0}, {})
        halves = record(store, "tiny", 0, {"train": 0.6, "test": 0.4}, {})
    assert whole.scores == {
        "one": (1.0, 0.0),
        "two": (0.0, 1.0),
        "both": (1.0, 1.0),
        "none": (0.0, 0.0),
        "open": (None, None),
    }
    assert whole.gains == {"one": (4.0, 1.0), "two": (0.0, 2.0), "both": (1.0, 3.0), "none": (-1.0, 0.0), "open": (None, None)}
    assert whole.splits == {"train": ("both", "one", "two")}
    assert halves.splits == {"train": ("both", "two"), "test": ("one",)}
    assert {id: whole.best(id) for id in ("one", "two", "both")} == {"one": PLANS[0], "two": PLANS[1], "both": PLANS[1]}
    assert whole.fixed() == PLANS[1]  # either solves two of three; it makes their outputs more likely


def test_the_table_counts_correct_plans_and_faults_as_failures(tiny_path, pool, tmp_path):
    engine, domain = an_engine(tiny_path), a_domain(pool)
    problems = tuple(domain.problems("pool")[:2])
    domain.chosen_plan = lambda condition, problem: PLANS[0] if condition == "fixed" else PLANS[1]  # type: ignore[method-assign]
    conditions = ("in_context", "untrained", "fixed", "oracle")
    plan = Evaluation(conditions, problems, Sampling(n=2, max_tokens=4))
    with Store.create(tmp_path / "runs", "table", "", {}) as store:
        evaluate(engine, domain, store, plan, seed=0)
        assert of_puzzles(store)
        rows = {row["condition"]: row for row in puzzle_table(store)}
        assert list(rows) == list(conditions)
        assert [row["edits"] for row in rows.values()] == [0, 4, 4, 4]
        assert rows["untrained"]["faults"] == 4
        assert [row["trainings"] for row in rows.values()] == [0, 0, 2, 2]  # both plans of a puzzle are one training
        assert rows["untrained"]["mean"] == 0.0
        for name in ("fixed", "oracle"):
            row, outcomes = rows[name], store.outcomes(name, 0)
            right = [all(answer.score == 1.0 for answer in one.after) for one in outcomes]
            assert row["mean"] == sum(right) / 4
            assert row["correct"] == sum(right)
            assert row["minus_untrained"]["mean"] == pytest.approx(row["mean"])
            assert {one.trial.edit.source for one in outcomes if one.trial.edit} == {name}
        assert rows["fixed"]["minus_fixed"] is None
        assert rows["oracle"]["minus_fixed"]["mean"] == pytest.approx(rows["oracle"]["mean"] - rows["fixed"]["mean"])
        compared = comparison(only(of_run(store.path), "oracle"), only(of_run(store.path), "untrained"))
        assert compared["unit"] == "puzzle"
        difference = {key: compared["table"][0][key] for key in ("mean", "low", "high")}
        assert difference == {key: rows["oracle"]["minus_untrained"][key] for key in difference}


def put_plans(store: Store, problems: dict[str, Problem], told: dict[str, dict[str, list[tuple[float | None, ...]]]]) -> None:
    """`told`: by phase and puzzle, of each plan its answers' scores; none of a fault."""
    store.put_problems(problems.values())
    for phase, plans in told.items():
        for id, found in plans.items():
            store.put_base(phase, 0, id, ())
            for index, scores in enumerate(found):
                fault = None if scores else Fault("missing", "no plan")
                edit = SelfEdit(edit_id(phase, 0, id, index), id, "", 0, index, Prompt(""), fault=fault)
                store.put_edits([edit])
                trial = Trial(trial_id(edit.id, 0), problems[id], edit)
                store.put_outcome(phase, 0, Outcome(trial, (), put_answers(problems[id], scores), fault=fault))


def put_answers(problem: Problem, scores: Sequence[float | None]) -> tuple[Answer, ...]:
    return tuple(Answer(query.id, "12", score) for query, score in zip(problem.queries, scores, strict=False))


def test_show_says_how_much_practice_was_cut(tmp_path, seal):
    pair = Pair(((1,),), ((2,),))
    with Store.create(tmp_path, "cut", "", {}) as store:
        store.put_problems([to_problem(Puzzle("a", (pair,), (pair,)))])
        edits = [SelfEdit(edit_id("untrained", 0, "a", index), "a", "", 0, index, Prompt(""), cut=3 * index) for index in (0, 1)]
        store.put_edits(edits)
        store.put_base("untrained", 0, "a", ())
    code, out, err = seal("show", str(store.path), "--edits", "2")
    assert code == 0, err
    assert (out.count("examples cut: 3"), out.count(" cut")) == (1, 1)


def test_runs_are_compared_by_each_puzzles_share_as_the_table_is(tmp_path):
    pair = Pair(((1,),), ((2,),))
    problems = {id: to_problem(Puzzle(id, (pair,), (pair,))) for id in "abcd"}
    right = {"untrained": {"a": 1, "b": 0, "c": 2, "d": 0}, "seal": {"a": 3, "b": 1, "c": 2, "d": 3}}
    told = {phase: {id: [(float(at < n),) for at in range(3)] for id, n in own.items()} for phase, own in right.items()}
    with Store.create(tmp_path, "several", "", {}) as store:
        put_plans(store, problems, told)
        (seal,) = [row for row in puzzle_table(store) if row["condition"] == "seal"]
    (row,) = comparison(*(only(of_run(store.path), name) for name in ("seal", "untrained")))["table"]
    assert {key: row[key] for key in ("mean", "low", "high")} == seal["minus_untrained"]
    assert (row["a"], row["b"], row["n"]) == (0.75, 0.25, 4)


def test_runs_and_trackers_have_the_numbers_of_the_puzzles_table(tmp_path, seal):
    """A plan that hits one of two outputs is no half of a correct one."""
    pair = Pair(((1,),), ((2,),))
    problems = {id: to_problem(Puzzle(id, (pair,), (pair, pair))) for id in "ab"}
    with Store.create(tmp_path, "several", "", {}) as store:
        put_plans(store, problems, {"untrained": {id: [(1.0, 0.0), (1.0, 1.0)] for id in problems}})
        put_plans(store, problems, {"seal": {id: [(1.0, 1.0), (1.0, 1.0), ()] for id in problems}})
        sent = condition_metrics(store)
    given = json.loads(seal("report", str(store.path), "--json")[1])
    (line,) = json.loads(seal("runs", "--runs", str(tmp_path), "--json")[1])["runs"]
    assert line["means"] == {row["condition"]: row["mean"] for row in given["table"]}
    assert line["means"] == {"untrained": 0.5, "seal": pytest.approx(2 / 3)}
    assert {name: values[f"eval/{name}/score"] for name, values in sent.items()} == line["means"]
    assert {name: sent["seal"][f"eval/seal/{name}"] for name in ("solved", "minus_untrained", "correct", "faults")} == {
        "solved": 1.0, "minus_untrained": pytest.approx(1 / 6), "correct": 4.0, "faults": 2.0,
    }  # fmt: skip


def test_what_is_not_known_to_be_solved_is_no_failure(tmp_path):
    """`solved` has its solution, `half` one of two, `open` none."""
    one, two = Pair(((1,),), ((2,),)), Pair(((1,),), None)
    asked = {"solved": (one,), "half": (one, two), "open": (two,)}
    problems = {id: to_problem(Puzzle(id, (one,), pairs)) for id, pairs in asked.items()}
    told: dict[str, dict[str, list[tuple[float | None, ...]]]] = {
        "untrained": {"solved": [(1.0,), ()], "half": [(1.0, None), (0.0, None)], "open": [(None,), ()]},
        "fixed": {"solved": [(0.0,)], "half": [(0.0, None)], "open": [(None,)]},
        "oracle": {"half": [(1.0, None)], "open": [(None,)]},
    }

    with Store.create(tmp_path, "open", "", {}) as store:
        put_plans(store, problems, told)
        for id, scores in {"solved": (1.0,), "half": (1.0, None), "open": (None,)}.items():
            store.put_base("in_context", 0, id, put_answers(problems[id], scores))
        rows = {row["condition"]: row for row in puzzle_table(store)}
        assert "Correct plans" in page(report_data(store))
    found = {name: [row[key] for key in ("mean", "n", "correct", "edits", "faults")] for name, row in rows.items()}
    assert found == {
        "in_context": [1.0, 1, 1, 0, 0],
        "untrained": [0.5, 1, 1, 6, 2],  # one of the two plans of `solved`; that the others had a fault says nothing of them
        "fixed": [0.0, 2, 0, 3, 0],  # `half` is known to fail
        "oracle": [None, 0, 0, 2, 0],
    }
    assert {name: row["solved"]["mean"] for name, row in rows.items()} == {
        "in_context": 1.0,
        "untrained": 1.0,
        "fixed": 0.0,
        "oracle": None,
    }
    assert rows["fixed"]["minus_untrained"]["mean"] == -0.5
    (row,) = comparison(only(of_run(store.path), "fixed"), only(of_run(store.path), "untrained"))["table"]
    assert {key: row[key] for key in ("a", "b", "mean", "n", "by_title", "f1")} == {
        "a": 0.0,  # `solved` alone: of `half` and `open` one of the two does not know
        "b": 0.5,
        "mean": -0.5,
        "n": 1,
        "by_title": None,
        "f1": None,
    }
    assert rows["oracle"]["minus_untrained"]["mean"] is None
    json.dumps(list(rows.values()), allow_nan=False)
    console = Console(width=200, file=io.StringIO())
    console.print(render_puzzles(list(rows.values())))
    console.print(render_comparison(comparison(only(of_run(store.path), "fixed"), only(of_run(store.path), "in_context"))))
    (line,) = [line for line in console.file.getvalue().splitlines() if "each its best plan" in line]  # type: ignore[attr-defined]
    assert [cell.strip() for cell in line.split("│")[2:-1]] == ["–", "–", "–", "–", "0", "2", "2", "0"]
    assert "0 puzzles are too few for an interval to say anything; 6 are the least." in console.file.getvalue()  # type: ignore[attr-defined]
    assert console.file.getvalue().count("shown in the prompt") == 2  # type: ignore[attr-defined]
    assert "passage" not in console.file.getvalue()  # type: ignore[attr-defined]


def test_a_plan_of_several_repeats_counts_once(tmp_path):
    """Three plans of two repeats: both correct, one, and one beside a fault."""
    pair, fault = Pair(((1,),), ((2,),)), Fault("diverged", "no number")
    problem = to_problem(Puzzle("a", (pair,), (pair,)))
    with Store.create(tmp_path, "repeats", "", {}) as store:
        put_plans(store, {"a": problem}, {"untrained": {"a": [(1.0,), (1.0,), (1.0,)]}})
        for edit, after in zip(store.edits("untrained", 0), ((1.0,), (0.0,), ()), strict=True):
            found = Outcome(
                Trial(trial_id(edit.id, 1), problem, edit, 1),
                (),
                put_answers(problem, after),
                fault=None if after else fault,
            )
            store.put_outcome("untrained", 0, found)
        (row,) = puzzle_table(store)
    assert {key: row[key] for key in ("mean", "edits", "correct", "faults")} == {
        "mean": pytest.approx(2 / 3), "edits": 3, "correct": 2.0, "faults": 1,
    }  # fmt: skip


def test_a_plan_that_could_not_be_read_is_not_correct_whatever_was_answered(tmp_path):
    """As in a run of continued training, in which the shared adapter answered for it."""
    pair, fault = Pair(((1,),), ((2,),)), Fault("missing", "no plan")
    problem = to_problem(Puzzle("a", (pair,), (pair,)))
    with Store.create(tmp_path, "shared", "", {}) as store:
        put_plans(store, {"a": problem}, {"untrained": {"a": [(1.0,)]}})
        unread = SelfEdit(edit_id("untrained", 0, "a", 1), "a", "", 0, 1, Prompt(""), fault=fault)
        store.put_edits([unread])
        trial = Trial(trial_id(unread.id, 0), problem, unread)
        store.put_outcome("untrained", 0, Outcome(trial, (), put_answers(problem, (1.0,)), fault=fault))
        (row,) = puzzle_table(store)
    assert {key: row[key] for key in ("mean", "edits", "correct", "faults")} == {
        "mean": 0.5, "edits": 2, "correct": 1, "faults": 1,
    }  # fmt: skip


def test_the_papers_rule_keeps_what_solves_a_puzzle_and_not_what_gains(tmp_path):
    """`half` has one of two answers right where it had none, `known` was solved before, `lucky` is solved by one trial of two."""
    pair = Pair(((1,),), ((2,),))
    problems = {id: to_problem(Puzzle(id, (pair,), (pair,) * n)) for id, n in (("half", 2), ("known", 1), ("lucky", 1))}
    before = {"half": (0.0, 0.0), "known": (1.0,), "lucky": (0.0,)}
    after: dict[str, list[tuple[float, ...]]] = {"half": [(1.0, 0.0)], "known": [(1.0,)], "lucky": [(1.0,), (0.0,)]}
    edits = {id: SelfEdit(edit_id("train", 1, id, 0), id, "", 1, 0, Prompt("")) for id in problems}
    outcomes = [
        Outcome(Trial("", problems[id], edits[id], repeat), put_answers(problems[id], before[id]), put_answers(problems[id], own))
        for id, trials in after.items()
        for repeat, own in enumerate(trials)
    ]
    recipe = load("arc-llama-1b")
    with Store.create(tmp_path, "several", "", {}) as store:
        store.put_problems(problems.values())
        store.put_edits(edits.values())
        groups = reward_edits(store, list(problems.values()), list(edits.values()), outcomes, Compose(recipe.reward))
    assert [one.problem_id for one in build.select(recipe)(groups, 0)] == ["known"]
    gaining = recipe.model_copy(update={"select": recipe.select.model_copy(update={"rule": "gaining"})})
    assert [one.problem_id for one in build.select(gaining)(groups, 0)] == ["half", "lucky"]


def test_a_domain_without_plans_is_refused_in_these_conditions(pool):
    with pytest.raises(UserError, match="'oracle'"):
        refuse_missing(loads("", source="x").domain.build(Tuning(), Bounds()), ("oracle",))
    domain = a_domain(pool)
    with pytest.raises(UserError, match="seal arc solvable"):
        domain.chosen_plan("fixed", domain.problems("pool")[0])


@pytest.mark.parametrize("condition", ["fixed", "oracle"])
def test_a_plan_of_the_record_that_the_bounds_do_not_allow_is_refused(condition):
    def chosen(*values: str) -> str:
        domain = build.domain(load("arc-embedded", values))
        return domain.chosen_plan(condition, domain.problems("test")[0])

    assert '"tools": ["turns"]' in chosen()
    with pytest.raises(UserError, match=rf"'{condition}': .*bounds do not allow the record's plan {{.*}} \(tools\[0\]: "):
        chosen('bounds.tools=["size"]')


def test_shipped_arc_recipes_resolve_and_build():
    for name in ("arc-llama-1b",):
        recipe = load(name)
        domain = build.domain(recipe)
        assert len(domain.problems("train")) == 12
        assert len(domain.problems("test")) == 10
        assert not {one.id for one in domain.problems("train")} & {one.id for one in domain.problems("test")}


def test_the_embedded_recipe_has_a_record_of_its_own_and_solvable_puzzles_in_it():
    recipe = load("arc-embedded")
    domain = build.domain(recipe)
    assert isinstance(domain, Arc)
    assert domain.record is not None
    splits = {split: [one.id for one in domain.problems(split)] for split in ("train", "dev", "test")}
    assert sorted(id for ids in splits.values() for id in ids) == domain.record.solvable()
    assert splits["train"]
    assert splits["test"]
    assert domain.record.made == made_with(recipe)
    for id in splits["test"]:
        domain.form.read(domain.record.best(id))  # a plan that the recipe's bounds allow
    assert build.evaluation(recipe, domain, None).conditions == ("in_context", "untrained", "fixed", "oracle")
    about = read_about(shipped_policies()[recipe.eval.policy or ""])
    assert (about.base, about.chat) == (recipe.model.name, recipe.model.chat)
    assert about.trained
    assert set(about.trained) <= set(splits["train"])


def test_a_record_of_another_model_is_refused_and_one_made_otherwise_is_said():
    def said(*values: str) -> list[str]:
        recipe = load("arc-embedded", values)
        return remarks(recipe, build.domain(recipe))

    assert said() == said("tuning.lr=1e-2", "bounds.calls=1", "model.dtype=bfloat16") == []  # no training of a plan depends on it
    (line,) = said("domain.tokens=3000", "tuning.rank=8")
    assert "domain.tokens = 8000, here 3000; tuning.rank = 32, here 8" in line
    with pytest.raises(UserError, match=r"found with smollm2-135m, not with other;.* domain\.any_model=true"):
        said("model.name=other")
    (line,) = said("model.name=other", "domain.any_model=true")
    assert "found with smollm2-135m, not with other" in line
    assert said("model.name=other", 'domain.data={test=["6150a2bd"]}') == []


def test_puzzles_that_are_too_large_are_counted_and_refused_in_a_list():
    def said(*values: str) -> list[str]:
        recipe = load("arc-embedded", values)
        return remarks(recipe, build.domain(recipe))

    assert said() == []  # that the pool has larger ones is of no use here
    assert said("domain.side=3")[0] == "domain.side = 3 leaves out puzzles with a larger grid: 4 of train, 1 of dev, 7 of test"
    assert said("domain.data=none") == ["domain.side = 6 leaves out puzzles with a larger grid: 741 of pool"]
    for value in ('domain.data={test=["6150a2bd", "8e1813be"]}', 'domain.pool=["6150a2bd", "8e1813be"]'):
        with pytest.raises(UserError, match=r"'8e1813be' is named, .* 19 rows or columns, more than domain\.side = 6; take it"):
            said(value)


def test_a_record_is_its_models_however_its_folder_is_named(tmp_path, monkeypatch):
    """A run keeps whole paths, and so does the record that is made of it."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine").mkdir()
    (tmp_path / "other").mkdir()
    for name, own in (("mine", True), (str(tmp_path / "mine"), True), ("other", False)):
        recipe = load("arc-embedded", [f"model.name={name}"])
        domain = build.domain(recipe)
        assert isinstance(domain, Arc)
        assert domain.record is not None
        domain.record = replace(domain.record, model=str(tmp_path / "mine"))
        with nullcontext() if own else pytest.raises(UserError, match="not with other"):
            assert remarks(recipe, domain) == []
        with nullcontext() if own else pytest.raises(UserError, match="not with other"):
            refuse_unlike(domain.record, recipe)


def test_the_pictures_show_every_grid(pool):
    from seal.domains.arc.puzzles import read_puzzles

    puzzle = read_puzzles(str(pool))[0]
    drawing = draw(puzzle, [[((4,),), ((5,),)]])
    assert drawing.count('id="d') == 2 * 2 + 2 + 2
    assert "attempt 2" in drawing
    assert coloured("12\n34\n\n5").plain == "1 2 \n3 4 \n\n5 "  # the digits too, for where there is no colour
    assert coloured("a grid").plain == "a grid"


def test_solvable_then_train_then_the_table_from_the_command_line(tiny_path, pool, tmp_path, seal, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "tiny-arc.toml").write_text(RECIPE.format(model=tiny_path, pool=pool))
    code, out, err = seal("arc", "solvable", "tiny-arc.toml", "--out", "found.json", "--json")
    assert code == 0, err
    document = json.loads(out)
    assert (document["tried"], [row["tried"] for row in document["grid"]]) == (4, [4, 4])
    with Store.look(Path(document["run"])) as store:
        assert (store.get_state("kind"), store.get_state(keys.PROGRESS)["where"]) == ("solvable", "grid")
    found = read_record("found.json")
    assert document["solvable"] == found.solvable()
    code, out, err = seal("arc", "solvable", "--resume", "last", "--only-record")
    assert code == 0, err
    assert f"{len(found.solvable())} of 4 puzzles" in out
    record = Path(document["run"]) / "solvable.json"
    record.unlink()
    record.mkdir()
    code, _, err = seal("arc", "solvable", "--resume", "last", "--only-record")
    assert (code, f"{record}: cannot be written" in err, "--out" in err) == (2, True, False)
    record.rmdir()
    recipe = Path(document["run"]) / "recipe.toml"
    recipe.write_text(recipe.read_text().replace("[outer]\n", "[outer]\nkept_only = true\n"))
    code, _, err = seal("arc", "solvable", "--resume", "last")
    assert (code, "without what it says: outer.kept_only=" in err) == (2, True)
    code, out, err = seal("arc", "solvable", "--resume", "last", "outer.kept_only=")
    assert (code, f"{len(found.solvable())} of 4 puzzles" in out) == (0, True), err

    write_record(tmp_path / "found.json", replace(found, splits={"train": ("p0", "p1"), "test": ("p2", "p3")}))
    code, out, err = seal("train", "tiny-arc.toml", "domain.data=found.json", "--json")
    assert code == 0, err
    table = {row["condition"]: row for row in json.loads(out)["table"]}
    assert list(table) == ["in_context", "untrained", "fixed", "oracle", "seal"]
    assert {row["n"] for row in table.values()} == {2}
    assert table["fixed"]["edits"] == table["seal"]["edits"] == 4
    assert "found with other settings" not in err
    found = read_record("found.json")
    write_record(tmp_path / "found.json", replace(found, made={**found.made, "domain.orders": 2}))
    code, out, err = seal("eval", "tiny-arc.toml", "domain.data=found.json", "--quick", "--json")
    assert code == 0, err
    assert {row["condition"]: row["edits"] for row in json.loads(out)["table"]} == {
        "in_context": 0,
        "untrained": 1,
        "fixed": 1,
        "oracle": 1,
    }
    assert "found with other settings (domain.orders = 2, here 1)" in err
    run = json.loads(out)["run"]
    code, _, err = seal("eval", run, "--curve", "tokens")
    assert (code, "these are plans alone" in err) == (2, True)
    code, out, err = seal("show", run, "--phase", "fixed")
    assert code == 0, err
    assert "fixed: 1 of 1 problems" in out
    assert "becomes" in out


def test_a_grid_begins_with_a_record_and_tries_nothing_of_it_again(tiny_path, pool, tmp_path, seal, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "tiny-arc.toml").write_text(RECIPE.format(model=tiny_path, pool=pool))
    code, _, err = seal("arc", "solvable", "tiny-arc.toml", "--out", "whole.json", "--seed", "3")
    assert code == 0, err
    whole = read_record("whole.json")
    divided = divide(list(whole.scores), 3, {"train": 0.5, "test": 0.5})
    part = replace(  # one plan, on one puzzle of each split
        whole,
        plans=whole.plans[:1],
        scores={ids[0]: (0.625,) for ids in divided.values()},
        gains={ids[0]: whole.gains[ids[0]][:1] for ids in divided.values()},
        splits={split: ids[:1] for split, ids in divided.items()},
    )
    write_record(tmp_path / "part.json", part)
    code, out, err = seal("arc", "solvable", "tiny-arc.toml", "--from", "part.json", "--out", "more.json", "--json")
    assert code == 0, err
    more = read_record("more.json")
    assert (more.plans, more.seed, set(more.scores)) == (whole.plans, 3, set(whole.scores))
    for id in part.scores:
        assert more.scores[id][0] == 0.625  # as it was told
        assert more.scores[id][1] is not None
    for split, ids in part.splits.items():
        assert set(ids) <= set(more.splits[split])
    with Store.open(Path(json.loads(out)["run"]), write=False) as store:
        assert len(store.outcomes("grid", 0)) == 2 * 4 - 2
    code, _, err = seal("arc", "solvable", "--resume", "last", "--out", "again.json")
    assert code == 0, err
    assert read_record("again.json") == more

    for arguments, word in (
        (("tiny-arc.toml", "--from", "nothing.json"), "no such record"),
        (("tiny-arc.toml", "--from", "embedded"), "its plans were tried with smollm2-135m"),
        (("tiny-arc.toml", "--from", "part.json", "domain.tokens=1000"), "domain.tokens = 2000, here 1000); leave them"),
        (("tiny-arc.toml", "--from", "part.json", "domain.limit=1"), "leave domain.pool"),
        (("tiny-arc.toml", "--from", "part.json", "domain.shares={train=0.0, test=1.0}"), "divided otherwise"),
        (("--resume", "last", "--from", "part.json"), "leave --from out"),
    ):
        code, _, err = seal("arc", "solvable", *arguments)
        assert (code, word in err) == (2, True), err


def test_the_verbs_mistakes_are_told(seal, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for arguments, word in (
        (("arc", "solvable"), "needs a recipe"),
        (("arc", "solvable", "bundled"), 'recipes with domain.kind = "arc"'),
        (("arc", "solvable", "arc-llama-1b"), "domain.grid"),
        (("arc", "solvable", "arc-embedded", "--only-record"), "--resume"),
        (("arc", "solvable", "--resume", "last", "--only-record", "seed=3"), "leave 'seed=3' out"),
        (("arc", "solvable", "--resume", "last", "--only-record", "--slots", "2"), "trains nothing, and writes what is there"),
        (("arc", "solvable", "arc-embedded", "domain.grid={epochs=[100]}"), "epochs: must be a whole number"),
        (("arc", "draw", "12345678"), "no ARC puzzle"),
        (("eval", "arc-embedded", "eval.split=train"), "was trained on"),
        (("eval", "arc-embedded", "domain.side=1"), "eval.split = 'test': not one of its problems is left"),
    ):
        code, _, err = seal(*arguments)
        assert code == 2, arguments
        assert word in err


def test_a_puzzle_is_drawn_into_a_file(seal, tmp_path):
    code, out, err = seal("arc", "draw", "6150a2bd", "--out", str(tmp_path / "p.svg"))
    assert code == 0, err
    assert (tmp_path / "p.svg").read_text().startswith("<?xml")
    assert str(tmp_path / "p.svg") in out
    document = json.loads(seal("arc", "draw", "6150a2bd", "--out", str(tmp_path / "p.svg"), "--json")[1])
    assert document == {"puzzle": "6150a2bd", "picture": str(tmp_path / "p.svg"), "attempts": []}


def test_with_a_run_the_puzzle_is_drawn_as_that_run_has_it(seal, tmp_path):
    """`6150a2bd` has another test there than in ARC-AGI-1, `own` is in no data set."""
    pair = Pair(((1,),), ((2,),))
    problems = {id: to_problem(Puzzle(id, (pair,), (pair, pair))) for id in ("6150a2bd", "own")}
    with Store.create(tmp_path, "several", "", {}) as store:
        put_plans(store, problems, {"untrained": {id: [(0.0, 1.0)] for id in problems}})
        run = str(store.path)
    for id, problem in problems.items():
        code, _, err = seal("arc", "draw", id, "--run", run, "--out", str(tmp_path / "p.svg"))
        assert code == 0, err
        assert (tmp_path / "p.svg").read_text() == draw(of_problem(problem), [[((1, 2),)]] * 2)
    code, _, err = seal("arc", "draw", "6d0aefbc", "--run", run)
    assert (code, "no answers to puzzle 6d0aefbc in it" in err) == (2, True)


def test_a_grid_is_one_table_or_several():
    one = loads('[domain]\nkind = "arc"\n[domain.grid]\nepochs = [1, 2]\n', source="x").domain
    several = loads('[domain]\nkind = "arc"\n[[domain.grid]]\nepochs = [1]\n[[domain.grid]]\nepochs = [2]\n', source="x").domain
    assert isinstance(one, ArcTable)
    assert isinstance(several, ArcTable)
    assert one.grid == ({"epochs": (1, 2)},)
    assert several.grid == ({"epochs": (1,)}, {"epochs": (2,)})
    form = one.build(INNER, BOUNDS).form
    assert list(form.grid(*one.grid)) == list(form.grid(*several.grid))
