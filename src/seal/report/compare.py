"""Do two runs differ? Paired by problem, condition by condition; released result files stand beside runs, and of `seal adapt`
the questions that both were asked.

What is measured of a side is a `Side`; `comparison` makes of two sides one document that JSON can hold, and every view (text,
HTML) is made of that document.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import combinations
from pathlib import Path

from seal.domains.passages import problem_id
from seal.edits import official
from seal.errors import UserError
from seal.loops.adapt import CONDITIONS
from seal.loops.continual import steps
from seal.loops.curve import CURVE
from seal.report.adapted import adapted, is_adapted
from seal.report.measured import Columns, Measure, clusters, difference, exact, f1, minus, phases, read, score
from seal.report.puzzles import correct_plans, of_puzzles
from seal.report.tables import Row
from seal.stats import FEWEST, Interval, mean
from seal.store import Store, keys

EDITED = "edited"
"""The condition of a result file: after its edits. It stands beside whichever condition the other side has."""
BESIDE: Mapping[str, Measure] = {"f1": f1, "exact": exact}
"""What is compared beside the score, by its name in a row."""
UNMEASURED: Mapping[str, Mapping[str, Columns]] = {of: {} for of in BESIDE}
"""Of a side where nobody measured them."""


@dataclass(frozen=True, slots=True)
class Side:
    """What was measured, by condition and problem id."""

    name: str
    scores: Mapping[str, Columns]
    """By condition (`dev/seal` where a run has several evaluations)."""
    beside: Mapping[str, Mapping[str, Columns]]
    """The same of each of `BESIDE`; no condition where nobody measured it."""
    clusters: Mapping[str, str]
    unit: str = "passage"
    """What is paired: a passage, a puzzle (its score is then the share of its plans that are correct), or a question of a file
    that does not say which passage it belongs to."""
    shared: frozenset[str] = frozenset()
    """Conditions whose problems all went through the same trainings (continued pretraining, an adapter of `seal adapt`)."""
    passages: Mapping[str, str] = field(default_factory=dict)
    """Of `seal adapt`: the passage of each question. `scores` and what is `beside` are then by question, until it is known which
    of them the other side was asked too."""
    asked: Mapping[str, frozenset[tuple[str, str]]] = field(default_factory=dict)
    """Of a run: each problem's questions with their target answers. No file says them."""
    cluster: str = "article"
    """What several problems come from."""
    notes: tuple[str, ...] = ()
    """What has to be said wherever it is compared."""
    path: Path | None = None
    """Of a single run: where it is."""
    only: str = ""
    """The one condition to compare, whatever the other side's is called; empty: all that both sides have."""


def of_run(path: Path) -> Side:
    """A run: every condition it measured. Raises UserError for a run of no such table."""
    with Store.open(path, write=False) as store:
        if store.get_state(keys.ADAPT_ROUNDS):
            return _of_adapted(store)
        if steps(store):
            raise UserError(f"{path} learnt in sequence, and has no table to compare; `seal continual {path}` shows what it has")
        problems = store.problems()
        asked = {id: frozenset((query.question, query.answer) for query in one.queries) for id, one in problems.items()}
        if of_puzzles(store):
            return Side(
                str(path), correct_plans(store), UNMEASURED, {id: id for id in problems}, "puzzle", asked=asked, path=path
            )
        found = {
            phase: read(store, phase, round)
            for (prefix, round), conditions in phases(store).items()
            if not prefix.startswith(CURVE)
            for phase in conditions.values()
        }

    def columns(measure: Measure) -> dict[str, Columns]:
        return {phase: one.columns(measure) for phase, one in found.items()}

    beside = {name: columns(measure) for name, measure in BESIDE.items()}
    shared = frozenset(phase for phase, one in found.items() if one.shared)
    return Side(str(path), columns(score), beside, clusters(problems), shared=shared, asked=asked, path=path)


def _of_adapted(store: Store) -> Side:
    """An adaptation: its last round's table, question by question."""
    if not is_adapted(store):
        raise UserError(f"{store.path} has not measured its adapter yet; the `seal adapt` command that began it goes on")
    problems, round = store.problems(), len(store.get_state(keys.ADAPT_ROUNDS))
    asked = {
        query.id: (id, f"{id}\n{query.question}\n{query.answer}")
        for id in store.base(CONDITIONS[0], round)
        for query in problems[id].queries
    }

    def columns(measure: Measure) -> dict[str, Columns]:
        return {
            condition: {
                asked[answer.query_id][1]: [measure(answer)]
                for answers in store.base(condition, round).values()
                for answer in answers
            }
            for condition in CONDITIONS
        }

    name, notes = str(store.path), []
    if not adapted(store)["held_out"]:
        notes.append(f"{name} chose its edits by these questions: what its adapter answers is too good to be believed")
    return Side(
        name,
        columns(score),
        {name: columns(measure) for name, measure in BESIDE.items()},
        clusters(problems),
        shared=frozenset(one for one in CONDITIONS if one.startswith("adapter")),
        passages={key: id for id, key in asked.values()},
        cluster="document",
        notes=tuple(notes),
        path=store.path,
    )


