"""Recipe -> the objects a loop is given: the one place that knows which class a name means."""

from __future__ import annotations

import importlib.metadata
import os
import platform
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from seal.config import Recipe
from seal.domains.passages import bundled_path, problem_id
from seal.edits.official import read_articles
from seal.errors import UserError
from seal.loops.evaluate import Evaluation, refuse_missing, refuse_ungiven
from seal.loops.rest_em import Outer, Select, Update
from seal.policy.selection import best_of_group, gaining, top_fraction
from seal.policy.update import rest_em
from seal.protocols import Domain
from seal.rewards import Compose

if TYPE_CHECKING:
    from seal.engine import Engine


def engine(recipe: Recipe, *, progress: Callable[[str, int, int, str], None] | None = None) -> Engine:
    """Opens the recipe's model and puts an engine around it. Loads torch, so nothing above does before it is called."""
    import torch

    from seal.engine import Engine
    from seal.models import open_model

    if recipe.engine.threads is not None:
        torch.set_num_threads(recipe.engine.threads)
    table = recipe.model
    language = open_model(
        table.name, device=table.device, dtype=table.dtype, chat=table.chat, trust_remote_code=table.trust_remote_code
    )
    made = Engine(language, slots=recipe.engine.slots, memory_gb=recipe.engine.memory_gb)
    if progress is not None:
        made.progress = progress
    return made


def domain(recipe: Recipe) -> Domain:
    """The recipe's domain with its problems read. Raises UserError for a bad or missing file."""
    return recipe.domain.build(recipe.tuning, recipe.bounds)


def outer(recipe: Recipe) -> Outer:
    """The sizes of the outer loop."""
    table = recipe.outer
    halving = table.allocation == "halving"
    return Outer(table.rounds, table.contexts, recipe.edit.sampling(table.edits), table.repeats, table.fresh, halving)


def reward(recipe: Recipe) -> Compose:
    """The weighted rewards. Raises UserError for one that does not exist."""
    return Compose(recipe.reward)


def select(recipe: Recipe) -> Select:
    """The selection rule."""
    table = recipe.select
    rules: dict[str, Select] = {
        "best_of_group": lambda groups, seed: best_of_group(groups, ties=table.ties, floor=table.floor, seed=seed),
        "gaining": lambda groups, seed: gaining(groups),
        "top_fraction": lambda groups, seed: top_fraction(groups, table.fraction or 0.0, ties=table.ties, seed=seed),
    }
    return rules[table.rule]


def update(recipe: Recipe) -> Update:
    """How kept edits change the policy."""
    return lambda engine, kept, seed: rest_em(engine, kept, recipe.update.tuning, seed=seed)


def evaluation(recipe: Recipe, domain: Domain, policy: Path | None) -> Evaluation:
    """What `seal eval` measures. Without a trained policy the condition `seal` is left out. Raises UserError early."""
    table = recipe.eval
    refuse_missing(domain, table.conditions)
    problems = tuple(domain.problems(table.split)[: table.limit])
    conditions = tuple(name for name in table.conditions if name != "seal" or policy is not None)
    given = given_edits(table.given, table.split) if "given" in conditions and table.given else None
    if given is not None:
        refuse_ungiven(problems, given)
    return Evaluation(
        conditions,
        problems,
        recipe.edit.sampling(table.edits),
        table.repeats,
        table.mode == "continued",
        recipe.tuning,
        given,
        policy,
        (table.tokens, table.steps) if table.match == "tokens" else None,
        table.curve,
    )


def given_edits(source: str, split: str) -> Mapping[str, tuple[str, ...]]:
    """Texts of given edits by problem id, from a released or self-made file, or `teacher`: those that come with the documents."""
    if source == "teacher":
        if split != "test":
            raise UserError(
                f"eval.given = 'teacher': those edits are for the test split, not {split!r}; leave 'given' out of eval.conditions"
            )
        source = str(bundled_path("teacher"))
    given: dict[str, tuple[str, ...]] = {}
    for article in read_articles(Path(source).expanduser()):
        id = problem_id(article.title, article.context)
        given[id] = given.get(id, ()) + tuple(edit.text for edit in article.edits)
    return given


def environment() -> dict[str, Any]:
    """What a result depends on besides the recipe; kept beside it."""
    import torch

    packages = ("seal", "torch", "transformers", "peft", "safetensors", "gguf", "tokenizers", "numpy")
    return {
        "python": platform.python_version(),
        "platform": platform.platform(),
        "processor": _processor(),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "gpu": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
        "packages": {name: importlib.metadata.version(name) for name in packages},
    }


def _processor() -> str:
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        for line in cpuinfo.read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()
