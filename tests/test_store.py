"""A run's store: everything reads back equal, nothing is half there, and one process writes at a time."""

from __future__ import annotations

import errno
import os
import re
import signal
import sqlite3
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from seal.errors import SealError, UserError
from seal.store import Store, edit_id, keys, runs, schema, trial_id
from seal.types import Answer, Cost, Example, Fault, Outcome, Problem, Prompt, Query, SelfEdit, Trial, Tuning

PROBLEM = Problem("ferry/1", "The ferry", '{"context": "…"}', (Query("q1", "Who?", "Ada"), Query("q2", "When?", "1901")), "sea")
BEFORE = (Answer("q1", "no idea", 0.0, {"f1": 0.0}), Answer("q2", "", None))


def an_edit(index=0, problem=PROBLEM, phase="train", round=1, **more) -> SelfEdit:
    id = edit_id(phase, round, problem.id, index)
    return SelfEdit(id, problem.id, "facts", round, index, Prompt("write"), (Example("Ada built it."),), **more)


def an_outcome(edit, repeat=0, after=(Answer("q1", "Ada", 1.0, {"f1": 1.0}), Answer("q2", "?", 0.0)), **more) -> Outcome:
    return Outcome(Trial(trial_id(edit.id, repeat), PROBLEM, edit, repeat, seed=2**62), BEFORE, after, **more)


@pytest.fixture
def store(tmp_path):
    with Store.create(tmp_path, "ferry", 'name = "ferry"\n', {"torch": "2.13.0"}) as store:
        store.put_problems([PROBLEM])
        yield store


@pytest.fixture
def filled(store):
    store.put_edits([an_edit(0), an_edit(1)])
    store.put_base("train", 1, PROBLEM.id, BEFORE)
    store.put_outcome("train", 1, an_outcome(an_edit(0)))
    return store


# ---- everything reads back equal

fault = st.none() | st.builds(Fault, st.text(), st.text())
prompt = st.builds(Prompt, st.text(), st.none() | st.text(), st.text())
real = st.floats(allow_nan=False, allow_infinity=False)
tuning = st.builds(
    Tuning,
    alpha=real,
    targets=st.lists(st.text()).map(tuple),
    loss=st.sampled_from([None, "all"]),
    layers=st.none() | st.integers(1, 9),
)
example = st.builds(Example, st.text(), st.none() | prompt, st.sampled_from(["all", "completion"]), real)
answer = st.builds(Answer, st.text(), st.text(), st.none() | real, st.dictionaries(st.text(), st.floats(allow_nan=False)))
count = st.integers(0, 2**62)
cost = st.builds(Cost, count, count, real, count, real)
problem = st.builds(
    Problem, st.text(), st.text(), st.text(), st.lists(st.builds(Query, st.text(), st.text(), st.text())).map(tuple)
)
answers = st.lists(answer, max_size=4).map(tuple)


@settings(max_examples=25, deadline=None)
@given(st.data())
def test_a_run_reads_back_equal(tmp_path_factory, data):
    the_problem = data.draw(problem)
    parts = {"text": st.text(), "tokens": count, "tuning": tuning, "prompt": prompt, "fault": fault, "cut": count}
    round, index = data.draw(st.integers(0, 9)), data.draw(st.integers(0, 9))
    edit = SelfEdit(
        edit_id("eval/seal", round, the_problem.id, index),
        the_problem.id,
        round=round,
        index=index,
        examples=data.draw(st.lists(example, max_size=3).map(tuple)),
        **{name: data.draw(strategy) for name, strategy in parts.items()},
    )
    before, after = data.draw(answers), data.draw(answers)
    with Store.create(tmp_path_factory.mktemp("runs"), "x", "", {}) as store:
        trial = Trial(trial_id(edit.id, 3), the_problem, edit, 3, data.draw(count))
        outcome = Outcome(trial, before, after, data.draw(cost), data.draw(st.lists(real).map(tuple)), data.draw(fault))
        for _ in range(2):  # a resumed run puts it all again
            store.put_problems([the_problem])
            store.put_edits([edit])
            store.put_base("eval/seal", round, the_problem.id, before)
            store.put_outcome("eval/seal", round, outcome)
        assert store.problems() == {the_problem.id: the_problem}
        assert store.edits("eval/seal", round) == [edit]
        assert store.base("eval/seal", round) == {the_problem.id: before}
        assert store.outcomes("eval/seal", round) == [outcome]
        assert store.rounds() == [("eval/seal", round)]
        assert store.edits("eval", round) == store.outcomes("eval/seal", round + 1) == []


