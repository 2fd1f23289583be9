"""Counts what a step of training puts on a device, and how often it waits for it: `python tests/launches.py`, no GPU needed.

A narrow model of 28 layers in bfloat16, rank 32 on q and v, a row of 35 tokens a slot, or one of the official round's lengths,
and then every slot with a rate of its own.
Attention counts as the products it is made of here; on a GPU it is one kernel a rectangle, for us and for PEFT.
"""

from __future__ import annotations

from dataclasses import replace

import torch
from elsewhere import NAME, elsewhere
from transformers import PreTrainedModel, Qwen2Config, Qwen2ForCausalLM

from seal.bench.peft_loop import PeftLoop
from seal.bench.workload import rows
from seal.engine import Bank, Row
from seal.engine.host import Host
from seal.engine.routing import Choices, Grouped, Split
from seal.types import Tuning

TUNING = Tuning(rank=32, alpha=64, lr=1e-3)
IDS = range(5, 40)


WAYS = (
    (1, Split(), False),
    (16, Split(), False),
    (16, Grouped(), False),
    (16, Grouped(), True),
    (64, Split(), False),
    (64, Grouped(), False),
    (64, Grouped(), True),
)
"""Slots, the backend, and whether rows have the lengths of the official round and slots their own rates."""


def a_model() -> PreTrainedModel:
    """As deep as Qwen2.5-7B."""
    small = {
        "vocab_size": 64,
        "hidden_size": 64,
        "intermediate_size": 128,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
    }
    config = Qwen2Config(num_hidden_layers=28, **small)
    model: PreTrainedModel = Qwen2ForCausalLM(config).to(torch.bfloat16).to(NAME)
    return model.requires_grad_(False)


def main() -> None:
    """Prints a line a way."""
    torch.manual_seed(0)
    with elsewhere() as device:

        def say(way: str, adapters: int) -> None:
            kernels, waits = device.kernels.total(), device.waits.total()
            print(f"{way:40} {kernels:6} kernels a step, {kernels / adapters:7.1f} an adapter, {waits} waits", flush=True)

        loop = PeftLoop(a_model(), TUNING, 9)
        loop.train([IDS])
        device.kernels.clear()
        device.waits.clear()
        loop.train([IDS])
        say("PEFT loop", 1)
        host = Host(a_model())
        for slots, backend, real in WAYS:
            Choices.backend = lambda self, shape, own=backend: own  # type: ignore[method-assign, assignment, misc]
            bank = Bank(host, slots=slots, rank=TUNING.rank, targets=TUNING.targets, step_tokens=8192)
            for slot in range(slots):
                own = replace(TUNING, lr=TUNING.lr * (1 + slot)) if real else TUNING
                bank.start(slot, own, steps=9, seed=slot)
            ids = rows(slots, 64, 0) if real else [IDS] * slots
            device.kernels.clear()
            device.waits.clear()
            bank.step({slot: [Row.of(own)] for slot, own in enumerate(ids)})
            say(f"K = {slots}, {type(backend).__name__.lower()}{', real lengths, own rates' if real else ''}", slots)


if __name__ == "__main__":
    main()
