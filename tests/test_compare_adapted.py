"""`seal compare` of two runs of `seal adapt`: on the questions that both were asked, and refused where nothing is alike."""

from __future__ import annotations

import contextlib
import json
import sqlite3
from collections.abc import Iterator
from pathlib import Path

import pytest
from chromium import Tables
from hand_made import a_run
from small_adapt import only_run, passage, settled

from seal.cli.app import run
from seal.loops.adapt import CONDITIONS
from seal.loops.gate import Verdict
from seal.report.adapted import adapted
from seal.report.compare import comparison, of_run, together
from seal.seeds import derive
from seal.stats import mean
from seal.store import Store, keys


@pytest.fixture(autouse=True)
def few_are_enough(monkeypatch):
    """So that an example by hand can be short; how many there have to be is a test of its own."""
    monkeypatch.setattr("seal.report.compare.FEWEST", 1)


def asked(home: Path, *lines: str) -> None:
    """The documents' passages, with their questions, from now on."""
    (home / "docs" / "a.jsonl").write_text("".join(lines))


def other(line: str, question: str, answer: str) -> str:
    """The same passage, whose last question is another."""
    known = json.loads(line)
    known["questions"][-1] = {"question": question, "answer": answer}
    return json.dumps(known) + "\n"


def graded(path: Path) -> None:
    """Writes scores over the table's, since the tiny model's are all 0: any (by the adapter's folder, so that they are the same
    on every machine), but without an adapter every run's are the same."""
    name = path.parents[1].name
    with contextlib.closing(sqlite3.connect(path / "run.db")) as database, database:
        found = "SELECT a.trial, a.place, a.query, t.phase FROM answers a JOIN trials t ON t.id = a.trial"
        for trial, place, query, phase in database.execute(found).fetchall():
            if phase in CONDITIONS:
                value = derive(query, phase, name if phase.startswith("adapter") else "") % 100 / 100
                database.execute("UPDATE answers SET score = ? WHERE trial = ? AND place = ?", (value, trial, place))


MILL, TOWER = passage("mill", 1901), passage("tower", 1902)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory, lively_path: Path) -> Iterator[dict[str, str]]:
    """Runs by name: `first`; `again`, asked one other question about the tower; `apart`, whose one question both chose and is
    in the table; `elsewhere`, of another passage."""
    home = tmp_path_factory.mktemp("adapted")
    found = {}
    with pytest.MonkeyPatch.context() as patch:
        settled(home, lively_path, patch)
        patch.setattr("seal.loops.adapt.judge", lambda outcomes, retained: Verdict(0.0, 1.0, None, None))
        tower = other(TOWER, "Of which wood?", "oak")
        for name, lines in (
            ("first", (MILL, TOWER)),
            ("again", (MILL, tower)),
            ("apart", (json.dumps(json.loads(MILL) | {"questions": [{"question": "Who?", "answer": "Ada"}]}) + "\n",)),
            ("elsewhere", (passage("ferry", 1903),)),
        ):
            asked(home, *lines)
            assert run(["adapt", "docs", "--recipe", "small.toml", "--out", name, "--json"]) == 0
            found[name] = str(only_run(home / name))
            graded(Path(found[name]))
        yield found


def answered(path: str, condition: str) -> dict[tuple[str, str], float]:
    """Scores by passage and question, read from the run by hand."""
    with Store.open(Path(path), write=False) as store:
        questions = {query.id: query.question for problem in store.problems().values() for query in problem.queries}
        return {
            (id, questions[one.query_id]): one.score or 0.0 for id, answers in store.base(condition, 1).items() for one in answers
        }


def test_two_adaptations_are_paired_on_the_questions_that_both_were_asked(made, seal):
    code, out, error = seal("compare", made["first"], made["again"], "--json")
    assert (code, error) == (0, "")
    document = json.loads(out)
    assert [row["condition"] for row in document["table"]] == list(CONDITIONS)
    left = "".join(f"; left out: 1 of {made[name]}" for name in ("first", "again"))
    assert document["notes"][0] == f"on the 3 questions that both were asked, paired by passage{left}"
    for row in document["table"]:
        mine, theirs = (answered(made[name], row["condition"]) for name in ("first", "again"))
        both = mine.keys() & theirs.keys()
        assert len(both) == 3
        by_passage = [mean(mine[key] - theirs[key] for key in both if key[0] == id) for id in {id for id, _ in both}]
        assert row["mean"] == pytest.approx(mean(by_passage))
        assert row["a"] - row["b"] == pytest.approx(row["mean"])
        assert (row["n"], row["articles"]) == (2, 2)
    by_name = {row["condition"]: row for row in document["table"]}
    assert (by_name["plain"]["mean"], by_name["plain"]["differ"]) == (0, False)  # the same model
    assert abs(by_name["adapter"]["mean"]) > 0.01
    assert by_name["adapter"]["differ"] is None  # one adapter for all passages
    assert any("one training" in note for note in document["notes"])


