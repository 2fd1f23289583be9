"""The tables of a small hand-made run, with numbers worked out by hand."""

from __future__ import annotations

import io
import json

import pytest
from rich.console import Console

from seal.cli.output import console
from seal.report import render
from seal.report.curve import curve_table
from seal.report.tables import evaluation_table, problems_table, training_table
from seal.seeds import derive
from seal.store import Store, edit_id, trial_id
from seal.types import Answer, Example, Fault, Outcome, Problem, Prompt, Query, SelfEdit, Trial

PROBLEMS = [
    Problem(name, name.upper(), "", (Query(f"{name}1", "Who?", "Ada"), Query(f"{name}2", "[when]?", "1901"))) for name in "ab"
]


def answers(problem: Problem, *scores: float | None) -> tuple[Answer, ...]:
    return tuple(
        Answer(query.id, f"said {score}", score, {} if score is None else {"f1": score / 2, "exact": float(score == 1)})
        for query, score in zip(problem.queries, scores, strict=True)
    )


def put(store, phase, problem, index, trials, *, before=(0, 0), tokens=0, text=""):
    """An edit and its trials; each is the scores of its two answers, or None for a fault. Edits of one `text` are equal."""
    text = text or f"edit {index}"
    examples = (Example(text),)
    edit = SelfEdit(edit_id(phase, 1, problem.id, index), problem.id, text, 1, index, Prompt("write"), examples, tokens=tokens)
    store.put_edits([edit])
    store.put_base(phase, 1, problem.id, answers(problem, *before))
    for repeat, scores in enumerate(trials):
        trial = Trial(trial_id(edit.id, repeat), problem, edit, repeat, derive(edit.id, repeat))
        after = answers(problem, *scores) if scores else ()
        fault = None if scores else Fault("nan", "loss is NaN")
        store.put_outcome(phase, 1, Outcome(trial, answers(problem, *before), after, fault=fault))
    return edit.id


@pytest.fixture
def store(tmp_path):
    with Store.create(tmp_path, "small", "", {}) as store:
        store.put_problems(PROBLEMS)
        yield store


def text(renderable) -> str:
    console = Console(width=200, file=io.StringIO())
    console.print(renderable)
    return console.file.getvalue()


def test_the_evaluation_table_by_hand(store):
    a, b = PROBLEMS
    for problem in PROBLEMS:
        store.put_base("eval/base", 1, problem.id, answers(problem, 0, 1))
    # a: (0.5 + 0.0) / 2 = 0.25; b: one answer ungraded, so 1.0
    put(store, "eval/untrained", a, 0, [(1, 0)])
    put(store, "eval/untrained", a, 1, [(0, 0)])
    put(store, "eval/untrained", b, 0, [(None, 1)])
    # a: 1.0; b: the fault counts as the base's 0.5, the other trial is 1.0 -> 0.75
    put(store, "eval/seal", a, 0, [(1, 1)])
    put(store, "eval/seal", b, 0, [None, (1, 1)], before=(0, 1))

    table = evaluation_table(store)
    json.dumps(table, allow_nan=False)
    base, untrained, seal = table
    assert [row["condition"] for row in table] == ["base", "untrained", "seal"]
    assert (base["mean"], base["n"], base["edits"], base["faults"], base["before"]) == (0.5, 2, 0, 0, 0.5)
    assert (untrained["mean"], untrained["n"], untrained["edits"], untrained["before"]) == (0.625, 2, 3, 0.0)
    # two passages: a resample is one of them twice, or both
    assert (untrained["low"], untrained["high"]) == (0.25, 1.0)
    assert untrained["minus_untrained"] is None
    assert (seal["mean"], seal["edits"], seal["faults"], seal["before"]) == (0.875, 2, 1, 0.25)
    assert seal["minus_untrained"] == {"mean": 0.25, "low": -0.25, "high": 0.75}  # 1 - 0.25 and 0.75 - 1
    assert seal["f1"]["mean"] == seal["mean"] / 2
    assert seal["f1_minus_untrained"]["mean"] == 0.125
    assert untrained["exact"]["mean"] == 0.625
    assert base["minus_untrained"]["mean"] == pytest.approx(-0.125)
    shown = text(render.evaluation(table))
    assert "0.875 [0.750, 1.000]" in shown
    assert "+0.250 [-0.250, +0.750]" in shown
    assert "eval/seal" not in shown