def test_a_loss_that_is_not_a_number_is_kept(filled):
    bad = an_outcome(an_edit(1), after=(), losses=(0.5, float("nan")), fault=Fault("nan", "loss is NaN at step 2"))
    filled.put_outcome("train", 1, bad)
    filled.put_outcome("train", 1, bad)
    read = filled.outcomes("train", 1)[1]
    assert read.losses[0] == 0.5
    assert read.losses[1] != read.losses[1]
    assert read.fault == bad.fault


def test_lists_come_in_the_order_of_problems_whatever_was_put_first(store):
    late = Problem("a-late-one", "", "", ())
    store.put_problems([late])
    mine = [an_edit(1), an_edit(0, late), an_edit(10), an_edit(2), an_edit(0)]
    store.put_edits(mine)
    assert [(edit.problem_id, edit.index) for edit in store.edits("train", 1)] == [
        ("ferry/1", 0), ("ferry/1", 1), ("ferry/1", 2), ("ferry/1", 10), ("a-late-one", 0)
    ]  # fmt: skip
    store.put_base("train", 1, PROBLEM.id, BEFORE)
    for edit, repeat in [(an_edit(10), 0), (an_edit(1), 1), (an_edit(1), 0)]:
        store.put_outcome("train", 1, an_outcome(edit, repeat))
    assert [(one.trial.edit.index, one.trial.repeat) for one in store.outcomes("train", 1)] == [(1, 0), (1, 1), (10, 0)]


def test_rewards_kept_metrics_and_state(filled):
    first, second = an_edit(0).id, an_edit(1).id
    for _ in range(2):
        filled.put_rewards({second: {"accuracy": None}, first: {"accuracy": 0.5, "brevity": 1.0}})
        filled.put_kept("train", 1, [first])
    assert filled.rewards("train", 1) == {first: {"accuracy": 0.5, "brevity": 1.0}, second: {"accuracy": None}}
    assert filled.kept("train", 1) == [first]
    with pytest.raises(SealError, match="rewards already has"):
        filled.put_rewards({first: {"accuracy": 0.6}})
    with pytest.raises(SealError, match="kept"):
        filled.put_kept("train", 1, [first, second])
    filled.put_metrics(1, {"seconds": 3.0})
    filled.put_metrics(1, {"seconds": 4.0})
    assert filled.metrics() == {1: {"seconds": 4.0}}
    filled.set_state("next", {"round": 2})
    assert filled.get_state("next") == {"round": 2}
    assert filled.get_state("nothing", 7) == 7


# ---- the same again is nothing new, something else is an error


def test_the_same_id_with_other_content_is_refused(filled):
    with pytest.raises(SealError, match=r"edits already has 'train/1/ferry/1/0' with another tokens, fault_kind"):
        filled.put_edits([an_edit(0, tokens=5, fault=Fault("empty", ""))])
    with pytest.raises(SealError, match="problems already has 'ferry/1' with another title"):
        filled.put_problems([Problem("ferry/1", "Other", PROBLEM.payload, PROBLEM.queries, "sea")])
    with pytest.raises(SealError, match="other answers"):
        filled.put_outcome("train", 1, an_outcome(an_edit(0), after=(Answer("q1", "Ada", 1.0),)))
    with pytest.raises(SealError, match="other answers"):
        filled.put_base("train", 1, PROBLEM.id, BEFORE[:1])
    assert filled.outcomes("train", 1) == [an_outcome(an_edit(0))]


