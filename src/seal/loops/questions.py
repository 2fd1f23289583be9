"""Before round one of a training without labels: the base model's own questions about every training text, written once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict

from seal.config.recipe import OuterTable
from seal.domains.material import TextDomain, text_domain
from seal.domains.passages import Asked
from seal.domains.self_questions import Asking, SelfQuestions, write_questions
from seal.errors import SealError
from seal.protocols import Domain, Engine, Notify, nobody
from seal.seeds import derive
from seal.store import Store, keys
from seal.types import Problem


def freeze(
    engine: Engine,
    domain: Domain,
    store: Store,
    how: Asking,
    *,
    seed: int,
    split: str = "train",
    limit: int | None = None,
    notify: Notify = nobody,
) -> SelfQuestions:
    """The domain with the problems of one split (or the first `limit` of them) asked in the model's own words.

    Raises SealError if not one question of all was of use.
    """
    texts = text_domain(domain, "training on the model's own questions")
    kept = written(engine, texts, texts.problems(split)[:limit], store, how, seed=seed, notify=notify)
    if not any(kept.values()):
        raise SealError("not one question that the model wrote was of use: try other questions.ways, or a larger model")
    return SelfQuestions(domain, kept, split)


def remark(texts: int, outer: OuterTable) -> str | None:
    """What has to be known before so many training texts are asked about: that the rounds use far fewer, if they do."""
    used = outer.contexts * (outer.rounds if outer.fresh else 1)
    if texts <= 2 * used:
        return None
    return (
        f"questions.source = self: the model writes questions about all {texts:,} training texts, and the rounds use {used:,}; "
        "a file with fewer texts (domain.data.train) saves the time"
    )


def written(
    engine: Engine,
    domain: TextDomain,
    problems: Sequence[Problem],
    store: Store,
    how: Asking,
    *,
    seed: int,
    notify: Notify = nobody,
) -> dict[str, list[Asked]]:
    """The base model's own questions about every problem, by its id; those that the sieve kept.

    Each problem's are kept as soon as they are written and never drawn again, so that the reward stays the same reward in every
    round and in every life of the run.
    """
    known = found_questions(store)
    missing = [problem for problem in problems if problem.id not in known]
    if missing:
        engine.load(None)
    for done, problem in enumerate(missing, len(problems) - len(missing)):
        notify("questions", done, len(problems))
        found = write_questions(engine, domain, problem, how, seed=derive(seed, "questions", problem.id))
        store.set_state(f"{keys.QUESTIONS}{problem.id}", [asdict(one) for one in found])
    notify("questions", len(problems), len(problems))
    own = own_questions(store)
    return {problem.id: own[problem.id] for problem in problems}


def own_questions(store: Store) -> dict[str, list[Asked]]:
    """Of all that the model asked so far, the questions that the sieve kept, by the problem's id."""
    asked = found_questions(store).items()
    return {id: [(one["question"], one["answer"]) for one in found if one["verdict"] == "kept"] for id, found in asked}


def found_questions(store: Store) -> dict[str, list[dict[str, str]]]:
    """All that the model asked so far, by the problem's id: `question`, `answer`, `verdict` and `way` of each."""
    own = store.states(keys.QUESTIONS)
    return store.get_state(keys.QUESTIONS_TOGETHER, {}) | {key.removeprefix(keys.QUESTIONS): found for key, found in own.items()}


def candidates(store: Store, problem: Problem) -> list[Asked]:
    """All that the model asked about a problem, the questions that the sieve kept first; none if it was not asked to."""
    found = store.get_state(f"{keys.QUESTIONS}{problem.id}")
    if found is None:
        found = store.get_state(keys.QUESTIONS_TOGETHER, {}).get(problem.id, [])
    return [(one["question"], one["answer"]) for one in found]