def test_passages_of_one_article_are_resampled_together(tmp_path):
    twins = [Problem(f"p{i}", "", "", (Query(f"q{i}", "", ""),), cluster="article") for i in range(2)]
    with Store.create(tmp_path, "x", "", {}) as store:
        store.put_problems(twins)
        for i, problem in enumerate(twins):
            store.put_base("base", 0, problem.id, answers(problem, i))
        (row,) = evaluation_table(store)
    assert (row["mean"], row["low"], row["high"]) == (0.5, None, None)  # of a second article nothing is known
    assert (row["n"], row["clusters"]) == (2, 1)
    assert "1 article is too few" in text(render.evaluation([row]))


def test_two_evaluations_in_one_run_are_told_apart(store):
    a, _ = PROBLEMS
    put(store, "dev/untrained", a, 0, [(0, 0)])
    put(store, "dev/seal", a, 0, [(1, 0)])
    put(store, "test/untrained", a, 0, [(1, 1)])
    put(store, "train", a, 0, [(1, 1)])
    table = evaluation_table(store)
    assert [(row["phase"], row["minus_untrained"] and row["minus_untrained"]["mean"]) for row in table] == [
        ("dev/untrained", None), ("dev/seal", 0.5), ("test/untrained", None)
    ]  # fmt: skip
    assert "SEAL (dev/seal, round 1)" in text(render.evaluation(table))


def test_a_condition_nobody_could_grade_has_no_number(store):
    a, _ = PROBLEMS
    store.put_base("base", 1, a.id, answers(a, None, None))
    (row,) = evaluation_table(store)
    assert (row["mean"], row["low"], row["n"], row["f1"]["mean"]) == (None, None, 0, None)
    assert "–" in text(render.evaluation([row]))


def test_the_training_table_by_hand(store):
    a, b = PROBLEMS
    best = put(store, "train", a, 0, [(1, 1), (1, 0)])
    second = put(store, "train", a, 1, [(0, 0), (1, 0)])
    # b: twice 0.5 and no gain, as the base has 0.5 too; a fault that earns nothing
    first = put(store, "train", b, 0, [(0, 1), (0, 1)], before=(0, 1))
    other = put(store, "train", b, 1, [(1, 0), (1, 0)], before=(0, 1))
    fault = put(store, "train", b, 2, [None, None], before=(0, 1))
    rewards = {best: 0.75, second: 0.25, first: 0.5, other: 0.5, fault: None}
    store.put_rewards({id: {"accuracy": value, "reward": value} for id, value in rewards.items()})
    store.put_kept("train", 1, [best, first])
    store.put_metrics(1, {"seconds": 3725.4})

    (row,) = training_table(store)
    assert row.pop("noise") is None  # known where the rewards of single trials were, which need not be the scores
    # on their questions a's edits have 1, .5 and .5, 0, b's 0, 1 and 1, 0. Unexplained: none of a, 4 * .5^2 of b, over 2 degrees
    # of freedom 1/2. Edits differ by 2 * 2 * .25^2 over 2, which is 1/8. A share is at most 1
    assert row.pop("question_noise") == 1.0
    assert row.pop("noise_deviation") is None
    # problems are resampled, a with its two edits' 0.75 and 0.25 and b with 0.5 twice, whose means are alike
    assert row.pop("intervals") == {
        "reward": {"mean": 0.5, "low": 0.5, "high": 0.5},
        "best": {"mean": 0.625, "low": 0.5, "high": 0.75},
    }
    assert row == {
        "round": 1, "problems": 2, "edits": 5, "trials": 10, "taken_over": 0, "reward": 0.5, "best": 0.625, "kept": 2,
        "kept_without_gain": 1, "ties": 1, "faults": 2, "cut_tokens": 0, "left_out": 0, "learnt": False,
        "seconds": 3725.4, "decided": True,
    }  # fmt: skip
    store.put_metrics(1, {"noise": 0.4})
    shown = text(render.training(training_table(store)))
    assert "1:02:05" in shown
    assert "0.625 [0.500, 0.750]" in shown
    assert "2 problems are too few for an interval" in shown
    assert "40% of the reward's variance is retraining noise; 100% of the score's comes of asking so few questions" in shown
    assert "few questions; 1 of 2 problems had a tie for the best; 1 of 2 kept" in shown


@pytest.mark.parametrize(("passages", "said"), [(1, "1 passage is too few"), (5, "5 passages are too few"), (6, "")])
def test_a_table_of_few_passages_says_so(passages, said):
    end = {"mean": 0.2, "low": 0.2, "high": 0.2}
    row = {
        "condition": "base",
        "phase": "base",
        "round": 0,
        **end,
        "f1": end,
        "exact": end,
        "n": passages,
        "clusters": passages,
        "edits": 0,
        "faults": 0,
        "cut_tokens": 0,
    }
    row |= dict.fromkeys(("minus_untrained", "f1_minus_untrained", "noise", "shared_trainings")) | {"ungraded": 0}
    console = Console(width=200, file=io.StringIO())
    console.print(render.evaluation([row]))
    assert ("too few" in console.file.getvalue()) == bool(said)
    assert said in console.file.getvalue()


