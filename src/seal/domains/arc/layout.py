"""How a task is written for the model: the pairs one after the other, and the last output is the reply."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from seal.domains.arc.codecs import CODECS, PAPER, Codec
from seal.domains.arc.leave_out import Task
from seal.domains.arc.puzzles import Grid, Pair
from seal.types import Example, Prompt, Reply

INPUT, OUTPUT = "Input\n", "Output\n"
TOLD = "Each of these inputs becomes its output by one rule. Answer with the output of one more input, written as they are.\n"


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
        return Example(self.reply(task.asked.output), prompt, loss="completion", spans=spans)

    def reply(self, output: Grid) -> str:
        """What there is to say where the output is asked."""
        return self.codec.write(output)

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


class PaperLayout(Layout):
    """As in the paper's code: the shown pairs stand in the system message, a pair a line, the asked input is all that the user
    says, and a # closes every output. The plan is asked for with the pairs in spaced rows."""

    __slots__ = ()

    def reply(self, output: Grid) -> str:
        """The grid with its end."""
        return f"{self.codec.write(output)}#"

    def shown(self, pairs: Sequence[Pair]) -> str:
        """The pairs for the plan's prompt."""
        return Layout(CODECS["spaced-rows"]).shown(pairs)

    def output(self, reply: Reply) -> str | None:
        """All before the #; None if the reply was cut before it."""
        said, closed, _ = reply.text.partition("#")
        return said if closed or reply.ended else None

    def _written(self, shown: Sequence[Pair], asked: Grid) -> tuple[Prompt, tuple[tuple[int, int], ...]]:
        pairs = "".join(f"{self._input(pair.input)}{self.reply(pair.output)}\n" for pair in shown if pair.output is not None)
        return Prompt(self._input(asked), system=f"{TOLD}{pairs}"), ()

    def _input(self, grid: Grid) -> str:
        return f"{self.codec.write(grid)} -> "


def laid_out(codec: Codec, system: str | None) -> Layout:
    """The layout that goes with a codec."""
    return (PaperLayout if codec is PAPER else Layout)(codec, system)
