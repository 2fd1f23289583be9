"""Recipe -> the objects a loop is given: the one place that knows which class a name means."""

from __future__ import annotations

import importlib.metadata
import os
import platform
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import lru_cache, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from seal.config import Recipe
from seal.domains.knowledge import Knowledge
from seal.domains.knowledge_table import KnowledgeTable
from seal.domains.material import text_domain
from seal.domains.passages import bundled_path, problem_id
from seal.domains.probes import Probed, divided, is_probed, probes
from seal.edits.official import read_articles
from seal.errors import UserError
from seal.grading.judge import Judge, SelfJudge
from seal.loops.adapt import Adaptation
from seal.loops.continual import Course, streams
from seal.loops.evaluate import Evaluation
from seal.loops.questions import freeze
from seal.loops.refuse import refuse_missing, refuse_questionless, refuse_unchosen, refuse_ungiven, refuse_unread
from seal.loops.rest_em import Select, Update
from seal.named import find, refuse_other_arguments
from seal.offers import Counted, Graded
from seal.policy import update as updates
from seal.policy.selection import best_of_group, differing, earning, extremes, gaining, solved, top_fraction
from seal.policy.write import BATCH, under_others
from seal.protocols import Domain, Notify, nobody
from seal.protocols import Engine as EngineLike
from seal.rewards import RATERS, Compose
from seal.store import Store
from seal.strategies import Workbench, strategy
from seal.types import PolicyGradient, Preference, Problem, SelfEdit

if TYPE_CHECKING:
    from seal.engine import Engine
    from seal.models import Say


def engine(recipe: Recipe, *, progress: Notify = nobody, say: Say | None = None) -> Engine:
    """Opens the recipe's model and puts an engine around it, or a fleet where there are several devices. Loads torch, so nothing
    above does before it is called.

    `progress` is told of the tokens that a call is through with, `say` what is done where a model is pulled first.
    """
    from seal.engine import Engine, Fleet
    from seal.machine import use_threads
    from seal.models import open_model
    from seal.models.open import refuse_absent

    how, table = recipe.engine, recipe.model
    first, *others = _devices(recipe)
    for device in others:
        refuse_absent(device)
    use_threads(how.threads)
    opened = partial(open_model, table.name, chat=table.chat, trust_remote_code=table.trust_remote_code)
    language = opened(device=first, dtype=table.dtype, say=say)
    if not others:
        return Engine(language, slots=how.slots, memory_gb=how.memory_gb, progress=progress)
    same = partial(opened, dtype=str(language.dtype).removeprefix("torch."))  # auto may be another on an older GPU
    return Fleet(language, others, same, slots=how.slots, memory_gb=how.memory_gb, progress=progress)


def _devices(recipe: Recipe) -> tuple[str, ...]:
    """Where the model is opened: the first is where all is done but trials, which are shared out over all of them."""
    return recipe.engine.devices or (recipe.model.device,)


def domain(recipe: Recipe) -> Domain:
    """The recipe's domain with its problems read. Raises UserError for a bad file, or one a model cannot ask itself about."""
    made = recipe.domain.build(recipe.tuning, recipe.bounds)
    if recipe.questions.source == "self":
        text_domain(made, "questions.source = 'self'")
    return made


def counted(domain: Domain, engine: Engine) -> Domain:
    """The domain, told how many tokens the engine's model takes for an example, if it wants to know."""
    if not isinstance(domain, Counted):
        return domain
    return domain.counted(lru_cache(1 << 16)(engine.count))


def seat_judge(domain: Domain, engine: Engine) -> None:
    """Where the policy itself grades (`domain.judge = "self"`), it is `engine` that is asked."""
    grader = domain.graded_by() if isinstance(domain, Graded) else None
    if isinstance(grader, SelfJudge):
        grader.trainer = engine


def spent(domain: Domain) -> str | None:
    """What the domain's judge took so far, in a line; None if it has none that costs."""
    grader = domain.graded_by() if isinstance(domain, Graded) else None
    return str(grader.spent) if isinstance(grader, Judge) else None


def passages_domain(recipe: Recipe) -> Knowledge:
    """The recipe's knowledge domain without any passages of its own. Raises UserError if the recipe is for another."""
    if not isinstance(recipe.domain, KnowledgeTable):
        raise UserError("domain.kind: documents are passages, so the domain must be 'knowledge'")
    return recipe.domain.model_copy(update={"data": {}}).build(recipe.tuning, recipe.bounds)


def adaptation(recipe: Recipe, passages: Sequence[Problem], context: int, policy: Path | None) -> Adaptation:
    """What `seal adapt` does with passages on a model of so many positions."""
    table = recipe.adapt
    return Adaptation(
        tuple(passages),
        recipe.edit.sampling(recipe.outer.edits),
        recipe.questions.asking,
        replace(recipe.tuning, lr=table.lr, epochs=table.epochs),
        table,
        recipe.outer,
        context,
        policy,
    )