def test_a_round_of_which_nothing_was_kept_says_so_when_it_is_over(tmp_path):
    with Store.create(tmp_path, "small", "", {}) as store:
        store.put_problems(PROBLEMS)
        put(store, "train", PROBLEMS[0], 0, [(0, 0)])
        assert render.noise_line(training_table(store)[0]) == "round 1: not finished (edits so far: 1, trials: 1)"
        store.put_metrics(1, {"policy_left_out": 0.0})
        assert "nothing was kept (no edit has a reward), so the policy stays" in render.noise_line(training_table(store)[0])


def test_where_nothing_was_tried_no_kept_edit_is_said_to_have_gained_nothing(tmp_path):
    with Store.create(tmp_path, "small", "", {}) as store:
        store.put_problems(PROBLEMS)
        store.put_kept("train", 1, [put(store, "train", PROBLEMS[0], 0, [])])
        assert training_table(store)[0]["kept_without_gain"] is None


@pytest.mark.parametrize("method", ["rest_em", "weighted", "gradient", "dpo"])
def test_edits_that_are_learnt_from_as_bad_ones_are_not_said_to_have_gained_nothing(tmp_path, method):
    with Store.create(tmp_path, "small", f'[update]\nmethod = "{method}"\n', {}) as store:
        store.put_problems(PROBLEMS)
        store.put_kept("train", 1, [put(store, "train", PROBLEMS[0], 0, [(1, 0)]), put(store, "train", PROBLEMS[0], 1, [(0, 0)])])
        (row,) = training_table(store)
    line = render.noise_line(row)
    if method in ("rest_em", "weighted"):
        assert row["kept_without_gain"] == 1
        assert line.endswith("1 of 2 kept edits gained nothing")
    else:
        assert row["kept_without_gain"] is None
        assert line.endswith("learnt from 2 edits, the bad ones as what not to write")


def test_edits_that_the_policy_could_not_learn_from_are_told(store):
    def lines(**metrics):
        store.put_metrics(1, metrics)
        return text(render.training(training_table(store)))

    store.put_kept("train", 1, [put(store, "train", PROBLEMS[0], 0, [(1, 0)])])
    assert "does not fit" not in lines(policy_left_out=0.0, policy_loss_last=1.0)
    assert "round 1: 1 of what was kept does not fit the model's context" in lines(policy_left_out=1.0, policy_loss_last=1.0)
    assert "learnt from the rest" in lines(policy_left_out=1.0, policy_loss_last=1.0)


def test_a_policy_that_learnt_nothing_is_told(store):
    store.put_kept("train", 1, [put(store, "train", PROBLEMS[0], 0, [(1, 0)])])
    store.put_metrics(1, {"policy_left_out": 1.0})
    assert "the policy learnt nothing, and is what it was" in " ".join(text(render.training(training_table(store))).split())


def test_noise_is_unknown_with_one_trial_an_edit(store):
    put(store, "train", PROBLEMS[0], 0, [(1, 0)])
    put(store, "train", PROBLEMS[0], 1, [(1, 1)])
    (row,) = training_table(store)
    assert row["noise"] is None
    assert (row["reward"], row["best"], row["seconds"], row["decided"]) == (None, None, None, False)
    store.put_kept("train", 1, ["train/1/a/0"])
    (row,) = training_table(store)
    assert "retraining noise unknown" in text(render.training([row]))


def test_a_dropped_edit_with_a_lucky_trial_is_neither_best_nor_tied(store):
    first = put(store, "train", PROBLEMS[0], 0, [(1, 1)])
    best = put(store, "train", PROBLEMS[0], 1, [(1, 1), (0, 0)])
    other = put(store, "train", PROBLEMS[0], 2, [(0, 0), (0, 1)])
    store.put_rewards({first: {"reward": 1.0}, best: {"reward": 0.5}, other: {"reward": 0.25}})
    (row,) = training_table(store)
    assert (row["best"], row["ties"]) == (0.5, 0)


def test_where_no_contender_has_a_reward_no_edit_is_best(store):
    dropped = put(store, "train", PROBLEMS[0], 0, [(1, 1)])
    failed = put(store, "train", PROBLEMS[0], 1, [(1, 1), None])
    whole = put(store, "train", PROBLEMS[1], 0, [(1, 0)])
    store.put_rewards({dropped: {"reward": 1.0}, failed: {"reward": None}, whole: {"reward": 0.5}})
    (row,) = training_table(store)
    assert (row["best"], row["ties"]) == (0.5, 0)  # the second problem's alone


