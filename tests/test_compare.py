"""Whether two runs differ: by hand on small runs, and the paper's headline pair out of its released files."""

from __future__ import annotations

import io
import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from seal.cli.app import run
from seal.errors import UserError
from seal.report import render
from seal.report.compare import comparison, of_file, of_run, only, together
from seal.seeds import derive
from seal.stats import FEWEST
from seal.store import Store, edit_id, trial_id
from seal.types import Answer, Outcome, Problem, Prompt, Query, SelfEdit, Trial

OFFICIAL = Path(__file__).parents[2] / "shared" / "data" / "official"


@pytest.fixture(autouse=True)
def few_are_enough(monkeypatch):
    """So that an example by hand can be short; how many there have to be is a test of its own."""
    monkeypatch.setattr("seal.report.compare.FEWEST", 1)


ONE_POLICY = "a run is one policy: what another seed's would answer is not in the intervals; join several of a side by commas"


def a_run(
    folder: Path,
    name: str,
    scores: Mapping[str, Sequence[float | None]],
    *,
    pooled: bool = False,
    article: str = "",
    asked: dict[str, str] | None = None,
) -> Path:
    """A run with the condition `seal`: by passage, the score of each repeat of its one edit. `asked`: another question."""
    questions = dict.fromkeys(scores, "Who?") | (asked or {})
    problems = {id: Problem(id, id, "", (Query(f"{id}/q", questions[id], "Ada"),), article) for id in scores}
    with Store.create(folder, name, "", {}) as store:
        store.put_problems(problems.values())
        for id, values in scores.items():
            edit = SelfEdit(edit_id("seal", 0, id, 0), id, "", 0, 0, Prompt(""))
            store.put_edits([edit])
            before = (Answer(f"{id}/q", "", 0.0),)
            for phase in ("base", "seal"):
                store.put_base(phase, 0, id, before)
            for repeat, value in enumerate(values):
                seed = derive(name, repeat) if pooled else derive(name, id, repeat)
                trial = Trial(trial_id(edit.id, repeat), problems[id], edit, repeat, seed)
                metrics = {} if value is None else {"f1": value / 2, "exact": float(value == 1)}
                store.put_outcome("seal", 0, Outcome(trial, before, (Answer(f"{id}/q", "", value, metrics),)))
        return store.path


def a_file(folder: Path, name: str, scores: dict[str, list[float]]) -> Path:
    articles = [
        {
            "title": id[0],
            "context": id,
            "completions": [{"text": "", "stats": {"adapter_mean": one, "gain_mean": one - 0.25}} for one in values],
        }
        for id, values in scores.items()
    ]
    path = folder / name
    path.write_text(json.dumps({"articles": articles}))
    return path


def rows(document: dict[str, Any]) -> dict[str, dict[str, Any]]:
    return {row["condition"]: row for row in document["table"]}


def test_two_runs_are_paired_by_passage(tmp_path: Path) -> None:
    a = of_run(a_run(tmp_path, "a", {"x": [1.0, 0.5], "y": [0.5], "only": [1.0]}))
    b = of_run(a_run(tmp_path, "b", {"y": [0.25], "x": [0.5]}))
    document = comparison(a, b)
    json.dumps(document, allow_nan=False)
    seal = rows(document)["seal"]
    # x: 0.75 - 0.5, y: 0.5 - 0.25
    assert (seal["a"], seal["b"], seal["mean"], seal["low"], seal["high"]) == (0.625, 0.375, 0.25, 0.25, 0.25)
    assert (seal["n"], seal["articles"], seal["by_title"], seal["differ"]) == (2, 2, None, True)
    assert (seal["f1"]["mean"], seal["exact"]["mean"]) == (0.125, 0.25)  # exact, x: one of two trials
    assert rows(document)["base"]["differ"] is False
    assert document["notes"] == [f"1 passage of {a.name} left out: not in {b.name}", ONE_POLICY]
    console = Console(width=200, file=io.StringIO())
    console.print(render.comparison(document))
    assert "+0.250 [+0.250, +0.250]" in console.file.getvalue()  # type: ignore[attr-defined]


def test_both_means_are_of_the_passages_that_both_have_a_score_of(tmp_path: Path) -> None:
    a = of_run(a_run(tmp_path, "a", {"x": [0.75], "y": [0.25]}))
    b = of_run(a_run(tmp_path, "b", {"x": [0.5], "y": [None]}))
    seal = rows(comparison(a, b))["seal"]
    assert [seal[key] for key in ("a", "b", "mean", "n", "articles")] == [0.75, 0.5, 0.25, 1, 1]
    assert seal["a"] - seal["b"] == seal["mean"]
    # where a side's trainings are apart, a passage with a value missing weighs as much as another
    c = of_run(a_run(tmp_path, "c", {"x": [1.0, None], "y": [0.25, 0.25]}, pooled=True))
    seal = rows(comparison(c, a))["seal"]
    assert (seal["a"], seal["a"] - seal["b"]) == (0.625, seal["mean"])


