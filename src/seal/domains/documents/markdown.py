"""Markdown as headings and text: the words as they would be shown, without marks and addresses."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterable, Iterator
from html import unescape
from itertools import groupby
from typing import TYPE_CHECKING, Any

import tomli_w

from seal.domains.documents.blocks import Block, Document, is_power

if TYPE_CHECKING:
    from markdown_it.rules_core import StateCore
    from markdown_it.token import Token

_FRONT = re.compile(r"(---|\+\+\+)[ \t]*\n(?![ \t]*\n)(.*?)(?<=\n)\1[ \t]*(?:\n|$)", re.DOTALL)
"""It may be empty; a line and then an empty one are a rule and text."""
_FRONT_TITLE = re.compile(r"^title:[ \t]*(?:[>|][-+\d]*[ \t]*(?=\n[ \t]+\S)|(?=\S))(.*(?:\n[ \t]+\S.*)*)(?:\n|$)", re.MULTILINE)
"""On one line, or folded over several that are indented."""
_TAGS = re.compile(r"<!--.*?(?:-->|\Z)|<[/!?]?[a-z][^<>]*>", re.DOTALL | re.IGNORECASE)
_LINE_END = re.compile(r"<br\b", re.IGNORECASE)
_RAISED = re.compile(r"<sup\b", re.IGNORECASE)
_NESTING = 50
"""Most levels that are read, a list taking two; CommonMark's preset has 20."""


def document(text: str) -> Document:
    """The document a Markdown text is. Front matter says the title; the rest of it is text."""
    from markdown_it import MarkdownIt

    title, fields, text = _front(text)
    parser = MarkdownIt("commonmark", {"maxNesting": _NESTING, "inline_definitions": True}).enable("table")
    parser.core.ruler.after("block", "footnotes", _keep_footnotes)
    return Document(title, (Block(fields), *_blocks(_gathered(parser.parse(text)), text.split("\n"))))


def _front(text: str) -> tuple[str | None, str, str]:
    """Title, other fields and the text below them."""
    if not (front := _FRONT.match(text)):
        return None, "", text
    mark, fields = front.groups()
    below = text[front.end() :]
    if mark == "---":
        if not (named := _FRONT_TITLE.search(fields)):
            return None, fields.strip(), below
        return _unquoted(" ".join(named[1].split())), (fields[: named.start()] + fields[named.end() :]).strip(), below
    try:
        read: dict[str, Any] = tomllib.loads(fields)
    except ValueError:
        return None, "", text
    title = read.pop("title") if isinstance(read.get("title"), str) else None
    return title and " ".join(title.split()), tomli_w.dumps(read).strip(), below


def _unquoted(text: str) -> str:
    """A scalar of YAML without its quotes, if it has a pair."""
    if len(text) > 1 and text[0] == text[-1] and text[0] in "\"'":
        return text[1:-1].replace("''", "'") if text[0] == "'" else text[1:-1].replace('\\"', '"')
    return text


def _keep_footnotes(state: StateCore) -> None:
    """A footnote of one word, `[^1]: Ibid.`, is a link's address to CommonMark; its mark is no link here."""
    references = state.env.get("references", {})
    for label in [label for label in references if label.startswith("^")]:
        del references[label]


def _gathered(tokens: Iterable[Token]) -> Iterator[Token]:
    """The tokens; HTML that empty lines part is one again."""
    for is_html, group in groupby(tokens, lambda token: token.type == "html_block"):
        if is_html:
            first, *others = group
            yield first.copy(content="\n".join(token.content for token in (first, *others)))
        else:
            yield from group


def _blocks(tokens: Iterator[Token], lines: list[str]) -> Iterator[Block]:
    for token in tokens:
        if token.type == "html_block":
            yield from _html(token.content)
        else:
            text = _text(token, tokens, lines)
            yield Block(" ".join(text.split()), int(token.tag[1:])) if token.type == "heading_open" else Block(text)


def _text(token: Token, tokens: Iterator[Token], lines: list[str]) -> str:
    """What a block says; of `tokens`, those up to its end are taken."""
    if token.type == "inline":
        return _said(token.children or [])
    if token.type in ("fence", "code_block"):  # fenced either way, so that it is known for code
        fence, code = token.markup or "```", token.content.strip("\n")
        return f"{fence}{token.info.strip()}\n{code}\n{fence}"
    if token.type == "html_block":
        return "\n".join(block.text for block in _html(token.content))
    if token.type == "definition":
        return _footnote(token, lines)
    if token.type == "thead_open":
        cells = _texts(next(tokens), tokens, lines)
        next(tokens)
        return f"{_row(cells)}\n|{'---|' * len(cells)}"
    if token.nesting < 1:
        return ""
    inner = _texts(token, tokens, lines)
    if token.type == "tr_open":
        return _row(inner)
    if token.type == "ordered_list_open":
        first = int(token.attrs.get("start", 1))
        return "\n".join(_item(f"{at}{token.markup}", one) for at, one in enumerate(inner, first) if one)
    if token.type == "bullet_list_open":
        return "\n".join(_item("-", one) for one in inner if one)
    return ("\n\n" if token.type == "blockquote_open" else "\n").join(filter(None, inner))


def _texts(opened: Token, tokens: Iterator[Token], lines: list[str]) -> list[str]:
    """What the blocks say that stand in the opened one."""
    texts = []
    for token in tokens:
        if token.nesting < 0:
            break
        texts.append(_text(token, tokens, lines))
    return texts


def _item(mark: str, text: str) -> str:
    first, *others = text.split("\n")
    return "\n".join([f"{mark} {first}", *(f"  {line}" if line else "" for line in others)])


def _row(cells: Iterable[str]) -> str:
    return f"| {' | '.join(' '.join(cell.split()) for cell in cells)} |"


def _footnote(token: Token, lines: list[str]) -> str:
    """A definition that is a footnote, as it is written; any other is an address."""
    start, end = token.map or (0, 0)
    return " ".join(line.strip("> \t") for line in lines[start:end]) if token.meta["label"].startswith("^") else ""


def _said(tokens: Iterable[Token]) -> str:
    """Words without marks; of an image what is written for it, but of one that is a link, as badges are, nothing."""
    parts, linked, raised = [""], False, False
    for token in tokens:
        if token.type in ("link_open", "link_close"):
            linked = token.type == "link_open"
        elif token.type == "image":
            parts.append("" if linked else _said(token.children or []))
        elif token.type == "hardbreak" or (token.type == "html_inline" and _LINE_END.match(token.content)):
            parts.append("\n")
        elif token.type == "softbreak":
            parts.append(" ")
        elif token.type == "html_inline":
            raised = _RAISED.match(token.content) is not None
        elif token.content:  # which a mark has none of
            parts.append(f"^{token.content}" if raised and is_power(parts[-1], token.content) else token.content)
            raised = False
    return "\n".join(" ".join(line.split()) for line in "".join(parts).split("\n")).strip()


def _html(text: str) -> Iterable[Block]:
    """HTML among Markdown, read as HTML is; where beautifulsoup4 is missing, without its tags."""
    bare = " ".join(unescape(_TAGS.sub(" ", text)).split())
    if not bare:
        return ()
    try:
        from seal.domains.documents.html import document as of_html
    except ImportError:
        return (Block(bare),)
    return of_html(text).blocks