def test_equal_edits_are_no_tie(store):
    rewards = {put(store, "train", PROBLEMS[0], index, [(1, 0)], text="Ada built it."): 0.5 for index in range(2)}
    store.put_rewards({id: {"reward": reward} for id, reward in rewards.items()})
    assert training_table(store)[0]["ties"] == 0
    rewards[put(store, "train", PROBLEMS[0], 2, [(0, 1)])] = 0.5
    store.put_rewards({id: {"reward": reward} for id, reward in rewards.items()})
    assert training_table(store)[0]["ties"] == 1


def test_passages_that_share_a_training_are_not_independent(store):
    def pooled(phase, trainings):
        for place, problem in enumerate(PROBLEMS):
            edit = SelfEdit(edit_id(phase, 1, problem.id, 0), problem.id, "", 1, 0, Prompt(""))
            store.put_edits([edit])
            store.put_base(phase, 1, problem.id, answers(problem, 0, 0))
            for repeat, scores in enumerate(trainings):
                trial = Trial(trial_id(edit.id, repeat), problem, edit, repeat, seed=repeat)
                store.put_outcome(phase, 1, Outcome(trial, answers(problem, 0, 0), answers(problem, *scores[place])))

    pooled("untrained", [[(1, 0), (1, 0)]])
    pooled("seal", [[(1, 1), (1, 1)], [(0, 0), (0, 0)]])
    untrained, seal = evaluation_table(store)
    # every passage 0.5 in the mean; but one training gave all right, the other nothing
    assert (seal["mean"], seal["low"], seal["high"], seal["shared_trainings"]) == (0.5, 0.0, 1.0, 2)  # no score is below 0
    assert seal["minus_untrained"] == {"mean": 0.0, "low": pytest.approx(-(0.5**0.5)), "high": pytest.approx(0.5**0.5)}
    assert (untrained["low"], untrained["high"], untrained["shared_trainings"]) == (0.5, 0.5, 1)
    assert seal["noise"] is None
    assert "All passages shared one training" in text(render.evaluation([untrained]))
    assert "All passages shared 2 trainings" in text(render.evaluation([seal]))


def test_the_noise_of_an_evaluation_is_known_with_repeats(store):
    put(store, "untrained", PROBLEMS[0], 0, [(1, 1), (1, 0)])
    put(store, "untrained", PROBLEMS[0], 1, [(0, 0), (1, 0)])
    (row,) = evaluation_table(store)
    assert row["noise"] == pytest.approx(0.0625 / 0.125)
    assert row["shared_trainings"] is None
    assert "untrained edits 50%" in text(render.evaluation([row]))
    put(store, "seal", PROBLEMS[0], 0, [(1, 1)])
    assert "is unknown" in text(render.evaluation([evaluation_table(store)[1]]))


def test_the_curve_by_hand(store):
    a, b = PROBLEMS
    for problem in PROBLEMS:
        store.put_base("base", 1, problem.id, answers(problem, 0, 0))
    put(store, "untrained", a, 0, [(0, 0)])
    assert curve_table(store) == []
    for most, scores in ((128, (1, 1)), (64, (1, 0))):
        put(store, f"tokens-{most}/untrained", a, 0, [scores], tokens=most - 4)
        put(store, f"tokens-{most}/untrained", b, 0, [(0, 0)], tokens=most)
    rows = curve_table(store)
    assert [(row["condition"], row["most"], row["tokens"], row["mean"], row["n"]) for row in rows] == [
        ("base", 0, 0.0, 0.0, 2), ("untrained", 64, 62.0, 0.25, 2), ("untrained", 128, 126.0, 0.5, 2)
    ]  # fmt: skip
    assert "0.500 [0.000, 1.000]" in text(render.curve(rows))
    assert [(row["f1"]["mean"], row["exact"]["mean"]) for row in rows] == [(0.0, 0.0), (0.125, 0.25), (0.25, 0.5)]
    assert "2 passages are too few for an interval" in text(render.curve(rows))
    assert "one training" not in text(render.curve(rows))
    assert "All passages shared one training" in text(render.curve([rows[0], rows[1] | {"shared_trainings": 1}]))
    assert [row["phase"] for row in evaluation_table(store)] == ["base", "untrained"]  # points of a curve are no conditions