def test_where_nothing_is_graded_nothing_is_said(tmp_path: Path) -> None:
    a = of_run(a_run(tmp_path, "a", {"x": [0.75], "y": [0.25]}, pooled=True))
    b = of_run(a_run(tmp_path, "b", {"x": [None], "y": [None]}, pooled=True))
    document = comparison(a, b)
    seal = rows(document)["seal"]
    assert [seal[key] for key in ("a", "b", "mean", "low", "by_title", "n", "articles", "differ")] == [*[None] * 5, 0, 0, None]
    console = Console(width=200, file=io.StringIO())
    console.print(render.comparison(document))
    (line,) = [line for line in console.file.getvalue().splitlines() if "SEAL" in line]  # type: ignore[attr-defined]
    assert [cell.strip() for cell in line.split("│")[2:-1]] == ["–", "–", "–", "–", "–", "0", "unknown"]


def test_two_conditions_are_paired_in_two_runs_and_in_one(tmp_path: Path) -> None:
    a = of_run(a_run(tmp_path, "a", {"x": [1.0, 0.5], "y": [0.5], "only": [1.0]}, pooled=True))
    b = of_run(a_run(tmp_path, "b", {"x": [0.5], "y": [0.25]}))
    document = comparison(only(a, "base"), only(b, "seal"))
    (row,) = document["table"]
    # x: 0 - 0.5, y: 0 - 0.25
    assert row["condition"] == "base - seal"
    assert [row[key] for key in ("a", "b", "mean", "low", "high")] == [0, 0.375, -0.375, -0.5, -0.25]
    assert (document["a"], document["b"], row["n"], row["differ"]) == (f"{a.name}:base", f"{b.name}:seal", 2, True)
    # `only` is left out, and `seal` of B is one policy; that `seal` of A was one training says nothing of its base
    assert document["notes"] == [f"1 passage of {document['a']} left out: not in {document['b']}", ONE_POLICY]
    (within,) = comparison(only(b, "seal"), only(b, "base"))["table"]
    assert (within["mean"], within["low"], within["high"]) == (0.375, 0.25, 0.5)
    (same,) = comparison(only(a, "seal"), only(b, "seal"))["table"]
    assert same == rows(comparison(a, b))["seal"]
    console = Console(width=200, file=io.StringIO())
    console.print(render.comparison(document))
    assert "base model - SEAL" in console.file.getvalue()  # type: ignore[attr-defined]


def test_conditions_are_named_on_the_command_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = tmp_path / "of:colons"
    runs = [a_run(folder, f"s{seed}", {id: [value] for id in "abc"}) for seed, value in enumerate((0.5, 1.0))]
    file = a_file(tmp_path, "a.json", {"x": [0.5]})
    joined = ",".join(path.name for path in runs)
    for pair, mean in (
        ((f"{runs[1]}:seal", f"{runs[0]}:seal"), 0.5),
        ((f"{runs[1].name}:seal", "last:base"), 1.0),
        ((f"{joined}:seal", f"{joined}:base"), 0.75),
        ((f"{file}:edited", f"{file}:base"), 0.25),
        (tuple(map(str, runs)), -0.5),
    ):
        assert run(["compare", *pair, "--runs", str(folder), "--json"]) == 0
        assert json.loads(capsys.readouterr().out)["table"][-1]["mean"] == mean


def test_passages_of_one_article_say_less(tmp_path: Path) -> None:
    a, b = (of_run(a_run(tmp_path, name, {"x": [one], "y": [0.5]}, article="same")) for name, one in (("a", 1.0), ("b", 0.75)))
    seal = rows(comparison(a, b))["seal"]
    assert (seal["mean"], seal["low"], seal["high"]) == (0.125, 0.0, 0.25)
    assert seal["by_title"] == {"mean": 0.125, "low": None, "high": None}
    assert seal["differ"] is False  # both intervals must leave 0 out


def test_one_training_for_all_passages_shows_no_difference(tmp_path: Path) -> None:
    scores = {id: [1.0] for id in "abcdef"}
    mine = of_run(a_run(tmp_path, "a", scores, pooled=True))
    theirs = of_run(a_run(tmp_path, "b", {id: [0.5, 0.25] for id in scores}, pooled=True))
    document = comparison(mine, theirs)
    assert rows(document)["seal"]["differ"] is None
    assert "one training" in document["notes"][0]
    again = of_run(a_run(tmp_path, "c", {id: [1.0, 0.75] for id in scores}, pooled=True))
    seal = rows(comparison(again, theirs))["seal"]
    assert (seal["low"], seal["high"]) == pytest.approx((0.5 - 0.25 * 2**0.5, 0.5 + 0.25 * 2**0.5))  # two say too little
    assert seal["differ"] is True


