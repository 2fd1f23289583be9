"""Passages with held-out questions, from whichever form they come in.

A source is `bundled` (the documents that come with the package), `squad` (SQuAD v1.1 by name, extra `hub`) or the path of a
JSON file: the official form `[{title, context, questions: [{question, answer}]}]` (as JSON Lines too, a record a line), released
self-edit and result files, or SQuAD v1.1, of whose answers to a question the first is taken. Records with the same title and
context are one problem: their questions are joined, repeated ones dropped.
"""

from __future__ import annotations

import hashlib
import json
import re
import unicodedata
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from random import Random
from typing import Any

from seal import files
from seal.errors import UserError
from seal.home import data
from seal.types import Problem, Query

Asked = tuple[str, str]
"""A question and its answer."""
Record = tuple[str, str, list[Asked]]
"""Title, context and questions."""

SQUAD_SPLITS = {"train": "train", "test": "validation"}


def read_passages(source: str, split: str) -> list[Problem]:
    """The problems of a source, in its order; `split` matters where the source has splits, and only passages to train on may be
    without questions. Raises UserError."""
    if source == "bundled":
        return from_file(bundled_path(split))
    if source == "squad":
        return from_hub(split)
    return from_file(Path(source).expanduser(), unasked=split == "train")


def bundled_path(split: str) -> Path:
    """Where the bundled documents of a split lie."""
    return data() / "country" / f"{split}.json"


def from_file(path: Path, *, unasked: bool = False) -> list[Problem]:
    """The problems of a JSON or JSON Lines file in any of the forms. Raises UserError naming file, record and field.

    `unasked`: a passage may have no questions.
    """
    content = files.load_lines(path) if path.suffix.lower() == ".jsonl" else files.load_json(path)
    if isinstance(content, dict) and "data" in content:
        found = list(_squad(content, str(path)))
    elif isinstance(content, dict) and "articles" in content:
        found = list(_official(files.records(content, "articles", str(path)), str(path), unasked))
    elif isinstance(content, list):
        found = list(_official(content, str(path), unasked))
    else:
        raise UserError(f"{path}: must hold a list of passages, or an object with 'articles' (results) or 'data' (SQuAD)")
    if not found:
        raise UserError(f"{path}: holds no passages")
    return to_problems(found)


def from_hub(split: str) -> list[Problem]:
    """SQuAD v1.1 from the hub: its training set for `train`, its validation set for `test`, that in the order of the paper's
    code, which measures the first 200. Raises UserError."""
    if split not in SQUAD_SPLITS:
        raise UserError(f"squad has no {split!r} set (it has train and test); name a file for it, or leave it out")
    try:
        import datasets
    except ImportError:
        raise UserError("data 'squad' needs the extra 'hub': pip install 'seal[hub]'") from None
    try:
        rows = datasets.load_dataset("rajpurkar/squad", split=SQUAD_SPLITS[split])
    except OSError as error:  # the hub's own errors and a lost network are all OSErrors
        raise UserError(f"squad could not be fetched ({_first_line(error)}); with no network, give a JSON file instead") from None
    found = to_problems((_spaced(row["title"]), row["context"], [(row["question"], row["answers"]["text"][0])]) for row in rows)
    return papers_order(found) if split == "test" else found


def papers_order(validation: Sequence[Problem]) -> list[Problem]:
    """SQuAD's validation set, given in its own order, as the paper's code has it: shuffled."""
    found = list(validation)
    Random(42).shuffle(found)
    return found


def to_problems(found: Iterable[Record]) -> list[Problem]:
    """Problems with stable ids; several passages under one title share it as their cluster."""
    merged: dict[tuple[str, str], list[Asked]] = {}
    for title, context, asked in found:
        known = merged.get((title, context), [])
        merged[title, context] = known + [one for one in asked if one not in known]
    shared = Counter(title for title, _ in merged)
    return [_problem(title, context, asked, shared[title] > 1) for (title, context), asked in merged.items()]


