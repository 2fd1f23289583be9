"""A model absorbs documents.

    passages -> questions -> edits -> (shortlist) -> trials -> gate -> one adapter -> gate -> the table

Every stage looks into the store for what is already done, and does the rest. So an interrupted adaptation goes on where it was,
and documents that were added are a new round: edits are written and tried for their passages alone, and the one adapter is
trained again, from the start, on all that was accepted. Training the old one on would forget what it learnt first.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from seal.config.recipe import AdaptTable, OuterTable
from seal.domains.knowledge import Knowledge
from seal.domains.lessons import lessons
from seal.domains.probes import Probed, probes
from seal.domains.retrieval import Retrieval
from seal.domains.self_questions import Asking, asking
from seal.errors import SealError, UserError
from seal.loops.adapter_gate import AdapterGate, refusal
from seal.loops.gate import Verdict, judge
from seal.loops.questions import candidates, own_questions, written
from seal.loops.rehearsal import rehearsal
from seal.loops.rest_em import measure, promising
from seal.loops.stages import TRAIN, Stages, learning, learning_rate, reward_edits
from seal.offers import InSentences
from seal.policy.selection import best_of_group
from seal.policy.write import unwritten
from seal.protocols import Engine, Notify, nobody
from seal.rewards import Compose
from seal.seeds import derive
from seal.store import Store, edit_id, keys
from seal.trials import Asks, by_edit
from seal.types import Ask, Example, Outcome, Problem, Sampling, SelfEdit, Tuning

CONDITIONS = ("plain", "retrieval", "whole", "adapter", "adapter_retrieval")
"""The rows of the table: the model as it was; with the passages that BM25 finds in the prompt; with the passage itself in the
prompt; with the adapter; with adapter and retrieval. Each is a phase of the store."""
TABLE = "/table"
"""Ends the id of a passage with the questions that the table is read on."""


UNREAD = (
    *(f"outer.{key}" for key in ("rounds", "contexts", "allocation", "fresh", "rounds_on_same", "retrain")),
    *("domain.data", "domain.limit", "questions.source", "select", "update", "eval", "continual"),
)
"""Keys and tables of a recipe that an adaptation does not go by: they are other loops'."""


def goes_by(key: str) -> bool:
    """Whether an adaptation depends on a recipe's value, named as overrides name it."""
    return not any(key == one or key.startswith(f"{one}.") for one in UNREAD)


@dataclass(frozen=True, slots=True)
class Adaptation:
    """What is absorbed, and how."""

    passages: tuple[Problem, ...]
    """With the questions that their files have; most have none."""
    sampling: Sampling
    """`n` is M, the edits a passage."""
    asking: Asking
    """How the model writes the questions that there are not."""
    tuning: Tuning
    """Of the one adapter."""
    how: AdaptTable
    """The gate's bounds, and what is tried or learnt beside what the model writes."""
    outer: OuterTable
    """Of it the trials of an edit, which edits are tried, and whose weights learn them: those are the adapter's beginning, so it
    holds the policy if they are the policy's."""
    context: int
    """Positions of the model."""
    policy: Path | None = None
    """Who writes the edits; None: the model as it is."""

    @property
    def begins(self) -> Path | None:
        """The weights that learn; None: the base model's."""
        return self.policy if self.outer.learner == "policy" else None

    @property
    def edit_retained(self) -> float:
        """What a single edit must leave of the probes."""
        return self.how.retained if self.how.edit_retained is None else self.how.edit_retained


