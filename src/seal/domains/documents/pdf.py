"""PDF as headings and text: what recurs at the edges of pages is left out; headings are bookmarks, else lines in larger type."""

from __future__ import annotations

import logging
import re
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import reduce
from io import BytesIO
from itertools import pairwise
from typing import Any

from seal.domains.documents.blocks import Block, Document, Unreadable, needs

DEEPEST = 4
"""Most lines at either edge of a page that are left out: a header and a footer of two lines each may both come first."""
LARGER = 1.15
"""How much larger than the body a heading's type is at least."""
LONGEST = 120
"""Most characters of a heading, which may be broken over lines."""
FRONT = 3
"""The document's title is among the first lines, so many."""
LINE_APART = 1.5
"""Lines of one heading are at most so many times their size apart."""
_LIGATURES = dict(zip(range(0xFB00, 0xFB07), ("ff", "fi", "fl", "ffi", "ffl", "st", "st"), strict=True))


@dataclass(frozen=True, slots=True)
class _Line:
    text: str
    size: float = 0.0
    """Of most of its letters, in points; 0: not known."""
    least: float = 0.0
    """Of its smallest letters."""
    height: float = 0.0
    """Where it stands on its page, from below."""
    level: int = 0
    """Of a heading, as a block's."""


@dataclass(frozen=True, slots=True)
class _Type:
    """How a character is set."""

    size: float
    height: float


def pdf(data: bytes) -> Iterator[Document]:
    """PDF: the text of its pages, without headers, footers and page numbers.

    A line that is a bookmark's title on its page is a heading; where there is none, short lines in larger type are.
    """
    try:
        from pypdf import PdfReader
        from pypdf.errors import DependencyError
    except ImportError:
        raise needs("pypdf") from None
    logging.getLogger("pypdf").setLevel(logging.CRITICAL)  # it tells of every flaw it can read over
    try:
        reader = PdfReader(BytesIO(data))
        if reader.is_encrypted and not reader.decrypt(""):
            raise Unreadable("encrypted; save it without a password")
        marks = _bookmarks(reader, reader.outline)
        pages = [_lines(page) for page in reader.pages]
    except DependencyError:
        raise Unreadable("encrypted with AES; without a password it can be read after pip install 'pypdf[crypto]'") from None
    body = _body(pages)
    pages = [_marked(lines, marks.get(number, {})) for number, lines in enumerate(_without_running(pages, marks, body))]
    if body and not any(line.level for lines in pages for line in lines):
        pages = _by_size(pages, body)
    blocks = [block for lines in pages for block in _page(lines)]
    if not blocks:
        raise Unreadable("no text in it; pages that are pictures need text recognition first")
    yield Document(_stated(reader.metadata.title if reader.metadata else None), tuple(_flowing(blocks)))


_PROGRAM = re.compile(r"microsoft (?:word|powerpoint|excel|publisher) - ", re.IGNORECASE)
_NO_TITLE = re.compile(r"\(?(?:anonymous|unspecified|unknown|untitled|no title)\)?(?:[-_ ]*(?:document|\d+))*", re.IGNORECASE)
_FILE_NAME = re.compile(
    r"\.(?:docx?|dotx?|odt|rtf|wpd|pages|tex|dvi|ps|eps|pdf|indd|qxd|qxp|pmd|p65|fm|pub|cdr|pptx?|odp|xlsx?|ods|html?|md|txt|tmp"
    r"|jpe?g|png|tiff?)$",
    re.IGNORECASE,
)


def _stated(title: str | None) -> str | None:
    """The title in the file's metadata, if a person put it there: programs write their own, or a file's name."""
    named = _PROGRAM.sub("", " ".join(title.split()), count=1) if title else ""
    return None if not named or _NO_TITLE.fullmatch(named) or _FILE_NAME.search(named) else named


def _bookmarks(reader: Any, outline: list[Any], level: int = 1) -> dict[int | None, dict[str, int]]:
    """Levels by title, by page number."""
    found: dict[int | None, dict[str, int]] = {}
    for entry in outline:
        if isinstance(entry, list):
            for page, marks in _bookmarks(reader, entry, level + 1).items():
                found.setdefault(page, {}).update(marks)
        else:
            found.setdefault(reader.get_destination_page_number(entry), {})[" ".join(entry.title.split())] = min(level, 6)
    return found


# ---- lines and their type