def test_measured_seconds_may_differ_and_the_first_stand(filled):
    filled.put_outcome("train", 1, an_outcome(an_edit(0), cost=Cost(train_seconds=9.0)))
    assert filled.outcomes("train", 1)[0].cost == Cost()
    with pytest.raises(SealError, match="train_tokens"):
        filled.put_outcome("train", 1, an_outcome(an_edit(0), cost=Cost(train_tokens=9)))


def test_a_batch_is_whole_or_not_there(store):
    stranger = an_edit(0, Problem("stranger", "", "", ()))
    with pytest.raises(SealError, match="FOREIGN KEY"):
        store.put_edits([an_edit(0), an_edit(1), stranger])
    assert store.edits("train", 1) == []
    with pytest.raises(ValueError, match="is not phase/1/ferry/1/0"):
        store.put_edits([SelfEdit("mine", PROBLEM.id, "", 1, 0, Prompt(""))])


def test_an_outcome_must_fit_the_base_answers(filled):
    filled.put_edits([an_edit(0, phase="dev")])
    with pytest.raises(ValueError, match="other answers of the unchanged model"):
        filled.put_outcome("dev", 1, an_outcome(an_edit(0, phase="dev")))
    with pytest.raises(ValueError, match="put_base"):
        filled.put_outcome("train", 1, Outcome(Trial("t", PROBLEM, None), BEFORE, BEFORE))


# ---- directories, locks, other processes


def test_a_taken_name_gets_a_number(tmp_path):
    stores = [Store.create(tmp_path, "x", "a = 1", {"python": "3"}) for _ in range(3)]
    names = [store.path.name for store in stores]
    assert names[1:] == [f"{names[0]}-2", f"{names[0]}-3"]
    assert (stores[1].recipe_toml, stores[1].environment) == ("a = 1", {"python": "3"})
    for bad in ["../up", "", "a/b", "-x"]:
        with pytest.raises(UserError, match="cannot be called"):
            Store.create(tmp_path, bad, "", {})
    stores[0].close()
    stores[1].finish()
    stores[1].close()
    (stores[2].path.parent / "notes").mkdir()
    assert [(run.name, run.status) for run in runs(tmp_path)] == list(zip(names, ["stopped", "done", "running"], strict=True))
    stores[2].close()
    assert runs(tmp_path / "nowhere") == []


def test_runs_of_other_time_zones_stand_in_the_order_they_were_made(tmp_path):
    times = {"first": "2026-11-29T11:00:00.000+09:00", "second": "2026-11-29T03:00:00.000+00:00"}
    for name, made in times.items():
        with Store.create(tmp_path, name, "", {}) as store:
            store.set_state("created", made)
    assert [run.name.rpartition("-")[2] for run in runs(tmp_path)] == ["first", "second"]


def test_the_keys_of_the_state_are_those_of_the_runs_there_are():
    assert {value for name, value in vars(keys).items() if name.isupper()} == {
        *("created", "finished", "kind", "problems.", "progress", "tracked.", "replays", "taking over", "evaluation"),
        *("questions", "questions/"),
        *("known record", "continual", "continual/", "card", "card.model", "cut tokens/", "harmed/"),
        *(f"adapt.{one}" for one in ("policy", "documents", "rounds", "verdicts", "rehearsal", "finished", "prompts")),
    }


def test_a_directory_in_use_is_refused_and_free_after(store):
    with pytest.raises(UserError, match="in use by another process"):
        Store.open(store.path, write=True)
    store.close()
    with Store.open(store.path, write=True) as again:
        assert list(again.problems()) == [PROBLEM.id]


