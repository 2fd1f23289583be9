"""What a domain, a reward and a backend must offer: a new one is one file. Beside them, what a loop tells as it goes on."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Protocol

from seal.types import (
    Absorbed,
    Answer,
    Ask,
    Example,
    Finished,
    Job,
    Objective,
    Outcome,
    Problem,
    Prompt,
    Reading,
    Reply,
    Sampling,
    Tuning,
)

Notify = Callable[[str, int, int], None]
"""Told `("edits", 16, 96)` as a stage goes on."""


def nobody(what: str, done: int, total: int) -> None:
    """A Notify that tells nobody."""


class Domain(Protocol):
    """A kind of problem: how the model is asked for an edit, how the edit is read, what is asked afterwards and how it is graded.

    `docs/domains.md` builds one in 40 lines.
    """

    name: str

    def problems(self, split: str) -> Sequence[Problem]:
        """Problems of `train`, `dev` or `test`, in a fixed order. Raises UserError if there is no such split."""
        ...

    def edit_prompt(self, problem: Problem) -> Prompt:
        """What the policy is asked to write."""
        ...

    def read_edit(self, problem: Problem, text: str) -> Reading:
        """Examples and tuning out of what the policy wrote. Raises EditFault if it cannot be used."""
        ...

    def ask(self, problem: Problem) -> Sequence[Ask]:
        """What the changed model is asked: the queries, or several views of each."""
        ...

    def grade(self, problem: Problem, replies: Sequence[Reply]) -> list[Answer]:
        """One answer a query, in the queries' order; score None where it could not be graded."""
        ...


class Reward(Protocol):
    """What an outcome is worth. Any plain function of this shape is one.

    One that looks at the edit alone says so, `function.needs = "edit"`: where all do, no trial is run. `"probes"`: its trials are
    asked what must not be forgotten, too.
    """

    def __call__(self, outcome: Outcome, siblings: Sequence[Outcome]) -> float | None:
        """None: do not learn from it. `siblings`: the problem's outcomes this round, this one included."""
        ...


class Trainer(Protocol):
    """Runs inner fine-tunes: the engine here, or many machines."""

    def run(self, jobs: Iterable[Job]) -> Iterator[Finished]:
        """Every job once, finished in any order, ungraded. A model's mistake is `Finished.fault`; a machine's is raised.

        It may be called again before all of an earlier call's are taken: a policy that is its own judge is asked in between.
        """
        ...


class Engine(Trainer, Protocol):
    """A Trainer that also holds the policy: a job starts from the policy's present weights."""

    def sample(self, prompts: Sequence[Prompt], how: Sampling, *, seed: int) -> list[list[Reply]]:
        """`how.n` replies to each prompt, drawn by the seed, the prompt's place and the reply's own: equal prompts get different
        replies, and the same seed gives the same ones whatever the other prompts are. To a prompt that leaves no room in the
        context they are empty, of no tokens and not ended.
        """
        ...

    def absorb(self, examples: Sequence[Example], tuning: Tuning, *, seed: int, objective: Objective | None = None) -> Absorbed:
        """The policy itself learns; the change stays. Supervised fine-tuning, unless an `objective` says otherwise. Raises
        FloatingPointError if it diverges."""
        ...

    def inputs(self, examples: Sequence[Example], tuning: Tuning, path: Path, *, share: float, most: int) -> dict[str, float]:
        """Writes the directions that hold `share` of what the tuning's layers are given while the policy reads the examples, at
        most `most` a layer: a job that names the file as `protected` changes nothing along them. Returns what there is of them.
        """
        ...

    def superpose(self, held: Sequence[tuple[Path, Path, int]], path: Path, binding: Path, before: Path | None = None) -> None:
        """Writes PEFT adapters as one, each bound to its key; beside each, the `inputs` of what its problem gives the layers.

        `binding`: a file by which others can be added later; `before`: that of those which these are added to.
        """
        ...

    def count(self, example: Example) -> int:
        """Tokens of an example as a training row."""
        ...

    def fits(self, ask: Ask) -> bool:
        """Whether the model's context holds the prompt with the reply, and with the target: a job asks nothing else."""
        ...

    def export(self, path: Path) -> None:
        """The policy's whole change since the base model, as a PEFT adapter any tool can load. Whole or not at all."""
        ...

    def load(self, path: Path | None) -> None:
        """Back to the base model, then the policy exported at `path` if there is one."""
        ...

    def wear(self, adapters: Sequence[tuple[Path, float] | tuple[Path, float, int]]) -> None:
        """Back to the base model, then these PEFT adapters, each times its weight, added in this order; a superposed one with a
        key."""
        ...
