"""A conversation with an adapted model, and beside it, where wanted, the same with the model as it was."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from seal.edits.questions import question_prompt
from seal.errors import UserError
from seal.protocols import Engine
from seal.types import Example, Prompt, Sampling

Turn = tuple[str, str]
"""What the model was given and what it replied."""
WORDINGS: Mapping[str, Callable[[str, str], Prompt]] = {
    "knowledge": question_prompt,
    "plain": lambda question, title: Prompt(f"{title}\n{question}" if title else question),
}
"""How a question, about something with a title if there is one, is put."""


@dataclass(frozen=True, slots=True)
class Said:
    """A reply."""

    text: str
    tokens: int
    seconds: float
    ended: bool
    """It stopped by itself; False: cut at the limit."""
    forgotten: int = 0
    """Earliest turns that no longer fit the model's context."""


@dataclass
class Talk:
    """Each side (its name: an adapter, or None for the model as it was) hears the same and remembers its own replies."""

    engine: Engine
    context: int
    """Most positions of a sequence, prompt and reply together."""
    sides: Mapping[str, Path | None]
    how: Sampling
    wording: str = "knowledge"
    _turns: dict[str, list[Turn]] = field(default_factory=dict)
    _loaded: str | None = None

    def say(self, question: str, *, title: str = "", seed: int = 0) -> dict[str, Said]:
        """Every side's reply. Raises UserError if the question alone is too long for the model."""
        prompt = WORDINGS[self.wording](question, title)
        return {side: self._reply(side, prompt, seed) for side in self.sides}

    def reset(self) -> None:
        """Nothing was said yet."""
        self._turns.clear()

    def _reply(self, side: str, new: Prompt, seed: int) -> Said:
        if (alone := self._length(Prompt(new.text))) > self.context:
            raise UserError(
                f"that takes {alone} tokens with its reply and the model holds {self.context};"
                " ask a shorter question, or lower --max-tokens"
            )
        turns, forgotten = self._turns.setdefault(side, []), 0
        began = time.perf_counter()
        while self._length(prompt := Prompt(new.text, turns=tuple(turns))) > self.context:
            del turns[0]
            forgotten += 1
        if self._loaded != side:
            self.engine.load(self.sides[side])
            self._loaded = side
        ((reply,),) = self.engine.sample([prompt], self.how, seed=seed)
        text = reply.text.strip()
        turns.append((new.text, text))
        return Said(text, reply.tokens, time.perf_counter() - began, reply.ended, forgotten)

    def _length(self, prompt: Prompt) -> int:
        return self.engine.count(Example("", prompt)) + self.how.max_tokens
