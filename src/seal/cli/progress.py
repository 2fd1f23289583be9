"""Progress on stderr: a bar for the stage, one below it for its tokens; where stdout is no terminal, no more than notes."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from contextlib import ExitStack, redirect_stdout
from types import TracebackType
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.progress import BarColumn, Progress, ProgressColumn, SpinnerColumn, Task, TaskID, TextColumn, TimeRemainingColumn
from rich.text import Text

if TYPE_CHECKING:
    from seal.protocols import Notify
    from seal.store import Store

_SMOOTH = 300.0
"""Seconds over which a rate is taken: trials finish several at once, then for a while none."""


class Pace(ProgressColumn):
    """How many of how many, and how fast: `12/96 · 4.1/min`."""

    def render(self, task: Task) -> Text:
        """One cell of the bar's line."""
        unit = task.fields["unit"]
        count = f"{task.completed:,.0f}/{task.total or 0:,.0f}{unit and ' ' + unit}"
        if not task.speed:
            return Text(count)
        return Text(f"{count} · {f'{task.speed:,.0f}/s' if task.speed >= 1 else f'{60 * task.speed:.1f}/min'}")


class Display:
    """Shows what it is told while it is entered. Meanwhile whatever a library or a reward prints goes to stderr."""

    def __init__(self, *, shown: bool | None = None, console: Console | None = None) -> None:
        """`shown`: None = if stdout is a terminal."""
        self._shown = sys.stdout.isatty() if shown is None else shown
        self._bars = Progress(
            SpinnerColumn(),
            TextColumn("{task.description}", markup=False),
            BarColumn(bar_width=24),
            Pace(),
            TimeRemainingColumn(elapsed_when_finished=True),
            console=console or Console(stderr=True),
            transient=True,
            disable=not self._shown,
            speed_estimate_period=_SMOOTH,
        )
        self._stage: tuple[str, TaskID] | None = None
        self._inside: tuple[str, int, TaskID] | None = None
        self._open = ExitStack()

    def __enter__(self) -> Display:
        self._open.enter_context(redirect_stdout(sys.stderr))
        self._open.enter_context(self._bars)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._open.close()

    def say(self, line: str) -> None:
        """What is being done, as a line above the bars."""
        if self._shown:
            self.note(line)

    def note(self, line: str) -> None:
        """What has to be known, seen or not: on stderr also where stdout is no terminal."""
        self._bars.console.print(line, markup=False, highlight=False, soft_wrap=True)

    def stages(self, where: Callable[[], str]) -> Notify:
        """A loop's `notify`; `where` names the part of the run a stage begins in."""

        def notify(what: str, done: int, total: int) -> None:
            if self._stage is None or self._stage[0] != what:
                self._end()
                self._stage = what, self._bars.add_task(f"{where()} · {what}", total=total, completed=done, unit="")
            self._bars.update(self._stage[1], completed=done)
            if done >= total:
                self._end()

        return notify

    def tokens(self, what: str, done: int, total: int) -> None:
        """The engine's `progress`: tokens of a call."""
        if self._inside is None or self._inside[:2] != (what, total):
            self._end_inside()
            self._inside = what, total, self._bars.add_task(f"  {what}", total=total, unit="tokens")
        self._bars.update(self._inside[2], completed=done)
        if done >= total:
            self._end_inside()

    def _end_inside(self) -> None:
        """Also where the count stopped short: a trial with a fault ends before all its tokens are trained on."""
        if self._inside is not None:
            self._bars.remove_task(self._inside[2])
            self._inside = None

    def _end(self) -> None:
        """Takes the stage's bar away and leaves a line in its place."""
        self._end_inside()
        if self._stage is not None:
            task = self._bars.tasks[self._bars.task_ids.index(self._stage[1])]
            minutes, seconds = divmod(round(task.elapsed or 0), 60)
            self.say(f"{task.description} {task.completed:,.0f}/{task.total or 0:,.0f} in {minutes}:{seconds:02}")
            self._bars.remove_task(task.id)
            self._stage = None


def noted(notify: Notify, store: Store, where: Callable[[], str]) -> Notify:
    """The same notify, which also keeps with the run what is being done, for whoever watches it from outside."""
    from seal.store import keys

    stage: dict[str, Any] = {"stage": None}

    def tell(what: str, done: int, total: int) -> None:
        now = time.time()
        if stage["stage"] != what or done < stage["done"]:
            stage.update(stage=what, began=done, since=now, where=where())
        stage.update(done=done)
        store.set_state(keys.PROGRESS, {**stage, "total": total, "at": now})
        notify(what, done, total)

    return tell
