"""One reader a kind of file: its bytes -> documents as headings and text. Markdown is read in `markdown.py`, PDF in `pdf.py`, and
HTML, also what becomes HTML, in `html.py`."""

from __future__ import annotations

import codecs
import re
from collections.abc import Callable, Iterator, Sequence
from io import BytesIO
from typing import Any

from seal import files
from seal.domains.documents.blocks import Block, Document, Unreadable, needs
from seal.domains.documents.pdf import pdf
from seal.domains.passages import asked_of
from seal.errors import UserError

Reader = Callable[[bytes], Iterator[Document | str]]
"""Documents, and as text why a part could not be read. Raises Unreadable if all of it cannot."""


_MARKS = {
    **dict.fromkeys((codecs.BOM_UTF32_LE, codecs.BOM_UTF32_BE), "utf-32"),
    **dict.fromkeys((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE), "utf-16"),
}
"""By the byte-order mark a text begins with, as Notepad and PowerShell write it; UTF-32's begins with UTF-16's."""


def decoded(data: bytes, encoding: str | None = None) -> str:
    """The bytes as text, line ends as \\n; without an encoding that of their byte-order mark, else UTF-8. Raises Unreadable."""
    encoding = encoding or next((name for mark, name in _MARKS.items() if data.startswith(mark)), "utf-8-sig")
    try:
        text = data.decode(encoding)
    except UnicodeDecodeError as error:
        way = "; save it as UTF-8" if encoding.startswith("utf-") else ""
        raise Unreadable(f"not {encoding.removesuffix('-sig').upper()} text (byte {error.start}){way}") from None
    if "\0" in text:
        raise Unreadable("not text (it has a zero byte); if it is UTF-16, save it as UTF-8")
    return text.replace("\r\n", "\n").replace("\r", "\n")


_RULE = re.compile(r"(={3,}|-{3,})\s*")
_LONGEST = 80
"""Most characters of a line of plain text that is a heading."""
_ENDED = re.compile(r"[.,;:!?…。！？、，；：][\"')\]’”]*$")
_ITEM = re.compile(r"(?:[-*+•>|]|\d+[.)])\s")
_COLUMNS = re.compile(r"\S(?:\s{2,}|\s*[|\t]\s*)\S")
"""Words set apart, as in a table's first row, which a line is ruled under too."""


def plain(data: bytes) -> Iterator[Document]:
    """Plain text: a line underlined with = or - is a heading; else a first line that stands by itself is the title."""
    lines = decoded(data).split("\n")
    first = next((at for at, line in enumerate(lines) if line.strip()), len(lines))
    titled = any(map(str.strip, lines[first + 1 :])) and not lines[first + 1].strip() and _is_title(lines[first].strip())
    blocks = [Block(lines[first].strip(), 1)] if titled else []
    start = at = first + titled
    while at < len(lines):
        if level := _underlined(lines, at, start):
            blocks += [Block("\n".join(lines[start:at]).strip("\n")), Block(lines[at].strip(), level + titled)]
            start = at = at + 2
        else:
            at += 1
    yield Document(None, (*blocks, Block("\n".join(lines[start:]).strip("\n"))))


def _is_title(line: str) -> bool:
    """Whether a line that stands by itself reads like a title, not like a sentence, an address or an item of a list."""
    return len(line) <= _LONGEST and any(map(str.isalpha, line)) and not _ENDED.search(line) and not _ITEM.match(line)


def _underlined(lines: Sequence[str], at: int, start: int) -> int:
    """The level of the line as a heading: 1 over =, 2 over -; 0: it is text. `start`: the first line after the last heading.

    A paragraph's last line is none, nor is a sentence over -, which is a rule between paragraphs, nor a table's first row.
    """
    line, rule = lines[at].strip(), _RULE.fullmatch(lines[at + 1]) if at + 1 < len(lines) else None
    if rule is None or not any(map(str.isalnum, line)) or len(line) > _LONGEST or (at > start and lines[at - 1].strip()):
        return 0
    if _COLUMNS.search(line) or (rule[1][0] == "-" and re.search(r"[.,;]$", line)):
        return 0
    return 1 if rule[1][0] == "=" else 2


