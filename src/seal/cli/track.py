"""A run's metrics sent to the tracker its recipe names (`track`), through accelerate's interface to all of them."""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any

from seal.errors import UserError

if TYPE_CHECKING:
    from seal.protocols import Notify
    from seal.store import Store

PROJECT = "seal"
"""What the runs of one user are filed under."""
_LAUNCHED = ("LOCAL_RANK", "WORLD_SIZE", "PMI_SIZE", "OMPI_COMM_WORLD_SIZE", "MV2_COMM_WORLD_SIZE")
"""What torchrun and MPI tell the processes they launch, as far as accelerate asks for it."""


def refuse_absent(tracker: str | None) -> None:
    """Raises UserError, with the command that installs it, if the tracker's package is not here."""
    if tracker is not None and importlib.util.find_spec(tracker) is None:
        raise UserError(f"track: {tracker!r} needs its package, which is not here: pip install {tracker}")


class Tracking:
    """Sends what a run measures when it is there: each round when its policy is on disk, each step of a stream, and the table
    when it is asked to. What was sent is kept with the run, so that a resumed one sends nothing twice. Does nothing if `tracker`
    is None; opens the tracker with the first thing sent."""

    def __init__(self, tracker: str | None, store: Store, config: dict[str, Any]) -> None:
        """`config`: the recipe, as the tracker's own record of the run."""
        self._name, self._store, self._config = tracker, store, config
        self._open: Any = None

    def __enter__(self) -> Tracking:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if self._open is not None:
            self._open.finish()

    def behind(self, notify: Notify) -> Notify:
        """The same notify; after each call the rounds and the steps that are done by then are sent."""

        def tell(what: str, done: int, total: int) -> None:
            notify(what, done, total)
            self.send_rounds()
            self.send_steps()

        return tell if self._name else notify

    def send_rounds(self) -> None:
        """Every round whose policy is there and that was not sent yet, its number being the step."""
        if self._name is None:
            return
        from seal.report.metrics import round_metrics

        round = self._sent()["rounds"] + 1
        while self._store.policy(round):
            self._send(round_metrics(self._store, round), round, rounds=round)
            round += 1

    def send_table(self) -> None:
        """Every condition that was not sent yet, as one step after the last round."""
        if self._name is None:
            return
        from seal.report.metrics import condition_metrics

        sent = self._sent()
        new = {phase: values for phase, values in condition_metrics(self._store).items() if phase not in sent["phases"]}
        if new:
            values = {name: value for named in new.values() for name, value in named.items()}
            self._send(values, sent["rounds"] + 1, phases=[*sent["phases"], *new])

    def send_steps(self) -> None:
        """Every step of a stream that was not sent yet. They are numbered as they were made, through all streams and strategies
        of the run: trackers take no step that is behind an earlier one."""
        if self._name is not None:
            from seal.report.metrics import step_metrics

            self._send_each(step_metrics(self._store))

    def send_strategies(self) -> None:
        """The table of a run of streams: every strategy that was not sent yet, as one step each."""
        if self._name is not None:
            from seal.report.metrics import strategy_metrics

            self._send_each(strategy_metrics(self._store))

    def _send_each(self, found: Mapping[str, dict[str, float]]) -> None:
        for key, values in found.items():
            sent = self._sent()
            if key not in sent["phases"]:
                step = sent["rounds"] + 1
                self._send(values, step, rounds=step, phases=[*sent["phases"], key])

    def send_adapted(self) -> None:
        """The last round of an adaptation with its table, its number being the step, if it was not sent yet."""
        if self._name is None:
            return
        from seal.report.metrics import adapted_metrics

        round, values = adapted_metrics(self._store)
        if round > self._sent()["rounds"]:
            self._send(values, round, rounds=round)

    def _send(self, values: dict[str, float], step: int, **sent: Any) -> None:
        tracker = self._opened()
        tracker.log(values, step=step)
        self._keep(**sent)

    def _sent(self) -> dict[str, Any]:
        """`rounds`: the last step that others follow; `phases`: what was sent by name."""
        return {"rounds": 0, "phases": [], "id": None, **self._store.get_state(self._key, {})}

    def _keep(self, **sent: Any) -> None:
        self._store.set_state(self._key, {**self._sent(), **sent})

    @property
    def _key(self) -> str:
        from seal.store import keys

        return f"{keys.TRACKED}{self._name}"

    def _opened(self) -> Any:
        if self._open is None:
            assert self._name
            from accelerate.tracking import LOGGER_TYPE_TO_CLASS

            _let_accelerate_log()
            known = self._sent()["id"]
            project, how = _arguments(self._name, self._store.path, known)
            self._open = LOGGER_TYPE_TO_CLASS[self._name](project, **how)
            self._open.start()
            if known is None:
                self._open.store_init_configuration(_plain(self._config))
                mlflow = self._name == "mlflow"  # the only one that chooses the name a run is gone on with
                self._keep(id=self._open.tracker.info.run_id if mlflow else self._store.path.name)
        return self._open


def _arguments(tracker: str, run: Path, known: str | None) -> tuple[str, dict[str, Any]]:
    """What accelerate's class is made with: first the project (for tensorboard a folder's name), then by name."""
    match tracker:
        case "tensorboard":  # `tensorboard --logdir runs` finds it there and calls it by the run's name
            return tracker, {"logging_dir": str(run)}
        case "wandb":
            return PROJECT, {"name": run.name, "id": run.name, "resume": "allow"}
        case "mlflow":
            return PROJECT, {"run_name": run.name, "run_id": known}
        case _:
            return PROJECT, {"name": run.name, "resume": "allow", "embed": False, "auto_log_gpu": False, "auto_log_cpu": False}


def _let_accelerate_log() -> None:
    """Its trackers write to a logger that wants to know which process this is: the only one of its run, whatever a launcher began
    beside it. By the launcher's variables accelerate would wait for the others."""
    from accelerate import PartialState

    launched = {name: os.environ.pop(name) for name in _LAUNCHED if name in os.environ}
    try:
        PartialState(cpu=True)  # so that it chooses no GPU for us
    finally:
        os.environ.update(launched)


def _plain(config: dict[str, Any]) -> dict[str, Any]:
    """The recipe's values by `a.b`; lists as text, for trackers know none."""
    from seal.config import flat

    return {key: value if isinstance(value, str | int | float | bool) else str(value) for key, value in flat(config).items()}
