"""What an adapter says of itself: which model it is for, and how it was asked. `seal.json` beside PEFT's own two files."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any, Literal, cast, get_args

from seal import files
from seal.errors import UserError, unknown
from seal.models.cache import making
from seal.models.catalog import CATALOG
from seal.models.language import LanguageModel
from seal.models.quiet import quiet

FILE = "seal.json"
WEIGHTS = ("adapter_model.safetensors", "adapter_config.json")
"""PEFT's two files."""
Wording = Literal["knowledge", "plain"]


@dataclass(frozen=True, slots=True)
class About:
    """A PEFT adapter's own description."""

    base: str
    """The model it is for: a name that comes with seal, a hub id, a directory or a GGUF file."""
    chat: bool | None = None
    """Whether that model was opened as a chat model; None: as `open_model` decides."""
    reading: Wording = "knowledge"
    """How questions are put: in the knowledge domain's words, or as they are."""
    created: str = ""
    """When, as ISO 8601 has it."""
    trained: tuple[str, ...] = ()
    """Ids of the problems it learnt from, where that is known: it is not measured on them."""


def write_about(adapter: Path, about: About) -> None:
    """Puts `seal.json` into the adapter's directory."""
    (adapter / FILE).write_text(json.dumps(asdict(about), indent=2) + "\n", encoding="utf-8")


def write_trained(adapter: Path, trained: Iterable[str]) -> None:
    """The same for a policy that a run keeps, which says no more than what it learnt from: the rest is in the run's recipe."""
    (adapter / FILE).write_text(json.dumps({"trained": sorted(trained)}, indent=2) + "\n", encoding="utf-8")


def read_trained(adapter: Path) -> set[str]:
    """Ids of what an adapter learnt from, as `seal.json` has them; none where that is not known. Raises UserError for a broken
    file."""
    return set(map(str, _object(adapter / FILE).get("trained") or ())) if (adapter / FILE).is_file() else set()


def names_base(adapter: Path) -> bool:
    """Whether `seal.json` is there and says which model the adapter is for."""
    return (adapter / FILE).is_file() and bool(_object(adapter / FILE).get("base"))


def read_about(adapter: Path, base: str | None = None) -> About:
    """What `seal.json` says; what it leaves out is PEFT's `base_model_name_or_path` and the defaults.

    `base`: instead of the model it names. Raises UserError if there is no such directory, it is no adapter, or a file of it
    cannot be understood.
    """
    if not adapter.is_dir():
        raise UserError(f"{adapter}: no such directory; an adapter is one, such as policy/round-1 in a run")
    if not (adapter / "adapter_config.json").is_file():
        raise UserError(f"{adapter}: no PEFT adapter there (no adapter_config.json)")
    peft = _object(adapter / "adapter_config.json")
    said = _object(adapter / FILE) if (adapter / FILE).is_file() else {}
    base = base or said.get("base") or _known(str(peft.get("base_model_name_or_path") or ""))
    if not isinstance(base, str) or not base:
        raise UserError(f"{adapter}: does not say which model it is for (base_model_name_or_path in adapter_config.json)")
    chat, reading = said.get("chat"), str(said.get("reading") or "knowledge")
    if chat is not None and not isinstance(chat, bool):
        raise UserError(f"{adapter / FILE}: 'chat' must be true, false or null, not {chat!r}")
    if reading not in get_args(Wording):
        raise unknown("reading", reading, get_args(Wording))
    trained = tuple(str(id) for id in said.get("trained") or ())
    return About(base, chat, cast(Wording, reading), str(said.get("created") or ""), trained)


def loadable(name: str) -> str:
    """The model as transformers and vLLM find it: a hub id or a whole path, whatever name it has here."""
    if name in CATALOG:
        return CATALOG[name].original
    path = Path(name).expanduser()
    return str(path.resolve()) if path.exists() else name.partition("@")[0]


def is_published(folder: Path) -> bool:
    """Whether `publish` has put an adapter there."""
    return (folder / FILE).is_file() and (folder / "adapter_config.json").is_file()


def refuse_foreign(place: Path, own: Iterable[str]) -> None:
    """What is at `place` may be replaced: nothing, or a folder of files with these names alone. Raises UserError for more."""
    if not place.exists() and not place.is_symlink():
        return
    if not place.is_dir():
        raise UserError(f"{place} is there already and is no folder; name another place")
    others = sorted({one.name for one in place.iterdir()} - set(own))
    if others:
        shown = ", ".join(others[:3]) + (", ..." if len(others) > 3 else "")
        raise UserError(f"{place} has what would be deleted: {shown}; name another place, or move that away")


def refuse_foreign_model(place: Path) -> None:
    """Raises UserError if something is at `place` that `save_merged` did not put there."""
    said = _object(place / FILE) if (place / FILE).is_file() else {}
    refuse_foreign(place, (FILE, *said.get("merged", ())))


def publish(adapter: Path, place: Path, about: About, beside: Mapping[str, str] = MappingProxyType({})) -> None:
    """An exported adapter's files, over what has their names in `place`; its base is named so that it loads anywhere.

    `beside`: texts of further files, by name. All of them are written before the first is put there.
    """
    place.mkdir(parents=True, exist_ok=True)
    config = _object(adapter / "adapter_config.json") | {"base_model_name_or_path": loadable(about.base)}
    with making(place / FILE) as made:
        shutil.copyfile(adapter / WEIGHTS[0], made / WEIGHTS[0])
        (made / WEIGHTS[1]).write_text(json.dumps(config, indent=2, sort_keys=True) + "\n", encoding="utf-8")
        write_about(made, about)
        for name, text in beside.items():
            (made / name).write_text(text, encoding="utf-8")
        for name in (*WEIGHTS, FILE, *beside):
            (made / name).replace(place / name)


def save_merged(language: LanguageModel, adapter: Path, place: Path, beside: Mapping[str, str] = MappingProxyType({})) -> None:
    """The whole model with the adapter in its weights, and its tokenizer: a directory that needs nothing else. The model given is
    changed by it. Whole or not at all; in place of an earlier one. Raises UserError if anything else is at `place`.

    `beside`: texts of further files, by name.
    """
    from peft import PeftModel

    refuse_foreign_model(place)
    with making(place) as partial, quiet():
        made = partial / "model"
        merged = PeftModel.from_pretrained(language.model, str(adapter)).merge_and_unload()
        merged.save_pretrained(made)
        language.tokenizer.save_pretrained(made)
        for name, text in beside.items():
            (made / name).write_text(text, encoding="utf-8")
        files = sorted(one.name for one in made.iterdir())
        (made / FILE).write_text(json.dumps({"merged": files}, indent=2) + "\n", encoding="utf-8")
        if place.exists():
            place.rename(partial / "old")
        made.rename(place)


def _known(base: str) -> str:
    """A model that came by name was opened from the cache of the machine it was adapted on; by its name it is found on any."""
    path = Path(base)
    return path.name if path.is_absolute() and path.name in CATALOG and not path.exists() else base


def _object(path: Path) -> dict[str, Any]:
    found = files.load_json(path)
    if not isinstance(found, dict):
        raise UserError(f"{path}: must be a JSON object")
    return found
