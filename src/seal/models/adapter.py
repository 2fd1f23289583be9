"""What an adapter says of itself: which model it is for, and how it was asked. `seal.json` beside PEFT's own two files."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal, cast, get_args

from seal.errors import UserError, unknown
from seal.models.catalog import names

FILE = "seal.json"
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


def write_about(adapter: Path, about: About) -> None:
    """Puts `seal.json` into the adapter's directory."""
    (adapter / FILE).write_text(json.dumps(asdict(about), indent=2) + "\n", encoding="utf-8")


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
    return About(base, chat, cast(Wording, reading), str(said.get("created") or ""))


def _known(base: str) -> str:
    """A model that came by name was opened from the cache of the machine it was adapted on; by its name it is found on any."""
    path = Path(base)
    return path.name if path.is_absolute() and path.name in names() and not path.exists() else base


def _object(path: Path) -> dict[str, Any]:
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise UserError(f"{path}: cannot be read as JSON ({error})") from None
    if not isinstance(found, dict):
        raise UserError(f"{path}: must be a JSON object")
    return found