def of_file(path: Path) -> Side:
    """A released result file: `base`, and `edited` after its edits. Raises UserError if it is none."""
    graded = official.read_pooled(path)
    if graded is not None:
        names = [f"question {number}" for number in range(1, len(graded) + 1)]
        base = {name: [float(before)] for name, (before, _) in zip(names, graded, strict=True)}
        edited = {name: [float(after)] for name, (_, after) in zip(names, graded, strict=True)}
        own = {name: name for name in names}
        return Side(str(path), {"base": base, EDITED: edited}, UNMEASURED, own, "question", frozenset([EDITED]))
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
    return Side(str(path), scores, UNMEASURED, titles)


def together(sides: Sequence[Side]) -> Side:
    """Several runs of one recipe, each with a seed of its own, as one side: the runs are resampled as the passages are, of which
    those that they were not asked the same of are left out. Raises UserError where a run is named twice, no condition, or of
    adaptations no question, is common to all, or files of continued pretraining differ in how many questions they have."""
    if len(sides) == 1:
        return sides[0]
    _refuse_named_twice(sides)
    name = " + ".join(side.name for side in sides)
    passages = {key: id for key, id in sides[0].passages.items() if all(key in side.passages for side in sides)}
    if any(side.passages for side in sides) and not passages:
        raise UserError(f"{name}: no question that all of them were asked, so they cannot be one side")
    if len(_by_place(sides)) > 1:
        raise UserError(f"{name}: they have different numbers of questions, so they cannot be one side")
    common = [name for name in sides[0].scores if all(name in side.scores for side in sides)]
    if not common:
        raise UserError(f"{name}: no condition that all of them measured, so they cannot be one side")
    unlike = {id for one, other in combinations(sides, 2) for id in _unlike(one, other) & _measured(one) & _measured(other)}
    sides = [_without(unlike, side) for side in sides]
    return replace(
        sides[0],
        name=name,
        scores=_joined([side.scores for side in sides], common),
        beside={of: _joined([side.beside[of] for side in sides], common) for of in BESIDE},
        clusters={id: cluster for side in sides for id, cluster in side.clusters.items()},
        shared=frozenset.union(*(side.shared for side in sides)),
        passages=passages,
        asked={id: asked for side in sides for id, asked in side.asked.items()},
        notes=(*_not_alike(unlike, sides[0]), *(note for side in sides for note in side.notes)),
        path=None,
    )


def _refuse_named_twice(sides: Sequence[Side]) -> None:
    places = [Path(side.name).resolve() for side in sides]
    for number, (side, place) in enumerate(zip(sides, places, strict=True)):
        if place in places[:number]:
            raise UserError(f"{side.name} is named twice; each run is one training, so name it once")


def _joined(found: Sequence[Mapping[str, Columns]], conditions: Sequence[str]) -> dict[str, Columns]:
    """Those of these conditions that all of `found` have, with the values of all of them for the problems that all have."""

    def columns(condition: str) -> Columns:
        own = [one[condition] for one in found]
        return {id: [value for one in own for value in one[id]] for id in own[0] if all(id in one for one in own)}

    return {name: columns(name) for name in conditions if all(name in one for one in found)}


def only(side: Side, condition: str) -> Side:
    """The side with one condition alone, to be compared with one of the other side. Raises UserError if it has no such."""
    if condition not in side.scores:
        has = ", ".join(side.scores) or "measured nothing yet"
        raise UserError(f"{side.name} has no condition {condition!r}; it has {has}")
    return replace(
        side,
        name=f"{side.name}:{condition}",
        scores={condition: side.scores[condition]},
        beside={of: {name: columns for name, columns in found.items() if name == condition} for of, found in side.beside.items()},
        shared=side.shared & {condition},
        only=condition,
    )


