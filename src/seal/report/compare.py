"""Do two runs differ? Paired by problem, condition by condition; released result files stand beside runs.

What is measured of a side is a `Side`; `comparison` makes of two sides one document that JSON can hold, and every view (text,
later HTML) is made of that document.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from seal.domains.passages import problem_id
from seal.edits import official
from seal.report.measured import Columns, clusters, difference, f1, phases, read, score
from seal.report.tables import CURVE, Row
from seal.stats import Interval, mean
from seal.store import Store

EDITED = "edited"
"""The condition of a result file: after its edits. It stands beside whichever condition the other side has."""


@dataclass(frozen=True, slots=True)
class Side:
    """What was measured, by condition and problem id."""

    name: str
    scores: Mapping[str, Columns]
    """By condition (`dev/seal` where a run has several evaluations)."""
    f1: Mapping[str, Columns]
    """The same; no condition where nobody measured it."""
    clusters: Mapping[str, str]
    unit: str = "passage"
    """What is paired: a passage, or a question of a file that does not say which passage it belongs to."""
    shared: frozenset[str] = frozenset()
    """Conditions whose problems all went through the same trainings (continued pretraining)."""


def of_run(path: Path) -> Side:
    """A run: every condition it measured."""
    with Store.open(path, write=False) as store:
        found = {
            phase: read(store, phase, round)
            for (prefix, round), conditions in phases(store).items()
            if not prefix.startswith(CURVE)
            for phase in conditions.values()
        }
        named = clusters(store.problems())
    scores, f1s = ({phase: one.columns(measure) for phase, one in found.items()} for measure in (score, f1))
    return Side(str(path), scores, f1s, named, shared=frozenset(phase for phase, one in found.items() if one.shared))


def of_file(path: Path) -> Side:
    """A released result file: `base`, and `edited` after its edits. Raises UserError if it is none."""
    graded = official.read_pooled(path)
    if graded is not None:
        names = [f"question {number}" for number in range(1, len(graded) + 1)]
        base = {name: [float(before)] for name, (before, _) in zip(names, graded, strict=True)}
        edited = {name: [float(after)] for name, (_, after) in zip(names, graded, strict=True)}
        return Side(
            str(path), {"base": base, EDITED: edited}, {}, {name: name for name in names}, "question", frozenset([EDITED])
        )
    before: dict[str, list[float | None]] = {}
    after: dict[str, list[float | None]] = {}
    titles = {}
    for article in official.read_scored(path):
        id = problem_id(article.title, article.context)
        titles[id] = article.title
        for edit in article.edits:
            if edit.score is not None and edit.gain is not None:
                after.setdefault(id, []).append(edit.score)
                before.setdefault(id, []).append(edit.score - edit.gain)
    scores = {name: {id: [mean(values)] for id, values in found.items()} for name, found in (("base", before), (EDITED, after))}
    return Side(str(path), scores, {}, titles)


def together(sides: Sequence[Side]) -> Side:
    """Several runs of one recipe, each with a seed of its own, as one side: the runs are resampled as the passages are."""
    if len(sides) == 1:
        return sides[0]
    common = [name for name in sides[0].scores if all(name in side.scores for side in sides)]

    def joined(found: Sequence[Mapping[str, Columns]]) -> dict[str, Columns]:
        shared = [name for name in common if all(name in one for one in found)]
        return {
            name: {
                id: [value for one in found for value in one[name][id]]
                for id in found[0][name]
                if all(id in one[name] for one in found)
            }
            for name in shared
        }

    named = {id: cluster for side in sides for id, cluster in side.clusters.items()}
    scores, f1s = joined([side.scores for side in sides]), joined([side.f1 for side in sides])
    return Side(
        " + ".join(side.name for side in sides),
        scores,
        f1s,
        named,
        sides[0].unit,
        frozenset.union(*(side.shared for side in sides)),
    )


def comparison(a: Side, b: Side) -> Row:
    """One document: `a`, `b` (names), `unit`, `table` with a row for each condition both sides have, and `notes`.

    A row: `a`, `b` (mean scores), `mean`, `low`, `high` (of `a - b`, problem by problem, with the 95% interval, problems
    resampled one by one, as the paper's results are read), `by_title` (the same, articles resampled whole; None where no two
    problems share one), `f1`, `n`, `articles`, and `differ`: both intervals leave 0 out; None where that can't be said, since
    all problems of a side went through one training and another would move them together.
    """
    rows = []
    for name, mine, theirs in _shared_conditions(a, b):
        both = [id for id in a.scores[mine] if id in b.scores[theirs]]
        if both:
            rows.append({"condition": name, **_row(a, b, mine, theirs, both)})
    return {"a": a.name, "b": b.name, "unit": a.unit, "table": rows, "notes": _notes(a, b)}


def _shared_conditions(a: Side, b: Side) -> list[tuple[str, str, str]]:
    """The name of each row, and what it is called on either side."""
    pairs = [(name, name, name) for name in a.scores if name in b.scores]
    if EDITED in a.scores and EDITED not in b.scores:
        pairs += [(name, EDITED, name) for name in b.scores if not name.endswith(("base", "in_context"))]
    if EDITED in b.scores and EDITED not in a.scores:
        pairs += [(name, name, EDITED) for name in a.scores if not name.endswith(("base", "in_context"))]
    return pairs


def _row(a: Side, b: Side, mine: str, theirs: str, both: Sequence[str]) -> Row:
    named = {**a.clusters, **b.clusters}
    articles = len({named[id] for id in both})
    loose = difference(a.scores[mine], b.scores[theirs], None)
    whole = difference(a.scores[mine], b.scores[theirs], named) if articles < len(both) else None
    once = any(name in side.shared and len(side.scores[name][both[0]]) == 1 for side, name in ((a, mine), (b, theirs)))
    verdict = all(_leaves_out_0(one) for one in (loose, whole) if one is not None)
    in_f1 = mine in a.f1 and theirs in b.f1
    return {
        "a": mean(mean(a.scores[mine][id]) for id in both),
        "b": mean(mean(b.scores[theirs][id]) for id in both),
        **loose._asdict(),
        "by_title": whole and whole._asdict(),
        "f1": difference(a.f1[mine], b.f1[theirs], named)._asdict() if in_f1 else None,
        "n": sum(mean(a.scores[mine][id]) is not None and mean(b.scores[theirs][id]) is not None for id in both),
        "articles": articles,
        "differ": None if once or loose.mean is None else verdict,
    }


def _leaves_out_0(found: Interval) -> bool:
    return found.low is not None and found.high is not None and (found.low > 0 or found.high < 0)


def _notes(a: Side, b: Side) -> list[str]:
    notes = []
    for side, other in ((a, b), (b, a)):
        mine, theirs = ({id for found in one.scores.values() for id in found} for one in (side, other))
        if mine - theirs:
            notes.append(f"{len(mine - theirs)} {side.unit}s of {side.name} left out: {other.name} does not have them")
    if a.shared or b.shared:
        notes.append(
            "one training for all of a side's passages: what another would give is in the intervals only if there were more"
        )
    return notes