def test_passages_without_a_graded_answer_are_told_under_the_table(store):
    a, b = PROBLEMS
    store.put_base("in_context", 1, a.id, answers(a, 1, 0))
    store.put_base("in_context", 1, b.id, tuple(Answer(query.id, "", None) for query in b.queries))
    (row,) = evaluation_table(store)
    assert (row["mean"], row["n"], row["ungraded"]) == (0.5, 1, 1)
    told = text(render.evaluation([row]))
    assert "in no mean: shown in the prompt 1." in told
    assert "in no mean" not in text(render.evaluation([row | {"ungraded": 0}]))


def test_problems_come_best_or_worst_first(store):
    a, b = PROBLEMS
    low, high = put(store, "train", a, 0, [(0, 0)]), put(store, "train", a, 1, [(1, 0), (1, 1)])
    fault = put(store, "train", b, 0, [None])
    store.put_rewards({low: {"reward": 0.0}, high: {"reward": 0.75}, fault: {"reward": None}})
    store.put_kept("train", 1, [high])
    rows = problems_table(store)
    json.dumps(rows, allow_nan=False)
    assert [row["id"] for row in rows] == ["a", "b"]
    assert [(edit["earned"], edit["before"], edit["after"], edit["kept"]) for edit in rows[0]["edits"]] == [
        (0.75, 0.0, 0.75, True), (0.0, 0.0, 0.0, False)
    ]  # fmt: skip
    assert rows[0]["edits"][0]["answers"][0] == {
        "question": "Who?", "target": "Ada", "before": "said 0", "before_score": 0.0, "after": "said 1", "after_score": 1.0
    }  # fmt: skip
    assert rows[1]["edits"][0]["fault"] == "nan: loss is NaN"
    assert rows[1]["edits"][0]["answers"][0]["after"] is None
    worst = problems_table(store, best_first=False)
    assert worst[0]["edits"][0]["earned"] == 0.0
    assert worst[-1]["id"] == "b"
    shown = text(render.problems(rows))
    assert "edit 1" in shown
    assert "edit 0" not in shown.split("B ")[0]
    assert "said 1 (1)" in shown
    assert "[when]?" in shown


def test_a_phase_without_rewards_is_ordered_by_score(store):
    put(store, "seal", PROBLEMS[0], 0, [(0, 0)])
    put(store, "seal", PROBLEMS[1], 0, [(1, 0)])
    assert [row["id"] for row in problems_table(store, "seal")] == ["b", "a"]
    assert problems_table(store, "nothing") == []


def test_an_edit_that_cannot_be_read_is_a_fault_also_where_nothing_is_tried(store):
    fault = Fault("unreadable", "no line of it is a sentence")
    store.put_edits([SelfEdit(edit_id("train", 1, "a", 0), "a", "???", 1, 0, Prompt("write"), fault=fault)])
    put(store, "train", PROBLEMS[1], 0, [(1, 0), None])
    (row,) = training_table(store)
    assert (row["edits"], row["trials"], row["faults"]) == (2, 2, 2)
    shown = {edit["text"]: edit["fault"] for problem in problems_table(store) for edit in problem["edits"]}
    assert shown == {"???": "unreadable: no line of it is a sentence", "edit 0": "nan: loss is NaN"}


def test_a_point_of_a_curve_that_was_only_begun_is_no_row(store):
    for problem in PROBLEMS:
        store.put_base("tokens-64/untrained", 1, problem.id, answers(problem, 0, 1))
    assert curve_table(store) == []
    put(store, "tokens-64/untrained", PROBLEMS[0], 0, [(1, 0)], before=(0, 1), tokens=9)
    assert [row["most"] for row in curve_table(store)] == [64]


def test_what_a_terminal_would_obey_is_not_printed(capsys):
    edit = {"source": "policy", "rewards": {}, "before": 0.0, "after": 1.0, "kept": False, "fault": None}
    edit |= {"cut": 0, "cut_tokens": 0}
    answer = {"question": "[b]What is :pig:?", "target": "\x1b]0;owned\x07:100:", "before": None, "before_score": None}
    answer |= {"after": "\x9b2Ja\tb\r", "after_score": 1.0}
    row = {
        "title": "\u202eThe \x1b[2JMill",
        "round": 1,
        "pairs": [],
        "edits": [{**edit, "text": "one\n\x1b[31mtwo", "answers": [answer]}],
    }
    console(piped=100).print(render.problems([row]))
    out = capsys.readouterr().out
    assert not [char for char in out if not char.isprintable() and char != "\n"]
    for kept in ("The [2JMill", "one ", "[31mtwo", "[b]What is :pig:?", "]0;owned:100:"):
        assert kept in out
