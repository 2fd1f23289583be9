"""How a task is written for the model: the pairs one after the other, and the last output is the reply."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from seal.domains.arc.codecs import Codec
from seal.domains.arc.leave_out import Task
from seal.domains.arc.puzzles import Grid, Pair
from seal.types import Example, Prompt, Reply

INPUT, OUTPUT = "Input\n", "Output\n"


@dataclass(frozen=True, slots=True)
class Layout:
    """Training rows and test prompts are written alike, so that what is practised is what is asked."""

    codec: Codec
    system: str | None = None
    """A chat model's system message."""

    def prompt(self, shown: Sequence[Pair], asked: Grid) -> Prompt:
        """Everything up to where the asked output begins."""
        return self._written(shown, asked)[0]

    def example(self, task: Task) -> Example:
        """A training row; the outputs of the shown pairs are its spans. Raises ValueError if the asked output is not known."""
        if task.asked.output is None:
            raise ValueError("a task to train on needs its output")
        prompt, spans = self._written(task.shown, task.asked.input)
        return Example(self.codec.write(task.asked.output), prompt, loss="completion", spans=spans)

    def shown(self, pairs: Sequence[Pair]) -> str:
        """The pairs alone, as they stand before a question."""
        return self._pairs(pairs)[0].rstrip("\n")

    def output(self, reply: Reply) -> str | None:
        """What a reply says the output is: all before the blank line that closes a pair, since an untrained model goes on with a
        pair of its own; None if it was cut before it came to an end."""
        said, closed, _ = reply.text.lstrip("\n").partition("\n\n")
        return said if closed or reply.ended else None

    def _written(self, shown: Sequence[Pair], asked: Grid) -> tuple[Prompt, tuple[tuple[int, int], ...]]:
        text, spans = self._pairs(shown)
        return Prompt(f"{text}{INPUT}{self.codec.write(asked)}\n{OUTPUT}", system=self.system), spans

    def _pairs(self, pairs: Sequence[Pair]) -> tuple[str, tuple[tuple[int, int], ...]]:
        text, spans = "", []
        for pair in pairs:
            text += f"{INPUT}{self.codec.write(pair.input)}\n{OUTPUT}"
            output = self.codec.write(pair.output) if pair.output is not None else ""
            spans.append((len(text), len(text) + len(output)))
            text += f"{output}\n\n"
        return text, tuple(spans)
