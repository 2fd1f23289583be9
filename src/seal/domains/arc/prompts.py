"""How the policy is asked for a plan."""

from __future__ import annotations

from random import Random

from seal.domains.arc.plans import PlanForm
from seal.types import Prompt


def plan_prompt(pairs: str, form: PlanForm, *, examples: int, seed: int, system: str | None) -> Prompt:
    """The puzzle's pairs, then what a plan may say. The model's reply is the plan.

    `examples`: plans that show the form, one a line, drawn at random within the bounds by the `seed`: a small model that
    has only the form's description writes no JSON, and random ones say nothing about which plan is good.
    """
    head = "Each of these inputs becomes its output by one rule."
    if not examples:
        ask = "Choose how to train a model so that it learns the rule. Answer with a plan in JSON, in this form:"
        return Prompt(f"{head}\n\n{pairs}\n------\n{ask}\n{form.form.phrase()}\n\nPlan:\n", system=system)
    random = Random(seed)
    lines = "\n".join(form.write(form.draw(random)) for _ in range(examples))
    ask = "Plans of how to train a model so that it learns the rule, in JSON, one a line:"
    return Prompt(f"{head}\n\n{pairs}\n------\n{ask}\n{lines}\n", system=system)
