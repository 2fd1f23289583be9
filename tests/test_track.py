"""Metrics in the trackers people use: read back from tensorboard's event file and trackio's database, nothing sent twice."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
import types
from pathlib import Path
from typing import Any

import pytest
from hand_made import a_run

from seal.cli import track
from seal.cli.track import Tracking, refuse_absent
from seal.config import loads
from seal.errors import UserError
from seal.report.metrics import condition_metrics, round_metrics
from seal.report.tables import evaluation_table
from seal.store import Store

CONFIG = {"seed": 0, "model": {"name": "tiny"}, "tuning": {"targets": ["q_proj", "v_proj"]}}


@pytest.fixture
def made(tmp_path: Path) -> Path:
    """The three rounds by hand; of two of them the policy is there."""
    path = a_run(tmp_path / "runs")
    with Store.open(path, write=True) as store:
        for round in (1, 2):
            store.policy_dir(round).mkdir(parents=True)
        store.put_metrics(1, {"policy_loss_first": 2.0, "policy_loss_last": 1.5, "noise": 0.25, "unwritten": 3})
    return path


def sent(path: Path, tracker: str) -> None:
    """Everything there is, by a command of its own."""
    with Store.open(path, write=True) as store, Tracking(tracker, store, CONFIG) as tracking:
        tell = tracking.behind(lambda what, done, total: None)
        tell("trials", 1, 8)
        tracking.send_table()


class Recorder:
    """Stands where accelerate's class stands."""

    def __init__(self, project: str, **how: Any) -> None:
        self.calls: list[Any] = [("made", project, how)]
        self.tracker = types.SimpleNamespace(info=types.SimpleNamespace(run_id="abc"))

    def start(self) -> None:
        self.calls.append("start")

    def store_init_configuration(self, values: dict[str, Any]) -> None:
        self.calls.append(("config", values))

    def log(self, values: dict[str, float], step: int) -> None:
        self.calls.append(("log", step, values))

    def finish(self) -> None:
        self.calls.append("finish")


@pytest.fixture
def recorded(monkeypatch: pytest.MonkeyPatch) -> list[Recorder]:
    from accelerate.tracking import LOGGER_TYPE_TO_CLASS

    made: list[Recorder] = []

    def record(project: str, **how: Any) -> Recorder:
        made.append(Recorder(project, **how))
        return made[-1]

    for name in LOGGER_TYPE_TO_CLASS:
        monkeypatch.setitem(LOGGER_TYPE_TO_CLASS, name, record)
    return made


def steps(recorder: Recorder) -> list[int]:
    return [call[1] for call in recorder.calls if call[0] == "log"]


def test_what_a_round_and_a_condition_measured(made):
    with Store.open(made, write=False) as store:
        first = round_metrics(store, 1)
        table = condition_metrics(store)
        rows = {row["phase"]: row for row in evaluation_table(store)}
    assert {name: first[f"train/{name}"] for name in ("reward", "kept", "faults", "noise", "seconds", "trials")} == {
        "reward": 0.125, "kept": 2.0, "faults": 3.0, "noise": 0.25, "seconds": 61.0, "trials": 9.0,
    }  # fmt: skip
    assert (first["train/policy_loss_first"], first["train/policy_loss_last"], first["train/unwritten"]) == (2.0, 1.5, 3.0)
    assert first["train/tokens_trained"] == 10 * first["train/tokens_written"] > 0
    with Store.open(made, write=False) as store:
        assert "train/noise" not in round_metrics(store, 2)  # unknown is left out
    assert table["seal"]["eval/seal/score"] == rows["seal"]["mean"]
    assert table["seal"]["eval/seal/minus_untrained"] == rows["seal"]["minus_untrained"]["mean"]
    assert "eval/untrained/minus_untrained" not in table["untrained"]


def test_a_resumed_run_sends_nothing_twice(made, recorded):
    sent(made, "wandb")
    sent(made, "wandb")
    (one,) = recorded  # the second had nothing to send, and opened nothing
    assert steps(one) == [1, 2, 3]  # the table comes after the last round
    assert one.calls[0] == ("made", "seal", {"name": made.name, "id": made.name, "resume": "allow"})
    assert one.calls[2] == ("config", {"seed": 0, "model.name": "tiny", "tuning.targets": "['q_proj', 'v_proj']"})
    assert one.calls[-1] == "finish"
    with Store.open(made, write=True) as store:
        store.policy_dir(3).mkdir()
    sent(made, "wandb")
    assert steps(recorded[1]) == [3]
    assert [call for call in recorded[1].calls if call[0] == "config"] == []
    sent(made, "mlflow")  # another tracker has had nothing yet
    assert steps(recorded[2]) == [1, 2, 3, 4]


def test_mlflow_goes_on_with_the_run_it_named(made, recorded):
    sent(made, "mlflow")
    with Store.open(made, write=True) as store:
        store.policy_dir(3).mkdir()
    sent(made, "mlflow")
    assert [one.calls[0][2]["run_id"] for one in recorded] == [None, "abc"]


