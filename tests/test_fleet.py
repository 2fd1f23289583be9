"""Several devices: a process for each, here all on the CPU. What they do together is what one engine does alone."""

from __future__ import annotations

import json
import multiprocessing
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from multiprocessing import Pipe
from pathlib import Path
from typing import Any

import pytest
import torch
from small_runs import rows
from test_cli import RECIPE, alike, everything, passages
from test_engine import TEXTS, TUNING, a_job, same_trial
from test_engine import run as run_on

from seal.config import load
from seal.engine import Engine, Fleet
from seal.engine.fleet import _reported
from seal.errors import SealError, UserError
from seal.loops import build
from seal.models import LanguageModel, open_model
from seal.store import Store, runs
from seal.types import LLAMA_LINEAR, Example, Finished, Job, Prompt, Sampling

JOBS = [
    a_job(f"{n}", TEXTS[: n % 4], asks=1 + n % 3, seed=n, tuning=replace(TUNING, rank=2 + n % 3, epochs=1 + n % 2))
    for n in range(12)
]
"""Three of them ask the policy as it is."""
TWO = 'engine.devices=["cpu", "cpu"]'


def an_opener(path: Path) -> Callable[..., LanguageModel]:
    return partial(open_model, str(path), dtype="float32")


def unopened(device: str) -> LanguageModel:
    raise UserError(f"there is no model for {device}")