def context_of(problem: Problem) -> str:
    """The passage's text."""
    return str(json.loads(problem.payload)["context"])


def is_passage(problem: Problem) -> bool:
    """Whether a problem of some run is a passage; the problems of other domains may hold anything."""
    try:
        payload = json.loads(problem.payload)
    except ValueError:
        return False
    return isinstance(payload, dict) and isinstance(payload.get("context"), str)


def problem_id(title: str, context: str) -> str:
    """A passage's id: the same in every file it stands in."""
    digest = hashlib.blake2b(f"{title}\n{context}".encode(), digest_size=5).hexdigest()
    return f"{_slug(title)}-{digest}"


def _problem(title: str, context: str, asked: list[Asked], shares_title: bool) -> Problem:
    name = problem_id(title, context)
    queries = tuple(Query(f"{name}/q{index}", question, answer) for index, (question, answer) in enumerate(asked))
    payload = json.dumps({"context": context}, ensure_ascii=False)
    return Problem(name, title, payload, queries, cluster=title if shares_title else "")


def _official(rows: list[Any], path: str, unasked: bool) -> Iterator[Record]:
    for number, row in enumerate(rows, 1):
        where = f"{path}: record {number}"
        title, context = files.text(row, "title", where), files.text(row, "context", where)
        if "questions" in row:
            asked = files.records(row, "questions", where)
        else:
            asked = [] if unasked and "completions" not in row else _result_questions(row, where)
        if not asked and not unasked:
            raise UserError(f"{where}: field 'questions' is empty; a passage needs at least one")
        yield title, context, [asked_of(one, f"{where}, question {index}") for index, one in enumerate(asked, 1)]


def _result_questions(row: Any, where: str) -> list[Any]:
    """A result file has each edit's questions, repeat after repeat; those of the first edit's first repeat are the passage's."""
    if "completions" not in row:
        raise UserError(f"{where}: field 'questions' is missing")
    first = next(iter(files.records(row, "completions", where)), None)
    asked = files.records(first, "questions", f"{where}, completion 1")
    return [one for one in asked if not isinstance(one, dict) or one.get("rep", 0) == 0]


def asked_of(one: Any, where: str) -> Asked:
    """A record with `question` and `answer`. Raises UserError."""
    if isinstance(one, dict) and "answers" in one and "answer" not in one:
        raise UserError(f"{where}: field 'answer' is missing; of several 'answers' give the one that is to be known")
    return files.text(one, "question", where), files.text(one, "answer", where)


def _squad(content: Any, path: str) -> Iterator[Record]:
    """Paragraphs nobody asked about are passed over, as the hub's SQuAD does."""
    for number, article in enumerate(files.records(content, "data", path), 1):
        where = f"{path}: record {number}"
        title = _spaced(files.text(article, "title", where))
        for place, paragraph in enumerate(files.records(article, "paragraphs", where), 1):
            inside = f"{where}, paragraph {place}"
            context = files.text(paragraph, "context", inside)
            asked = [
                _squad_asked(one, f"{inside}, question {index}")
                for index, one in enumerate(files.records(paragraph, "qas", inside), 1)
            ]
            if asked:
                yield title, context, asked


def _squad_asked(one: Any, where: str) -> Asked:
    question, answers = files.text(one, "question", where), files.records(one, "answers", where)
    if not answers:
        raise UserError(f"{where}: field 'answers' is empty (SQuAD 2.0 has such questions; v1.1 is read here)")
    return question, files.text(answers[0], "text", f"{where}, answer 1")


def _spaced(title: str) -> str:
    return title.replace("_", " ")


def _slug(title: str) -> str:
    ascii_title = unicodedata.normalize("NFKD", title).encode("ascii", "ignore").decode().lower()
    return re.sub(r"[^a-z0-9]+", "-", ascii_title).strip("-")[:40].rstrip("-") or "passage"


def _first_line(error: Exception) -> str:
    return str(error).strip().split("\n")[0][:120] or type(error).__name__
