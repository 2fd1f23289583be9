"""Ways to learn from the same outcomes: objectives against plain torch, the loop under each, a round replayed."""

from __future__ import annotations

import math
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from small_runs import OUTER, POLICY, Watched, a_domain, changed, rows, train, weights
from torch import Tensor

from seal.config import Recipe
from seal.config.recipe import SelectTable, UpdateTable
from seal.engine import Bank, Engine, Row
from seal.engine.memory import Plan
from seal.engine.pack import IGNORE
from seal.errors import UserError
from seal.loops import build
from seal.loops.refuse import refuse_one_prompt
from seal.loops.stages import reward_edits
from seal.loops.takeover import replay
from seal.models import open_model
from seal.policy.selection import Scored, best_of_group, differing, earning, extremes, gaining
from seal.policy.update import advantages
from seal.rewards import Compose
from seal.store import Store
from seal.types import (
    Absorbed,
    Answer,
    Example,
    Objective,
    Outcome,
    PolicyGradient,
    Preference,
    Problem,
    Prompt,
    Query,
    SelfEdit,
    Trial,
    Tuning,
)

NO_DOMAIN: Any = None  # without `update.prompts` an update looks at none
METHODS = ("rest_em", "weighted", "gradient", "dpo")
NEW = METHODS[1:]
PAGE = Path(__file__).parents[1] / "docs" / "updates.md"


# ---- objectives


def some_rows() -> list[Row]:
    """Two twos of unlike lengths and weights; the first few tokens of each are a prompt."""
    generator = torch.Generator().manual_seed(0)
    found = []
    for length, weight in ((9, 1.2), (14, -0.7), (6, -1.1), (11, 0.4)):
        ids = tuple(torch.randint(3, 250, (length,), generator=generator).tolist())
        found.append(Row(ids, (*[IGNORE] * 3, *ids[3:]), weight))
    return found


def plain_logprobs(model: torch.nn.Module, row: Row) -> Tensor:
    scores = model(input_ids=torch.tensor([row.ids])).logits[0].log_softmax(1)
    return torch.stack([scores[at - 1, token] for at, token in enumerate(row.labels) if token != IGNORE])


def expected_loss(objective: Objective, now: list[Tensor], before: list[Tensor]) -> Tensor:
    """Written out, row by row and token by token."""
    if isinstance(objective, Preference):
        gained = [one.sum() - other.sum() for one, other in zip(now, before, strict=True)]
        margins = [objective.beta * (gained[0] - gained[1]), objective.beta * (gained[2] - gained[3])]
        return sum(torch.log(1 + torch.exp(-margin)) for margin in margins) / 2
    total, tokens = torch.zeros(()), 0
    for row, one, other in zip(some_rows(), now, before, strict=True):
        for p, q in zip(one, other, strict=True):
            ratio = torch.exp(p - q)
            bounded = ratio.clamp(1 - objective.clip, 1 + objective.clip)
            surrogate = min(ratio * row.weight, bounded * row.weight, key=lambda value: value.item())
            total = total - surrogate + objective.kl * (torch.exp(q - p) - (q - p) - 1)
            tokens += 1
    return total / tokens


