"""HTML as headings and text: lists and tables line by line, everything else a paragraph; of a saved page its content alone."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from itertools import groupby
from typing import Any

from bs4 import BeautifulSoup, Tag
from bs4.element import NavigableString, PageElement, PreformattedString

from seal.domains.documents.blocks import Block, Document, is_power

HIDDEN = ("script", "style", "template", "nav", "svg")
"""Not the document's text; nor is its title. Not all of `head`: its end tag may be left out, and then it holds the page."""
_TYPED = ("noscript", "select", "datalist", "textarea")
"""What a browser shows only without scripts, or to type and choose in."""
_ROLES = ("navigation", "banner", "contentinfo", "search")
"""What Sphinx, MkDocs, MediaWiki and Confluence say their bars, menus and search forms are."""
_CLASSES = frozenset(
    (
        *("headerlink", "hash-link"),  # a heading's link to itself: Sphinx and MkDocs; Docusaurus
        "viewcode-link",  # Sphinx: [source]
        *("table-of-contents", "theme-doc-footer"),  # Docusaurus, the second: "Edit this page"
        *("mw-editsection", "navbox", "printfooter"),  # MediaWiki: [edit], boxes of links, "Retrieved from"
        "mw-cite-backlink",  # MediaWiki: from a note back to its mark; the notes stay
    )
)
_CLASSES_OF = {("div", "toc"), ("sup", "reference")}
"""A table of contents (MkDocs, older MediaWiki), and a citation's mark (MediaWiki): these classes of these elements alone."""
_IDS = ("breadcrumb-section",)
"""Confluence."""
_HEADINGS = ("h1", "h2", "h3", "h4", "h5", "h6", "summary")
_WIKI = "#firstHeading, #mw-content-text"
"""MediaWiki, whatever the skin: the page's title and its text; around them stand its tools, its languages and its categories."""
BREAKING = (
    *("address", "article", "aside", "blockquote", "body", "caption", "center", "dd", "details", "dialog", "dir", "div", "dl"),
    *("dt", "fieldset", "figcaption", "figure", "footer", "form", "h1", "h2", "h3", "h4", "h5", "h6", "head", "header"),
    *("hgroup", "hr", "html", "legend", "li", "main", "menu", "ol", "p", "pre", "search", "section", "summary", "table"),
    *("tbody", "td", "tfoot", "th", "thead", "tr", "ul"),
)
"""Elements that begin and end a paragraph."""
_ITEMISED = ("dir", "menu", "ol", "ul")
_LISTS = (*_ITEMISED, "dl", "table")
_CELLS = ("caption", "colgroup", "td", "th")
_ROWS = (*_CELLS, "tr")
_GROUPS = ("tbody", "tfoot", "thead")
ENDED: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "p": (("p",), tuple(name for name in BREAKING if name != "p")),
    "li": (("li",), _LISTS),
    **dict.fromkeys(("dd", "dt"), (("dd", "dt"), _LISTS)),
    **dict.fromkeys(("td", "th"), (_CELLS, ("table",))),
    "tr": (_ROWS, ("table",)),
    **dict.fromkeys(("caption", "colgroup", *_GROUPS), ((*_ROWS, *_GROUPS), ("table",))),
}
"""By an element that begins: the open ones that end there, looked for outwards up to the first of the others.

These are the end tags that HTML lets be left out (https://html.spec.whatwg.org/#optional-tags).
"""


class _Page(BeautifulSoup):
    """A page whose end tags may have been left out: html.parser would put what follows into the open element. Cells without a row
    get one, as in browsers."""

    def handle_starttag(self, name: str, *args: Any, **named: Any) -> Tag | None:
        """Called by the parser where an element begins."""
        if name in ENDED:
            ended, within = ENDED[name]
            for element in self.tagStack[::-1]:
                if element.name in within:
                    break
                if element.name in ended:
                    self.handle_endtag(element.name)
        if name in ("td", "th") and next((one.name for one in self.tagStack[::-1] if one.name in ("tr", "table")), "") == "table":
            self.handle_starttag("tr", None, None, {})
        return super().handle_starttag(name, *args, **named)


def document(text: str, *, backlinks: str = "") -> Document:
    """The document that all of an HTML text is; `backlinks`: a selector of links that only lead back from a note."""
    soup = _Page(text, "html.parser")
    title = _titled(soup, soup.select(backlinks) if backlinks else [])
    _mark_powers(soup)
    return Document(title, tuple(_blocks(soup.children)))


def page(text: str) -> Document:
    """The document on a page saved from the web, without what stands around it."""
    soup = _Page(text, "html.parser")
    for formula in soup.find_all("annotation", encoding="application/x-tex"):  # KaTeX, MediaWiki: it comes in several forms
        if formula.parent is not None and formula.parent.name == "semantics":
            formula.parent.replace_with(formula)
    title = _titled(soup, soup.find_all(_is_furniture))
    _mark_powers(soup)  # only now: a citation's mark may have stood before a note's
    return Document(title, tuple(_blocks(_content(soup))))


def _mark_powers(soup: BeautifulSoup) -> None:
    for raised in soup.find_all("sup"):
        before = raised.previous_sibling
        if before is None or (isinstance(before, Tag) and before.name in BREAKING):
            continue
        if is_power(before.get_text(), next(raised.strings, "")):
            raised.insert(0, "^")


def _titled(soup: BeautifulSoup, left_out: Iterable[Tag]) -> str | None:
    """The title, which is taken out, as is what is no text."""
    for element in (*soup.find_all(HIDDEN), *left_out):
        element.decompose()
    titles = [element.extract().get_text() for element in soup.find_all("title")]  # by now no picture's
    return " ".join(titles[0].split()) or None if titles else None


