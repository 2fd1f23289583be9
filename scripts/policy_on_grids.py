"""What a policy's updates cost it on grids: the true output's log-probability after the example pairs, before and after them.

    python scripts/policy_on_grids.py arc-embedded

The base model and the recipe's policy are asked each training puzzle as it stands; nothing is trained. Prints nats a puzzle.
"""

from __future__ import annotations

import sys
from dataclasses import replace

from seal.config import load, shipped_policies
from seal.loops import build
from seal.types import Job


def main(name: str) -> None:
    recipe = load(name, [])
    domain, engine = build.domain(recipe), build.engine(recipe)
    domain = build.counted(domain, engine)
    puzzles = domain.problems("train")
    jobs = [Job(one.id, (), (replace(domain.ask(one)[0], max_tokens=0),)) for one in puzzles]
    found = []
    for policy in (None, shipped_policies()[recipe.eval.policy or name]):
        engine.load(policy)
        found.append({done.job_id: done.replies[0].target_logprob for done in engine.run(jobs)})
    for one in puzzles:
        print(f"{one.title}  base {found[0][one.id]:.1f}  policy {found[1][one.id]:.1f}")


if __name__ == "__main__":
    main(*sys.argv[1:])
