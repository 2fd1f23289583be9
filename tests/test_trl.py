"""Beside TRL: the page's reward function, called by hand and by TRL's trainers; our DPO against TRL's, step by step."""

from __future__ import annotations

import math
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import LoraConfig
from small_runs import POLICY
from transformers import AutoModelForCausalLM, AutoTokenizer

from seal.domains.knowledge import Knowledge
from seal.engine import Bank, Engine
from seal.engine.export import load_adapter
from seal.errors import SealError
from seal.policy import update
from seal.rewards import Compose
from seal.types import Job, Preference, Prompt, SelfEdit

PAGE = Path(__file__).parents[1] / "docs" / "updates.md"
FUNCTION, TRAINING = re.findall(
    r"^```python\n(.*?)^```$", PAGE.read_text().partition("## A reward for TRL's trainers")[2], re.MULTILINE | re.DOTALL
)
HOW: dict[str, Any] = {
    "use_cpu": True,
    "bf16": False,
    "report_to": [],
    "save_strategy": "no",
    "logging_steps": 1,
    "disable_tqdm": True,
}
pytestmark = pytest.mark.filterwarnings("ignore::FutureWarning")  # TRL speaks to an older transformers
FACT = "Ada built the ferry in 1900."


@pytest.fixture
def trl() -> Any:
    """TRL, or the test is skipped."""
    return pytest.importorskip("trl", reason="no trl here: pip install -e '.[trl]'")


def page(engine: Engine, domain: Knowledge, **weights: float) -> dict[str, Any]:
    """What the page's first block defines."""
    names: dict[str, Any] = {"engine": engine, "domain": domain, "reward": Compose(weights)}
    exec(compile(FUNCTION, str(PAGE), "exec"), names)
    return names


def clean(engine: Engine) -> dict[str, torch.Tensor]:
    engine.load(None)
    return {name: weight.clone() for name, weight in engine.language.model.state_dict().items()}


def unmoved(engine: Engine, before: dict[str, torch.Tensor]) -> bool:
    return all(torch.equal(weight, before[name]) for name, weight in engine.language.model.state_dict().items())


# ---- the reward


def test_the_pages_reward_function_scores_completions_as_a_trial_would(engine: Engine, domain: Knowledge) -> None:
    """Called as TRL calls it: columns of the data set by name, a number or None a completion back."""
    before, ended = clean(engine), engine.language.stop_ids[0]
    names = page(engine, domain, logprob=1.0)

    def told(*said: tuple[str, str], last: int = ended) -> list[float | None]:
        ids, texts = zip(*said, strict=True)
        return names["trained"](
            prompts=["?"] * len(said),
            completions=list(texts),
            completion_ids=[[7, last]] * len(said),
            problem=list(ids),
            trainer_state=None,
        )

    problem = domain.problems("train")[0]
    ferry, mill = (one.id for one in domain.problems("train")[:2])
    first, second, nothing, third = told((ferry, FACT), (mill, "Ada built the mill."), (ferry, ""), (ferry, "zzzz qqqq"))
    assert nothing is None  # nothing to train on
    assert len({first, second, third}) == 3
    assert told((mill, "Ada built the mill.")) == [second]
    reading, asks = domain.read_edit(problem, FACT), tuple(domain.ask(problem))
    jobs = [Job("before", (), asks), Job("after", reading.examples, asks, reading.tuning)]
    known = {one.job_id: [reply.target_logprob or 0.0 for reply in one.replies] for one in engine.run(jobs)}
    assert first == pytest.approx((sum(known["after"]) - sum(known["before"])) / len(asks), rel=1e-3)
    assert told((ferry, f"{FACT}\nAda"), last=7) == [first]  # cut: its last line is none
    assert page(engine, domain, length=1.0)["trained"]([FACT], [[7, 8, ended]], [ferry]) == [0.03]
    with pytest.raises(SealError, match="reward 'informs' is what a rater says"):
        page(engine, domain, length=1.0, informs=0.3)["trained"]([FACT], [[7, 8, ended]], [ferry])
    assert unmoved(engine, before)