def markdown(data: bytes) -> Iterator[Document]:
    """Markdown: its headings, and its text without the marks."""
    from seal.domains.documents.markdown import document

    yield document(decoded(data))


def json_lines(data: bytes) -> Iterator[Document | str]:
    """JSON lines: objects with `text` or `context`, a `title` if they like, and `questions` with `question` and `answer`."""
    for number, line in enumerate(decoded(data).split("\n"), 1):
        if line.strip():
            try:
                yield _row(files.loads(line, f"line {number}", line=True), f"line {number}")
            except UserError as error:
                yield str(error)


def _row(row: Any, where: str) -> Document:
    text = files.text(row, "context" if isinstance(row, dict) and "context" in row else "text", where)
    title = files.text(row, "title", where) if "title" in row else None
    questions = files.records(row, "questions", where) if "questions" in row else []
    asked = tuple(asked_of(one, f"{where}, question {at}") for at, one in enumerate(questions, 1))
    return Document(title, (Block(text),), asked, where)


_MEANT = {
    **dict.fromkeys(("ascii", "iso8859-1", "cp1252"), ("iso8859-1", "cp1252")),
    **dict.fromkeys(("iso8859-9", "cp1254"), ("iso8859-9", "cp1254")),
}
"""By what is stated: an ISO code, and the Windows code that is meant where the ISO one has control characters, which stay at the
bytes that Windows does not define."""
_CONTROLS = range(0x80, 0xA0)


def html(data: bytes) -> Iterator[Document]:
    """HTML, by the encoding it states itself, else UTF-8.

    As in browsers ISO-8859-1 and ASCII mean windows-1252, ISO-8859-9 means windows-1254
    (https://encoding.spec.whatwg.org/#names-and-labels), and UTF-16, which is not what could be read of it so far, means UTF-8.
    """
    try:
        from bs4.dammit import EncodingDetector

        from seal.domains.documents.html import page
    except ImportError:
        raise needs("beautifulsoup4") from None
    stated = EncodingDetector.find_declared_encoding(data, is_html=True) or "utf-8"
    try:
        name = codecs.lookup(stated).name
        if name in _MEANT:
            iso, windows = _MEANT[name]
            text = decoded(data, iso).translate({at: bytes([at]).decode(windows, "ignore") or chr(at) for at in _CONTROLS})
        else:
            text = decoded(data, "utf-8-sig" if name.startswith(("utf-8", "utf-16")) else stated)
    except LookupError:
        raise Unreadable(f"states an encoding nobody knows, {stated!r}") from None
    yield page(text)


# one level down, so that a document's title stands above all of its headings
_STYLES = "\n".join(
    ["p[style-name='Title'] => h1:fresh", *(f"p[style-name='heading {level}'] => h{level + 1}:fresh" for level in range(1, 6))]
)


def docx(data: bytes) -> Iterator[Document | str]:
    """Word: its title and headings by their styles; pictures are left out, and what else is, is said if it has text."""
    try:
        import mammoth

        from seal.domains.documents.html import document
    except ImportError:
        raise needs("mammoth") from None
    from seal.domains.documents.word import Word

    if data[:8] == b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1":  # an OLE container: what Word wraps a file with a password in
        raise Unreadable("encrypted, or of a Word older than 2007; save it as .docx without a password")
    word, no_image = Word(data), mammoth.images.img_element(lambda image: {})
    made = mammoth.convert_to_html(BytesIO(word.data), style_map=_STYLES, convert_image=no_image)
    yield document(made.value, backlinks="a[href^='#footnote-ref'], a[href^='#endnote-ref']")
    yield from word.left_out(one.message for one in made.messages)


READERS: dict[str, Reader] = {
    **dict.fromkeys((".md", ".markdown"), markdown),
    **dict.fromkeys((".txt", ".text"), plain),
    **dict.fromkeys((".html", ".htm", ".xhtml"), html),
    ".pdf": pdf,
    ".docx": docx,
    ".jsonl": json_lines,
}
"""By a file name's ending, in lower case."""
