"""One reader a kind of file: its bytes -> documents as headings and text. Markdown is read in `markdown.py`, HTML and
what becomes HTML in `html.py`."""

from __future__ import annotations

import codecs
import logging
import re
from collections.abc import Callable, Iterator
from functools import reduce
from io import BytesIO
from typing import Any

from seal.domains.documents.blocks import Block, Document
from seal.domains.passages import asked_of
from seal.edits import files
from seal.errors import UserError


class Unreadable(Exception):
    """A file, or a part of one, cannot be read; the message says why."""


Reader = Callable[[bytes], Iterator[Document | str]]
"""Documents, and as text why a part could not be read. Raises Unreadable if all of it cannot."""


def decoded(data: bytes, encoding: str = "utf-8-sig") -> str:
    """The bytes as text, line ends as \\n. Raises Unreadable."""
    try:
        text = data.decode(encoding)
    except UnicodeDecodeError as error:
        raise Unreadable(f"not {encoding.removesuffix('-sig').upper()} text (byte {error.start})") from None
    if "\0" in text:
        raise Unreadable("not text (it has a zero byte)")
    return text.replace("\r\n", "\n").replace("\r", "\n")


def needs(package: str) -> Unreadable:
    """What is said where a reader's package is missing."""
    return Unreadable(f"needs {package}, which is not installed: pip install 'seal[documents]'")


def plain(data: bytes) -> Iterator[Document]:
    """Plain text: no headings."""
    yield Document(None, (Block(decoded(data).strip("\n")),))


def markdown(data: bytes) -> Iterator[Document]:
    """Markdown: its headings, and its text without the marks."""
    from seal.domains.documents.markdown import document

    yield document(decoded(data))


def pdf(data: bytes) -> Iterator[Document]:
    """PDF: the text of its pages; a line that is a bookmark's title on its page is a heading."""
    try:
        from pypdf import PdfReader
        from pypdf.errors import DependencyError
    except ImportError:
        raise needs("pypdf") from None
    logging.getLogger("pypdf").setLevel(logging.CRITICAL)  # it tells of every flaw it can read over
    blocks: list[Block] = []
    try:
        reader = PdfReader(BytesIO(data))
        if reader.is_encrypted and not reader.decrypt(""):
            raise Unreadable("encrypted; save it without a password")
        marks = _bookmarks(reader, reader.outline)
        for number, page in enumerate(reader.pages):
            blocks += _page(page.extract_text(), marks.get(number, {}))
    except DependencyError:
        raise Unreadable("encrypted with AES; without a password it can be read after pip install 'pypdf[crypto]'") from None
    if not blocks:
        raise Unreadable("no text in it; pages that are pictures need text recognition first")
    title = reader.metadata.title if reader.metadata else None
    yield Document((title and title.strip()) or None, tuple(_flowing(blocks)))


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


def _page(text: str, marks: dict[str, int]) -> list[Block]:
    """Blocks of a page: lines up to an empty one, or to a heading, are one."""
    blocks: list[Block] = []
    open_text: list[str] = []
    for line in [*(" ".join(line.split()) for line in text.split("\n")), ""]:
        if line and line not in marks:
            open_text.append(line)
            continue
        if open_text:
            blocks.append(Block(reduce(_continued, open_text)))
            open_text = []
        if line:
            blocks.append(Block(line, marks[line]))
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
