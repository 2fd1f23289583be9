"""Seeds that depend on what is being done, never on when or where: the same trial draws the same numbers on any machine."""

from __future__ import annotations

import hashlib


def derive(*parts: int | str) -> int:
    """A 63-bit seed from its parts, e.g. `derive(run_seed, "edit", round, problem.id, index)`. Order and type matter."""
    text = "\x1f".join(f"{type(part).__name__}:{part}" for part in parts)
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "big") >> 1
