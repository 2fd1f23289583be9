"""The recipe: a TOML file that describes a run. Below this room nobody knows recipes."""

from seal.config.keys import reference
from seal.config.load import dump, flat, given, load, loads, unknown_keys
from seal.config.recipe import DOMAINS, Recipe
from seal.config.shipped import shipped, shipped_policies

__all__ = [
    "DOMAINS",
    "Recipe",
    "dump",
    "flat",
    "given",
    "load",
    "loads",
    "reference",
    "shipped",
    "shipped_policies",
    "unknown_keys",
]
