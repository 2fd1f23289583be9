"""What Word writes and mammoth does not read, made into what it does, inside the file."""

from __future__ import annotations

import io
import re
import zipfile
from collections.abc import Iterable, Iterator, Mapping
from xml.etree import ElementTree
from xml.etree.ElementTree import Element

_PARTS = re.compile(r"word/(?:document\d*|footnotes|endnotes|comments)\.xml")
_WRAPPING = ("fldSimple", "bdo", "dir", "oMathPara")
"""Elements around text that mammoth leaves out with all that is in them."""
_TOUCHED = re.compile(rb":(?:fldSimple|bdo|dir|oMath|AlternateContent|cr)\b")
_BEFORE = {"den": "/", "sup": "^", "sub": "_"}
"""What stands before a part of an equation on one line."""
_ON_A_LINE = ("r", "t", "f", "num", "e", "sSup", "sSub", "sSubSup", *_BEFORE)
"""What an equation may be made of to be text; anything else (roots, sums, matrices) says more than its letters do."""
_IGNORED = re.compile(r"An unrecognised element was ignored: (.+)")


class Word:
    """A Word file that can be read whole, and what of it still cannot."""

    def __init__(self, data: bytes) -> None:
        """Raises what zipfile and ElementTree do for a file that is broken."""
        with zipfile.ZipFile(io.BytesIO(data)) as file:
            parts = {name: file.read(name) for name in file.namelist() if _PARTS.fullmatch(name)}
            trees = {name: ElementTree.fromstring(part) for name, part in parts.items()}
            touched = {name: trees[name] for name, part in parts.items() if _TOUCHED.search(part)}
            for tree in touched.values():
                _unwrap(tree, tree.tag.rpartition("}")[0] + "}")
            self._trees = list(trees.values())
            self.data = _rewritten(file, touched) if touched else data

    def left_out(self, messages: Iterable[str]) -> Iterator[str]:
        """Of mammoth's messages those that it left out some text for, in words."""
        for name in dict.fromkeys(found[1] for message in messages if (found := _IGNORED.fullmatch(message))):
            texts = [_text(one) for tree in self._trees for one in tree.iter() if _local(one) == re.split("[:}]", name)[-1]]
            if said := [text for text in texts if text]:
                kind = "equations of more than a line" if name.endswith("}oMath") else f"elements {name!r}"
                yield f"{kind} left out: {len(said)}, the first with {said[0][:40]!r}"


def _rewritten(file: zipfile.ZipFile, trees: Mapping[str, Element]) -> bytes:
    """The same file with these parts in place of its own."""
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w") as new:
        for entry in file.infolist():
            tree = trees.get(entry.filename)
            new.writestr(entry, file.read(entry) if tree is None else ElementTree.tostring(tree, encoding="utf-8"))
    return made.getvalue()


def _local(element: Element) -> str:
    return str(element.tag).rpartition("}")[2]


def _text(element: Element) -> str:
    return "".join(one.text or "" for one in element.iter() if _local(one) == "t").strip()


def _unwrap(element: Element, word: str) -> None:
    """The children of what wraps take its place, as the first choice does where there is no other way to show it; an equation on
    one line becomes text, and every line's end mammoth's, all the way down. `word`: the namespace of Word's own elements."""
    children: list[Element] = []
    for child in element:
        _unwrap(child, word)
        if _local(child) in _WRAPPING:
            children += child
        elif _local(child) == "oMath" and (line := _line(child)) is not None:
            children.append(Element(f"{word}r"))
            ElementTree.SubElement(children[-1], f"{word}t").text = line
        elif _local(child) == "AlternateContent" and not any(_local(one) == "Fallback" for one in child):  # which mammoth reads
            children += child[0] if len(child) else ()
        else:
            if child.tag == f"{word}cr":
                child.tag = f"{word}br"
            children.append(child)
    element[:] = children


def _line(equation: Element) -> str | None:
    """An equation as text, parts of several signs in brackets; None if it is more than a line."""
    parts = []
    for child in equation:
        name = _local(child)
        if name.endswith("Pr"):  # how it looks
            continue
        inner = (child.text or "") if name == "t" else _line(child)
        if name not in _ON_A_LINE or inner is None:
            return None
        bracketed = name in ("num", *_BEFORE) and not re.fullmatch(r"\w*", inner)
        parts.append(_BEFORE.get(name, "") + (f"({inner})" if bracketed else inner))
    return "".join(parts)