def test_what_could_not_be_sent_is_sent_when_the_run_goes_on(made, recorded, monkeypatch):
    with monkeypatch.context() as broken:

        def fail(self: Recorder, values: dict[str, float], step: int) -> None:
            raise OSError("no network")

        broken.setattr(Recorder, "log", fail)
        with pytest.raises(OSError, match="no network"):
            sent(made, "trackio")
    assert recorded[0].calls[-1] == "finish"
    sent(made, "trackio")
    assert steps(recorded[1]) == [1, 2, 3]


def test_without_a_tracker_nothing_is_opened_or_kept(made, recorded):
    with Store.open(made, write=True) as store, Tracking(None, store, CONFIG) as tracking:
        tracking.behind(lambda what, done, total: None)("trials", 1, 2)
        tracking.send_rounds()
        tracking.send_table()
        assert store.get_state("tracked.None") is None
    assert recorded == []


def test_a_recipe_names_one_and_a_missing_package_is_a_line(monkeypatch):
    assert loads("", ["track=trackio"], source="a.toml").track == "trackio"
    with pytest.raises(UserError, match=r"track: must be .*'tensorboard'.*not 'tensorbord'"):
        loads("", ["track=tensorbord"], source="a.toml")
    monkeypatch.setattr(track.importlib.util, "find_spec", lambda name: None)
    refuse_absent(None)
    with pytest.raises(UserError, match=r"pip install wandb$"):
        refuse_absent("wandb")


# ---- the real ones, offline


def missing(name: str) -> Any:
    return pytest.mark.skipif(importlib.util.find_spec(name) is None, reason=f"no {name} here: pip install -e '.[track]'")


@missing("tensorboard")
def test_tensorboards_event_files_read_back(made):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    sent(made, "tensorboard")
    sent(made, "tensorboard")
    events = EventAccumulator(str(made / "tensorboard"))
    events.Reload()
    assert [(one.step, one.value) for one in events.Scalars("train/reward")] == [(1, 0.125), (2, 0.25)]
    assert [(one.step, one.value) for one in events.Scalars("train/policy_loss_last")] == [(1, 1.5)]
    assert [(one.step, one.value) for one in events.Scalars("eval/seal/score")] == [(3, pytest.approx(0.5 / 3))]


LAUNCHED = """
import os, pathlib, sys
sys.path.insert(0, sys.argv[2])
import torch
from accelerate import PartialState
from test_track import sent
torch.set_num_threads(3)
told = dict(os.environ)
sent(pathlib.Path(sys.argv[1]), "tensorboard")
state = PartialState()
kept = all(os.environ.get(name) == value for name, value in told.items())
print(state.num_processes, state.process_index, torch.distributed.is_initialized(), torch.get_num_threads(), kept)
"""


@missing("tensorboard")
@pytest.mark.parametrize("launcher", [{"LOCAL_RANK": "1", "RANK": "1", "WORLD_SIZE": "4"}, {"OMPI_COMM_WORLD_SIZE": "2"}])
def test_under_a_launcher_a_run_sends_by_itself(made, launcher):
    """A process a GPU, other seeds beside each other: none waits for the others, or is taken for the second of them."""
    environment = {**os.environ, "MASTER_ADDR": "127.0.0.1", **launcher}
    environment.pop("OMP_NUM_THREADS", None)
    command = [sys.executable, "-c", LAUNCHED, str(made), str(Path(__file__).parent)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stdout.strip()) == (0, "1 0 False 3 True"), done.stderr
    assert len(list((made / "tensorboard").glob("events*"))) == 1
    with Store.open(made, write=False) as store:
        assert store.get_state("tracked.tensorboard")["rounds"] == 2


TRACKED = """
import pathlib, sys
sys.path.insert(0, sys.argv[2])
from test_track import sent
sent(pathlib.Path(sys.argv[1]), "trackio")
sent(pathlib.Path(sys.argv[1]), "trackio")
"""


@missing("trackio")
def test_trackios_database_reads_back(made, tmp_path):
    """In a process of its own: where its files go is decided when it is imported."""
    import sqlite3

    environment = {**os.environ, "TRACKIO_DIR": str(tmp_path / "trackio"), "HF_HUB_OFFLINE": "1"}
    command = [sys.executable, "-c", TRACKED, str(made), str(Path(__file__).parent)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    with sqlite3.connect(tmp_path / "trackio" / "seal.db") as connection:
        found = connection.execute("SELECT run_name, step, metrics FROM metrics ORDER BY step").fetchall()
    assert [(name, step) for name, step, _ in found] == [(made.name, 1), (made.name, 2), (made.name, 3)]
    values = [json.loads(metrics) for _, _, metrics in found]
    assert [one.get("train/reward") for one in values] == [0.125, 0.25, None]
    assert values[2]["eval/seal/score"] == pytest.approx(0.5 / 3)
