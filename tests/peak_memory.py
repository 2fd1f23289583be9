"""Trains random models, each in a process of its own, and prints what was planned and what became resident at most, in bytes.

python tests/peak_memory.py SEED ...

A seed draws everything: 4 to 12 layers of 256 to 768, heads and key heads, the vocabulary, the adapters, 1 to 16 slots, and
rows of 8 to 510 tokens that come to 300 to 2,048 tokens a step.
"""

from __future__ import annotations

import ctypes
import json
import os
import random
import sys
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from tiny import byte_tokenizer
from transformers import LlamaConfig, LlamaForCausalLM

from seal.engine import Engine
from seal.engine.layouts import AS_THEY_LIE, Layout
from seal.engine.memory import Plan, step_bytes, typical
from seal.engine.rows import Prepared, prepare
from seal.models import LanguageModel
from seal.types import LLAMA_LINEAR, Example, Job, Tuning


@dataclass(frozen=True)
class Shape:
    """What a seed draws."""

    config: LlamaConfig
    rank: int
    targets: tuple[str, ...]
    slots: int
    tokens: int
    """About so many a step."""
    mean: int
    """Tokens of a row, on average."""
    copies: bool
    """Whether the weights are copied."""

    @classmethod
    def drawn(cls, seed: int) -> Shape:
        """Heads of 32 or 64, most often 3 to a key head as in the embedded model."""
        draw = random.Random(seed)
        width, ratio = draw.choice([32, 64]), draw.choice([3, 3, 3, 2, 4, 1])
        heads = draw.choice([heads for heads in range(256 // width, 768 // width + 1) if heads % ratio == 0])
        slots, tokens = draw.choice([1, 2, 4, 8, 16]), draw.randint(300, 2048)
        config = LlamaConfig(
            vocab_size=draw.choice([512, 8192, 49152]),
            hidden_size=heads * width,
            intermediate_size=heads * width * draw.choice([16, 21, 21, 32]) // 8,
            num_hidden_layers=draw.randint(4, 12),
            num_attention_heads=heads,
            num_key_value_heads=heads // ratio,
            tie_word_embeddings=True,
        )
        mean = min(draw.choice([30, 60, 100, 200, 300]), tokens // slots)
        targets = draw.choice([LLAMA_LINEAR, ("q_proj", "v_proj")])
        return cls(config, draw.choice([8, 16, 32]), targets, slots, tokens, mean, draw.random() < 0.5)


class Sized(Engine):
    """Plans for the tokens that its steps have, not for the most that would fit, and makes two copies of the weights or none."""

    step_tokens = 0
    usual = 0.0
    """The typical length of all rows: its trials run together from the first step to the last."""
    copied = False
    planned: Plan

    def plan(self, *args: Any, **settings: Any) -> Plan:
        """The plan, kept."""
        found = super().plan(*args, **settings | {"typical": self.usual})
        fixed = step_bytes(self.language.model.config, self.step_tokens, self.host.device)
        copies = found.bytes_copies if self.copied else 0
        self.planned = replace(found, step_tokens=self.step_tokens, bytes_fixed=fixed, bytes_copies=copies)
        return self.planned

    def _laid_out(self, size: Plan, tokens: int) -> tuple[Plan, Layout]:
        return size, Layout("packed", "packed") if self.copied else AS_THEY_LIE


def resident(what: str) -> int:
    """VmRSS: bytes resident now; VmHWM: most there ever were."""
    fields = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    return int(fields[what].split()[0]) * 1024


def jobs(shape: Shape, draw: random.Random, mean: float, steps: int) -> list[Job]:
    """One a slot, with rows of 0.3 to 1.7 times the mean; a byte is a token."""
    batch = max(1, round(shape.tokens / shape.slots / shape.mean))
    tuning = Tuning(rank=shape.rank, alpha=32, epochs=1, batch=batch, targets=shape.targets)
    found = []
    for slot in range(shape.slots):
        lengths = [max(8, int(mean * draw.uniform(0.3, 1.7))) for _ in range(steps * batch)]
        rows = tuple(Example("".join(draw.choices("abcdefgh", k=length))) for length in lengths)
        found.append(Job(str(slot), rows, (), tuning, slot))
    return found


def main(seed: int, steps: int = 3) -> None:
    """Small steps come first: what the first step of a process loads is no part of any plan."""
    torch.set_num_threads(1)
    torch.manual_seed(seed)
    shape, draw = Shape.drawn(seed), random.Random(seed)
    model = LlamaForCausalLM(shape.config).eval()
    engine = Sized(LanguageModel("random", model, byte_tokenizer(chat=False), False, (), 0, 0, 4096), memory_gb=64)
    before = 0
    for work in (jobs(shape, draw, 8, 1), jobs(shape, draw, shape.mean, steps)):
        ctypes.CDLL(None).malloc_trim(0)  # what the small steps have freed and the heap has kept
        before, prepared = resident("VmRSS"), [prepare(job, engine.language) for job in work]
        taken = zip(*(one.batches() for one in prepared if isinstance(one, Prepared)), strict=True)
        engine.step_tokens = max(sum(len(row.ids) for batch in step for row in batch) for step in taken)
        engine.usual = typical([len(row.ids) for one in prepared if isinstance(one, Prepared) for row in one.rows])
        engine.slots, engine.copied = shape.slots, shape.copies
        assert all(done.fault is None for done in engine.run(work))
    plan, peak = engine.planned.bytes, resident("VmHWM") - before
    print(json.dumps({"seed": seed, "plan": plan, "peak": peak, "ratio": round(peak / plan, 3)}), flush=True)


if __name__ == "__main__":
    for number in map(int, sys.argv[1:]):
        if child := os.fork():
            assert os.waitpid(child, 0)[1] == 0
        else:
            main(number)
            break
