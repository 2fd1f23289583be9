"""`seal watch`: it tells where a run stands, it changes nothing, and it ends when the run does.

`seal runs` changes nothing either."""

from __future__ import annotations

import io
import json
import sqlite3
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from hand_made import a_run
from rich.console import Console

from seal.cli.app import run
from seal.cli.progress import noted
from seal.report.watch import watch_row, watched
from seal.store import Store, keys, runs

WRITER = """
import pathlib, sys, time
from seal.cli.progress import noted
from seal.store import Store
with Store.open(pathlib.Path(sys.argv[1]), write=True) as store:
    tell = noted(lambda what, done, total: None, store, lambda: "round 4")
    tell("trials", 0, 8)
    print("have it", flush=True)
    sys.stdin.readline()
    for done in range(1, 8):
        time.sleep(0.1)
        tell("trials", done, 8)
    store.finish()
"""


@pytest.fixture
def made(tmp_path: Path) -> Path:
    return a_run(tmp_path / "runs")


def files(path: Path) -> dict[str, tuple[bytes, int]]:
    """Every file below, with its content and the time of its last change, and every folder."""
    return {str(one): (one.read_bytes() if one.is_file() else b"", one.stat().st_mtime_ns) for one in [path, *path.rglob("*")]}


def writing(path: Path) -> subprocess.Popen[str]:
    """A process that goes on when it is sent a line."""
    command = [sys.executable, "-c", WRITER, str(path)]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert process.stdout
    assert process.stdout.readline() == "have it\n"
    return process


def looked(capsys: pytest.CaptureFixture[str], *arguments: str) -> dict[str, Any]:
    capsys.readouterr()
    assert run(["watch", *arguments, "--json"]) == 0
    found: dict[str, Any] = json.loads(capsys.readouterr().out)
    return found


def text(row: dict[str, Any]) -> str:
    console = Console(file=io.StringIO(), width=120)
    console.print(watched(row))
    return console.file.getvalue()  # type: ignore[attr-defined,no-any-return]


def test_a_run_that_nobody_writes_is_not_changed_by_a_look(made, capsys):
    before = files(made)
    row = looked(capsys, str(made))
    assert (row["status"], row["phase"], row["stage"]) == ("done", "seal", None)
    assert run(["watch", "last", "--runs", str(made.parent)]) == 0  # ends by itself: the run has
    assert [info.status for info in runs(made.parent)] == ["done"]
    assert files(made) == before


def listed(capsys: pytest.CaptureFixture[str], root: Path) -> dict[str, dict[str, Any]]:
    """What `seal runs` says of each run, by the run's name."""
    capsys.readouterr()
    assert run(["runs", "--runs", str(root), "--json"]) == 0
    return {row["name"]: row for row in json.loads(capsys.readouterr().out)["runs"]}


def test_a_list_of_the_runs_changes_none_of_them(made, capsys):
    before = files(made.parent)
    assert listed(capsys, made.parent)[made.name]["edits"] == 27
    assert run(["runs", "--runs", str(made.parent)]) == 0
    assert files(made.parent) == before


def no_table(path: Path) -> None:
    """Part of the database is gone; where the run stands can still be read."""
    connection = sqlite3.connect(path / "run.db")
    connection.execute("DROP TABLE answers")
    connection.close()


@pytest.mark.parametrize(
    "spoil",
    [
        no_table,
        lambda path: (path / "recipe.toml").unlink(),
        lambda path: (path / "recipe.toml").write_text("name = "),
        lambda path: (path / "recipe.toml").write_bytes(b'name = "\xff"'),
    ],
    ids=["database", "no recipe", "no TOML", "no text"],
)
def test_a_run_that_cannot_be_read_hides_no_other(made, capsys, spoil):
    other = a_run(made.parent, "spoilt")
    spoil(other)
    rows = listed(capsys, made.parent)
    assert {name: row["status"] for name, row in rows.items()} == {made.name: "done", other.name: "unreadable"}
    assert run(["runs", "--runs", str(made.parent)]) == 0
    shown = capsys.readouterr().out
    assert all(said in shown for said in ("by-hand", "done", "spoilt", "unreadable"))