def _is_furniture(element: Tag) -> bool:
    """Whether an element stands beside the text. Short on purpose: what is missing here is only read too."""
    if element.name in _TYPED or (element.name == "button" and not element.find_parent(_HEADINGS)):  # Bootstrap's open sections
        return True
    if not element.attrs:
        return False
    classes = element.get_attribute_list("class")
    return (
        element.get("role") in _ROLES
        or element.get("id") in _IDS
        or any(one in _CLASSES or (element.name, one) in _CLASSES_OF for one in classes)
        or ("katex-html" in classes and element.find_previous_sibling(class_="katex-mathml") is not None)  # where its TeX stands
        or _is_unseen(element)
    )


def _is_unseen(element: Tag) -> bool:
    """Whether a browser does not show it, and no click does either.

    Text are the tabs behind the open one (Docusaurus, sphinx-tabs), what a search in the page opens, and MediaWiki's formulas,
    which are shown as pictures. `aria-hidden` is no sign: an open dialog sets it on all else.
    """
    if element.name in ("html", "body") or element.get("role") == "tabpanel" or element.get("hidden") == "until-found":
        return False
    styled = re.search(r"\bdisplay\s*:\s*none", str(element.get("style", "")), re.IGNORECASE)
    return element.has_attr("hidden") or (styled is not None and not element.find(("math", "annotation")))


def _content(soup: BeautifulSoup) -> Iterable[PageElement]:
    """The elements that hold the text: a wiki's, else the page's main one, else all but the page's own header and footer."""
    wiki = soup.select(_WIKI)
    if any(one["id"] == "mw-content-text" and _filled(one) for one in wiki):
        return wiki
    mains = [one for one in soup.find_all(_main) if _filled(one) and not one.find_parent(_main)]
    if len(mains) == 1:
        return mains
    titles = len(soup.find_all("h1"))
    for element in soup.find_all(("header", "footer")):
        titled = titles and len(element.find_all("h1")) == titles  # the document's own, as pandoc writes it
        if not titled and not element.find_parent(("article", "section", "main")):
            element.decompose()
    return soup.children


def _main(element: Tag) -> bool:
    return element.name == "main" or element.get("role") == "main"


def _filled(element: Tag) -> bool:
    return bool(element.get_text().strip())


def _blocks(children: Iterable[PageElement]) -> Iterator[Block]:
    run: list[str] = []
    for child in children:
        if isinstance(child, NavigableString):
            run.append("" if isinstance(child, PreformattedString) else str(child))  # comments and the like
        elif isinstance(child, Tag) and child.name == "br":
            run.append("\0")
        elif isinstance(child, Tag) and child.name not in BREAKING and not child.find(BREAKING):
            run.append(_inline(child))
        elif isinstance(child, Tag):
            yield from _paragraph(run)
            run = []
            yield from _broken(child)
    yield from _paragraph(run)


def _broken(element: Tag) -> Iterator[Block]:
    """The blocks of an element that stands by itself."""
    if element.name[0] == "h" and element.name[1:].isdigit():
        found = " ".join(_inline(element).replace("\0", " ").split())
        if found:
            yield Block(found, int(element.name[1:]))
    elif element.name == "pre":
        for line in element.find_all(BREAKING):
            if not line.get_text().endswith("\n"):
                line.append("\n")
        found = _inline(element).replace("\0", "\n").strip("\n")
        if found.strip():
            yield Block(found)
    elif element.name in _ITEMISED:
        yield from _one("\n".join(_items(element)))
    elif element.name == "table" and not element.find("table"):
        yield from _one("\n".join(_rows(element)))
    else:
        yield from _blocks(element.children)


def _inline(element: Tag) -> str:
    for line_end in element.find_all("br"):
        line_end.string = "\0"  # not in its place, which would be looked for in all of the element each time
    return element.get_text()


def _paragraph(run: list[str]) -> Iterator[Block]:
    """White space as a browser shows it; a \\0 is a line's end."""
    yield from _one("\n".join(" ".join(line.split()) for line in "".join(run).split("\0")).strip())


def _one(text: str) -> Iterator[Block]:
    if text.strip():
        yield Block(text)


def _items(element: Tag) -> Iterator[str]:
    """A list's lines; what stands in it beside its items is there too."""
    start = str(element.get("start")) if element.name == "ol" else ""
    number = int(start) - 1 if re.fullmatch(r"-?\d{1,9}", start) else 0
    for are_items, children in groupby(element.children, lambda child: isinstance(child, Tag) and child.name == "li"):
        if not are_items:
            yield from _lines(children)
            continue
        for lines in (_lines(child.children) for child in children if isinstance(child, Tag)):
            if lines:
                number += 1
                yield "\n  ".join([f"{f'{number}.' if element.name == 'ol' else '-'} {lines[0]}", *lines[1:]])


def _lines(children: Iterable[PageElement]) -> list[str]:
    return [line for block in _blocks(children) for line in block.text.split("\n")]


def _rows(table: Tag) -> Iterator[str]:
    """A table's lines; text outside its cells stands before them, as a browser shows it."""
    for text in table.find_all(string=True):
        if not isinstance(text, PreformattedString) and text.strip() and text.find_parent((*_CELLS, "table")) is table:
            yield " ".join(text.split())
    if table.caption:
        yield " ".join(_lines(table.caption.children))
    for row in table.find_all("tr"):
        cells = row.find_all(("td", "th"))
        yield " | ".join(" ".join(" ".join(block.text for block in _blocks(cell.children)).split()) for cell in cells)
