"""How the policy is asked for a plan."""

from __future__ import annotations

from seal.domains.arc.plans import PlanForm
from seal.types import Prompt

OPENING = '{"tools": ['
"""How every short plan begins: already written for the model, so that small ones begin a plan and not an essay."""


def plan_prompt(pairs: str, form: PlanForm, system: str | None) -> Prompt:
    """The puzzle's pairs, then what a plan may say. The model's reply is the plan."""
    head = "Each of these inputs becomes its output by one rule."
    ask = "Choose how to train a model so that it learns the rule. Answer with a plan in JSON, in this form:"
    text = f"{head}\n\n{pairs}\n------\n{ask}\n{form.form.phrase()}\n\nPlan:\n"
    return Prompt(text, system=system)