def reward(recipe: Recipe) -> Compose:
    """The weighted rewards. Raises UserError for an unknown one, and for a selection that they measure too little for."""
    chosen = recipe.outer.shortlist
    rating = {chosen.by: 0.0} if chosen else {}
    made = Compose({**rating, **recipe.reward})
    if chosen and chosen.by not in made.raters:
        raise UserError(
            f"outer.shortlist: {chosen.by!r} is no rater, and only raters say which edits to try; choose one of"
            f" {', '.join(RATERS)}"
        )
    if recipe.domain.plans_alone and (wordy := sorted(RATERS.keys() & made.raters.keys())):
        raise UserError(
            f"reward: {', '.join(wordy)} rate what an edit says, and here an edit is a plan alone; leave them out, of"
            " outer.shortlist too, or write a rater of plans (docs/rewards.md)"
        )
    if not made.needs_trials and (recipe.select.rule in ("gaining", "solved") or recipe.select.floor is not None):
        raise UserError(
            "select: 'gaining', 'solved' and `floor` go by what a trial comes to, and these rewards rate the edit without one;"
            " leave them out, or measure it: reward.gain = 0.0"
        )
    if not made.needs_trials and recipe.outer.allocation == "halving":
        raise UserError(
            "outer.allocation: 'halving' shares out trials, and these rewards rate the edit without one; choose \"uniform\""
        )
    return made


def train_domain(recipe: Recipe, domain: Domain, reward: Compose, engine: EngineLike, store: Store, notify: Notify) -> Domain:
    """The domain as it is trained on: with the model's own questions in place of the gold ones, and probes, where asked for.

    Problems taken over with their probes (`loops.takeover`) keep them, so all others have some too, whatever the reward.
    """
    if recipe.questions.source == "self":
        domain = freeze(engine, domain, store, recipe.questions.asking, seed=recipe.seed, notify=notify)
    return Probed(domain, probes()) if reward.needs_probes or probed(store) else domain


def probed(store: Store) -> bool:
    """Whether the trials of a run are asked probes; a run that has no problems yet is not."""
    return any(is_probed(problem) for problem in store.problems().values())


def select(recipe: Recipe) -> Select:
    """What the update learns from: by the selection rule under ReST-EM and anybody's own update, by its own under the others."""
    table = recipe.select
    own: dict[str, Select] = {
        "weighted": lambda groups, seed: earning(groups),
        "gradient": lambda groups, seed: differing(groups),
        "dpo": lambda groups, seed: extremes(groups, ties=table.ties, seed=seed),
    }
    if recipe.update.method in own:
        return own[recipe.update.method]
    rules: dict[str, Select] = {
        "best_of_group": lambda groups, seed: best_of_group(
            groups, keep=table.keep, ties=table.ties, floor=table.floor, seed=seed
        ),
        "gaining": lambda groups, seed: gaining(groups),
        "solved": lambda groups, seed: solved(groups),
        "top_fraction": lambda groups, seed: top_fraction(groups, table.fraction or 0.0, ties=table.ties, seed=seed),
    }
    return rules[table.rule]


def update(recipe: Recipe, domain: Domain) -> Update:
    """How kept edits change the policy. Raises UserError for a method of one's own that there is not."""
    table = recipe.update

    def asked(kept: Sequence[SelfEdit], seed: int) -> Sequence[SelfEdit]:
        return under_others(domain, kept, table.prompts, seed) if table.prompts else kept

    tuning, leash, pairs = table.tuning, PolicyGradient(table.kl, table.clip), Preference(table.beta)
    methods: dict[str, Update] = {
        "rest_em": lambda engine, kept, groups, seed: updates.rest_em(engine, asked(kept, seed), tuning, seed=seed),
        "weighted": lambda engine, kept, groups, seed: updates.weighted(engine, asked(kept, seed), groups, tuning, seed=seed),
        "gradient": lambda engine, kept, groups, seed: updates.gradient(engine, kept, groups, tuning, leash, seed=seed),
        "dpo": lambda engine, kept, groups, seed: updates.dpo(engine, kept, tuning, pairs, seed=seed),
    }
    if table.method in methods:
        return methods[table.method]
    own = find("update method", table.method, methods)
    refuse_other_arguments(f"update method {table.method!r}", own, "engine", "kept", "groups", "tuning", "seed")
    return lambda engine, kept, groups, seed: own(engine, asked(kept, seed), groups, tuning, seed)


