"""The rows of supervised fine-tuning that a released result file selects."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from pathlib import Path

from seal.edits.official import ReleasedEdit, read_scored
from seal.policy.selection import Groups, Scored, best_of_group

SftRow = dict[str, str]
"""`prompt` and `completion`."""
Select = Callable[[Groups[SftRow]], list[SftRow]]


def official_select(path: Path, select: Select = best_of_group) -> list[SftRow]:
    """Prompt and kept edit, in the file's order; `select` is any function of `seal.policy.selection`.

    The default is the paper's: the best of each article, the first of equals, kept even if it does not gain, blank ones left
    out. Raises UserError if the file is no result file.
    """
    rows = select([[_scored(article.prompt, edit) for edit in article.edits] for article in read_scored(path)])
    return [row for row in rows if row["completion"]]


def jsonl(rows: Iterable[SftRow]) -> str:
    """One JSON object a line, as the released files are written."""
    return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)


def _scored(prompt: str, edit: ReleasedEdit) -> Scored[SftRow]:
    return Scored({"prompt": prompt, "completion": edit.text.strip()}, edit.score, edit.gain)
