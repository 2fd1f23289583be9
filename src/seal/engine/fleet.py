"""Several devices: an engine that shares its jobs out over a process for each, and does all else on the first."""

from __future__ import annotations

import os
import shutil
import signal
import tempfile
import traceback
import weakref
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from multiprocessing import get_context, resource_tracker
from multiprocessing.connection import Connection
from pathlib import Path
from queue import SimpleQueue
from threading import Lock, Thread

import torch

from seal.engine.engine import Engine
from seal.engine.memory import most
from seal.engine.rows import Prepared, prepare
from seal.errors import SealError
from seal.machine import GIB, available, use_threads
from seal.models import LanguageModel
from seal.protocols import Notify, nobody
from seal.types import Finished, Job

Open = Callable[..., LanguageModel]
"""Opens the model on the `device` that it is told, in another process: a function of a module, or a partial of one."""

PORTIONS = 4
"""Most portions a device: the smaller they are, the less the quickest waits for the slowest, and the more slots run empty at
the end of each."""

Said = Finished | int | dict[str, str] | Exception | None
"""By a worker: a job's outcome, the tokens of its portion that it is through with, what it has measured (`Choices.known`), why it
has failed; None: it is free."""


class Fleet(Engine):
    """An Engine with `run` on several devices at once. The policy is this process's own, and every worker is given its weights
    before it is given a job.

    A script that makes one is imported by the workers, so it needs `if __name__ == "__main__":`. The workers begin with the first
    jobs that can be shared out, and end with `close`, with whatever stops a `run`, and with this process.
    """

    def __init__(
        self,
        language: LanguageModel,
        devices: Sequence[str],
        open: Open,
        *,
        slots: int | None = None,
        memory_gb: float | None = None,
        progress: Notify = nobody,
    ) -> None:
        """`language` is on the first device; `devices`: the others, where `open` opens it again. `slots`, `memory_gb`: each's."""
        if memory_gb is None and language.device.type == "cpu":
            memory_gb = _part(language, len(devices) + 1)
        super().__init__(language, slots=slots, memory_gb=memory_gb, progress=self._trained)
        self._tell = progress
        self._threads = torch.get_num_threads()
        self._few = max(1, self._threads // (len(devices) + 1))
        self._devices, self._how = devices, (open, slots, memory_gb, self._few)
        self._workers: list[_Worker] = []
        self._round: _Round | None = None
        """What is shared out at the moment."""
        self._scratch = tempfile.TemporaryDirectory(prefix="seal-")
        self._exported = 0
        """The version of the weights that the workers are given; 0: the base model's."""
        weakref.finalize(self, _stop, self._workers)

    def run(self, jobs: Iterable[Job]) -> Iterator[Finished]:
        """Every job once, in any order, each on the device that is free. What is asked in between is answered by the first."""
        jobs = list(jobs)
        if self._round is not None:
            yield from super().run(jobs)
            return
        use_threads(self._few)  # for a single job too: how many are left, when a run goes on, changes no bit of it
        try:
            if len(jobs) < 2:
                yield from super().run(jobs)
            else:
                yield from self._shared_out(jobs)
        finally:
            use_threads(self._threads)

    def close(self) -> None:
        """Ends the workers, and gives the model back as it was."""
        _stop(self._workers)
        super().close()

    def _shared_out(self, jobs: Sequence[Job]) -> Iterator[Finished]:
        weights = self._weights()
        self._round = now = self._dealt(jobs)
        try:
            for device in self._devices[len(self._workers) :]:
                self._workers.append(_Worker(device, self._how, Path(self._scratch.name)))
            for worker in self._workers:
                worker.begin(now, weights, self.host.choices.known)
            for number, own in now.taken():
                now.own = number
                for finished in super().run(own):
                    yield finished
                    self._hear()
                    yield from now.came()
            while now.busy:
                self._hear(wait=True)
                yield from now.came()
        except BaseException as stopped:
            _stop(self._workers)  # in the middle of what nobody wants any more
            if not isinstance(stopped, GeneratorExit):  # whoever closes it takes nothing more
                yield from now.left()
            raise
        finally:
            self._round = None

    def _weights(self) -> Path | None:
        """The policy as it stands, as an adapter for the workers; None: the base model."""
        version, exported = self.weights.version, self._exported
        before, path = (Path(self._scratch.name) / f"policy-{one}" for one in (exported, version))
        if version != exported:
            self.export(path)
            self._exported = version
            shutil.rmtree(before, ignore_errors=True)
        return path if version else None

    def _dealt(self, jobs: Sequence[Job]) -> _Round:
        """Portions that take about as long as each other: of each device as many as leave it enough to fill its slots."""
        tokens = {at: self._tokens(job) for at, job in enumerate(jobs)}
        order = sorted(tokens, key=lambda at: -tokens[at])
        devices, slots = len(self._devices) + 1, self.slots or most(self.host.device)[0]
        count = min(len(jobs), devices * max(1, min(PORTIONS, len(jobs) // (devices * slots))))
        portions = [[jobs[at] for at in order[start::count]] for start in range(count)]
        return _Round(deque(enumerate(portions)), sum(tokens.values()), len(self._devices))

    def _tokens(self, job: Job) -> int:
        ready = prepare(job, self.language)
        return ready.tokens if isinstance(ready, Prepared) else 0

    def _trained(self, what: str, done: int, total: int) -> None:
        """The first device's own progress, after every step: time to hear of the others'."""
        now = self._round
        if now is None or what != "train":
            self._tell(what, done, total)
            return
        now.trained[now.own] = done
        self._hear()
        self._tell("train", sum(now.trained.values()), now.total)

    def _hear(self, *, wait: bool = False) -> None:
        """Takes in what the workers have said since; `wait`: until one of them says something. Raises what stopped one."""
        now = self._round
        assert now is not None
        if self.weights.version != self._exported:
            raise RuntimeError("the policy was changed while jobs were run on it")
        while wait or not now.heard.empty():
            wait, (number, said) = False, now.heard.get()
            if isinstance(said, Exception):
                raise said
            if isinstance(said, Finished):
                now.finished.append(said)
            elif isinstance(said, int):
                now.trained[number] = said
                self._tell("train", sum(now.trained.values()), now.total)
            elif said is None:
                now.busy -= 1
            else:
                self.host.choices.learn(said)


@dataclass(slots=True)
class _Round:
    """Jobs that are shared out at the moment."""

    portions: deque[tuple[int, list[Job]]]
    """What is left of them, by their numbers."""
    total: int
    """Tokens that all are trained on."""
    busy: int
    """Workers that have not said yet that nothing is left for them."""
    own: int = 0
    """Which portion the first device is at."""
    heard: SimpleQueue[tuple[int, Said]] = field(default_factory=SimpleQueue)
    """What was said about which portion."""
    trained: dict[int, int] = field(default_factory=dict)
    """Tokens that each portion is through with."""
    finished: deque[Finished] = field(default_factory=deque)
    """What came back of the workers, and was not handed on yet."""

    def taken(self) -> Iterator[tuple[int, list[Job]]]:
        """Portions as long as there are any: whoever is free takes the next."""
        with suppress(IndexError):
            while True:
                yield self.portions.popleft()

    def left(self) -> Iterator[Finished]:
        """What the workers were through with before they were stopped, heard or not."""
        while not self.heard.empty():
            if isinstance(said := self.heard.get()[1], Finished):
                self.finished.append(said)
        yield from self.came()

    def came(self) -> Iterator[Finished]:
        """What came back, once."""
        while self.finished:
            yield self.finished.popleft()


_How = tuple[Open, int | None, float | None, int]
"""What every worker opens the model with, and how many slots, GiB and threads it has."""


class _Worker:
    """Another process, with an engine of its own on its device."""

    def __init__(self, device: str, how: _How, folder: Path) -> None:
        self.device, self._opened, self._joining = device, False, Lock()
        self._said = folder / f"said-{id(self)}.txt"
        """All that the process prints."""
        context = get_context("spawn")  # CUDA is not to be forked
        self._pipe, theirs = context.Pipe()
        self._process = context.Process(target=_serve, args=(device, how, theirs, self._said), daemon=True)
        resource_tracker.ensure_running()  # the process beside it that lets Ctrl-C through again
        allowed = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})  # Ctrl-C is for the process that began this one
        try:
            self._process.start()
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, allowed)
        theirs.close()  # so that the pipe ends with the process

    def begin(self, now: _Round, weights: Path | None, known: Mapping[str, str]) -> None:
        """Does portion after portion beside this process, until none is left."""
        Thread(target=self._through, args=(now, weights, known), daemon=True).start()

    def stop(self) -> None:
        """Ends the process, whatever it is at."""
        self._process.kill()
        self._join()

    def _join(self) -> int:
        """Waits for the process to end. Its exit code, which the system tells one thread alone."""
        with self._joining:
            self._process.join()
            return self._process.exitcode or 0

    def _through(self, now: _Round, weights: Path | None, known: Mapping[str, str]) -> None:
        try:
            if not self._opened:
                self._until_free(now, 0)
                self._opened = True
            for number, jobs in now.taken():
                self._pipe.send((weights, dict(known), jobs))
                self._until_free(now, number)
            now.heard.put((0, None))
        except (EOFError, OSError):
            now.heard.put((0, self._ended()))
        except Exception as error:  # nothing waits for ever, whatever it is
            now.heard.put((0, error))

    def _until_free(self, now: _Round, number: int) -> None:
        while (said := self._pipe.recv()) is not None:
            now.heard.put((number, said))

    def _ended(self) -> SealError:
        code = self._join()
        name = f" ({signal.Signals(-code).name})" if code < 0 else ""
        error = SealError(
            f"the process on {self.device} has ended with exit code {code}{name}; where memory ran out, lower engine.slots."
            " What was finished is kept: seal train --resume RUN goes on"
        )
        with suppress(OSError):
            if lines := self._said.read_text(errors="replace").splitlines()[-20:]:
                error.add_note("\n".join(lines))
        return error


def _stop(workers: list[_Worker]) -> None:
    while workers:
        workers.pop().stop()


def _part(language: LanguageModel, count: int) -> float:
    """GiB that each of so many processes on one CPU may fill: of what is free the others' weights are still to come."""
    weights = sum(weight.nbytes for weight in language.model.parameters())
    return max(0.0, 0.8 * available(language.device) - (count - 1) * weights) / count / GIB


# ---- in a worker


def _serve(device: str, how: _How, pipe: Connection, said: Path) -> None:
    """Does what it is given until there is no one to give it anything."""
    open, slots, memory_gb, threads = how
    with said.open("wb", 0) as file:  # the terminal is the other's, too
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)
    with suppress(OSError), _reported(device, pipe):
        use_threads(threads)
        if torch.device(device).type == "cuda":
            torch.cuda.set_device(device)  # what names no device means this one

        def progress(what: str, done: int, total: int) -> None:
            pipe.send(done)

        engine = Engine(open(device=device), slots=slots, memory_gb=memory_gb, progress=progress)
        worn: Path | None = None
        while True:
            pipe.send(None)
            try:
                weights, known, jobs = pipe.recv()
            except EOFError:
                return
            engine.remember_routing(known, pipe.send)
            if weights != worn:
                engine.load(weights)
                worn = weights
            for finished in engine.run(jobs):
                pipe.send(finished)


@contextmanager
def _reported(device: str, pipe: Connection) -> Iterator[None]:
    """What goes wrong within is the other process's to raise: as it is where it says all, else with its traceback."""
    try:
        yield
    except Exception as error:
        failed: Exception = error
        if isinstance(error, MemoryError):
            failed.add_note(f"that was on {device}")
        elif not isinstance(error, SealError):
            failed = SealError(f"on {device}: {type(error).__name__}: {error}")
            failed.add_note(traceback.format_exc())
        pipe.send(failed)