@pytest.mark.parametrize("objective", [PolicyGradient(kl=0.5, clip=0.2), Preference(beta=0.3)], ids=["gradient", "dpo"])
@pytest.mark.parametrize("step_tokens", [4096, 16], ids=["whole", "parts"])
def test_an_objective_has_the_loss_and_the_gradient_of_plain_torch(
    lively_path: Path, objective: Objective, step_tokens: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """At a policy that has moved: every weight of an adapter drawn anew. Its gradient is read off before the optimiser has it."""
    targets = ("q_proj", "v_proj", "down_proj")
    reference = open_model(str(lively_path), device="cpu", dtype="float32").model
    bank = Bank(
        open_model(str(lively_path), device="cpu", dtype="float32").model,
        slots=1, rank=4, targets=targets, step_tokens=step_tokens, objective=objective,
    )  # fmt: skip
    tuning = Tuning(rank=4, alpha=8, targets=targets)
    bank.start(0, tuning, steps=1, seed=0)
    bank.stack.flat.normal_(std=0.15, generator=torch.Generator().manual_seed(1))
    factors = {name: (a.clone(), b.clone()) for name, (a, b) in bank.stack.factors(0, 4).items()}  # b: alpha / rank in it
    flat = bank.stack.flat.clone()
    caught: list[Tensor] = []
    monkeypatch.setattr(bank.optimiser, "step", lambda *_: caught.append(bank.optimiser.grad.clone()))
    found = bank.step({0: some_rows()})
    bank.stack.flat.copy_(caught[0])
    gradients = bank.stack.factors(0, 4)  # laid out as the factors are, b's times alpha / rank like b
    bank.stack.flat.copy_(flat)
    bank.close()

    with torch.no_grad():
        before = [plain_logprobs(reference, row) for row in some_rows()]
    leaves = {name: (a.requires_grad_(), b.requires_grad_()) for name, (a, b) in factors.items()}
    for name, (a, b) in leaves.items():
        linear = reference.get_submodule(name)
        linear.forward = lambda x, linear=linear, a=a, b=b: x @ linear.weight.T + x @ a.T @ b.T
    now = [plain_logprobs(reference, row) for row in some_rows()]
    expected = expected_loss(objective, now, before)
    expected.backward()
    if isinstance(objective, PolicyGradient):  # else the clip would not be seen
        ratios = torch.cat([(one - other).exp() for one, other in zip(now, before, strict=True)])
        assert ((ratios - 1).abs() > objective.clip).any()
        assert ((ratios - 1).abs() < objective.clip).any()
    torch.testing.assert_close(found[0], expected.detach(), rtol=1e-4, atol=1e-5)
    scale = tuning.alpha / tuning.rank
    for name, (a, b) in leaves.items():
        torch.testing.assert_close(gradients[name][0], a.grad, rtol=1e-3, atol=1e-5)
        torch.testing.assert_close(gradients[name][1], scale**2 * b.grad, rtol=1e-3, atol=1e-5)


def test_where_the_policy_has_not_moved_the_gradient_is_that_of_weighted_likelihood(lively_path: Path) -> None:
    """The on-policy step: ratio 1, nothing clipped, a leash without a pull."""
    steps = []
    for objective in (None, PolicyGradient(kl=3.0)):
        bank = Bank(open_model(str(lively_path), device="cpu", dtype="float32").model, slots=1, rank=4, objective=objective)
        bank.start(0, Tuning(rank=4, alpha=8), steps=2, seed=0)
        bank.step({0: some_rows()})
        steps.append(bank.stack.flat.clone())
        bank.close()
    torch.testing.assert_close(steps[0], steps[1], rtol=1e-3, atol=1e-5)


def test_another_objective_needs_a_bank_of_one_slot(lively_path: Path) -> None:
    with pytest.raises(ValueError, match="one slot, not 2"):
        Bank(open_model(str(lively_path), device="cpu", dtype="float32").model, slots=2, rank=4, objective=Preference())


def logprob(engine: Engine, prompt: str, text: str) -> float:
    encoded, start = engine.language.encode_example(Example(text, Prompt(prompt)))
    engine_model = open_model(engine.language.name, device="cpu", dtype="float32").model
    for name, linear in engine.host.linears.items():
        engine_model.get_submodule(name).weight.data.copy_(linear.weight)
    row = Row(tuple(encoded), (*[IGNORE] * start, *encoded[start:]))
    with torch.no_grad():
        return float(plain_logprobs(engine_model, row).sum())


@pytest.mark.parametrize("objective", [PolicyGradient(), Preference()], ids=["gradient", "dpo"])
def test_the_better_edit_becomes_likelier_than_the_worse(engine: Engine, objective: Objective) -> None:
    engine.load(None)
    ask = Prompt("Write.")
    pair = [Example("Ada built it.", ask, "completion", 1.0), Example("No idea.", ask, "completion", -1.0)]
    long = [Example("x" * 600, ask), Example("with it", ask)]
    before = [logprob(engine, "Write.", one.completion) for one in pair]
    absorbed = engine.absorb([*pair, *long], replace(POLICY, epochs=4), seed=0, objective=objective)
    after = [logprob(engine, "Write.", one.completion) for one in pair]
    assert after[0] - before[0] > after[1] - before[1] + 0.1
    assert absorbed.left_out == (2 if isinstance(objective, Preference) else 1)
    engine.load(None)


def test_what_is_learnt_together_is_planned_together(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    plan, planned = engine.plan, dict[str, Any]()

    def watched(*given: Any, **settings: Any) -> Plan:
        planned.update(settings)
        return plan(*given, **settings)

    monkeypatch.setattr(engine, "plan", watched)
    ask = Prompt("Write.")
    pairs = [Example(text, ask, "completion", worth) for text, worth in (("a", 1), ("b" * 30, -1), ("c" * 20, 1), ("d" * 20, -1))]
    sizes = [engine.count(one) for one in pairs]
    engine.absorb(pairs, replace(POLICY, epochs=2), seed=0, objective=Preference())
    assert (planned["longest"], planned["kept"]) == (sizes[2] + sizes[3], sum(sizes))
    engine.load(None)


# ---- what is learnt from


def an_edit(name: str, problem: str = "p") -> SelfEdit:
    return SelfEdit(name, problem, name, 1, 0, Prompt("Write."))


GROUPS = [
    [Scored(an_edit("a"), 0.5), Scored(an_edit("b"), 0.0), Scored(an_edit("c"), 1.0), Scored(an_edit("d"), None)],
    [Scored(an_edit("e"), 0.2), Scored(an_edit("f"), 0.2)],
    [Scored(an_edit("g"), None)],
    [Scored(an_edit("h"), -1.0), Scored(an_edit("i"), 0.0)],
]


def test_each_way_keeps_its_own_edits() -> None:
    names = {
        "weighted": [one.id for one in earning(GROUPS)],
        "gradient": [one.id for one in differing(GROUPS)],
        "dpo": [one.id for one in extremes(GROUPS)],
    }
    assert names == {"weighted": list("acef"), "gradient": list("abchi"), "dpo": ["c", "b", "i", "h"]}
    for method, expected in names.items():
        chosen = build.select(Recipe(name="x", update=UpdateTable(method=method)))(GROUPS, 0)  # type: ignore[arg-type]
        assert [one.id for one in chosen] == expected


def test_a_recipe_says_how_many_of_each_problem_are_kept() -> None:
    recipe = Recipe(name="x", select=SelectTable(keep=2, ties="first"))
    assert [one.id for one in build.select(recipe)(GROUPS, 0)] == list("caefih")


def test_what_only_rounding_tells_apart_is_alike(tmp_path) -> None:
    """Of five questions, answered in two trials each: 0 and 3, 1 and 2, and 2 of 5 less or more than 3 before."""
    problem = Problem("p", "p", "{}", tuple(Query(str(n), "?", "!") for n in range(5)))

    def answers(right: int) -> tuple[Answer, ...]:
        return tuple(Answer(query.id, "", float(n < right)) for n, query in enumerate(problem.queries))

    tried = [(0, 3), (1, 2), (2, 4)]
    edits = [replace(an_edit(f"train/1/p/{place}"), index=place) for place in range(3)]
    outcomes = [
        Outcome(Trial(f"{edit.id}/{n}", problem, edit), answers(3), answers(right))
        for edit, both in zip(edits, tried, strict=True)
        for n, right in enumerate(both)
    ]
    with Store.create(tmp_path, "x", "", {}) as store:
        store.put_problems([problem])
        store.put_edits(edits)
        (group,) = reward_edits(store, [problem], edits, outcomes, Compose({"accuracy": 1.0}))
    assert [one.reward for one in group] == [0.3, 0.3, 0.6]
    assert gaining([group]) == []  # the third: once less, once as much more
    assert differing([group[:2]]) == extremes([group[:2]]) == []
    assert {best_of_group([group[:2]], ties="seed", seed=seed)[0].index for seed in range(20)} == {0, 1}
    assert set(advantages([group[:2]]).values()) == {0.0}


def test_advantages_are_standard_scores_within_a_group() -> None:
    found = advantages(GROUPS)
    high = math.sqrt(1.5)
    assert found == pytest.approx({"a": 0.0, "b": -high, "c": high, "e": 0.0, "f": 0.0, "h": -1.0, "i": 1.0})


def test_the_engine_is_given_weights_and_objective() -> None:
    given: list[tuple[Any, ...]] = []

    class Listening:
        def absorb(self, examples: Any, tuning: Tuning, *, seed: int, objective: Objective | None = None) -> Absorbed:
            given.append(([(one.completion, round(one.weight, 3)) for one in examples], tuning.loss, objective))
            return Absorbed()

    own = {"gradient": {"kl": 0.3}, "dpo": {"beta": 0.7}}
    for method in METHODS:
        update = UpdateTable.model_validate({"method": method, **own.get(method, {}), "tuning": replace(POLICY, loss="numbers")})
        recipe = Recipe(name="x", update=update)
        kept = [GROUPS[0][0].item, GROUPS[0][2].item] if method == "rest_em" else build.select(recipe)(GROUPS, 0)
        build.update(recipe, NO_DOMAIN)(Listening(), kept, GROUPS, 0)  # type: ignore[arg-type]
    assert given == [
        ([("a", 1.0), ("c", 1.0)], "numbers", None),
        ([("a", 1.053), ("c", 2.105), ("e", 0.421), ("f", 0.421)], "numbers", None),
        ([("a", 0.0), ("b", -1.225), ("c", 1.225), ("h", -1.0), ("i", 1.0)], "completion", PolicyGradient(0.3, 0.2)),
        ([("c", 1.0), ("b", 1.0), ("i", 1.0), ("h", 1.0)], "completion", Preference(0.7)),
    ]


def test_other_prompts_are_for_updates_that_do_not_go_by_the_one_it_was_written_under(tmp_path: Path) -> None:
    for method in ("gradient", "dpo"):
        with pytest.raises(ValueError, match="how likely an edit was under the prompt it was written under"):
            UpdateTable(method=method, prompts=2)  # type: ignore[arg-type]
    recipe = Recipe(name="x", update=UpdateTable(prompts=2))
    with pytest.raises(UserError, match=r"update.prompts = 2: the domain 'knowledge' asks for all edits .* with one prompt"):
        refuse_one_prompt(recipe, a_domain(tmp_path))
    refuse_one_prompt(Recipe(name="x"), a_domain(tmp_path))


# ---- the loop, and its first round replayed


def way(method: str) -> dict[str, Any]:
    recipe = Recipe(name="x", update=UpdateTable(method=method, tuning=POLICY))  # type: ignore[arg-type]
    return {"select": build.select(recipe), "update": build.update(recipe, NO_DOMAIN)}


# every edit earns something, and no two of a problem the same
REWARDED = Compose({"logprob": 0.1, "length": 1.0, "cost": 1.0})


@pytest.mark.parametrize("method", NEW)
def test_the_loop_learns_in_each_way_and_replayed_outcomes_give_the_same_policy(
    engine: Engine, tmp_path: Path, method: str
) -> None:
    domain, outer = a_domain(tmp_path), changed(OUTER, rounds=1)
    with (
        Store.create(tmp_path / "runs", "first", "", {}) as first,
        Store.create(tmp_path / "runs", "fresh", "", {}) as fresh,
        Store.create(tmp_path / "runs", "again", "", {}) as again,
    ):
        train(engine, domain, first, reward=REWARDED)  # two rounds of ReST-EM
        train(engine, domain, fresh, outer, reward=REWARDED, **way(method))
        assert fresh.kept("train", 1)
        assert math.isfinite(fresh.metrics()[1]["policy_loss_last"])
        replay(first, again)
        watched = Watched(engine)
        train(watched, domain, again, outer, reward=REWARDED, **way(method))  # type: ignore[arg-type]
        assert (watched.sampled, watched.jobs, watched.absorbed) == (0, [], 1)
        assert again.rounds() == [("train", 1)]
        mine, theirs = rows(again), rows(fresh)
        for found in (mine, theirs):  # what the unchanged model's answers cost was paid by the first run
            found["trials"] = [row for row in found["trials"] if not row[0].endswith("/base")]
        assert mine == theirs
        one, other, em = (weights(store.policy_dir(1)) for store in (again, fresh, first))
        assert all(torch.equal(one[name], other[name]) for name in one)
        assert not all(torch.equal(one[name], em[name]) for name in one)


# ---- the page


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", PAGE.read_text(), re.MULTILINE | re.DOTALL)


def test_the_pages_recipe_loads_and_its_table_has_every_method() -> None:
    from seal.config import loads

    assert loads(blocks("toml")[0], source="page.toml").update.method == "gradient"
    assert re.findall(r"^\| `(\w+)`", PAGE.read_text(), re.MULTILINE) == list(METHODS)