def test_while_another_process_writes_it_looks_and_ends_with_it(made, capsys):
    process = writing(made)
    try:
        lock = made / "lock"
        held = lock.stat()
        row = looked(capsys, "last", "--runs", str(made.parent))
        assert (row["status"], row["where"], row["stage"], row["total"]) == ("running", "round 4", "trials", 8)
        assert (lock.stat().st_ino, lock.stat().st_mtime_ns) == (held.st_ino, held.st_mtime_ns)
        process.stdin.write("go on\n")
        process.stdin.flush()
        assert run(["watch", str(made)]) == 0
        assert process.wait(20) == 0
    finally:
        process.kill()
        process.wait()
    out = capsys.readouterr().out
    assert out.count("Ada built the mill") + out.count("Ada built the school") > 0
    assert "done" in " ".join(out.splitlines()[:2])  # in the second line where the path fills the first


def test_what_is_best_and_last_by_hand(made):
    with Store.open(made, write=True) as store:
        row = watch_row(store, time.time())
        assert (row["round"], row["rounds"], row["edits"], row["trials"]) == (None, None, 3, 3)
        assert (row["best"]["id"], row["best"]["after"]) == ("seal/0/school/1", 0.5)
        assert (row["last"]["id"], row["last"]["fault"]) == ("seal/0/school/2", "empty")
        assert "score 0.000 -> 0.500" in text(row)


def test_time_left_is_the_pace_of_the_stage_so_far(made):
    with Store.open(made, write=True) as store:
        assert watch_row(store, 0.0)["left"] is None
        progress = {"where": "round 1", "stage": "trials", "began": 2, "done": 6, "total": 12, "since": 100.0, "at": 140.0}
        store.set_state(keys.PROGRESS, progress)
        row = watch_row(store, 145.0)
        assert row["left"] == 6 * 10 - 5
        assert "6/12 · 0:00:55 left in this stage" in text(row)
        assert watch_row(store, 230.0)["left"] is None  # long overdue: they were not a measure
        store.set_state(keys.PROGRESS, {**progress, "done": 12})
        assert watch_row(store, 230.0)["left"] == 0
        store.set_state(keys.PROGRESS, {**progress, "done": 2})
        assert watch_row(store, 145.0)["left"] is None


def test_a_stage_begins_anew_in_the_next_round(made):
    told = []
    with Store.open(made, write=True) as store:
        rounds = iter(["round 1", "round 2"])
        tell = noted(lambda *what: told.append(what), store, lambda: next(rounds))
        for done in (3, 4):
            tell("trials", done, 4)
        assert (store.get_state(keys.PROGRESS)["where"], store.get_state(keys.PROGRESS)["began"]) == ("round 1", 3)
        tell("trials", 0, 4)
        assert (store.get_state(keys.PROGRESS)["where"], store.get_state(keys.PROGRESS)["began"]) == ("round 2", 0)
    assert told == [("trials", 3, 4), ("trials", 4, 4), ("trials", 0, 4)]


@pytest.mark.parametrize("told", [(keys.KIND, "adapt"), (keys.ADAPT_DOCUMENTS, {}), (keys.KIND, "continual")])
def test_a_run_that_trains_no_policy_has_not_the_recipes_rounds(tmp_path, told):
    with Store.create(tmp_path, "other", "[outer]\nrounds = 2\n", {}) as store:
        assert watch_row(store, 0.0)["rounds"] == 2
        store.set_state(*told)
        assert watch_row(store, 0.0)["rounds"] is None


def test_a_run_that_has_nothing_yet(tmp_path, capsys):
    Store.create(tmp_path, "empty", "[outer]\nrounds = 2\n", {}).close()
    row = looked(capsys, "last", "--runs", str(tmp_path))
    assert (row["status"], row["rounds"], row["best"], row["last"], row["edits"]) == ("stopped", 2, None, None, 0)
    assert run(["watch", "last", "--once", "--runs", str(tmp_path)]) == 0
    assert "stopped" in capsys.readouterr().out
