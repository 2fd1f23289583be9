"""Small charts as SVG text for an HTML page, whose style sheet colours them by class (`c0` to `c8`, `axis`, `grid`, `level`)."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

from markupsafe import Markup, escape

from seal.report.tables import Row

Point = tuple[float, float | None]
WIDTH, LEFT, RIGHT, TOP, BOTTOM = 760, 52, 212, 12, 34
"""Of a chart in pixels; what lies around its axes."""
COLOURS = 9
"""Of lines; more lines than that repeat them in other dashes (`dash1`, `dash2`)."""
LINE = 15
"""Between two labels."""
LETTER = 7
"""Of a label, about."""


@dataclass(frozen=True, slots=True)
class Dot:
    """One self-edit in a strip plot."""

    value: float
    kept: bool
    title: str
    """Shown where the mouse rests."""


def lines(
    series: Mapping[str, Sequence[Point]],
    levels: Mapping[str, float],
    what: str,
    width: int = WIDTH,
    height: int = 320,
    unit: str = "round",
) -> Markup:
    """Numbers by round, or by another `unit`, as lines with dots, and `levels` across as dashed lines; named at the right end if
    there are several."""
    places = sorted({int(x) for points in series.values() for x, _ in points})
    values = [y for points in series.values() for _, y in points if y is not None] + list(levels.values())
    if not values:
        return Markup("")
    axis = _Axis.over(values, TOP, height - BOTTOM)
    right = width - (RIGHT if len(series) + len(levels) > 1 else 12)
    across = _Axis(places[0] - 0.4, places[-1] + 0.4, LEFT, right)
    parts = [_ruled(axis, right)]
    names: list[tuple[float, str, str]] = []
    for name, points in series.items():
        known = [(across.at(x), axis.at(y), x, y) for x, y in points if y is not None]
        if known:
            colour = _style(len(names))
            path = " ".join(f"{x:.1f},{y:.1f}" for x, y, _, _ in known)
            parts.append(f'<polyline class="series {colour}" points="{path}"/>')
            parts += [_dot(x, y, 4, f"dot {colour}", f"{name}, {unit} {at:g}: {value:.4g}") for x, y, at, value in known]
            names.append((known[-1][1], name, f"series {colour}"))
    for name, value in levels.items():
        y, kind = axis.at(value), f"level {_style(len(names))}"
        parts.append(_across(kind, LEFT, right, y))
        names.append((y, f"{name} {value:.3f}", kind))
    labels = [(across.at(place), f"{unit} {place}" if len(places) < 7 else str(place)) for place in places]
    parts += [_text(x, height - 14, label, "middle") for x, label in _thinned(labels)]
    if len(names) > 1:
        for (_, name, kind), y in zip(names, _spread([y for y, _, _ in names], height - BOTTOM), strict=True):
            parts.append(_across(kind, right + 8, right + 26, y))
            parts.append(_text(right + 31, y + 4, name, "start", f"name {kind.partition(' ')[2]}"))
    return _svg(parts, height, f"{what} by {unit}", width)


def _thinned(labels: Sequence[tuple[float, str]]) -> Sequence[tuple[float, str]]:
    """Labels at their pixels, each in the middle: all, or the last and every second, third, ... before it, so that none overlaps
    another."""
    for every in range(1, len(labels)):
        shown = labels[::-1][::every]
        if all(after - before >= LETTER * (len(one) + len(other) + 1) / 2 for (after, one), (before, other) in pairwise(shown)):
            return shown
    return labels[-1:]


def _style(number: int) -> str:
    again, colour = divmod(number, COLOURS)
    return f"c{colour} dash{again}" if again else f"c{colour}"


def _across(kind: str, start: float, end: float, y: float) -> str:
    return f'<line class="{kind}" x1="{start:.1f}" x2="{end:.1f}" y1="{y:.1f}" y2="{y:.1f}"/>'


def strip(
    groups: Sequence[tuple[str, Sequence[Dot]]], span: Sequence[float], what: str, noise: float | None = None, height: int = 220
) -> Markup:
    """Every value of every group as a dot in the group's column, kept ones filled; the axis holds all of `span`.

    `noise`: a standard deviation, drawn as a band about each group's mean.
    """
    if not any(dots for _, dots in groups):
        return Markup("")
    bands = [_band(dots, noise) for _, dots in groups]
    axis = _Axis.over([*span, *(end for band in bands if band for end in band)], TOP, height - BOTTOM)
    step = (WIDTH - LEFT - 12) / len(groups)
    parts = [_ruled(axis, WIDTH - 12)]
    for place, ((label, dots), band) in enumerate(zip(groups, bands, strict=True)):
        x = LEFT + step * (place + 0.5)
        if band:
            low, high = map(axis.at, band)
            box = f'x="{x - 0.4 * step:.1f}" y="{high:.1f}" width="{0.8 * step:.1f}" height="{low - high:.1f}"'
            parts.append(f'<rect class="noise" {box}/>')
        parts.append(f'<line class="grid" x1="{x:.1f}" x2="{x:.1f}" y1="{TOP}" y2="{height - BOTTOM}"/>')
        seen: dict[float, int] = {}
        for dot in sorted(dots, key=lambda one: not one.kept):
            again = seen[dot.value] = seen.get(dot.value, -1) + 1  # equal values stand side by side
            aside = min(7.0, step / 6) * math.ceil(again / 2) * (1 if again % 2 else -1)
            parts.append(_dot(x + aside, axis.at(dot.value), 4 if dot.kept else 3, "kept" if dot.kept else "left", dot.title))
        if len(groups) <= 40:
            size = max(3, int(step / 7))
            parts.append(_text(x, height - 14, label if len(label) <= size else label[: size - 1] + "…", "middle"))
    return _svg(parts, height, what)


def _band(dots: Sequence[Dot], deviation: float | None) -> tuple[float, float] | None:
    if deviation is None or not dots:
        return None
    middle = sum(dot.value for dot in dots) / len(dots)
    return middle - deviation, middle + deviation


def intervals(rows: Sequence[tuple[str, Row]], what: str) -> Markup:
    """A mean with its 95% interval a line, or alone where it has none: `rows` are names and what `interval` found."""
    known = [(name, row) for name, row in rows if row["mean"] is not None]
    if not known:
        return Markup("")
    left, height = max(170, 20 + LETTER * max(len(name) for name, _ in known)), TOP + 26 * len(known) + BOTTOM
    axis = _Axis.over(
        [row[end] for _, row in known for end in ("low", "mean", "high") if row[end] is not None], left, WIDTH - 24, upwards=False
    )
    parts = []
    for tick in axis.ticks():
        x = axis.at(tick)
        parts.append(f'<line class="grid" x1="{x:.1f}" x2="{x:.1f}" y1="{TOP}" y2="{height - BOTTOM}"/>')
        parts.append(_text(x, height - 14, f"{tick:g}", "middle"))
    for place, (name, row) in enumerate(known):
        y = TOP + 26 * place + 13
        ends, said = [axis.at(row[end]) for end in ("low", "high") if row[end] is not None], f"{name}: {row['mean']:.3f}"
        parts.append(_text(left - 10, y + 4, name, "end"))
        if ends:
            parts.append(f'<line class="range" x1="{ends[0]:.1f}" x2="{ends[1]:.1f}" y1="{y}" y2="{y}"/>')
            said += f" [{row['low']:.3f}, {row['high']:.3f}]"
        parts.append(_dot(axis.at(row["mean"]), y, 5, "kept", said))
    return _svg(parts, height, what)


def heat(matrix: Sequence[Sequence[float | None]], what: str) -> Markup:
    """Scores of 0 to 1 as shaded cells: row 0 `base`, row i `after i`; the diagonal (just learnt) is framed, None left empty."""
    if not matrix:
        return Markup("")
    side = max(10, min(64, (WIDTH - LEFT - 12) // len(matrix[0])))
    width = max(WIDTH, LEFT + side * len(matrix[0]) + 12)  # of a long stream, whose cells are as small as can be
    tall, parts = min(side, 30), []
    for step, scores in enumerate(matrix):
        y = TOP + tall * step
        if step % math.ceil(LINE / tall) == 0:
            parts.append(_text(LEFT - 8, y + tall / 2 + 4, f"after {step}" if step else "base", "end"))
        for column, score in enumerate(scores):
            x = LEFT + side * column
            framed = " learnt" if step == column + 1 else ""
            shade = 0.0 if score is None else min(1.0, max(0.0, score))
            title = "not asked" if score is None else f"{score:.3f}"
            parts.append(
                f'<rect class="heat{framed}" x="{x}" y="{y}" width="{side - 2}" height="{tall - 2}" fill-opacity="{shade:.3f}">'
                f"<title>problem {column + 1}, {f'after step {step}' if step else 'before the stream'}: {title}</title></rect>"
            )
            if score is not None and side >= 40:
                parts.append(_text(x + side / 2 - 1, y + tall / 2 + 4, f"{score:.2f}", "middle", "number"))
    return _svg(parts, TOP + tall * len(matrix) + TOP, what, width)


@dataclass(frozen=True, slots=True)
class _Axis:
    """From numbers to pixels."""

    low: float
    high: float
    start: float
    end: float
    """Pixels of the lowest and the highest number."""

    @classmethod
    def over(cls, values: Sequence[float], first: float, last: float, upwards: bool = True) -> _Axis:
        """An axis that begins and ends at a tick and holds all values and 0; `first` and `last` are its pixels."""
        low, high = min(0.0, *values), max(0.0, *values)
        high = high if high > low else 1.0
        step = _step(high - low)
        low, high = math.floor(low / step + 1e-9) * step, math.ceil(high / step - 1e-9) * step
        return cls(low, high, *((last, first) if upwards else (first, last)))

    def at(self, value: float) -> float:
        """The pixel of a number."""
        return self.start + (value - self.low) / (self.high - self.low) * (self.end - self.start)

    def ticks(self) -> list[float]:
        """Round numbers, four or so."""
        step = _step(self.high - self.low)
        return [self.low + step * place for place in range(round((self.high - self.low) / step) + 1)]


def _step(span: float) -> float:
    """1, 2 or 5 times a power of ten, about a quarter of the span."""
    power = 10.0 ** math.floor(math.log10(span / 4))
    return next(power * factor for factor in (1, 2, 5, 10) if power * factor >= span / 4 * 0.999)


def _spread(wanted: Sequence[float], lowest: float) -> list[float]:
    """The same heights, moved apart so that no two labels overlap, and none lies below `lowest`."""
    order = sorted(range(len(wanted)), key=lambda at: wanted[at])
    placed = list(wanted)
    for before, at in pairwise(order):
        placed[at] = max(placed[at], placed[before] + LINE)
    limit = lowest
    for at in reversed(order):
        placed[at] = min(placed[at], limit)
        limit = placed[at] - LINE
    return placed


def _ruled(axis: _Axis, right: float) -> str:
    parts = []
    for tick in axis.ticks():
        y = axis.at(tick)
        parts.append(f'<line class="grid" x1="{LEFT}" x2="{right}" y1="{y:.1f}" y2="{y:.1f}"/>')
        parts.append(_text(LEFT - 8, y + 4, f"{round(tick, 9):g}", "end"))
    return "".join(parts)


def _dot(x: float, y: float, radius: int, kind: str, title: str) -> str:
    return f'<circle class="{kind}" cx="{x:.1f}" cy="{y:.1f}" r="{radius}"><title>{escape(title)}</title></circle>'


def _text(x: float, y: float, text: str, anchor: str, kind: str = "axis") -> str:
    return f'<text class="{kind}" x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}">{escape(text)}</text>'


def _svg(parts: Sequence[str], height: int, what: str, width: int = WIDTH) -> Markup:
    head = f'<svg viewBox="0 0 {width} {height}" style="max-width:{width}px" role="img" aria-label="{escape(what)}">'
    return Markup(head + "".join(parts) + "</svg>")  # every text in it is escaped above