@pytest.mark.skipif(sys.platform == "win32", reason="there is no flock")
@pytest.mark.filterwarnings("ignore:flock not supported")
def test_where_the_file_system_has_no_locks_the_way_out_is_said(store, monkeypatch):
    def none_here(*how):
        raise OSError(errno.ENOSYS, "Function not implemented")

    store.close()
    monkeypatch.setattr("fcntl.flock", none_here)
    left = store.path / "lock"  # empty, as flock leaves it in every run
    with pytest.raises(UserError, match=f"has no locks, and {re.escape(str(left))} is there .* delete that file"):
        Store.open(store.path, write=True)
    left.unlink()
    with Store.open(store.path, write=True) as again:
        assert list(again.problems()) == [PROBLEM.id]

    def refuses(*how, **more):
        raise NotImplementedError("FileSystem does not appear to support flock")

    monkeypatch.setattr("seal.store.directory.FileLock.acquire", refuses)
    with pytest.raises(SealError, match="does not appear to support flock"):
        Store.open(store.path, write=True)

    def read_only(*how, **more):
        raise OSError(errno.EROFS, "Read-only file system", "lock")

    monkeypatch.setattr("seal.store.directory.FileLock.acquire", read_only)
    with pytest.raises(SealError, match=rf"^{re.escape(str(store.path))}: cannot be written to \(Read-only file system\)$"):
        Store.open(store.path, write=True)


def test_what_is_no_run_is_said(tmp_path):
    with pytest.raises(UserError, match="is not a run"):
        Store.open(tmp_path, write=False)
    (tmp_path / "bad").mkdir()
    (tmp_path / "bad" / "run.db").write_bytes(b"no database at all" * 100)
    with pytest.raises(SealError, match="not a database"):
        Store.open(tmp_path / "bad", write=True)
    with pytest.raises(SealError, match="not a database"):  # and the lock was let go of
        Store.open(tmp_path / "bad", write=True)
    assert [run.status for run in runs(tmp_path)] == ["unreadable"]


def test_a_run_is_read_where_nothing_may_be_written(filled, monkeypatch):
    filled.close()
    monkeypatch.setattr(os, "access", lambda path, mode: mode != os.W_OK)
    before = sorted(os.listdir(filled.path))
    with Store.open(filled.path, write=False) as store:
        assert len(store.outcomes("train", 1)) == 1
        assert sorted(os.listdir(filled.path)) == before  # SQLite did not ask for files of its own there
    monkeypatch.undo()
    with Store.open(filled.path, write=False) as store:
        assert len(store.outcomes("train", 1)) == 1
        assert sorted(os.listdir(filled.path)) != before


def test_another_schema_is_refused(store):
    store.close()
    connection = sqlite3.connect(store.path / "run.db")
    connection.execute(f"PRAGMA user_version = {schema.VERSION + 1}")
    connection.close()
    for write in (False, True):
        with pytest.raises(UserError, match=f"has schema {schema.VERSION + 1}"):
            Store.open(store.path, write=write)
    assert [run.status for run in runs(store.path.parent)] == ["unreadable"]


def test_a_full_disk_is_said_and_loses_nothing(filled):
    (pages,) = filled._db.all("PRAGMA page_count")[0]
    filled._db.all(f"PRAGMA max_page_count = {pages}")
    with pytest.raises(SealError, match=r"the disk is full.*--resume"):
        filled.put_outcome("train", 1, an_outcome(an_edit(1), after=(Answer("q1", "x" * 100_000, 0.0),)))
    filled._db.all(f"PRAGMA max_page_count = {pages + 1000}")
    assert len(filled.outcomes("train", 1)) == 1
    filled.put_outcome("train", 1, an_outcome(an_edit(1)))
    assert len(filled.outcomes("train", 1)) == 2


LIMITED = """
    import resource, sys
    from pathlib import Path
    from seal.errors import SealError
    from seal.store import Store
    store = Store.create(Path(sys.argv[1]), "limited", "", {})
    store.set_state("kept", "safe")
    resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 20, resource.RLIM_INFINITY))
    try:
        store.set_state("much", "x" * (1 << 22))
    except SealError as error:
        print(error)
    resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    store.set_state("more", "fits again")
    print(store.get_state("kept"), store.get_state("much"), store.get_state("more"))
"""


