"""Files and folders -> passages, and what could not be read with its reason."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from seal.domains.documents.blocks import Unreadable
from seal.domains.documents.cut import cut, fits
from seal.domains.documents.readers import READERS
from seal.domains.passages import Record, problem_id, to_problems
from seal.errors import UserError
from seal.types import Problem

Part = tuple[Record, str]
"""A passage and its document's title."""
UNSUPPORTED = "unsupported kind"
"""How the reason of a file begins that no reader is for."""
SHOWN = 3
"""Most parts of one file whose refusal is told one by one."""


@dataclass(frozen=True, slots=True)
class Passage:
    """A piece of a document."""

    problem: Problem
    """What the knowledge domain takes. Its id comes from title and text alone, so other documents do not change it; its cluster
    is the document's title; its queries are those the file has (JSON lines), mostly none."""
    source: Path
    """The file it is from; of several that have it, the first."""


@dataclass(frozen=True, slots=True)
class Refused:
    """A file, or a part of one, that could not be read."""

    path: Path
    reason: str


@dataclass(frozen=True, slots=True)
class File:
    """A file that was read."""

    path: Path
    sha256: str
    """Hex digest of its bytes."""
    passages: tuple[str, ...]
    """Ids of its passages, in its order."""


@dataclass(frozen=True, slots=True)
class Documents:
    """All that was found."""

    passages: tuple[Passage, ...]
    """Each once, in the order of the files."""
    refused: tuple[Refused, ...]
    sources: tuple[File, ...]

    @property
    def problems(self) -> tuple[Problem, ...]:
        """The passages as the knowledge domain takes them."""
        return tuple(one.problem for one in self.passages)


def read_documents(
    paths: Sequence[Path],
    *,
    count: Callable[[str], int],
    budget: int,
    passed_over: Callable[[Path], bool] = lambda folder: False,
    notify: Callable[[int, int], None] = lambda done, total: None,
) -> Documents:
    """Every readable file of `paths` (folders with all that is below them, hidden files left out), cut into passages.

    `count`: a text's tokens; `budget`: most tokens of a passage, its title included; `passed_over`: whether a folder below one of
    `paths` is left out; `notify`: is told how many files are done, and of how many. Raises UserError for a path that does not
    exist; whatever else cannot be read is in `refused`, and the rest goes on.
    """
    found: list[tuple[Part, Path]] = []
    refused: list[Refused] = []
    sources: dict[str, File] = {}
    for path in _told(list(_files(paths, passed_over)), notify):
        if isinstance(path, Refused):
            refused.append(path)
            continue
        if (shown := _in_text(path)) != path:
            refused.append(Refused(shown, "its path is not UTF-8, so no report could name it; rename it"))
            continue
        if reason := _unread(path):
            refused.append(Refused(path, reason))
            continue
        try:
            data = path.read_bytes()
        except OSError as error:
            refused.append(_failed(error, path))
            continue
        digest = hashlib.sha256(data).hexdigest()
        if digest in sources:
            refused.append(Refused(path, f"the same as {sources[digest].path}"))
            continue
        parts, reasons = _parts(path, data, count, budget)
        refused += [Refused(path, reason) for reason in reasons]
        if parts:
            ids = dict.fromkeys(problem_id(title, text) for (title, text, _), _ in parts)
            sources[digest] = File(path, digest, tuple(ids))
            found += [(part, path) for part in parts]
    return Documents(_passages(found), tuple(refused), tuple(sources.values()))


def _told(files: Sequence[Path | Refused], notify: Callable[[int, int], None]) -> Iterator[Path | Refused]:
    for done, file in enumerate(files):
        notify(done, len(files))
        yield file
    notify(len(files), len(files))


def _passages(found: Sequence[tuple[Part, Path]]) -> tuple[Passage, ...]:
    origin: dict[str, tuple[str, Path]] = {}
    for ((title, text, _), cluster), path in found:
        origin.setdefault(problem_id(title, text), (cluster, path))
    problems = to_problems(record for (record, _), _ in found)
    return tuple(Passage(replace(one, cluster=origin[one.id][0]), origin[one.id][1]) for one in problems)


def _unread(path: Path) -> str | None:
    """Why a file is not even opened, if it is not: it may be a film of many gigabytes, or a pipe that never ends."""
    if path.suffix.lower() not in READERS:
        return f"{UNSUPPORTED} {path.suffix.lower()!r}" if path.suffix else f"{UNSUPPORTED}: its name has no ending"
    return "no regular file" if path.exists() and not path.is_file() else None


def _failed(error: OSError, path: Path) -> Refused:
    return Refused(_in_text(path), f"cannot be read ({error.strerror or error})")


def _parts(path: Path, data: bytes, count: Callable[[str], int], budget: int) -> tuple[list[Part], list[str]]:
    """What a file's bytes hold, and why the rest of it could not be read."""
    reader = READERS[path.suffix.lower()]
    parts: list[Part] = []
    reasons: list[str] = []
    try:
        for document in reader(data):
            if isinstance(document, str):
                reasons.append(document)
            elif document.questions and not fits(document.title or path.stem, document.text, count, budget):
                reasons.append(f"{document.where}: has questions, so it is not cut, and is longer than {budget} tokens")
            elif document.questions:
                title = document.title or path.stem
                parts.append(((title, document.text, list(document.questions)), title))
            else:
                title, pieces = cut(document, path.stem, count, budget)
                parts += [((own, text, []), title) for own, text in pieces]
    except Unreadable as error:
        return [], [str(error)]
    except Exception as error:  # a broken file breaks its reader in any way it likes
        return [], [f"broken ({type(error).__name__}: {error})".split("\n")[0]]
    if len(reasons) > SHOWN:
        reasons[SHOWN:] = [f"and {len(reasons) - SHOWN} more like these"]
    return parts, reasons or ([] if parts else ["empty"])


def _in_text(path: Path) -> Path:
    """The same path, or what can be shown of one whose bytes are no UTF-8."""
    return Path(os.fsencode(path).decode("utf-8", "replace"))


def _files(paths: Iterable[Path], passed_over: Callable[[Path], bool]) -> Iterator[Path | Refused]:
    """The files that are meant, each once: a folder's sorted by name, those above first; and folders that are not looked into.
    Raises UserError for a path that is not there."""
    seen = set()
    for path in paths:
        if not path.exists():
            raise UserError(f"{path}: no such file or folder")
        for file in _below(path, passed_over) if path.is_dir() else [path]:
            if isinstance(file, Refused):
                yield file
            elif file.resolve() not in seen:
                seen.add(file.resolve())
                yield file


def _below(folder: Path, passed_over: Callable[[Path], bool]) -> Iterator[Path | Refused]:
    failed: list[OSError] = []
    for name, folders, files in os.walk(folder, onerror=failed.append):
        folders[:] = sorted(one for one in folders if not one.startswith(".") and not passed_over(Path(name) / one))
        for one in folders:
            if (linked := Path(name) / one).is_symlink():  # which os.walk passes over: it may lead anywhere
                yield Refused(_in_text(linked), "a link to a folder, which is not followed; name that folder too")
        yield from (Path(name) / one for one in sorted(files) if not one.startswith((".", "~$")))  # ~$: Word's lock files
    yield from (_failed(error, Path(error.filename)) for error in failed)
