"""The recipe of a run that is there: what of it may change when it goes on, or when another begins with it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from seal.errors import UserError

if TYPE_CHECKING:
    from seal.config import Recipe
    from seal.store import Store

FREE = ("engine.", "model.device=", "track=")
"""How values begin that may change while a run goes on."""


def own_recipe(store: Store, overrides: Sequence[str]) -> Recipe:
    """A run's recipe; of all values only those may change that nothing measured depends on.

    What another version of seal wrote and this one does not know has to be taken back by name, `key=`: it may have mattered.
    """
    from seal.config import loads

    if not store.recipe_toml:
        raise UserError(f"{store.path} was made in Python and has no recipe; what made it goes on with it")
    for one in overrides:
        if not keeps_recipe(store, [one]):
            raise UserError(
                f"{one!r}: a run keeps its recipe, only engine.*, model.device and track may change;"
                " leave it out, or begin a new run"
            )
    refuse_unknown(store, overrides)
    return loads(store.recipe_toml, overrides, source=f"the recipe of {store.path}")


def known_recipe(store: Store) -> Recipe:
    """A run's recipe without the keys that only another version of seal knows: they were taken back, or do not matter here."""
    from seal.config import loads

    return loads(store.recipe_toml, taken_back(store), source=f"the recipe of {store.path}")


def model_recipe(store: Store) -> Recipe:
    """A run's recipe where only its model is wanted: what another version said of anything else does not matter."""
    return own_recipe(store, [one for one in taken_back(store) if not one.startswith("model.")])


def keeps_recipe(store: Store, overrides: Sequence[str]) -> bool:
    """Whether a run with these values is the same run."""
    free = {*taken_back(store), f"model.dtype={store.environment.get('dtype')}"}  # that is what it was begun in
    return all(one.startswith(FREE) or one in free for one in overrides)


def replayed_recipe(source: Store, overrides: Sequence[str]) -> Recipe:
    """The recipe of a run that begins with another's first round, and ends there if not told otherwise: all that the outcomes
    depend on stays.

    Raises UserError for another value that they do depend on, and for a reward of probes that they were not asked.
    """
    from seal.loops import build

    chosen = ["outer.rounds=1", *overrides]
    recipe = _changed(
        source, overrides, ("outer.rounds=", "reward.", "update.", "select.", "eval.", "reward=", "select="), chosen
    )
    if recipe.outer.allocation == "halving" and recipe.reward != known_recipe(source).reward:
        raise UserError(
            f"reward: under outer.allocation = 'halving' it said which edits of {source.path} were tried on; leave it as it is"
        )
    if build.reward(recipe).needs_probes and not build.probed(source):
        raise UserError(f"reward: the trials of {source.path} were not asked the probes; leave rewards that need them out")
    return recipe


def longer_recipe(source: Store, overrides: Sequence[str]) -> Recipe:
    """The recipe of a run that begins with all finished rounds of another and has more of the same. Raises UserError."""
    from seal.loops.takeover import finished_rounds

    recipe, done = _changed(source, overrides, ("outer.rounds=", "eval."), overrides), finished_rounds(source)
    if not done:
        raise UserError(f"{source.path} has no finished round to go on from; --update NAME learns from its trials in another way")
    if recipe.outer.rounds <= done:
        raise UserError(f"outer.rounds={recipe.outer.rounds}: {source.path} has {done} rounds already; name more of them")
    return recipe


def _changed(source: Store, overrides: Sequence[str], free: Sequence[str], chosen: Sequence[str]) -> Recipe:
    """A run's recipe with the chosen values. Raises UserError for an override of anything that is not free."""
    from seal.config import loads

    free = ("name=", *free, *FREE)
    gone = [one for one in taken_back(source) if one in overrides]
    own_recipe(source, gone)  # refuses what this version does not know
    for one in overrides:
        if one not in gone and not one.startswith(free):
            named = ", ".join(f"{name}*" if name.endswith(".") else name.removesuffix("=") for name in free)
            way = "" if "update." in free else "; with --update NAME, which learns from its first round anew, more may"
            raise UserError(f"{one!r}: the outcomes are those of {source.path}; only {named} may change{way}")
    return loads(source.recipe_toml, chosen, source=f"the recipe of {source.path}")


def refuse_unknown(store: Store, overrides: Sequence[str]) -> None:
    """Raises UserError if another version of seal wrote what this one does not know, and it is not taken back."""
    from seal import __version__

    left = [one for one in taken_back(store) if one not in overrides]
    if left:
        keys = ", ".join(one.removesuffix("=") for one in left)
        raise UserError(
            f"{store.path} was made by another version of seal: this one ({__version__}) does not know {keys}; go on with that"
            f" version, or without what it says: {' '.join(left)}"
        )


def taken_back(store: Store) -> list[str]:
    """The overrides, `key=`, that take back what this version of seal does not know in a run's recipe."""
    from seal.config import unknown_keys

    return [f"{key}=" for key in unknown_keys(store.recipe_toml, source=f"the recipe of {store.path}")]