def comparison(a: Side, b: Side) -> Row:
    """One document: `a`, `b` (names), `unit`, `cluster` (what several of them come from), `table` with a row for each condition
    both sides have (of two `only` sides: `seal - untrained`), and `notes`.

    A row, over the problems that both sides have a score of (by the same questions, as far as is known): `a`, `b` (mean scores),
    `mean`, `low`, `high` (of `a - b`, problem by problem, with the 95% interval, problems resampled one by one, as the paper's
    results are read), `by_title` (the same, articles resampled whole; None where no two problems share one), `f1`, `exact`, `n`,
    `articles`, and `differ`: both intervals leave 0 out; None where that can't be said, since there are fewer than six articles
    (or problems, where none share one), or all problems of a side went through one training and another would move them together.

    Two adaptations are compared on the questions that both were asked, as means over passages; where they were asked none in
    common a row has the two means alone, and so it is with two files of continued pretraining that differ in how many there are,
    as these are paired by their place. Raises UserError if one side is an adaptation and the other is not, or they have no
    passage in common, or one side names its condition and the other does not.
    """
    if bool(a.only) != bool(b.only):
        raise UserError(f"{a.name} and {b.name}: name a condition of both, as in RUN:seal RUN:untrained, or of neither")
    if a.passages or b.passages:
        return _of_two_adaptations(a, b)
    if len(_by_place([a, b])) > 1:
        rows = [{"condition": name, **_apart(a, b, mine, theirs)} for name, mine, theirs in _shared_conditions(a, b)]
        said = " and ".join(f"{side.name} has {count} questions" for side in (a, b) for count in _by_place([side]))
        return _document(a, b, rows, [f"{said}, which cannot be the same: each mean is over its own, and nothing is paired"])
    notes, unlike = _notes(a, b), _unlike(a, b)
    a, b = (_without(unlike, side) for side in (a, b))
    rows = []
    for name, mine, theirs in _shared_conditions(a, b):
        both = [id for id in a.scores[mine] if id in b.scores[theirs]]
        if both:
            rows.append({"condition": name, **_row(a, b, mine, theirs, both)})
    return _document(a, b, rows, notes)


def _document(a: Side, b: Side, rows: Sequence[Row], notes: Sequence[str]) -> Row:
    said = [*notes, *_unknown(rows, a), *a.notes, *b.notes]
    return {"a": a.name, "b": b.name, "unit": a.unit, "cluster": a.cluster, "table": rows, "notes": said}


def _unknown(rows: Sequence[Row], side: Side) -> list[str]:
    """Why of some rows it is not known whether they differ: what they are of is too few."""
    few = dict.fromkeys(
        (row["articles"], side.cluster if row["articles"] < row["n"] else side.unit)
        for row in rows
        if 0 < row["articles"] < FEWEST
    )
    return [
        f"{count} {what}{'s are' if count > 1 else ' is'} too few to say whether they differ; {FEWEST} are the least"
        for count, what in few
    ]


def _unlike(a: Side, b: Side) -> set[str]:
    """The problems that the two were not asked the same questions about."""
    return {id for id, asked in a.asked.items() if b.asked.get(id, asked) != asked}


def _without(ids: Collection[str], side: Side) -> Side:
    """The side without these problems."""

    def rest(found: Mapping[str, Columns]) -> dict[str, Columns]:
        return {name: {id: values for id, values in columns.items() if id not in ids} for name, columns in found.items()}

    return replace(side, scores=rest(side.scores), beside={of: rest(found) for of, found in side.beside.items()})


def _not_alike(unlike: Collection[str], side: Side) -> list[str]:
    """That these problems are in no number, and why."""
    return [f"{_counted(len(unlike), side.unit)} left out: not asked the same questions in all runs"] if unlike else []


def _counted(count: int, what: str) -> str:
    """`1 passage`, `2 passages`."""
    return f"{count} {what}{'' if count == 1 else 's'}"


def _by_place(sides: Sequence[Side]) -> set[int]:
    """How many questions the sides have that are known by their place in a file alone."""
    return {len(found) for side in sides if side.unit == "question" for found in side.scores.values()}


def _of_two_adaptations(a: Side, b: Side) -> Row:
    if not (a.passages and b.passages):
        one, other = (a, b) if a.passages else (b, a)
        raise UserError(f"{one.name} is of `seal adapt` and {other.name} is not: they have no condition in common")
    if not {*a.passages.values()} & {*b.passages.values()}:
        raise UserError(f"{a.name} and {b.name} have nothing in common: no passage that both were asked about")
    both = [key for key in a.passages if key in b.passages]
    if not both:
        one, other = (_by_passage(side, list(side.passages)) for side in (a, b))
        rows = [{"condition": name, **_apart(one, other, mine, theirs)} for name, mine, theirs in _shared_conditions(a, b)]
        return _document(a, b, rows, ["no question was asked in both: each mean is over its run's own, and nothing is paired"])
    one, other = (_by_passage(side, both) for side in (a, b))
    rows = [
        {"condition": name, **_row(one, other, mine, theirs, list(one.scores[mine]))}
        for name, mine, theirs in _shared_conditions(a, b)
    ]
    left = [f"{len(side.passages) - len(both)} of {side.name}" for side in (a, b) if len(side.passages) > len(both)]
    notes = [f"on the {len(both)} questions that both were asked, paired by passage" + "".join(f"; left out: {x}" for x in left)]
    return _document(a, b, rows, [*notes, *_notes(one, other)])


