"""A causal language model with its tokenizer: how prompts and examples become tokens. Chat markup exists only here."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property
from typing import Any

import torch
from jinja2 import TemplateError
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from seal.errors import UserError
from seal.kinds import Kind, spans
from seal.types import Example, Prompt

_DAY = datetime(2024, 7, 26)
_SAME_DAY = (
    "{%- macro strftime_now(format) -%}{{ format"
    + "".join(f"|replace('%{code}', '{_DAY.strftime('%' + code)}')" for code in "aAbBdHIjmMpSyY")
    + " }}{%- endmacro %}"
)
"""In front of a chat template: its `strftime_now` is this one, and not what transformers gives it."""


@dataclass
class LanguageModel:
    """A frozen base model, ready to be asked and adapted. Made by `open_model`."""

    name: str
    model: PreTrainedModel
    """In eval mode, no parameter asks for a gradient."""
    tokenizer: PreTrainedTokenizerBase
    chat: bool
    """Prompts go through the tokenizer's chat template; False: the model continues the text."""
    stop_ids: tuple[int, ...]
    """Tokens that end a reply."""
    end_id: int
    """Token that closes a document: the tokenizer's end-of-text."""
    reply_end_id: int
    """Token that closes a reply: a chat template's end-of-turn, else `end_id`."""
    context: int
    """Most positions of a sequence, prompt and reply together."""

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return self.model.device

    @property
    def dtype(self) -> torch.dtype:
        """What the weights are stored in."""
        return self.model.dtype

    def encode_prompt(self, prompt: Prompt) -> list[int]:
        """The ids the model is given; its reply's ids follow them directly.

        Chat: system (if given), user and the opening of the reply by the template, then the prefill; the template itself
        writes the beginning-of-text where the model wants one. Base: beginning-of-text if the tokenizer adds one, then
        text and prefill; the system message is ignored.
        """
        return [*([] if self.chat else self._start), *self._ids(self.written(prompt))]

    def places(self, example: Example) -> list[int]:
        """Which of `encode_example`'s ids lie wholly within one of the example's `spans`. Raises UserError as `carriers` does."""
        prompt = example.prompt
        if prompt is None or not example.spans:
            return []
        written, known = self.written(prompt), prompt.text.strip()  # some templates strip what the user says
        start = written.find(known) - prompt.text.find(known)
        before = 0 if self.chat else len(self._start)
        return [
            before + place
            for place, (first, end) in enumerate(self._offsets(written))
            if first < end and any(low + start <= first and end <= high + start for low, high in example.spans)
        ]

    def encode_example(self, example: Example) -> tuple[list[int], int]:
        """A training row's ids and how many of them, at the front, belong to the prompt.

        The prompt's ids are exactly those of `encode_prompt`, the completion's those of `encode_target`, and the reply's
        end follows. A plain document (no prompt) has 0 prompt ids and no end: whether one is learnt is `Tuning.pad_loss`.
        """
        if example.prompt is None:
            return self._start + self._ids(example.completion), 0
        prompt = self.encode_prompt(example.prompt)
        return [*prompt, *self.encode_target(example.completion), self.reply_end_id], len(prompt)

    def carriers(self, example: Example, kind: Kind) -> set[int]:
        """Places in `encode_example`'s ids of the completion's tokens of a kind; the end follows its last characters.

        A token belongs to a kind by any of its characters. In a reply to a prompt, `answers` is all of it. Raises UserError if
        the tokenizer cannot say which characters a token stands for.
        """
        text = example.completion
        wanted = [(0, len(text))] if kind == "answers" and example.prompt else spans(text, kind)
        first = len(self.encode_prompt(example.prompt)) if example.prompt else len(self._start)
        bounds = self._bounds(text, follows=example.prompt is not None)
        found = {first + at for at, (start, end) in enumerate(bounds) if any(start < high and low < end for low, high in wanted)}
        return found | {first + len(bounds)} if wanted and wanted[-1][1] == len(text) else found

    def encode_target(self, text: str) -> list[int]:
        """The ids of a text that continues a prompt: no special tokens before or after, and none of the space that
        tokenizers of the SentencePiece kind put before a text's first word."""
        anchor = self._ids("\n")
        anchored = self._ids("\n" + text) if self._puts_space else []
        return anchored[len(anchor) :] if anchored[: len(anchor)] == anchor else self._ids(text)

    def decode(self, ids: list[int]) -> str:
        """The text of a reply's ids, without special tokens."""
        return self.tokenizer.decode(ids, skip_special_tokens=True)

    def written(self, prompt: Prompt) -> str:
        """All the model is given, as text. For a base model, what the tokenizer itself puts before a text is not in it."""
        if not self.chat:
            return prompt.plain + prompt.prefill
        return render(self.tokenizer, prompt.text, prompt.system, prompt.turns) + prompt.prefill

    def _bounds(self, text: str, *, follows: bool) -> list[tuple[int, int]]:
        """First character of each token of a text, and the one after its last; `follows`: as `encode_target` makes them."""
        anchor = self._ids("\n") if follows and self._puts_space else []
        lead = "\n" if anchor and self._ids("\n" + text)[: len(anchor)] == anchor else ""
        found = self._offsets(lead + text)
        return [(start - len(lead), end - len(lead)) for start, end in found[len(anchor) if lead else 0 :]]

    def _offsets(self, text: str) -> list[tuple[int, int]]:
        try:
            found = self.tokenizer(text, add_special_tokens=False, return_offsets_mapping=True)
        except NotImplementedError:
            raise UserError(f"{self.name}: loss on parts of a text needs a tokenizer that knows its tokens' characters") from None
        return list(found["offset_mapping"])

    def _ids(self, text: str) -> list[int]:
        return self.tokenizer(text, add_special_tokens=False)["input_ids"]

    @cached_property
    def _start(self) -> list[int]:
        return start_ids(self.tokenizer)

    @cached_property
    def _puts_space(self) -> bool:
        return self.tokenizer.convert_ids_to_tokens(self._ids("a"))[0].startswith("\u2581")


