"""What a loop refuses before it begins, with the way out: a mistake in a recipe must not cost hours first."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Collection, Mapping, Sequence
from typing import TYPE_CHECKING

from seal.config import Recipe
from seal.domains.probes import probes
from seal.errors import EditFault, UserError
from seal.loops.stages import TRAIN
from seal.offers import ChosenPlans, InContext, InSentences, PassageOnly
from seal.policy.write import asks_anew
from seal.protocols import Domain
from seal.rewards import Compose
from seal.store import Store, keys
from seal.types import Problem, Tuning

if TYPE_CHECKING:
    from seal.engine import Engine


def refuse_absent_layers(engine: Engine, key: str, tuning: Tuning) -> None:
    """Raises UserError if the model lacks a layer that the tuning at `key` of the recipe names."""
    try:
        engine.host.sites(tuning.targets)
    except UserError as error:
        raise UserError(f"{key}.targets: {error}") from None


def refuse_unasked(recipe: Recipe, domain: Domain, reward: Compose) -> None:
    """Raises UserError, naming it, if a problem without questions would be trained on and its reward is made of their answers."""
    if recipe.questions.source == "self" or not reward.needs_questions:
        return
    for problem in domain.problems("train"):
        if not problem.queries:
            raise UserError(
                f"passage {problem.title!r} has no question, and the reward is made of answers; write some, let the model write"
                " them (questions.source=self), or choose a reward that needs none (reward={informs=1.0})"
            )


def refuse_one_prompt(recipe: Recipe, domain: Domain) -> None:
    """Raises UserError if edits are to be learnt under further prompts of their problem, and it has only the one."""
    if recipe.update.prompts and not all(asks_anew(domain, problem) for problem in domain.problems("train")):
        raise UserError(
            f"update.prompts = {recipe.update.prompts}: the domain {domain.name!r} asks for all edits of a problem with one"
            " prompt; it asks with others where it has shown_plans (of texts with plan = 'alone'); leave it out"
        )


def refuse_few_probes(recipe: Recipe) -> None:
    """Raises UserError if there are fewer probes than a stream is to ask and its strategies are to look at."""
    table, known = recipe.continual, len(probes().queries)
    if table.probes + table.guards > known:
        raise UserError(
            f"continual.probes = {table.probes} and continual.guards = {table.guards} are more than the {known} probes there are,"
            " which they share; lower one (guards to 0 if no strategy looks at them)"
        )


def refuse_questionless(problems: Sequence[Problem]) -> None:
    """Raises UserError, naming it, if a problem that is to be measured has no questions."""
    for problem in problems:
        if not problem.queries:
            raise UserError(f"passage {problem.title!r} has no question to measure by; write some, or name another split")


def refuse_missing(domain: Domain, conditions: Sequence[str]) -> None:
    """Raises UserError, naming it, if the domain cannot be measured in one of these conditions."""
    for condition, need, method in _NEEDS:
        if condition in conditions and not isinstance(domain, need):
            raise UserError(f"eval.conditions: domain {domain.name!r} has no {condition!r} (no method {method}); leave it out")


_NEEDS = (
    ("in_context", InContext, "ask_in_context"),
    ("passage", PassageOnly, "passage_only"),
    ("sentences", InSentences, "in_sentences"),
    ("fixed", ChosenPlans, "chosen_plan"),
    ("oracle", ChosenPlans, "chosen_plan"),
)


def refuse_ungiven(problems: Sequence[Problem], given: Mapping[str, tuple[str, ...]]) -> None:
    """Raises UserError, naming it, if one of these problems has no given edit."""
    for problem in problems:
        if not given.get(problem.id):
            raise UserError(
                f"the given edits have none for passage {problem.title!r}; give a file that has, or leave 'given' out of"
                " eval.conditions"
            )


def refuse_unread(domain: Domain, problems: Sequence[Problem], given: Mapping[str, tuple[str, ...]]) -> None:
    """Raises UserError, with the first one's fault, if not one of the given edits can be read as this domain's."""
    fault = None
    for problem in problems:
        for text in given[problem.id]:
            try:
                domain.read_edit(problem, text)
            except EditFault as error:
                fault = fault or f"of {problem.title!r}: {error}"
            else:
                return
    if fault:
        raise UserError(f"not one of the given edits can be read as the recipe's [domain] has them; the first one, {fault}")


def refuse_unchosen(domain: Domain, problems: Sequence[Problem], conditions: Sequence[str]) -> None:
    """Raises UserError if a plan that `fixed` or `oracle` asks for is not known."""
    for condition in conditions:
        if condition in ("fixed", "oracle") and isinstance(domain, ChosenPlans):
            for problem in problems:
                domain.chosen_plan(condition, problem)


def refuse_among(ids: Collection[str], problems: Sequence[Problem], why: str) -> None:
    """Raises UserError for the first of the problems, which are to be measured, that is among those to be trained on, or that
    were: its name, and `why` it must not be."""
    for problem in problems:
        if problem.id in ids:
            raise UserError(f"{problem.title!r} ({problem.id}) {why}")


def refuse_trained(store: Store, problems: Sequence[Problem]) -> None:
    """Raises UserError, naming it, if the run's policy was trained on one of these problems."""
    refuse_among(trained_on(store), problems, "was trained on in this run; evaluate on another split or file")


def trained_on(store: Store) -> set[str]:
    """Ids of the problems that the run's policy was trained on, and those of the policy it began with."""
    from seal.models.adapter import read_trained  # here, for it loads torch

    begun = store.policy(0)
    learnt = store.written_for(TRAIN)
    return learnt | read_trained(begun) if begun else learnt


def refuse_changed(store: Store, split: str, problems: Sequence[Problem], use: str = "") -> None:
    """Raises UserError, naming the split, if its problems are not those that the run began with: two halves would be mixed.

    The first use in a run notes a digest of them; a run that another version began without one gets it then. `use`: what they
    are used for, where a run may use a split in several ways.
    """
    key = keys.PROBLEMS + use + split
    was, now = store.get_state(key), _digest(problems)
    if was is None:
        store.set_state(key, now)
    elif was != now:
        raise UserError(
            f"the problems of split {split!r} are not those that {store.path} began with; give its file (domain.data) back"
            " what it held, or begin a new run"
        )


def _digest(problems: Sequence[Problem]) -> str:
    content = [(one.id, one.title, one.payload, [(q.id, q.question, q.answer) for q in one.queries]) for one in problems]
    return hashlib.sha256(json.dumps(content).encode()).hexdigest()
