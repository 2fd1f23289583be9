"""What a file says, whatever its kind: headings and stretches of text."""

from __future__ import annotations

import re
from dataclasses import dataclass

from seal.domains.passages import Asked


@dataclass(frozen=True, slots=True)
class Block:
    """A heading or a stretch of text; a blank one is as good as none."""

    text: str
    level: int = 0
    """1 to 6: a heading, 1 the highest; 0: text."""


@dataclass(frozen=True, slots=True)
class Document:
    """What one file, or one line of JSON lines, says."""

    title: str | None
    """As the file itself states it, outside of its text."""
    blocks: tuple[Block, ...]
    questions: tuple[Asked, ...] = ()
    """Questions that come with it; such a document is one passage."""
    where: str = ""
    """The line it stands in."""

    @property
    def text(self) -> str:
        """All of its text."""
        return "\n\n".join(block.text for block in self.blocks)


class Unreadable(Exception):
    """A file, or a part of one, cannot be read; the message says why."""


def is_power(before: str, raised: str) -> bool:
    """Whether a number is raised after a number: they get a `^` between them, or both would be one. Not so in 19<sup>th</sup>."""
    return before[-1:].isdigit() and re.match(r"[-−–]?\d", raised) is not None


def needs(package: str) -> Unreadable:
    """What is said where a reader's package is missing."""
    return Unreadable(f"needs {package}, which is not installed: pip install 'seal[documents]'")
