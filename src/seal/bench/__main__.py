"""The benchmarks without the command line's packages: `python -m seal.bench inner --model qwen-7b-shape --out FILE`."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

from seal.bench import bench_eval, bench_inner, open_subject


def main() -> None:
    """One benchmark, its JSON into `--out`: of inner first without the answers, in case it does not get to them."""
    parser = argparse.ArgumentParser(prog="python -m seal.bench")
    parser.add_argument("what", choices=("inner", "eval"))
    parser.add_argument("--model", default="smollm2-135m")
    parser.add_argument("--rank", type=int, default=32)
    parser.add_argument("--targets", default="q_proj,v_proj")
    parser.add_argument("--slots", default="1,4,8,16")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--within", type=float, help="seconds for the laps of inner; the first is taken whatever it needs")
    parser.add_argument("--out", type=Path, required=True)
    given = parser.parse_args()
    subject = open_subject(given.model, device=given.device, rank=given.rank, targets=given.targets)
    slots = tuple(int(part) for part in given.slots.split(","))
    given.out.parent.mkdir(parents=True, exist_ok=True)

    def keep(found: dict[str, Any]) -> None:
        given.out.write_text(json.dumps(found, indent=1) + "\n")

    if given.what == "inner":
        keep(bench_inner(subject, slots=slots, quick=given.quick, within=given.within, trained=keep))
    else:
        keep(bench_eval(subject, slots=max(slots), quick=given.quick))


if __name__ == "__main__":
    main()
