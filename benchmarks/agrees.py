"""Whether all routing backends give the reference's numbers, K adapters at once learn and answer what each does alone, and one
adapter learns what PEFT's does.

In the device's own precision.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import torch

from seal.bench.backends import apart
from seal.bench.ours import Ours
from seal.bench.peft_loop import PeftLoop
from seal.bench.subject import Subject, open_subject
from seal.bench.workload import rows
from seal.engine import Bank
from seal.engine.decode import Request, complete
from seal.engine.head import Head
from seal.engine.host import Host
from seal.engine.pack import Row

SLOTS, STEPS = 4, 12
MANY = 64
"""Slots that backends are compared with: many are what the grouped product is for, and training with few may not take it."""


def beside_peft(subject: Subject, host: Host, ids: tuple[int, ...]) -> tuple[list[float], list[float]]:
    """Our losses and the PEFT loop's over STEPS steps on one row, both from our first A: what a step says follows from the
    gradients of those before it."""
    loop = PeftLoop(subject.make(), subject.tuning(), STEPS)
    ours = Ours(host, subject.tuning(), 1, STEPS, {})
    for name, parameter in loop.model.named_parameters():
        path, is_a, _ = name.removeprefix("base_model.model.").partition(".lora_A.")
        if is_a:
            parameter.data.copy_(ours.bank.stack.a[path][0])
    return [step[0] for step in ours.train([ids] * STEPS)], loop.train([ids] * STEPS).tolist()


def main() -> None:
    """Every backend beside the reference, then SLOTS adapters trained together and alone, then one beside PEFT's. Writes how far
    backends' numbers and losses lie apart and how many answers' tokens agree; fails where that is more than rounding.

    Tokens are told, not judged: with random weights many are nearly as likely, and after one that differs all do.
    """
    parser = argparse.ArgumentParser()
    parser.add_argument("--model", required=True)
    parser.add_argument("--device", required=True)
    parser.add_argument("--out", type=Path, required=True)
    given = parser.parse_args()
    subject = open_subject(given.model, device=given.device)
    host = Host(subject.make())
    head = Head(host.model)
    vocabulary = int(host.model.config.vocab_size)
    coarse = host.dtype == torch.bfloat16
    first, *more = host.sites(subject.targets)
    sites = [first, *(site for site in more if site.product == first.product)]
    lengths = [len(ids) for ids in rows(MANY, vocabulary, 0, longest=128)]  # even enough to be padded
    lengths[1], lengths[2] = 0, 1
    backends = apart(sites, lengths, subject.rank, device=host.device, dtype=host.dtype)
    drawn = [Row(ids, ids) for ids in rows(SLOTS * 3, vocabulary, 0)]
    own = [drawn[slot * 3 : slot * 3 + 3] for slot in range(SLOTS)]
    prompts = [list(row.ids[:20]) for row in drawn[:SLOTS]]

    def learn(slots: list[int]) -> tuple[list[list[float]], list[list[int]]]:
        bank = Bank(host, slots=len(slots), rank=subject.rank, targets=subject.targets)
        for place, slot in enumerate(slots):
            bank.start(place, subject.tuning(), steps=STEPS, seed=slot)
        losses = [bank.step({p: [own[slot][i % 3]] for p, slot in enumerate(slots)}).tolist() for i in range(STEPS)]
        routes = bank.stack.routes(dtype=host.dtype)
        answers = complete(host, head, routes, [Request(prompts[slot], p, 24) for p, slot in enumerate(slots)])
        return losses, [one.ids for one in answers]

    together, spoken = learn(list(range(SLOTS)))
    alone = [learn([slot]) for slot in range(SLOTS)]
    losses = [abs(together[i][s] - alone[s][0][i][0]) for i in range(STEPS) for s in range(SLOTS)]
    same = [a == b for s in range(SLOTS) for a, b in zip(spoken[s], alone[s][1][0], strict=True)]
    own_losses, pefts = beside_peft(subject, host, drawn[0].ids)
    found = {
        "model": subject.name,
        "dtype": str(host.dtype),
        "device": torch.cuda.get_device_name(host.device) if host.device.type == "cuda" else "cpu",
        "backends_apart": backends,
        "loss_apart_rms": (sum(x * x for x in losses) / len(losses)) ** 0.5,
        "loss_apart_most": max(losses),
        "tokens_agree": sum(same) / len(same),
        "peft_apart": max(abs(a - b) / b for a, b in zip(own_losses, pefts, strict=True)),
        "peft_learnt": 1 - pefts[-1] / pefts[0],
    }
    given.out.write_text(json.dumps(found, indent=1) + "\n")
    if not all(one < (0.02 if coarse else 1e-4) for one in backends.values()):
        raise SystemExit(f"a backend does not do what the reference does: {found}")
    if not found["loss_apart_rms"] < (0.05 if coarse else 1e-3):
        raise SystemExit(f"K at once and one by one do not agree: {found}")
    if not found["peft_apart"] < min(0.02 if coarse else 1e-4, found["peft_learnt"] / 4):  # where nothing is learnt, all agree
        raise SystemExit(f"an adapter does not learn what PEFT's does: {found}")


if __name__ == "__main__":
    main()
