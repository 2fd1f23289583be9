"""Whether K adapters at once learn and answer what each learns and answers alone, in the device's own precision."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import torch

from seal.bench.subject import open_subject
from seal.bench.workload import rows
from seal.engine import Bank
from seal.engine.decode import Request, complete
from seal.engine.head import Head
from seal.engine.host import Host
from seal.engine.pack import Row

SLOTS, STEPS = 4, 12


def main() -> None:
    """Trains SLOTS adapters together and alone; writes how far losses lie apart and how many answers' tokens agree."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--model", required=True)
    parser.add_argument("--device", required=True)
    parser.add_argument("--out", type=Path, required=True)
    given = parser.parse_args()
    subject = open_subject(given.model, device=given.device)
    host = Host(subject.make())
    head = Head(host.model)
    vocabulary = int(host.model.config.vocab_size)
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
    apart = [abs(together[i][s] - alone[s][0][i][0]) for i in range(STEPS) for s in range(SLOTS)]
    same = [a == b for s in range(SLOTS) for a, b in zip(spoken[s], alone[s][1][0], strict=True)]
    found = {
        "model": subject.name,
        "dtype": str(host.dtype),
        "device": torch.cuda.get_device_name(host.device) if host.device.type == "cuda" else "cpu",
        "loss_apart_rms": (sum(x * x for x in apart) / len(apart)) ** 0.5,
        "loss_apart_most": max(apart),
        "tokens_agree": sum(same) / len(same),
    }
    given.out.write_text(json.dumps(found, indent=1) + "\n")
    if not found["loss_apart_rms"] < (0.05 if host.dtype == torch.bfloat16 else 1e-3):
        raise SystemExit(f"K at once and one by one do not agree: {found}")


if __name__ == "__main__":
    main()