@pytest.fixture
def own(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What the first device did, which gives the worker time to take something, too: jobs here take no time at all."""
    found: list[str] = []
    whole = Engine.run

    def patient(self: Engine, jobs: Iterable[Job]) -> Iterator[Finished]:
        jobs = list(jobs)
        if isinstance(self, Fleet) and self._round is not None:
            while not all(one._opened or not one._process.is_alive() for one in self._workers):
                time.sleep(0.02)
            time.sleep(0.1)
            found.extend(job.id for job in jobs)
        yield from whole(self, jobs)

    monkeypatch.setattr(Engine, "run", patient)
    return found


@pytest.fixture(scope="module")
def told() -> list[tuple[str, int, int]]:
    return []


@pytest.fixture(scope="module")
def fleet(lively_path: Path, told: list[tuple[str, int, int]]) -> Iterator[Fleet]:
    opened = an_opener(lively_path)
    fleet = Fleet(opened(device="cpu"), ["cpu"], opened, slots=2, memory_gb=0.5, progress=lambda *what: told.append(what))
    yield fleet
    fleet.close()
    assert not fleet._workers


@pytest.fixture(scope="module")
def alone(lively_path: Path) -> Iterator[Engine]:
    engine = Engine(an_opener(lively_path)(device="cpu"), slots=2, memory_gb=0.5)
    yield engine
    engine.close()


def a_policy(engine: Engine, path: Path, text: str = TEXTS[0]) -> Path:
    engine.load(None)
    engine.absorb([Example(text)], replace(TUNING, targets=LLAMA_LINEAR, lr=3e-2), seed=5)
    engine.export(path)
    return path


def same(one: Engine, other: Engine, jobs: Sequence[Job] = JOBS) -> dict[str, Finished]:
    expected, found = run_on(one, jobs), run_on(other, jobs)
    for id in expected:
        same_trial(expected[id], found[id])
    return found


def test_jobs_come_to_the_same_and_both_devices_do_some(
    alone: Engine, fleet: Fleet, own: list[str], told: list[tuple[str, int, int]]
) -> None:
    told.clear()
    found = same(alone, fleet)
    assert 0 < len(own) < len(JOBS)
    assert len(fleet._workers) == 1
    # progress is that of all
    total = sum(one.cost.train_tokens for one in found.values())
    assert {what for what, _, _ in told} == {"train"}
    assert {of for _, _, of in told} == {total}
    done = [one for _, one, _ in told]
    assert done == sorted(done)
    assert done[-1] == total


def test_ctrl_c_does_not_reach_a_worker(alone: Engine, fleet: Fleet, own: list[str]) -> None:
    for worker in fleet._workers:
        os.kill(worker._process.pid or 0, signal.SIGINT)
    same(alone, fleet)


def test_every_change_of_the_policy_reaches_the_workers(
    alone: Engine, fleet: Fleet, own: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = a_policy(alone, tmp_path / "first"), a_policy(alone, tmp_path / "second", TEXTS[1])
    base: list[dict[str, Finished]] = []
    changes: list[Callable[[Engine], object]] = [
        lambda engine: engine.load(None),
        lambda engine: engine.load(first),
        lambda engine: engine.absorb([Example(TEXTS[2])], TUNING, seed=1),  # is on no disk
        lambda engine: engine.wear([(second, 0.5), (first, 0.7)]),
        lambda engine: a_policy(engine, first, TEXTS[1]),  # another one at the same place
        lambda engine: engine.load(None),
    ]
    for change in changes:
        own.clear()
        for engine in (alone, fleet):
            change(engine)
        base.append(same(alone, fleet))
        assert 0 < len(own) < len(JOBS)
    assert base[0] == {id: replace(one, cost=base[0][id].cost) for id, one in base[-1].items()}
    scores = [tuple(one.replies[0].target_logprob for one in found.values()) for found in base[:-1]]
    assert all(one != other for place, one in enumerate(scores) for other in scores[:place])
    assert len(list(Path(fleet._scratch.name).glob("policy-*"))) == 1  # those of before are gone


def test_the_policy_is_not_changed_in_the_middle(fleet: Fleet, own: list[str], tmp_path: Path, alone: Engine) -> None:
    policy, found = a_policy(alone, tmp_path / "policy"), fleet.run(JOBS)
    next(found)
    fleet.load(policy)
    with pytest.raises(RuntimeError, match="changed while"):
        list(found)
    fleet.load(None)


def test_what_is_not_shared_out_is_one_engines(alone: Engine, fleet: Fleet, lively_path: Path) -> None:
    for engine in (alone, fleet):
        engine.load(None)
    how, prompts = Sampling(3, max_tokens=8), [Prompt("Ada"), Prompt("Bo built")]
    assert fleet.sample(prompts, how, seed=3) == alone.sample(prompts, how, seed=3)
    other = Fleet(an_opener(lively_path)(device="cpu"), ["cpu"], unopened, slots=2, memory_gb=0.5)
    same(alone, other, JOBS[1:2])
    assert not other._workers  # for one job none is begun
    other.close()


def test_it_may_be_asked_in_between_and_stopped_early(alone: Engine, fleet: Fleet, own: list[str]) -> None:
    """As a policy is that is its own judge; what is stopped takes its processes along, and the next jobs begin new ones."""
    alone.load(None)
    fleet.load(None)
    judged, expected = [job for job in JOBS if not job.examples], run_on(alone, JOBS)
    found = {}
    for one in fleet.run(JOBS):
        found[one.job_id] = one
        assert run_on(fleet, judged).keys() == {job.id for job in judged}
    for id in expected:
        same_trial(expected[id], found[id])
    (worker,) = fleet._workers
    stopped = fleet.run(JOBS)
    next(stopped)
    stopped.close()  # type: ignore[attr-defined]
    assert not fleet._workers
    assert not worker._process.is_alive()
    assert torch.get_num_threads() == fleet._threads


def test_a_worker_that_is_killed_is_an_error_that_names_it_and_the_next_jobs_have_another(
    alone: Engine, fleet: Fleet, own: list[str]
) -> None:
    found = fleet.run(JOBS)
    next(found)
    (worker,) = fleet._workers
    worker._process.kill()
    said = r"the process on cpu has ended with exit code -9 \(SIGKILL\).*seal train --resume"
    with pytest.raises(SealError, match=said) as caught:
        list(found)
    assert not isinstance(caught.value, UserError)
    assert not fleet._workers
    same(alone, fleet)


def test_what_a_worker_was_through_with_is_handed_on_before_its_error(fleet: Fleet, own: list[str]) -> None:
    found = fleet.run(JOBS)
    next(found)
    now = fleet._round
    assert now is not None
    now.heard.put((0, SealError("it has ended")))
    now.heard.put((0, Finished("heard after it")))
    now.finished.append(Finished("heard before it"))
    ids: list[str] = []
    with pytest.raises(SealError, match="it has ended"):
        ids.extend(one.job_id for one in found)
    assert {"heard before it", "heard after it"} <= {*ids}
    assert not fleet._workers


def test_a_worker_whose_first_process_is_gone_ends(alone: Engine, fleet: Fleet, own: list[str]) -> None:
    same(alone, fleet)
    worker = fleet._workers.pop()
    worker._pipe.close()  # as the system does for one that was killed
    worker._process.join(20)
    assert worker._process.exitcode == 0


@pytest.mark.parametrize("error", [UserError("no such file"), SealError("nothing was kept"), MemoryError("2 GiB are free")])
def test_an_error_that_says_all_is_raised_as_it_is(error: Exception) -> None:
    here, there = Pipe()
    with _reported("cuda:1", there):
        raise error
    said = here.recv()
    assert (type(said), str(said)) == (type(error), str(error))


def test_any_other_error_names_the_device_and_has_its_traceback() -> None:
    here, there = Pipe()
    with _reported("cuda:1", there):
        raise torch.OutOfMemoryError("2 GiB are free")
    said = here.recv()
    assert (type(said), str(said)) == (SealError, "on cuda:1: OutOfMemoryError: 2 GiB are free")
    assert "test_any_other_error" in said.__notes__[0]


def test_a_worker_that_cannot_open_the_model_says_why(lively_path: Path, own: list[str]) -> None:
    fleet = Fleet(an_opener(lively_path)(device="cpu"), ["cpu"], unopened, slots=2, memory_gb=0.5)
    with pytest.raises(UserError, match="there is no model for cpu"):
        list(fleet.run(JOBS))
    assert not fleet._workers
    fleet.close()


def test_processes_on_one_cpu_share_its_memory_and_its_threads(lively_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("seal.engine.fleet.available", lambda place: 8 << 30)
    monkeypatch.setattr(torch, "get_num_threads", lambda: 7)
    opened = an_opener(lively_path)
    fleet = Fleet(opened(device="cpu"), ["cpu", "cpu", "cpu"], opened)
    _, _, memory, threads = fleet._how
    assert threads == 1
    assert memory == pytest.approx(0.8 * 8 / 4, abs=0.01)
    assert fleet.memory == int((memory or 0) * (1 << 30))
    fleet.close()


def test_what_was_measured_in_a_worker_is_kept_with_the_run_where_nothing_is_known(fleet: Fleet) -> None:
    told: list[dict[str, str]] = []
    fleet.remember_routing({"a shape": "split"}, lambda known: told.append(dict(known)))
    fleet.host.choices.learn({"a shape": "grouped", "another": "padded"})
    fleet.host.choices.learn({"another": "split"})
    fleet.remember_routing({}, None)
    (known,) = told
    assert (known["a shape"], known["another"]) == ("split", "padded")


@pytest.mark.parametrize(("jobs", "slots", "count"), [(2, 8, 2), (12, 8, 2), (40, 8, 4), (400, 8, 8), (5, 1, 4)])
def test_portions_fill_the_slots_of_all_devices(fleet: Fleet, jobs: int, slots: int, count: int) -> None:
    many = [replace(JOBS[n % len(JOBS)], id=str(n)) for n in range(jobs)]
    fleet.slots, before = slots, fleet.slots
    dealt = [portion for _, portion in fleet._dealt(many).taken()]
    fleet.slots = before
    assert len(dealt) == count
    assert sorted(job.id for portion in dealt for job in portion) == sorted(job.id for job in many)
    assert max(map(len, dealt)) - min(map(len, dealt)) <= 1
    tokens = [sum(map(fleet._tokens, portion)) for portion in dealt]
    assert max(tokens) - min(tokens) <= max(map(fleet._tokens, JOBS))


# ---- from the command line


@pytest.fixture
def home(tmp_path: Path, lively_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "train.json").write_text(passages("Ada", "Bo"))
    (tmp_path / "test.json").write_text(passages("Cleo", "Dag"))
    (tmp_path / "small.toml").write_text(RECIPE.format(model=str(lively_path)))
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_a_run_on_two_devices_is_the_run_on_one(home: Path, seal: Any, own: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """Killed on one of them first, and gone on with."""
    small = ("train", "small.toml", "outer.rounds=2", "reward={logprob=1.0}", "update.tuning.lr=1e-2")
    with monkeypatch.context() as patched:

        def killed(store: Store, *what: Any) -> None:
            put(store, *what)
            os.kill(multiprocessing.active_children()[0].pid or 0, signal.SIGKILL)

        put = Store.put_outcome
        patched.setattr(Store, "put_outcome", killed)
        code, _, error = seal(*small, TWO)
    first, way_out = error.splitlines()
    assert (code, "the process on cpu has ended" in first) == (1, True)
    (info,) = runs(Path("runs"))
    assert way_out == f"resume with: seal train --resume {info.path}"
    with Store.open(info.path, write=False) as store:
        assert 0 < len(store.outcomes("train", 1)) < 4
    own.clear()
    assert seal("train", "--resume", "last")[0] == 0  # the devices are the recipe's
    with Store.open(info.path, write=False) as store:
        trials = {one.trial.id for phase, round in store.rounds() for one in store.outcomes(phase, round)}
    assert trials - set(own)
    assert set(own) & trials
    assert seal(*small, "name=one")[0] == 0
    found = []
    for one in runs(Path("runs")):
        with Store.open(one.path, write=False) as store:
            found.append((everything(one.path), rows(store)["rewards"]))
    assert len(found[0][1]) == 2 * 2 * 2 * 2  # rounds, problems, edits; the reward and the total
    assert alike(*found)


def test_devices_may_change_when_a_run_goes_on(home: Path, seal: Any) -> None:
    assert seal("train", "small.toml")[0] == 0
    for change, devices in ((TWO, ["cpu", "cpu"]), ("engine.devices=", None)):
        code, out, _ = seal("train", "--resume", "last", change, "--dry-run", "--json")
        assert (code, json.loads(out)["recipe"]["engine"].get("devices")) == (0, devices)


@pytest.mark.parametrize(
    ("values", "says"),
    [
        (["engine.devices=[]"], "engine.devices: must name at least one"),
        (['engine.devices=["cuda:0", "cuda:1", "cuda"]'], "engine.devices: must name cuda:0 only once"),
        (['engine.devices=["cpu", "cuda:1"]'], "engine.devices: must be of one kind"),
        (["model.device=cuda:1", 'engine.devices=["cuda:0", "cuda:1"]'], "engine.devices: begins with cuda:0"),
        (['engine.devices=["cuda:0", "cuda:77"]'], "no device 'cuda:77' on this machine, where torch sees"),
        (['engine.devices=["gpu:0", "gpu:1"]'], "no device 'gpu:1' on this machine"),
    ],
)
def test_devices_that_cannot_be_are_refused(home: Path, seal: Any, values: list[str], says: str) -> None:
    code, _, error = seal("train", "small.toml", *values)
    assert (code, error.count("\n")) == (2, 1)
    assert says in error


def test_one_device_is_one_engine_there(lively_path: Path) -> None:
    recipe = load("bundled", [f"model.name={lively_path}", 'engine.devices=["cpu"]', "model.device=cpu"])
    engine = build.engine(recipe)
    assert type(engine) is Engine
    engine.close()
    assert build.environment(load("bundled", [TWO]))["dtype"] == "float32"


def test_no_process_outlives_the_program(lively_path: Path, tmp_path: Path) -> None:
    """However it ends, and though it has closed nothing."""
    script = tmp_path / "script.py"
    script.write_text(f"""
import os, signal
from test_fleet import JOBS, Fleet, an_opener, Path

def main():
    signal.signal(signal.SIGINT, signal.default_int_handler)  # which a shell's background jobs ignore
    opened = an_opener(Path({str(lively_path)!r}))
    fleet = Fleet(opened(device="cpu"), ["cpu"], opened, slots=2, memory_gb=0.5)
    for _ in fleet.run(JOBS):
        print(fleet._workers[0]._process.pid, flush=True)
        os.kill(os.getpid(), signal.SIGINT)

if __name__ == "__main__":
    main()
""")
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(Path(__file__).parent), *sys.path])}
    done = subprocess.run([sys.executable, str(script)], capture_output=True, text=True, env=environment, timeout=120)
    assert done.stderr.endswith("KeyboardInterrupt\n")
    assert not Path(f"/proc/{int(done.stdout)}").exists()