def evaluation(recipe: Recipe, domain: Domain, policy: Path | None) -> Evaluation:
    """What `seal eval` measures. Without a trained policy the condition `seal` is left out. Raises UserError early, also
    where there is nothing to measure."""
    table = recipe.eval
    refuse_missing(domain, table.conditions)
    problems = tuple(domain.problems(table.split)[: table.limit])
    if not problems:
        raise UserError(
            f"eval.split = {table.split!r}: not one of its problems is left to measure; see what the recipe's [domain] leaves"
            " out, or name another split"
        )
    refuse_questionless(problems)
    conditions = tuple(name for name in table.conditions if name != "seal" or policy is not None)
    refuse_unchosen(domain, problems, conditions)
    given = given_edits(table.given, table.split) if "given" in conditions and table.given else None
    if given is not None:
        refuse_ungiven(problems, given)
        refuse_unread(domain, problems, given)
    return Evaluation(
        conditions,
        problems,
        recipe.edit.sampling(table.edits),
        repeats=table.repeats,
        pooled=table.mode == "continued",
        tuning=recipe.tuning,
        given=given,
        policy=policy,
        rounds_on_same=recipe.outer.rounds_on_same,
        learner=recipe.outer.learner,
        budget=_budget(recipe),
        curve=table.curve,
        split=table.split,
    )


def _budget(recipe: Recipe) -> tuple[int, int] | None:
    table = recipe.eval
    return (table.tokens, table.steps) if table.match == "tokens" else None


def continual(recipe: Recipe, domain: Domain, policy: Path | None) -> Course:
    """What `seal continual` measures. Raises UserError for too few problems, missing edits, or a policy that is needed and not
    there."""
    table = recipe.continual
    if table.edits == "seal" and policy is None:
        raise UserError("continual.edits = 'seal' needs a trained policy: --policy DIR, or continual.edits=untrained")
    problems = domain.problems(table.split)
    drawn = streams(problems, number=table.streams, length=table.length, seeds=table.seeds, seed=recipe.seed)
    wanted = {problem.id for stream in drawn for problem in stream.problems}
    used = tuple(problem for problem in problems if problem.id in wanted)
    refuse_questionless(used)
    given = None
    if table.edits == "given":
        if recipe.eval.given is None:
            raise UserError("continual.edits = 'given' takes them from eval.given: a file, or \"teacher\"")
        given = given_edits(recipe.eval.given, table.split)
        refuse_ungiven(used, given)
        refuse_unread(domain, used, given)
    sampling, budget = recipe.edit.sampling(1), _budget(recipe)
    edits = Evaluation(
        (table.edits,),
        used,
        sampling,
        given=given,
        policy=policy,
        rounds_on_same=recipe.outer.rounds_on_same,
        budget=budget,
        split=table.split,
    )
    named = {name: strategy(name, table.settings) for name in table.strategies}
    return Course(drawn, named, edits, ends=table.rows == "ends", harmful=table.harmful)


def workbench(recipe: Recipe, engine: Engine, policy: Path | None) -> Workbench:
    """The engine with the probes, and the policy that every stream starts from; None: the base model."""
    table = recipe.continual
    asked, guards = divided(probes(), (table.probes, table.guards), seed=recipe.seed)
    return Workbench(engine, asked, policy, replace(guards, id="guards"))


TEACHER = {"test": "teacher", "dev": "teacher-dev"}
"""Files of the teacher's edits, by the split they are for."""


def given_edits(source: str, split: str) -> Mapping[str, tuple[str, ...]]:
    """Texts of given edits by problem id, from a released or self-made file, or `teacher`: those that come with the documents."""
    if source == "teacher":
        if split not in TEACHER:
            known = " and ".join(TEACHER)
            raise UserError(f"eval.given = 'teacher': those edits are for {known}, not for {split!r}; leave 'given' out")
        source = str(bundled_path(TEACHER[split]))
    given: dict[str, tuple[str, ...]] = {}
    for article in read_articles(Path(source).expanduser()):
        id = problem_id(article.title, article.context)
        given[id] = given.get(id, ()) + tuple(edit.text for edit in article.edits)
    return given


_GPU_BATCH = 64
"""Edits that a GPU samples at once: what bounds a step there is reading the weights, not the rows. An estimate."""


def environment(recipe: Recipe) -> dict[str, Any]:
    """What a result depends on besides the recipe; kept beside it. `edits_at_once` goes with the device."""
    import torch

    from seal.machine import threads
    from seal.models.open import device_named, dtype_named

    device = device_named(_devices(recipe)[0])
    packages = ("seal", "torch", "transformers", "peft", "safetensors", "gguf", "tokenizers", "numpy")
    return {
        "python": platform.python_version(),
        "platform": platform.platform(),
        "processor": _processor(),
        "cores": os.cpu_count(),
        "threads": recipe.engine.threads or threads(),
        "gpu": torch.cuda.get_device_name(device) if device.type == "cuda" else None,
        "dtype": str(dtype_named(recipe.model.dtype, device)).removeprefix("torch."),
        "edits_at_once": _GPU_BATCH if device.type == "cuda" else BATCH,
        "packages": {name: importlib.metadata.version(name) for name in packages},
    }


def _processor() -> str:
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        for line in cpuinfo.read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()