def test_with_all_questions_alike_the_means_are_those_of_the_runs_tables(made, seal):
    with Store.open(Path(made["first"]), write=False) as store:
        first = adapted(store)["table"]
    document = json.loads(seal("compare", made["first"], made["first"], "--json")[1])
    assert [row["a"] for row in document["table"]] == pytest.approx([row["mean"] for row in first])
    assert not any("left out" in note for note in document["notes"])


def test_two_conditions_are_paired_too(made, seal):
    with Store.open(Path(made["first"]), write=False) as store:
        first = {row["condition"]: row for row in adapted(store)["table"]}
    (row,) = json.loads(seal("compare", f"{made['first']}:adapter", f"{made['first']}:plain", "--json")[1])["table"]
    assert (row["condition"], row["a"]) == ("adapter - plain", pytest.approx(first["adapter"]["mean"]))
    assert row["mean"] == pytest.approx(first["adapter"]["minus_plain"]["mean"])
    (apart,) = json.loads(seal("compare", f"{made['first']}:adapter", f"{made['apart']}:plain", "--json")[1])["table"]
    assert (apart["a"], apart["mean"]) == (row["a"], None)
    assert "plain, retrieval, whole" in seal("compare", f"{made['first']}:seal", f"{made['first']}:plain")[2]


def test_several_runs_a_side_are_resampled_too(made):
    first, again = (of_run(Path(made[name])) for name in ("first", "again"))
    document = comparison(together([first, again]), together([again, first]))
    by_name = {row["condition"]: row for row in document["table"]}
    assert document["notes"][0] == "on the 3 questions that both were asked, paired by passage"
    assert by_name["adapter"]["mean"] == pytest.approx(0)
    assert by_name["adapter"]["low"] < 0 < by_name["adapter"]["high"]  # the adapters are drawn on each side
    assert by_name["adapter"]["differ"] is False


def test_other_questions_are_not_paired_and_it_is_said(made, seal):
    code, out, _ = seal("compare", made["first"], made["apart"], "--json")
    document = json.loads(out)
    assert code == 0
    assert document["notes"][0] == "no question was asked in both: each mean is over its run's own, and nothing is paired"
    for row in document["table"]:
        assert row["mean"] is row["differ"] is None
        for side, name in (("a", "first"), ("b", "apart")):
            own = answered(made[name], row["condition"])
            passages = [mean(value for (of, _), value in own.items() if of == id) for id in {id for id, _ in own}]
            assert row[side] == pytest.approx(mean(passages))
    assert "no question was asked in both" in " ".join(seal("compare", made["first"], made["apart"])[1].split())


def test_the_page_has_the_table_of_both_and_the_difference(made, seal, tmp_path):
    file = tmp_path / "both.html"
    code, out, _ = seal("compare", made["first"], made["again"], "--html", str(file), "--json")
    assert code == 0
    tables = Tables(file.read_text()).found
    head, *rows = tables["table-difference"]
    assert head[3:] == ["A - B, passages resampled", "F1", "exact", "passages", "differ"]  # no two of them share a document
    assert [row[0] for row in rows] == ["plain model", "retrieval", "whole passage", "adapter", "adapter + retrieval"]
    assert [row[1] for row in rows] == [f"{row['a']:.3f}" for row in json.loads(out)["table"]]
    for side in "ab":
        assert len(tables[f"table-evaluation-{side}"]) == 1 + len(CONDITIONS)
    printed = seal("compare", made["first"], made["again"])[1]
    assert "adapter + retrieval" in printed


def test_what_is_not_alike_is_refused(made, seal, tmp_path):
    trained = str(a_run(tmp_path, "trained"))
    file = ("--html", str(tmp_path / "x.html"))
    for pair, says in (
        ((made["first"], trained), f"{made['first']} is of `seal adapt` and {trained} is not"),
        ((trained, made["first"]), f"{made['first']} is of `seal adapt` and {trained} is not"),
        ((made["first"], made["elsewhere"]), "no passage that both were asked about"),
    ):
        for more in ((), file):
            code, _, error = seal("compare", *pair, *more)
            assert (code, says in error, error.count("\n")) == (2, True, 1), error
    joined = f"{made['first']},{made['apart']}"
    assert "no question that all of them were asked" in seal("compare", made["first"], joined)[2]
    with Store.create(tmp_path, "learnt", "", {}) as store:
        store.set_state("continual/merge/0/0", {})
        learnt = str(store.path)
    assert "`seal continual " in seal("compare", learnt, trained)[2]


def test_an_adaptation_that_is_not_measured_says_how_to_go_on(made, seal, tmp_path):
    with Store.open(Path(made["elsewhere"]), write=True) as store:
        known = store.get_state(keys.ADAPT_PROMPTS)
        store.set_state(keys.ADAPT_PROMPTS, {})
        code, _, error = seal("compare", made["first"], made["elsewhere"])
        store.set_state(keys.ADAPT_PROMPTS, known)
    assert (code, "has not measured its adapter yet" in error) == (2, True)


def test_questions_that_chose_the_edits_are_said_to_be(made, seal):
    with Store.open(Path(made["apart"]), write=False) as store:
        assert len(store.base("plain", 1)) == 1
    assert "chose its edits by these questions" in " ".join(seal("compare", made["apart"], made["apart"])[1].split())