def test_seeds_of_a_run_are_resampled_as_passages_are(tmp_path: Path) -> None:
    seeds = [of_run(a_run(tmp_path, f"a{seed}", {id: [value] for id in "abc"})) for seed, value in enumerate((0.4, 0.8))]
    other = of_run(a_run(tmp_path, "b", {id: [0.5] for id in "abc"}))
    assert rows(comparison(seeds[1], other))["seal"]["low"] == pytest.approx(0.3)
    seal = rows(comparison(together(seeds), other))["seal"]
    assert (seal["mean"], seal["low"], seal["high"]) == pytest.approx((0.1, 0.1 - 0.2 * 2**0.5, 0.1 + 0.2 * 2**0.5))


def test_one_run_a_side_is_one_policy_and_that_is_said(tmp_path: Path) -> None:
    scores = {id: [0.5] for id in "abcdef"}
    a, b, c = (of_run(a_run(tmp_path, name, scores)) for name in "abc")
    assert comparison(a, b)["notes"] == comparison(together([a, b]), c)["notes"] == [ONE_POLICY]
    assert comparison(only(a, "seal"), only(a, "base"))["notes"] == [ONE_POLICY]
    assert comparison(only(a, "base"), only(b, "base"))["notes"] == []
    assert comparison(together([a, b]), together([c, b]))["notes"] == []