def adapt(
    engine: Engine,
    domain: Knowledge,
    store: Store,
    adaptation: Adaptation,
    *,
    reward: Compose,
    seed: int,
    notify: Notify = nobody,
) -> Path:
    """Absorbs what is new, makes the adapter, measures it; where it lies. Raises SealError if nothing was accepted at all, or the
    finished adapter is refused."""
    work = _Work(engine, domain, store, adaptation, seed, notify)
    asked = work.asked()
    round, new = _round(store, [one.id for one in adaptation.passages], [one.id for one in asked])
    probed = Probed(domain, probes(), adaptation.how.probes)
    choosing, table = _divided(asked)
    tried = [probed.probed(one) for one in choosing]
    store.put_problems([*tried, *table])
    if not _learnt(store):
        fresh = [one for one in tried if one.id in new]
        _learn(Stages(engine, probed, store, TRAIN, round, seed, notify), fresh, adaptation, reward)
    adapter = store.policy_dir(round)
    if not adapter.exists():
        work.absorb(choosing, round)
    work.measure(table, round)
    return adapter


def refuse_other_questions(store: Store, passages: Sequence[Problem]) -> None:
    """Raises UserError, naming it, if a passage was asked other questions before: its edits were chosen by those."""
    known, own = store.problems(), own_questions(store)
    for one in passages:
        was = {query for id in (one.id, one.id + TABLE) if id in known for query in known[id].queries if query.role == "target"}
        now = one if one.queries else asking(one, own.get(one.id, ()))
        if was and was != set(now.queries):
            raise UserError(
                f"the questions about {one.title!r} are not those this adapter was made with; take them back, or name another"
                " --out"
            )


@dataclass(frozen=True, slots=True)
class _Work:
    """What asks or changes the model."""

    engine: Engine
    domain: Knowledge
    store: Store
    adaptation: Adaptation
    seed: int
    notify: Notify

    def asked(self) -> list[Problem]:
        """The passages that there are questions about: their own, or else the model's."""
        bare = [one for one in self.adaptation.passages if not one.queries]
        own = written(self.engine, self.domain, bare, self.store, self.adaptation.asking, seed=self.seed, notify=self.notify)
        each = (one if one.queries else asking(one, own[one.id]) for one in self.adaptation.passages)
        asked = [one for one in each if one.queries]
        if not asked:
            raise SealError("no questions about any passage: the model wrote none of use; try a larger one (model.name=...)")
        return asked

    def absorb(self, choosing: Sequence[Problem], round: int) -> None:
        """One adapter out of all that was accepted, at the weight that the gate takes it at."""
        edits = accepted(self.store, round)
        if not edits:
            raise SealError(
                f"no edit was accepted, so there is no adapter: `seal show {self.store.path}` has the edits and what they did"
            )
        whole, known = self.store.policy_dir(round, "whole"), replace(probes(), payload="{}")
        if not whole.exists():
            rows = self._rows(edits)
            self.notify("adapter", 0, 1)
            self.engine.load(self.adaptation.begins)
            with learning_rate("adapt.lr", "an adapter keeps its settings, so name another --out"):
                absorbed = self.engine.absorb(rows, self.adaptation.tuning, seed=derive(self.seed, "adapter", round))
            measure(self.store, round, absorbed)
            self.engine.export(whole)
            self.notify("adapter", 1, 1)
        absorbed_ids = {edit.problem_id for edit in edits}
        self.store.put_problems([known])
        inside = [one for one in choosing if one.id in absorbed_ids]
        notify, bound = _named(self.notify, "gate"), self.adaptation.how.retained
        gate = AdapterGate(self.engine, self.domain, self.store, round, self.seed, inside, known, bound, notify)
        weight, verdict = gate.decide(whole)
        if why := refusal(verdict, weight):
            raise SealError(f"{why}; `seal show {self.store.path}` has the edits. {ELSE}")
        self.engine.wear([(whole, weight)])
        self.engine.export(self.store.policy_dir(round))

    def _rows(self, edits: Sequence[SelfEdit]) -> tuple[Example, ...]:
        """What the adapter learns: the accepted edits, lessons on their passages, and what the model says about other things.

        No question that the table is read on is taught, nor one with the same answer. The sentence that answers another may hold
        that answer all the same, as the edits and the passage may.
        """
        rows = [example for edit in edits for example in edit.examples]
        problems, absorbed = self.store.problems(), {edit.problem_id for edit in edits}
        for passage in (one for one in self.adaptation.passages if one.id in absorbed):
            chose = {query.id: (query.question, query.answer) for query in problems[passage.id].queries if query.role == "target"}
            table = problems[passage.id + TABLE].queries if passage.id + TABLE in problems else ()
            held = {query.answer for query in table if query.id not in chose}
            asked = candidates(self.store, passage) or list(chose.values())
            rows += lessons(self.domain, passage, asked, each=self.adaptation.how.lessons, without=held)
        rows += rehearsal(self.engine, self.store, self.adaptation.how.rehearsal, seed=self.seed, notify=self.notify)
        return tuple(dict.fromkeys(rows))

    def measure(self, problems: Sequence[Problem], round: int) -> None:
        """Every condition on the same questions."""
        asks: dict[str, Asks] = dict(zip(CONDITIONS, _asks(self.engine, self.domain, self.adaptation), strict=True))
        took: dict[str, int] = {}
        for condition in CONDITIONS:
            self.engine.load(self.store.policy_dir(round) if condition.startswith("adapter") else None)
            stages = Stages(self.engine, self.domain, self.store, condition, round, self.seed, _named(self.notify, condition))
            stages.unchanged(problems, ask=asks[condition])
            took[condition] = sum(_prompt(self.engine, ask) for problem in problems for ask in asks[condition](problem))
        self.store.set_state(keys.ADAPT_PROMPTS, self.store.get_state(keys.ADAPT_PROMPTS, {}) | {str(round): took})