def start_ids(tokenizer: Any) -> list[int]:
    """What the tokenizer puts before a text of its own accord: beginning-of-text, or nothing."""
    whole, bare = (tokenizer("a", add_special_tokens=special)["input_ids"] for special in (True, False))
    return whole[: next(i for i in range(len(whole)) if whole[i : i + len(bare)] == bare)]


def render(tokenizer: Any, user: str, system: str | None = None, turns: Sequence[tuple[str, str]] = ()) -> str:
    """The chat template's text up to where the reply begins; `turns`: what was said and replied before.

    Templates that refuse or drop a system message (Gemma's, old Mistral's) get it as the user's first paragraph.
    A template that can switch off a thinking block is asked to; one that begins a thinking block whatever it is asked (R1's) has
    it closed again, empty. To a template that writes today's date it is always the same day: the prompts of a run that goes on
    are those it began with.
    """
    said = [{"role": role, "content": text} for turn in turns for role, text in zip(("user", "assistant"), turn, strict=True)]
    said.append({"role": "user", "content": user})
    if system is None:
        return _template(tokenizer, said)
    try:
        text = _template(tokenizer, [{"role": "system", "content": system}, *said])
        if system.strip() in text:
            return text
    except TemplateError:
        pass
    return _template(tokenizer, [{"role": "user", "content": f"{system}\n\n{said[0]['content']}"}, *said[1:]])


def end_of_turn(tokenizer: Any) -> int | None:
    """The token by which the chat template closes a reply; None: it closes it with none."""
    turns = [{"role": "user", "content": "question"}, {"role": "assistant", "content": "<reply>"}]
    try:
        _, found, tail = _template(tokenizer, turns, opening=False).rpartition("<reply>")
    except TemplateError:
        return None
    special = set(tokenizer.all_special_ids) | set(tokenizer.added_tokens_decoder)
    ids = tokenizer(tail, add_special_tokens=False)["input_ids"] if found else []
    return next((token for token in ids if token in special), None)


def _template(tokenizer: Any, turns: list[dict[str, str]], *, opening: bool = True) -> str:
    how: dict[str, Any] = {"add_generation_prompt": opening, "tokenize": False, "enable_thinking": False}
    if "strftime_now" in (template := tokenizer.get_chat_template()):
        how["chat_template"] = _SAME_DAY + template
    text: str = tokenizer.apply_chat_template(turns, **how)
    thinks = opening and text.rstrip().endswith("<think>")
    return f"{text.rstrip()}\n\n</think>\n\n" if thinks else text