def _by_passage(side: Side, keys: Sequence[str]) -> Side:
    """The side with these questions alone, as means over each passage's; apart for each run that is joined in it."""

    def folded(found: Mapping[str, Columns]) -> dict[str, Columns]:
        own: dict[str, list[str]] = {}
        for key in keys:
            own.setdefault(side.passages[key], []).append(key)
        return {
            name: {id: [mean(values) for values in zip(*(columns[key] for key in of), strict=True)] for id, of in own.items()}
            for name, columns in found.items()
        }

    beside = {of: folded(found) for of, found in side.beside.items()}
    return replace(side, scores=folded(side.scores), beside=beside, passages={})


def _apart(a: Side, b: Side, mine: str, theirs: str) -> Row:
    """Two means of different questions, which is all that can be said."""
    means = [mean(mean(values) for values in side.scores[name].values()) for side, name in ((a, mine), (b, theirs))]
    nothing = dict.fromkeys(("mean", "low", "high", "by_title", *BESIDE, "differ"))
    return {"a": means[0], "b": means[1], **nothing, "n": 0, "articles": 0}


def _shared_conditions(a: Side, b: Side) -> list[tuple[str, str, str]]:
    """The name of each row, and what it is called on either side."""
    if a.only and b.only:
        return [(minus(a.only, b.only), a.only, b.only)]
    pairs = [(name, name, name) for name in a.scores if name in b.scores]
    if EDITED in a.scores and EDITED not in b.scores:
        pairs += [(name, EDITED, name) for name in b.scores if not name.endswith(("base", "in_context"))]
    if EDITED in b.scores and EDITED not in a.scores:
        pairs += [(name, name, EDITED) for name in a.scores if not name.endswith(("base", "in_context"))]
    return pairs


def _row(a: Side, b: Side, mine: str, theirs: str, shared: Sequence[str]) -> Row:
    """`shared`: the problems that both sides asked; those without a score on one of them are in no number."""
    one, other = a.scores[mine], b.scores[theirs]
    both = [id for id in shared if mean(one[id]) is not None and mean(other[id]) is not None]
    named = {**a.clusters, **b.clusters}
    articles = len({named[id] for id in both})
    loose = difference(one, other, None)
    whole = difference(one, other, named) if articles < len(both) else None
    once = any(name in side.shared and len(side.scores[name][id]) == 1 for side, name in ((a, mine), (b, theirs)) for id in both)
    verdict = all(_leaves_out_0(one) for one in (loose, whole) if one is not None)
    beside = {of: (a.beside[of].get(mine), b.beside[of].get(theirs)) for of in BESIDE}
    return {
        "a": mean(mean(one[id]) for id in both),
        "b": mean(mean(other[id]) for id in both),
        **loose._asdict(),
        "by_title": whole and whole._asdict(),
        **{of: difference(x, y, named)._asdict() if x and y else None for of, (x, y) in beside.items()},
        "n": len(both),
        "articles": articles,
        "differ": None if once or articles < FEWEST else verdict,
    }


def _leaves_out_0(found: Interval) -> bool:
    return found.low is not None and found.high is not None and (found.low > 0 or found.high < 0)


def _notes(a: Side, b: Side) -> list[str]:
    notes = []
    for side, other in ((a, b), (b, a)):
        mine, theirs = (_measured(one) for one in (side, other))
        if mine - theirs:
            notes.append(f"{_counted(len(mine - theirs), side.unit)} of {side.name} left out: not in {other.name}")
    notes += _not_alike(_unlike(a, b) & _measured(a) & _measured(b), a)
    if a.shared or b.shared:
        notes.append(
            "one training for all of a side's passages: what another would give is in the intervals only if there were more"
        )
    compared = [one for _, mine, theirs in _shared_conditions(a, b) for one in ((a, mine), (b, theirs))]
    if any(side.path and name.rpartition("/")[2] == "seal" for side, name in compared):
        notes.append(
            "a run is one policy: what another seed's would answer is not in the intervals; join several of a side by commas"
        )
    return notes


def _measured(side: Side) -> set[str]:
    """Every problem that one of the side's conditions has."""
    return {id for found in side.scores.values() for id in found}
