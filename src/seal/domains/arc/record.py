"""What a grid of plans does on puzzles: which are solvable, which plan is best. A small JSON file of `seal arc solvable`."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from random import Random
from typing import Any

from seal.errors import UserError
from seal.home import data
from seal.seeds import derive


@dataclass(frozen=True, slots=True)
class Record:
    """The results of every plan on every puzzle, and the split of those that some plan solves."""

    model: str
    seed: int
    """By which the pool was divided."""
    made: Mapping[str, Any]
    """What decided the trainings and their answers, besides model and plan: the recipe's values by name. Empty: not known."""
    plans: tuple[str, ...]
    """As the policy would write them."""
    scores: Mapping[str, tuple[float | None, ...]]
    """By puzzle id, one a plan: the share of trials in which the puzzle was solved; None: not tried."""
    gains: Mapping[str, tuple[float | None, ...]]
    """The same: nats by which the true output became more likely. It orders plans that solve equally often."""
    splits: Mapping[str, tuple[str, ...]]
    """Ids of the solvable puzzles by split."""

    def unlike(self, made: Mapping[str, Any]) -> list[str]:
        """What it was made with and is otherwise here, in words; what one of the two does not know is not compared."""
        return [
            f"{name} = {json.dumps(own)}, here {json.dumps(made[name])}"
            for name, own in self.made.items()
            if name in made and made[name] != own
        ]

    def score(self, id: str, plan: str) -> float | None:
        """Of this plan on this puzzle; None: not tried."""
        return self._of(self.scores, id, plan)

    def gain(self, id: str, plan: str) -> float | None:
        """The same of the gain."""
        return self._of(self.gains, id, plan)

    def _of(self, table: Mapping[str, tuple[float | None, ...]], id: str, plan: str) -> float | None:
        return table[id][self.plans.index(plan)] if id in table and plan in self.plans else None

    def solvable(self) -> list[str]:
        """Ids of the puzzles that some plan solved, sorted."""
        return sorted(id for id, own in self.scores.items() if any(own))

    def best(self, id: str) -> str:
        """The plan that does best on this puzzle. Raises UserError if none was tried on it."""
        if id not in self.scores or all(score is None for score in self.scores[id]):
            raise UserError(f"the record of plans knows nothing of puzzle {id}; seal arc solvable tries plans on it")
        return max(zip(self._worth(id, untried=-1.0), self.plans, strict=True), key=lambda both: both[0])[1]

    def fixed(self) -> str:
        """The one plan that solves most training puzzles: what a policy that always writes the same could reach at best. One that
        it was not tried on is not solved by it.

        Raises UserError if it has no such puzzles.
        """
        if not self.splits.get("train"):
            raise UserError("the record of plans has no puzzles to train on; give domain.shares a part for train")
        worth = [self._worth(id, untried=0.0) for id in self.splits["train"]]
        totals = [(sum(own[place][0] for own in worth), sum(own[place][1] for own in worth)) for place in range(len(self.plans))]
        return self.plans[totals.index(max(totals))]

    def _worth(self, id: str, untried: float) -> list[tuple[float, float]]:
        """Of each plan its score and its gain on this puzzle."""
        lost = float("-inf")
        both = zip(self.scores[id], self.gains[id], strict=True)
        return [(untried, 0.0) if score is None else (score, lost if gain is None else gain) for score, gain in both]


def divide(ids: Sequence[str], seed: int, shares: Mapping[str, float]) -> dict[str, tuple[str, ...]]:
    """Ids by split: in an order drawn from the seed, cut by the shares (which add up to 1); each split sorted."""
    order = sorted(ids)
    Random(derive(seed, "arc splits")).shuffle(order)
    found, start, reached = {}, 0, 0.0
    for split, share in shares.items():
        reached += share
        end = round(reached * len(order))
        found[split] = tuple(sorted(order[start:end]))
        start = end
    return found


def write_record(path: Path, record: Record) -> None:
    """A line a puzzle, so that a file kept in a repository can be read and compared."""
    content = asdict(record)
    lines = []
    for key, value in content.items():
        if isinstance(value, dict):
            inner = ",\n".join(f"  {json.dumps(name)}: {json.dumps(own)}" for name, own in value.items())
            lines.append(f" {json.dumps(key)}: {{\n{inner}\n }}")
        elif isinstance(value, (tuple, list)):
            inner = ",\n".join(f"  {json.dumps(one)}" for one in value)
            lines.append(f" {json.dumps(key)}: [\n{inner}\n ]")
        else:
            lines.append(f" {json.dumps(key)}: {json.dumps(value)}")
    path.write_text("{\n" + ",\n".join(lines) + "\n}\n", encoding="utf-8")


def read_record(source: str) -> Record:
    """The record in a file, or one that comes with seal by its name. Raises UserError."""
    path = shipped_records().get(source, Path(source).expanduser())
    try:
        record = of_content(json.loads(path.read_text(encoding="utf-8")))
    except FileNotFoundError:
        raise UserError(f"{source}: no such record of plans; `seal arc solvable` makes one") from None
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise UserError(f"{source}: cannot be read as a record of plans ({type(error).__name__}: {error})") from None
    sizes = {len(own) for table in (record.scores, record.gains) for own in table.values()}
    if sizes - {len(record.plans)}:
        raise UserError(f"{source}: a puzzle has not one score for each of the {len(record.plans)} plans")
    return record


def of_content(content: Mapping[str, Any]) -> Record:
    """The record of which this is `asdict`, with lists for tuples as JSON has them."""
    return Record(
        content["model"],
        content["seed"],
        content.get("made", {}),  # a record of an earlier version has none
        tuple(content["plans"]),
        {id: tuple(own) for id, own in content["scores"].items()},
        {id: tuple(own) for id, own in content["gains"].items()},
        {split: tuple(ids) for split, ids in content["splits"].items()},
    )


def shipped_records() -> dict[str, Path]:
    """The records that come with seal, by name."""
    return {path.stem: path for path in sorted((data() / "arc").glob("*.json"))}
