"""From a file, a shipped name or a text, with overrides, to a Recipe; and back to TOML."""

from __future__ import annotations

import tomllib
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

import tomli_w
from pydantic import ValidationError

from seal.config.keys import names
from seal.config.mistakes import describe, not_numbers
from seal.config.recipe import DOMAINS, Recipe
from seal.config.shipped import shipped
from seal.domains.table import DomainTable
from seal.errors import UserError, unknown
from seal.named import find


def load(path_or_name: str, overrides: Sequence[str] = (), *, gone: Collection[str] = ()) -> Recipe:
    """The recipe at a path, or the shipped one of that name, with `a.b=value` overrides. Raises UserError with every mistake.

    `gone`: overrides `a.b=` for keys that only another version of seal knows; they are no mistake.
    """
    path = Path(path_or_name)
    if path.suffix != ".toml" and path.name == path_or_name:
        known = shipped()
        if path_or_name not in known:
            raise unknown("recipe", path_or_name, known)
        path = known[path_or_name]
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        hint = f"; the one that comes with seal is called {path.stem!r}" if path.stem in shipped() else ""
        raise UserError(f"{path}: no such file{hint}") from None
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{path}: cannot be read as a recipe ({error})") from None
    return loads(text, overrides, source=str(path), gone=gone)


def loads(text: str, overrides: Sequence[str] = (), *, source: str, gone: Collection[str] = ()) -> Recipe:
    """The recipe in a text; `source` is what messages call it, `gone` as in `load`. Raises UserError with every mistake, one a
    line."""
    raw = _parsed(text, source)
    overrides = sorted(overrides, key=lambda one: not one.startswith("domain.kind="))  # first: the domain's other keys go by it
    mistakes = [wrong for one in overrides if (wrong := _override(raw, one)) and one not in gone]
    raw.setdefault("name", Path(source).stem)
    recipe, found = _validate(raw)
    mistakes += [_placed(one, overrides) for one in found]
    if recipe is None or mistakes:
        lines = mistakes[0] if len(mistakes) == 1 else "".join([f"{len(mistakes)} mistakes", *(f"\n  {one}" for one in mistakes)])
        raise UserError(f"{source}: {lines}")
    return recipe


def unknown_keys(text: str, *, source: str) -> list[str]:
    """What a recipe's text says that this version of seal has no word for, as overrides write it. Raises UserError if it is not
    TOML."""
    return [line.partition(": ")[0] for line in _unknown({"name": "any", **_parsed(text, source)})]


def _parsed(text: str, source: str) -> dict[str, Any]:
    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise UserError(f"{source}: not TOML: {error}") from None


def dump(recipe: Recipe) -> str:
    """The resolved recipe as TOML: every field that is not None; `loads` gives an equal recipe."""
    content = recipe.model_dump(mode="json", exclude_none=True)
    return tomli_w.dumps({**content, "domain": {"kind": _kind_of(recipe.domain), **content["domain"]}})


def flat(table: Mapping[str, Any], at: str = "") -> dict[str, Any]:
    """A recipe's values by `a.b`, as overrides write them."""
    found: dict[str, Any] = {}
    for key, value in table.items():
        found |= flat(value, f"{at}{key}.") if isinstance(value, dict) else {at + key: value}
    return found


def given(overrides: Sequence[str]) -> list[str]:
    """The keys that overrides give a value, one by one where that is a table; not those that they take back."""
    pairs = (one.partition("=") for one in overrides)
    return [name for key, _, text in pairs if text for name in flat({key: _value(text)})]


