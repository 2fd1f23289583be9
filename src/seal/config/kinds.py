"""`domain.kind`: the name of a domain's table."""

from __future__ import annotations

from seal.config.recipe import DOMAINS
from seal.domains.table import DomainTable
from seal.errors import UserError, unknown
from seal.named import named


def find(kind: str) -> type[DomainTable]:
    """The table of a domain of ours by its name, or anybody's as `module:Table`. Raises UserError if there is none."""
    if ":" not in kind:
        if kind not in DOMAINS:
            raise unknown("domain", kind, DOMAINS)
        return DOMAINS[kind]
    try:
        found = named(kind)
    except ImportError as error:
        raise UserError(f"{error}; {kind!r} must be an importable module and a DomainTable in it") from None
    if not (isinstance(found, type) and issubclass(found, DomainTable)):
        raise UserError(f"{kind!r} is no DomainTable; seal.domains.table says what one is")
    return found


def kind_of(table: DomainTable) -> str:
    """The name under which `find` finds a table's class."""
    ours = (kind for kind, known in DOMAINS.items() if type(table) is known)
    return next(ours, f"{type(table).__module__}:{type(table).__name__}")