def test_a_run_is_named_once_on_a_side(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = a_run(tmp_path, "a", {"x": [0.5]})
    for twice in (f"{path},last", f"{path},{path}"):
        assert run(["compare", twice, str(path), "--runs", str(tmp_path)]) == 2
        assert f"{path} is named twice; each run is one training, so name it once" in capsys.readouterr().err
    assert run(["compare", str(path), "last", "--runs", str(tmp_path), "--json"]) == 0  # once a side: with itself


def test_passages_that_were_not_asked_the_same_are_left_out(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    a = of_run(a_run(tmp_path, "a", {"x": [1.0], "y": [0.5], "z": [0.25]}))
    b = of_run(a_run(tmp_path, "b", {"x": [0.0], "y": [0.25], "z": [0.0]}, asked={"x": "When?"}))
    said = "1 passage left out: not asked the same questions in all runs"
    document = comparison(a, b)
    assert [rows(document)["seal"][key] for key in ("a", "b", "mean", "n")] == [0.375, 0.125, 0.25, 2]
    assert document["notes"] == [said, ONE_POLICY]
    joined = together([a, b])
    assert list(joined.scores["seal"]) == ["y", "z"]
    assert joined.notes == (said,)
    training = {
        "asked": {**a.asked, "t": frozenset({("Why?", "So.")})}
    }  # seeds of self-made questions ask other ones in training
    one, other = replace(a, **training), replace(a, name="other", asked={**a.asked, "t": frozenset({("How?", "So.")})})
    assert together([one, other]).notes == ()
    file = of_file(a_file(tmp_path, "a.json", {"x": [0.5]}))  # a file does not say what was asked
    assert comparison(replace(a, scores={"base": a.scores["base"]}), replace(file, scores={"base": {"x": [0.5]}}))["table"]
    c = a_run(tmp_path, "c", {"x": [1.0]}, asked={"x": "Where?"})
    assert run(["compare", str(c), a.name]) == 2
    assert "nothing was measured on the same problems, by the same questions, in both" in capsys.readouterr().err


@pytest.mark.parametrize(("passages", "differ"), [("abcde", None), ("abcdef", True)])
def test_a_few_passages_say_nothing(passages: str, differ: bool | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("seal.report.compare.FEWEST", FEWEST)
    a, b = (of_run(a_run(tmp_path, name, {id: [one] for id in passages})) for name, one in (("a", 0.75), ("b", 0.5)))
    assert rows(comparison(a, b))["seal"]["differ"] is differ
    ten = {id: [0.5] for id in "abcdefghij"}
    a, b = (of_run(a_run(tmp_path, name, {id: [one] for id in ten}, article="same")) for name, one in (("c", 0.75), ("d", 0.5)))
    assert rows(comparison(a, b))["seal"]["differ"] is None


def test_a_result_file_stands_beside_every_condition_of_a_run(tmp_path: Path) -> None:
    file = of_file(a_file(tmp_path, "a.json", {"x1": [0.5, 1.0], "x2": [0.25]}))
    other = of_file(a_file(tmp_path, "b.json", {"x1": [0.5], "x2": [0.25]}))
    edited = rows(comparison(file, other))["edited"]
    assert (edited["a"], edited["mean"], edited["n"], edited["articles"]) == (0.5, 0.125, 2, 1)
    assert rows(comparison(file, other))["base"]["a"] == 0.25  # what was scored, less what was gained
    ids = list(file.scores["edited"])
    mine = of_run(a_run(tmp_path, "a", {id: [1.0] for id in ids}))
    assert list(rows(comparison(mine, file))) == ["base", "seal"]
    assert rows(comparison(file, mine))["seal"]["mean"] == -0.5


def test_what_cannot_be_compared_is_the_users_mistake(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = a_file(tmp_path, "a.json", {"x": [0.5]})
    other = a_file(tmp_path, "b.json", {"y": [0.5]})
    edits = tmp_path / "edits.json"
    edits.write_text(json.dumps([{"title": "t", "context": "c", "completions": ["text"]}]))
    Store.create(tmp_path / "runs", "empty", "", {}).close()
    empty = str(next((tmp_path / "runs").iterdir()))
    for pair, says in (
        ((str(file), str(other)), "nothing in common"),
        ((str(file), str(edits)), "self-edits without scores"),
        ((str(file), "gone.json"), "gone.json: no such file"),
        ((str(file), empty), "has measured nothing yet"),
        ((str(file), "nobody"), "nobody"),
        ((f"{file}:edited", f"{other}:edited"), "nothing in common"),
        ((f"{file}:seal", f"{file}:base"), f"{file} has no condition 'seal'; it has base, edited"),
        ((f"{empty}:seal", f"{file}:base"), "has no condition 'seal'; it has measured nothing yet"),
        ((f"{file}:edited", str(file)), "name a condition of both"),
        ((str(file), f"{file}:edited"), "name a condition of both"),
        ((f"{file},{empty}", str(file)), "no condition that all of them measured"),
    ):
        assert run(["compare", *pair, "--runs", str(tmp_path / "nowhere")]) == 2
        error = capsys.readouterr().err
        assert error.count("\n") == 1
        assert says in error


def test_a_pooled_result_file_has_its_questions_paired(tmp_path: Path) -> None:
    path = tmp_path / "cpt.json"
    path.write_text(json.dumps({"server_reply": {"baseline_correct": [False, True], "adapter_correct": [True, True]}}))
    document = comparison(of_file(path), of_file(path))
    assert (document["unit"], rows(document)["edited"]["a"], rows(document)["base"]["b"]) == ("question", 1.0, 0.5)
    assert rows(document)["edited"]["differ"] is None
    longer = tmp_path / "longer.json"
    longer.write_text(json.dumps({"server_reply": {"baseline_correct": [False] * 3, "adapter_correct": [True, True, False]}}))
    other = comparison(of_file(path), of_file(longer))  # question 1 of one need not be question 1 of the other
    edited = rows(other)["edited"]
    assert [edited[key] for key in ("a", "b", "mean", "low", "n", "differ")] == [1.0, pytest.approx(2 / 3), None, None, 0, None]
    said = f"{path} has 2 questions and {longer} has 3 questions, which cannot be the same"
    assert other["notes"] == [f"{said}: each mean is over its own, and nothing is paired"]
    with pytest.raises(UserError, match="different numbers of questions, so they cannot be one side"):
        together([of_file(path), of_file(longer)])
    path.write_text(json.dumps({"server_reply": {"baseline_correct": [False], "adapter_correct": [True, True]}}))
    with pytest.raises(UserError, match="equally long"):
        of_file(path)


@pytest.mark.parametrize(
    ("other", "published"), [("gpt4_1", (0.7, -3.5, 4.9)), ("base", (7.3, 2.7, 11.9))], ids=["teacher", "untrained"]
)
@pytest.mark.shared
@pytest.mark.skipif(not OFFICIAL.is_dir(), reason="no data folder beside the checkout")
def test_the_papers_headline_pair(other: str, published: tuple[float, float, float], capsys: pytest.CaptureFixture[str]) -> None:
    files = [str(OFFICIAL / "eval" / f"{name}.json") for name in ("iter2", other)]
    assert run(["compare", *files, "--json"]) == 0
    edited = rows(json.loads(capsys.readouterr().out))["edited"]
    assert [100 * edited[key] for key in ("mean", "low", "high")] == pytest.approx(published, abs=0.3)
    assert (edited["n"], edited["articles"]) == (200, 47)
    assert edited["differ"] is (other == "base")