def _validate(raw: Mapping[str, Any]) -> tuple[Recipe | None, list[str]]:
    """The recipe, or every mistake in it. The domain's table is checked by the model its kind brings."""
    rest = dict(raw)
    mistakes: list[str] = []
    table = DomainTable
    domain = rest.pop("domain", {})
    if isinstance(domain, dict):
        fields = {key: value for key, value in domain.items() if key != "kind"}
        try:
            table = _table_of(str(domain.get("kind", "knowledge")))
            found = dict(not_numbers(fields, table, "domain"))
            mistakes += found.values()
            rest["domain"] = table.model_validate(fields)
        except ValidationError as error:
            mistakes += _others(describe(error, fields, table, "domain.", names(table, "domain.")), found)
        except UserError as error:
            mistakes.append(f"domain.kind: {error}")
    else:
        hint = f"; did you mean domain.kind={domain}?" if str(domain) in DOMAINS else ""
        mistakes.append(f"domain: must be a table, not {domain!r}{hint}")
    found = dict(not_numbers(rest, Recipe, ""))
    mistakes += found.values()
    try:
        return Recipe.model_validate(rest), mistakes
    except ValidationError as error:
        keys = [*names(Recipe), *names(table, "domain.")]
        return None, mistakes + _others(describe(error, rest, Recipe, keys=keys), found)


def _others(mistakes: Sequence[str], told: Collection[str]) -> list[str]:
    """The mistakes in keys of which nothing is told yet."""
    return [one for one in mistakes if one.partition(": ")[0] not in told]


def _unknown(raw: Mapping[str, Any], says: str | tuple[str, ...] = "unknown; ") -> list[str]:
    """Of the mistakes in a recipe, those which say that there is no such key."""
    return [line for line in _validate(raw)[1] if line.partition(": ")[2].startswith(says)]


def _override(raw: dict[str, Any], override: str) -> str | None:
    """Puts one `a.b=value` into the recipe; what is wrong with it, if anything."""
    key, equals, text = override.partition("=")
    # a reward's name may hold dots itself: reward.my.module:function=1
    parts = key.split(".", 1) if key.startswith("reward.") else key.split(".")
    if not equals or not all(parts):
        return f"{override!r} on the command line: must look like outer.rounds=2"
    if key.startswith("reward."):  # one weight among others: those there are without a [reward] in the file are the default's
        raw.setdefault("reward", dict(Recipe.model_fields["reward"].default))
    table = raw
    for part in parts[:-1]:
        table = table.setdefault(part, {}) if text else table.get(part, {})
        if not isinstance(table, dict):
            return f"{override!r} on the command line: {part} is a value, not a table"
    if text:
        table[parts[-1]] = _value(text)
    elif parts[-1] in table:  # `eval.limit=` takes back what the file says
        del table[parts[-1]]
    else:
        return _misspelt(raw, parts)
    return None


def _misspelt(raw: Mapping[str, Any], parts: Sequence[str]) -> str | None:
    """What is wrong with a key that is taken back and is not in the recipe; None: it is one that might be."""
    found: Any = 1
    for part in reversed(parts):
        found = {part: found}
    if "domain" in found and "kind" in raw.get("domain", {}):
        found["domain"] = {"kind": raw["domain"]["kind"], **found["domain"]}
    mistakes = _unknown({"name": "any", **found}, ("unknown; ", "no reward named "))
    return f"{mistakes[0]} (given on the command line)" if mistakes else None


def _placed(mistake: str, overrides: Sequence[str]) -> str:
    """A mistake in a value; if that, or a table it is in, was given as an override, it says so: the file is not to blame."""
    key = mistake.partition(": ")[0]
    given = [one.partition("=")[0] for one in overrides if "=" in one]
    there = any(key == one or key.startswith(f"{one}.") for one in given)
    return f"{mistake} (given on the command line)" if there else mistake


def _value(text: str) -> Any:
    """A TOML value; whatever is none, is a string."""
    try:
        return tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        return text


def _table_of(kind: str) -> type[DomainTable]:
    """The table of a domain, ours or anybody's. Raises UserError if there is none."""
    found = find("domain", kind, DOMAINS, form="a DomainTable")
    if not (isinstance(found, type) and issubclass(found, DomainTable)):
        raise UserError(f"{kind!r} is no DomainTable; seal.domains.table says what one is")
    return found


def _kind_of(table: DomainTable) -> str:
    """The name under which `_table_of` finds a table's class."""
    ours = (kind for kind, known in DOMAINS.items() if type(table) is known)
    return next(ours, f"{type(table).__module__}:{type(table).__name__}")