def _lines(page: Any) -> list[_Line]:
    """A page's lines as pypdf has them, empty ones too."""
    pieces: list[tuple[str, _Type]] = []
    shown: list[tuple[float, float]] = []

    def show(operator: bytes, operands: Any, cm: Sequence[float], tm: Sequence[float]) -> None:
        if operator in (b"Tj", b"TJ", b"'", b'"'):
            shown.append(_placed(cm, tm))

    def take(text: str, cm: Sequence[float], tm: Sequence[float], font: Any, size: float) -> None:
        # a piece may be shown in several steps, each of another scale
        placed = shown or [_placed(cm, tm)]
        pieces.append((text, _Type(round(2 * abs(size) * min(scale for scale, _ in placed)) / 2, placed[-1][1])))
        shown.clear()

    texts = page.extract_text(visitor_operand_before=show, visitor_text=take).split("\n")
    types = _types(texts, pieces)
    return [_line(" ".join(text.split()), types) for text in texts]


def _placed(cm: Sequence[float], tm: Sequence[float]) -> tuple[float, float]:
    """How much larger than its font's size a text is, 0 if it does not stand upright, and its height on the page."""
    up, aslant = tm[2] * cm[1] + tm[3] * cm[3], tm[0] * cm[1] + tm[1] * cm[3]
    return (up if up > 100 * abs(aslant) else 0.0), tm[4] * cm[1] + tm[5] * cm[3] + cm[5]


def _types(texts: Sequence[str], pieces: Sequence[tuple[str, _Type]]) -> Iterator[_Type]:
    """The type of each character but white space; of none, where the pieces are not just the text."""
    bare = ["".join(text.split()) for text, _ in pieces]
    if "".join(bare) == "".join("".join(text.split()) for text in texts):
        for text, (_, type) in zip(bare, pieces, strict=True):
            for _ in text:
                yield type


def _line(text: str, types: Iterator[_Type]) -> _Line:
    """A line, with the next of the types, as many as it has characters; its ligatures as letters, half characters, which no file
    can hold, as U+FFFD."""
    own = list(zip(text.replace(" ", ""), types, strict=False))
    text = text.translate(_LIGATURES).encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    letters = [type for character, type in own if character.isalpha()] or [type for _, type in own]
    if not letters:
        return _Line(text)
    sizes = Counter(type.size for type in letters)
    return _Line(text, sizes.most_common(1)[0][0], min(sizes), letters[0].height)


def _body(pages: Sequence[Sequence[_Line]]) -> float:
    """The size that most characters have; 0 if it is less than half of them, so that nothing can be called large."""
    sizes: Counter[float] = Counter()
    for lines in pages:
        for line in lines:
            sizes[line.size] += len(line.text)
    size, count = max(sizes.items(), key=lambda one: one[1], default=(0.0, 0))
    return size if 2 * count >= sizes.total() else 0.0


def _is_large(line: _Line, body: float) -> bool:
    return body > 0 and line.least >= LARGER * body


# ---- what recurs at the edges of pages


def _without_running(
    pages: Sequence[Sequence[_Line]], marks: Mapping[int | None, Mapping[str, int]], body: float
) -> list[Sequence[_Line]]:
    """The pages without headers, footers and page numbers. A line is taken off an edge only where it is now the outermost."""
    left = [_trimmed(lines) for lines in pages]
    headings = [_once(lines) & marks.get(number, {}).keys() for number, lines in enumerate(left)]
    for edge, rest in ((0, slice(1, None)), (-1, slice(None, -1))):
        for _ in range(DEEPEST):
            edges = {number: lines[edge] for number, lines in enumerate(left) if lines}
            running = _running(edges, body)
            for number in running:
                if edges[number].text not in headings[number]:
                    left[number] = _trimmed(left[number][rest])
    return left


def _trimmed(lines: Sequence[_Line]) -> Sequence[_Line]:
    """Without the empty lines at either end."""
    full = [at for at, line in enumerate(lines) if line.text]
    return lines[full[0] : full[-1] + 1] if full else []


def _once(lines: Sequence[_Line]) -> set[str]:
    """The texts that are one line's alone."""
    return {text for text, count in Counter(line.text for line in lines).items() if count == 1}


def _running(edges: Mapping[int, _Line], body: float) -> set[int]:
    """The pages whose line at this edge, numbers aside, is that of half of all pages, or of all odd or all even ones.

    In large type, which is a heading's, numbers count (Lesson 1, Lesson 2). The size does too: a title is no header of its words.
    """
    alike: dict[tuple[str, float], list[int]] = defaultdict(list)
    for number, line in edges.items():
        alike[line.text if _is_large(line, body) else re.sub(r"\d+", "0", line.text), line.size].append(number)
    sides = [set(edges), {number for number in edges if number % 2}, {number for number in edges if not number % 2}]
    return {
        number
        for numbers in alike.values()
        if any(len(side.intersection(numbers)) >= max(3, len(side) / 2) for side in sides) and _goes_on(numbers, edges)
        for number in numbers
    }