@pytest.mark.parametrize("trainer", ["GRPO", "RLOO"])
def test_trls_trainers_learn_from_the_pages_reward_function(
    engine: Engine, domain: Knowledge, lively_path: Path, tmp_path: Path, trl: Any, trainer: str
) -> None:
    """The page's code as it stands. Of the first step one completion is made unreadable, and has no reward."""
    config = getattr(trl, f"{trainer}Config")(
        **HOW,
        output_dir=str(tmp_path),
        num_generations=4,
        per_device_train_batch_size=4,
        max_completion_length=12,
        max_steps=2,
        learning_rate=1e-3,
    )
    before, names = clean(engine), page(engine, domain, logprob=1.0)
    inner, calls = names["trained"], []

    def trained(prompts: list[str], completions: list[str], **columns: Any) -> list[float | None]:
        texts = completions if calls else ["", *completions[1:]]
        calls.append((prompts, columns["problem"], inner(prompts=prompts, completions=texts, **columns)))
        return calls[-1][2]

    names |= {"trained": trained, "model": str(lively_path), "config": config}
    exec(compile(TRAINING.replace("GRPO", trainer), str(PAGE), "exec"), names)
    assert len(calls) == 2
    for prompts, ids, _ in calls:  # one problem, asked as the engine asks
        (prompt,), (id,) = set(prompts), set(ids)
        asked = engine.language.encode_prompt(domain.edit_prompt(names["problems"][id]))
        assert names["trainer"].processing_class(prompt)["input_ids"] == asked
    told = [worth for _, _, worth in calls]
    assert [worth.count(None) for worth in told] == [1, 0]
    logged = [step["reward"] for step in names["trainer"].state.log_history if "reward" in step]
    numbers = [[one for one in worth if one is not None] for worth in told]
    assert all(len(set(worth)) > 1 for worth in numbers)
    assert logged == pytest.approx([sum(worth) / len(worth) for worth in numbers], rel=1e-5)  # what has no reward is no 0
    moved = names["trainer"].model.state_dict()
    assert any(not torch.equal(weight, before[name]) for name, weight in moved.items())
    assert unmoved(engine, before)


# ---- DPO


def test_our_dpo_is_trls(engine: Engine, lively_path: Path, tmp_path: Path, trl: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """The same two pairs, all in every step; TRL's adapter begins with the A that ours was given."""
    ask, tuning = Prompt("Write about the ferry."), replace(POLICY, epochs=4)
    pairs = [(FACT, "No idea."), ("Ada.", "It was built by a man from the hills, of whom nothing is known.")]
    edits = [SelfEdit(text, "p", text, 1, 0, ask) for pair in pairs for text in pair]
    start, first = Bank.start, dict[str, torch.Tensor]()

    def watched(bank: Bank, slot: int, *given: Any, **more: Any) -> None:
        start(bank, slot, *given, **more)
        first.update({name: a[slot].clone() for name, a in bank.stack.a.items()})

    monkeypatch.setattr(Bank, "start", watched)
    engine.load(None)
    losses = update.dpo(engine, edits, tuning, Preference(beta=0.3), seed=0).losses
    engine.export(tmp_path / "ours")
    engine.load(None)

    from datasets import Dataset

    config = trl.DPOConfig(
        **HOW,
        output_dir=str(tmp_path / "out"),
        beta=0.3,
        learning_rate=tuning.lr,
        per_device_train_batch_size=2,
        num_train_epochs=4,
        max_grad_norm=tuning.clip,
    )
    rows = [{"prompt": engine.language.written(ask), "chosen": better, "rejected": worse} for better, worse in pairs]
    trainer = trl.DPOTrainer(
        AutoModelForCausalLM.from_pretrained(lively_path),
        args=config,
        processing_class=AutoTokenizer.from_pretrained(lively_path),
        train_dataset=Dataset.from_list(rows),
        peft_config=LoraConfig(r=4, lora_alpha=8, target_modules=list(tuning.targets), task_type="CAUSAL_LM"),
    )
    factors = dict(trainer.model.named_parameters())
    for name, a in first.items():
        factors[f"base_model.model.{name}.lora_A.default.weight"].data.copy_(a)
    trainer.train()
    theirs = [step["loss"] for step in trainer.state.log_history if "loss" in step]
    assert losses[0] == pytest.approx(math.log(2), abs=1e-6)
    assert losses == pytest.approx(theirs, abs=1e-5)
    assert theirs[-1] < 0.9 * theirs[0]
    trainer.save_model(tmp_path / "theirs")
    engine.load(tmp_path / "theirs")  # what TRL saves can be the policy
    engine.load(None)
    ours, saved = (load_adapter(tmp_path / name) for name in ("ours", "theirs"))
    assert set(ours) == set(saved) == set(first)
    for name, (a, b) in saved.items():
        torch.testing.assert_close(ours[name][1] @ ours[name][0], b @ a, rtol=1e-4, atol=1e-7)
