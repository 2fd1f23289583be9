"""What the reward of a run goes with: how much of an edit stands in its passage, and how much of the passage in the edit.

python scripts/what_is_rewarded.py runs/2026-11-22-bundled
"""

from __future__ import annotations

import sys
from pathlib import Path

from seal.domains.passages import context_of
from seal.stats import mean, spearman
from seal.store import Store
from seal.text import recall


def main(path: Path) -> None:
    with Store.open(path, write=False) as store:
        problems, edits = store.problems(), store.edits("train", 1)
        rewards, kept = store.rewards("train", 1), set(store.kept("train", 1))
    contexts = [context_of(problems[edit.problem_id]) for edit in edits]
    measures = {
        "faithful (share of the edit's words in the passage)": [recall(c, e.text) for c, e in zip(contexts, edits, strict=True)],
        "complete (share of the passage's words in the edit)": [recall(e.text, c) for c, e in zip(contexts, edits, strict=True)],
    }
    for name, values in measures.items():
        chosen = [value for value, edit in zip(values, edits, strict=True) if edit.id in kept]
        print(f"{name}: {mean(values):.2f} over {len(edits)} edits, {mean(chosen):.2f} over the {len(chosen)} kept")
        for reward in sorted({one for named in rewards.values() for one in named}):
            print(f"  Spearman with {reward}: {spearman(values, [rewards[edit.id][reward] for edit in edits]):.2f}")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