@pytest.mark.skipif(sys.platform == "win32", reason="there are no such limits")
def test_a_quota_that_is_used_up_is_said_and_loses_nothing(filled, tmp_path, monkeypatch):
    """Of the database a limit of a file's size stands for it: both are errors of a write, and neither a full disk."""
    command = [sys.executable, "-c", textwrap.dedent(LIMITED), str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    said, kept = done.stdout.splitlines()
    assert "the disk could not be written (is a quota used up?)" in said
    assert "--resume" in said
    assert kept == "safe None fits again"

    def used_up(*how, **more):
        raise OSError(errno.EDQUOT, "Disk quota exceeded")

    monkeypatch.setattr(Path, "write_text", used_up)
    with pytest.raises(SealError, match=r"the disk is full, or your quota of it; .*--resume"):
        filled.put_recipe("")


def test_what_is_put_outlasts_a_power_cut(store):
    """SQLite waits for the disk at every commit: in WAL it does so from FULL (2) on."""
    assert store._db.all("PRAGMA synchronous")[0][0] == 2


WRITER = """
    import sys
    from pathlib import Path
    from seal.store import Store, edit_id, trial_id
    from seal.types import *
    store = Store.create(Path(sys.argv[1]), "writer", "", {})
    problem = Problem("p", "", "", ())
    store.put_problems([problem])
    answers = tuple(Answer(f"q{i}", "words " * 50, 0.5) for i in range(20))
    store.put_base("train", 1, "p", answers)
    print(store.path, flush=True)
    for batch in range(10_000):
        edits = [SelfEdit(edit_id("train", 1, "p", i), "p", "", 1, i, Prompt("")) for i in range(batch * 8, batch * 8 + 8)]
        store.put_edits(edits)
        for edit in edits:
            store.put_outcome("train", 1, Outcome(Trial(trial_id(edit.id, 0), problem, edit), answers, answers))
"""


@pytest.fixture
def writer(tmp_path):
    """A process that puts outcomes as fast as it can, and the run's directory."""
    with subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(WRITER), str(tmp_path)], stdout=subprocess.PIPE, text=True
    ) as process:
        yield process, tmp_path / process.stdout.readline().strip()
        process.kill()


def test_a_reader_sees_whole_outcomes_while_another_process_writes(writer):
    process, path = writer
    seen = 0
    with Store.open(path, write=False) as store:
        until = time.monotonic() + 60
        while time.monotonic() < until:
            found = store.outcomes("train", 1)
            assert all(len(outcome.after) == 20 for outcome in found)
            if seen and len(found) > seen + 20:
                break
            seen = seen or len(found)
        else:
            pytest.fail("the writer wrote nothing while it was read")
        with pytest.raises(SealError, match="readonly"):
            store.put_metrics(1, {"x": 1.0})
    assert runs(path.parent)[0].status == "running"
    with pytest.raises(UserError, match="in use"):
        Store.open(path, write=True)
    assert process.poll() is None


def test_a_reader_that_sees_no_writer_leaves_its_index_alone(writer):
    """So a reader on another machine finds it, where locks are not shared: here the writer is dead."""
    process, path = writer
    time.sleep(0.05)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    index = path / "run.db-shm"
    before, at = index.read_bytes(), index.stat().st_mtime_ns
    assert runs(path.parent)[0].status == "stopped"
    with Store.open(path, write=False) as store:
        assert list(store.problems()) == ["p"]
    assert (index.read_bytes(), index.stat().st_mtime_ns) == (before, at)
    with Store.open(path, write=True) as store:
        store.set_state("goes", "on")


@pytest.mark.parametrize("after", [0.0, 0.05, 0.2])
def test_kill_9_leaves_whole_batches_and_whole_outcomes(writer, after):
    process, path = writer
    time.sleep(after)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    with Store.open(path, write=False) as store:
        edits, outcomes = store.edits("train", 1), store.outcomes("train", 1)
    assert len(edits) % 8 == 0
    assert len(edits) - 8 <= len(outcomes) <= len(edits)
    assert all(len(outcome.after) == 20 for outcome in outcomes)
    assert runs(path.parent)[0].status == "stopped"
    with Store.open(path, write=True) as store:
        assert store._db.all("PRAGMA integrity_check")[0][0] == "ok"
        assert store.outcomes("train", 1) == outcomes