# ---- what is new


def _round(store: Store, ids: Sequence[str], asked: Sequence[str]) -> tuple[int, set[str]]:
    """The round these passages are absorbed in, and those of `asked`, which have questions, that no round before it tried.

    A round is over with the verdicts on its edits; until then it takes in whatever comes or goes. A passage that was in one
    without a question is tried in another, once it has some.
    """
    rounds = store.get_state(keys.ADAPT_ROUNDS, [])
    finished = [one for one in rounds if one["learnt"]]
    tried = {id for one in finished for id in one["new"]}  # though none of its edits could be rated, and so none has a verdict
    new = [id for id in asked if id not in tried]
    if not rounds or not rounds[-1]["learnt"] or rounds[-1]["passages"] != list(ids) or new:
        rounds = [*finished, {"passages": list(ids), "new": new, "learnt": False}]
        store.set_state(keys.ADAPT_ROUNDS, rounds)
    return len(rounds), set(rounds[-1]["new"])


def _learnt(store: Store) -> bool:
    return bool(store.get_state(keys.ADAPT_ROUNDS)[-1]["learnt"])


def _divided(asked: Sequence[Problem]) -> tuple[list[Problem], list[Problem]]:
    """The passages with the questions that choose their edits, and with those for the table.

    Every second question is for the table. Where no passage has two, the table has to be read on those that chose.
    """
    choosing = [replace(one, queries=one.queries[::2]) for one in asked]
    table = [replace(one, queries=one.queries[1::2]) for one in asked if len(one.queries) > 1] or choosing
    return choosing, [replace(one, id=one.id + TABLE, cluster=one.cluster or one.id) for one in table]


# ---- edits, trials, the gate


