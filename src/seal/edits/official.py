"""The files released with the paper's code (Continual-Intelligence/SEAL), read as they are.

A self-edit file is a list of articles, each with `completions: [text, ...]`. A result file (`run_*.json`, `rank_*.json`) is an
object with `articles`, whose completions carry `stats` and graded `questions` beside their `text`.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from seal import files
from seal.edits import reading
from seal.edits.styles import STYLES
from seal.errors import UserError


@dataclass(frozen=True, slots=True)
class ReleasedEdit:
    """One self-edit of a released file."""

    text: str
    score: float | None = None
    """Mean accuracy of the changed model over its repeats; None in a self-edit file."""
    gain: float | None = None
    """The same minus the unchanged model's."""


@dataclass(frozen=True, slots=True)
class Article:
    """A passage with the self-edits written for it."""

    title: str
    context: str
    prompt: str
    """What the edits were written from; empty where the file has none."""
    edits: tuple[ReleasedEdit, ...]


def read_articles(path: Path) -> list[Article]:
    """The articles of a self-edit file or a result file. Raises UserError naming file, record and field."""
    content = files.load_json(path)
    scored = isinstance(content, dict)
    if not scored and not isinstance(content, list):
        raise UserError(f"{path}: must hold a list of articles (self-edits) or an object with 'articles' (results)")
    rows = files.records(content, "articles", str(path)) if scored else content
    return [_article(row, scored, f"{path}: record {number}") for number, row in enumerate(rows, 1)]


def read_scored(path: Path) -> list[Article]:
    """The articles of a result file, every edit with its score. Raises UserError for a file without scores."""
    articles = read_articles(path)
    if any(edit.score is None for article in articles for edit in article.edits):
        raise UserError(f"{path}: self-edits without scores; a result file (run_*.json or rank_*.json) is needed")
    return articles


def read_pooled(path: Path) -> list[tuple[bool, bool]] | None:
    """Right or wrong before and after, question by question, of a result of continued pretraining; None if it is another file.

    One adapter was trained for all of its articles, and its questions do not say which of them they belong to.
    """
    content = files.load_json(path)
    if not isinstance(content, dict) or "server_reply" not in content:
        return None
    where = f"{path}: server_reply"
    reply = files.value(content, "server_reply", str(path))
    before, after = (files.records(reply, name, where) for name in ("baseline_correct", "adapter_correct"))
    if len(before) != len(after) or not all(isinstance(one, bool) for one in (*before, *after)):
        raise UserError(f"{where}: baseline_correct and adapter_correct must be two lists of true and false, equally long")
    return list(zip(before, after, strict=True))


def sequences(path: Path, *, split_newlines: bool = True) -> list[list[list[str]]]:
    """The training sequences of each article's each edit, in the file's order, the passage as each edit's last.

    Literally those of the code that made the released results. So with `split_newlines=False` an edit is one sequence a
    `---` segment, and an empty edit (`naive.json`) the bare title: the 400 `train_sequences` that `cpt/` reports for it.
    """
    return [[_sequences(article, edit.text, split_newlines) for edit in article.edits] for article in read_articles(path)]


def _sequences(article: Article, text: str, split_newlines: bool) -> list[str]:
    if article.prompt.endswith(STYLES["implications-chain-of-thought"].cue):
        text = reading.after_thoughts(text)
    segments = reading.official(text, split_newlines=split_newlines)
    return [reading.sequence(article.title, segment) for segment in [*segments, article.context.strip()]]


def _article(row: Any, scored: bool, where: str) -> Article:
    title, context = files.text(row, "title", where), files.text(row, "context", where)
    prompt = files.text(row, "prompt", where, blank=True) if "prompt" in row else ""
    completions = files.records(row, "completions", where)
    edits = [_edit(one, scored, f"{where}, completion {number}") for number, one in enumerate(completions, 1)]
    return Article(title, context, prompt, tuple(edits))


def _edit(one: Any, scored: bool, where: str) -> ReleasedEdit:
    if not scored:
        return ReleasedEdit(files.text({"text": one}, "text", where, blank=True))
    stats = files.value(one, "stats", where)
    return ReleasedEdit(
        files.text(one, "text", where, blank=True),
        files.number(stats, "adapter_mean", f"{where}, stats"),
        files.number(stats, "gain_mean", f"{where}, stats"),
    )