def _goes_on(numbers: Sequence[int], edges: Mapping[int, _Line]) -> bool:
    """Whether from page to page, mostly, the lines stay as they are or a number in them counts the pages: dates do not."""
    pairs = [(two - one, edges[one].text, edges[two].text) for one, two in pairwise(numbers)]
    return 2 * sum(first == second or pages in _risen(first, second) for pages, first, second in pairs) > len(pairs)


def _risen(one: str, two: str) -> list[int]:
    """By how much each number in a line rises to that in the other."""
    numbers = [[int(digits) for digits in re.findall(r"\d{1,9}", text)] for text in (one, two)]
    return [after - before for before, after in zip(*numbers, strict=False)]


# ---- headings


def _marked(lines: Sequence[_Line], marks: Mapping[str, int]) -> list[_Line]:
    """The lines, those that are a bookmark's title as headings."""
    return [replace(line, level=marks.get(line.text, 0)) for line in lines]


def _by_size(pages: Sequence[Sequence[_Line]], body: float) -> list[list[_Line]]:
    """The pages with short lines in large type as headings, the largest of the highest level.

    Of level 1 is only what stands at the front of the first page, so no later heading is the document's title. Where a heading of
    its size comes right after it, as a first chapter's may, all others are one level further down.
    """
    found = [list(_large(lines, body)) for lines in pages]
    headings = [line for lines in found for line in lines if line.level]
    sizes = sorted({line.size for line in headings}, reverse=True)
    first = next((lines for lines in found if lines), [])
    front = next((line for line in first[:FRONT] if line.level), None)
    title = front if front and front.size == sizes[0] else None
    after = first[first.index(title) + 1 : first.index(title) + 2] if title else []
    below = 1 if title is None or any(line.level and line.size == title.size for line in after) else 0

    def level(line: _Line) -> int:
        return 1 if line is title else min(sizes.index(line.size) + 1 + below, 6)

    return [[replace(line, level=level(line)) if line.level else line for line in lines] for lines in found]


def _large(lines: Sequence[_Line], body: float) -> Iterator[_Line]:
    """The lines, those of a heading as one, of level 1."""
    for together in _runs(lines, lambda one, two: _is_large(one, body) and _is_large(two, body) and _is_next(one, two)):
        text = reduce(_continued, (line.text for line in together))
        if _is_large(together[0], body) and _is_heading(text):
            yield replace(together[0], text=text, level=1)
        else:
            yield from together


def _runs(lines: Sequence[_Line], belong: Callable[[_Line, _Line], bool]) -> Iterator[list[_Line]]:
    """The lines in runs of those that belong together with the one before."""
    run: list[_Line] = []
    for line in lines:
        if run and not belong(run[-1], line):
            yield run
            run = []
        run.append(line)
    if run:
        yield run


def _is_next(one: _Line, two: _Line) -> bool:
    """Whether two lines in large type are of one heading."""
    return one.size == two.size and 0 <= one.height - two.height <= LINE_APART * one.size


def _is_heading(text: str) -> bool:
    """Whether a text in large type reads like one: short, mostly letters, no sentence, no item of a list."""
    letters, bare = sum(map(str.isalpha, text)), text.replace(" ", "")
    words = re.search(r"[^\W\d_]{2}", text) and 2 * letters >= len(bare)
    ended = re.search(r"[.,;…。，；、][\"')\]’”]*$|(?:\. ?){4}", text)  # or led by dots to a page, in a table of contents
    return bool(words) and len(text) <= LONGEST and not ended and not text[0].islower() and text[0] not in "-–—*•‣▪●○“„\"'"


# ---- blocks


def _page(lines: Sequence[_Line]) -> list[Block]:
    """Blocks of a page: lines up to an empty one, or to a heading, are one."""
    blocks: list[Block] = []
    open_text: list[str] = []
    for line in [*lines, _Line("")]:
        if line.text and not line.level:
            open_text.append(line.text)
            continue
        if open_text:
            blocks.append(Block(reduce(_continued, open_text)))
            open_text = []
        if line.text:
            blocks.append(Block(line.text, line.level))
    return blocks


_HYPHENATED = re.compile(r"[^\W\d_][-\u2010\xad]$")


def _continued(text: str, line: str) -> str:
    """A text with its next line; a word that a hyphen parts there is one again."""
    return text[:-1] + line if line[0].islower() and _HYPHENATED.search(text) else f"{text} {line}"


def _flowing(blocks: list[Block]) -> Iterator[Block]:
    """The blocks; a text that breaks off within a sentence, as at a page's end, is one with the text after it."""
    last: Block | None = None
    for block in blocks:
        if last and not last.level and not block.level and last.text[-1] not in ".!?:;”\"')" and block.text[0].islower():
            last = Block(_continued(last.text, block.text))
            continue
        if last:
            yield last
        last = block
    if last:
        yield last