def _learn(stages: Stages, problems: Sequence[Problem], adaptation: Adaptation, reward: Compose) -> None:
    """Edits of the new passages, tried and judged; of those that pass the gate the best of each passage is kept."""
    store, round = stages.store, stages.round
    stages.engine.load(adaptation.policy)
    edits = stages.sample(problems, adaptation.sampling)
    own = _in_sentences(stages, problems, adaptation.sampling.n) if adaptation.how.sentences else []
    ratings = stages.rate(problems, [*edits, *own], reward.raters)
    edits = [*promising(edits, ratings, adaptation.outer.shortlist), *own]
    with learning(stages.engine, adaptation.outer.learner, adaptation.policy):
        outcomes = stages.attempt(problems, edits, adaptation.outer.repeats)
    groups = reward_edits(store, problems, edits, outcomes, reward.rated(ratings))
    verdicts = _verdicts(outcomes, adaptation.edit_retained)
    passed = [[one for one in group if verdicts[one.item.id].refused is None] for group in groups]
    kept = best_of_group(passed, ties="seed", seed=derive(stages.seed, "ties", round))
    store.put_kept(TRAIN, round, [edit.id for edit in kept])
    judged = {id: asdict(one) for id, one in verdicts.items()}
    store.set_state(keys.ADAPT_VERDICTS, store.get_state(keys.ADAPT_VERDICTS, {}) | judged)
    *earlier, last = store.get_state(keys.ADAPT_ROUNDS)
    store.set_state(keys.ADAPT_ROUNDS, [*earlier, {**last, "learnt": True}])


def _in_sentences(stages: Stages, problems: Sequence[Problem], index: int) -> list[SelfEdit]:
    """The passages' own sentences, an edit each, after those that the model wrote."""
    domain, round = stages.domain, stages.round
    assert isinstance(domain, InSentences)  # a knowledge domain
    have = {edit.id: edit for edit in stages.store.edits(stages.phase, round)}
    found = []
    for problem in problems:
        id = edit_id(stages.phase, round, problem.id, index)
        if id not in have:
            made = unwritten(domain, problem, domain.in_sentences(problem), id=id, source="sentences", round=round, index=index)
            stages.keep([made])
            have[id] = made
        found.append(have[id])
    return found


def _verdicts(outcomes: Sequence[Outcome], retained: float) -> dict[str, Verdict]:
    return {id: judge(own, retained) for id, own in by_edit(outcomes).items()}


def accepted(store: Store, round: int) -> list[SelfEdit]:
    """The edits the adapter of a round is made of: those accepted in this round or before, of the passages that it is about."""
    wanted = set(store.get_state(keys.ADAPT_ROUNDS)[round - 1]["passages"])
    found = []
    for number in range(1, round + 1):
        kept = set(store.kept(TRAIN, number))
        found += [edit for edit in store.edits(TRAIN, number) if edit.id in kept and edit.problem_id in wanted]
    return found


ELSE = "A smaller adapt.lr or fewer adapt.epochs do less harm (with another --out); a larger model.name learns more"


# ---- the table


def _asks(engine: Engine, domain: Knowledge, adaptation: Adaptation) -> tuple[Asks, ...]:
    """What is asked in each of `CONDITIONS`."""

    def fits(ask: Ask) -> bool:
        return _prompt(engine, ask) + ask.max_tokens <= adaptation.context

    retrieval = Retrieval(domain, adaptation.passages, fits)
    return domain.ask, retrieval.ask, domain.ask_in_context, domain.ask, retrieval.ask


def _prompt(engine: Engine, ask: Ask) -> int:
    return engine.count(Example("", ask.prompt))


def _named(notify: Notify, condition: str) -> Notify:
    return lambda what, done, total: notify(condition.replace("_", " + "), done, total)


def tokens_and_seconds(store: Store, round: int) -> dict[str, dict[str, Any]]:
    """What an answer took in each condition, as a mean over the questions: tokens of prompt and reply, seconds."""
    prompts = store.get_state(keys.ADAPT_PROMPTS, {}).get(str(round), {})
    found = {}
    for condition, tokens in prompts.items():
        costs = store.base_costs(condition, round).values()
        questions = sum(len(answers) for answers in store.base(condition, round).values())
        found[condition] = {
            "tokens": (tokens + sum(cost.answer_tokens for cost in costs)) / questions,
            "seconds": sum(cost.answer_seconds for cost in costs) / questions,
        }
    return found
