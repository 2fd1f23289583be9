"""The nouns of SEAL, as frozen dataclasses. Every room speaks these words and no other file defines them."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from seal.kinds import Kind

Role = Literal["target", "probe"]
LossOn = Literal["all", "outputs", "completion", Kind]
PadLoss = Literal["none", "eos", "official"]
Schedule = Literal["linear", "cosine", "constant"]

ATTENTION = ("q_proj", "k_proj", "v_proj", "o_proj")
LLAMA_LINEAR = (*ATTENTION, "gate_proj", "up_proj", "down_proj")
"""The linear layers of Llama and its many copies."""
ALL_LINEAR = "all-linear"
"""PEFT's name for the linear layers of whichever model, but its head."""


@dataclass(frozen=True, slots=True)
class Prompt:
    """What a model is given to continue. Chat markup is added in `models`, nowhere else."""

    text: str
    """What a base model continues; what the user says to a chat model."""
    system: str | None = None
    """A chat model's system message; None leaves the template's own. A base model ignores it."""
    prefill: str = ""
    """The first words of the reply, already written for the model. Not part of the reply's text."""
    turns: tuple[tuple[str, str], ...] = ()
    """A conversation's earlier turns, what the user said and the reply; `text` is what comes next."""

    @property
    def plain(self) -> str:
        """What a base model is given before the prefill: every turn with its reply, then the text."""
        return "".join(f"{said}{reply}\n\n" for said, reply in self.turns) + self.text


@dataclass(frozen=True, slots=True)
class Query:
    """A question with its target answer."""

    id: str
    """Unique in a dataset; answers carry it."""
    question: str
    answer: str
    """The target answer (for a puzzle: the output grid as text)."""
    role: Role = "target"
    """`probe`: something the model knew before and must not forget."""


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing to adapt to: a passage, a puzzle."""

    id: str
    title: str
    payload: str
    """The domain's own content as JSON, so that a new domain edits no other file."""
    queries: tuple[Query, ...]
    cluster: str = ""
    """What an interval resamples: the SQuAD article several passages share, else the problem itself (empty)."""


@dataclass(frozen=True, slots=True)
class Example:
    """One training row."""

    completion: str
    """The text that is learnt."""
    prompt: Prompt | None = None
    """None: a plain document. Else the completion is learnt as the reply to this prompt, through the model's template."""
    loss: LossOn = "all"
    """Which tokens carry loss: all of them, the completion's only (plain documents: no difference), the completion's and those of
    `spans` (`outputs`), or of the completion only those of a kind. A row with no such token is not trained on."""
    weight: float = 1.0
    """Factor on this row's loss; under a policy gradient its advantage."""
    spans: tuple[tuple[int, int], ...] = ()
    """Where in the prompt's text (first character, one past the last) there is more to be learnt under loss `outputs`: the
    outputs of a puzzle's example pairs."""
    keep: bool = False
    """Not learnt but held: the loss of its tokens is the KL divergence, over the whole vocabulary, from what the model said there
    before the training to what it says now (distillation, arXiv 1606.09282)."""


@dataclass(frozen=True, slots=True)
class Tuning:
    """LoRA and optimiser settings of one inner fine-tune. Defaults are the paper's single-passage settings (section B.4)."""

    rank: int = 32
    """Of the adapter's two matrices in each layer."""
    alpha: float = 64.0
    """What the adapter adds is scaled by alpha / rank."""
    targets: tuple[str, ...] = ("q_proj", "v_proj")
    """Last names of the linear layers that get an adapter; `all-linear`: every one of the model's layers."""
    lr: float = 1e-3
    """Peak learning rate."""
    epochs: int = 10
    """Passes over the examples."""
    batch: int = 1
    """Sequences an optimiser step."""
    schedule: Schedule = "linear"
    """How the rate falls to 0 over all steps."""
    warmup: int = 0
    """Steps of linear warm-up."""
    clip: float = 1.0
    """Gradient norm limit of one adapter; 0 = none."""
    weight_decay: float = 0.0
    """AdamW's, on the adapter's weights."""
    loss: LossOn | None = None
    """Overrides every example's own choice; None = leave it."""
    pad_loss: PadLoss = "none"
    """`none`: pads do not exist. `eos`: one end-of-text target closes each sequence. `official`: the paper's code,
    which pads with end-of-text to `pad_length`, or cuts to it, and trains on all of it; what is cut off is counted."""
    pad_length: int | Literal["longest"] = 2048
    """Tokens every row has under `official`; `longest`: as many as the longest of all rows."""
    layers: int | None = None
    """Adapters on the uppermost this many layers only; None = on all."""
    tokens: int | None = None
    """Train on exactly this many tokens, in `steps` steps, instead of `epochs` and `batch`: for comparisons at equal training."""
    steps: int | None = None
    """Optimiser steps under `tokens`."""


@dataclass(frozen=True, slots=True)
class Bounds:
    """How much of a self-edit is used, and what a plan in it may choose; the recipe sets it."""

    examples: int = 64
    """Most examples of one edit that are trained on; the rest is cut and counted."""
    lr: tuple[float, float] = (1e-5, 1e-2)
    """Lowest and highest learning rate a plan may state."""
    epochs: tuple[int, int] = (1, 10)
    """Fewest and most epochs a plan may state."""
    loss: tuple[LossOn, ...] = ("all", "completion")
    """Which tokens a plan may let carry loss."""
    tools: tuple[str, ...] = ()
    """Tools a plan may call: names, or `module:function` for one of your own."""
    calls: int = 4
    """Most tool calls of a plan."""
    styles: tuple[str, ...] = ()
    """Styles a plan may say its text is written in; none: that of the recipe."""


@dataclass(frozen=True, slots=True)
class Fault:
    """A model's mistake: data, counted and shown, never an exception that stops a run and never a score of 0 by accident."""

    kind: str
    """`empty`, `unreadable`, `too_long`, `nan`; of a plan: `unknown`, `missing`, `mistyped`, `out_of_bounds`."""
    message: str


@dataclass(frozen=True, slots=True)
class Reading:
    """What was read out of a self-edit's text."""

    examples: tuple[Example, ...]
    tuning: Tuning
    cut: int = 0
    """Examples left out because of the bounds."""
    asks: tuple[Prompt, ...] = ()
    """What tools put to the model before the edit is whole: its replies go to the domain's `finish_edit`."""
    text: str | None = None
    """The part of the text that is the edit, where there are words around it: the policy learns no more. None: all of it."""


@dataclass(frozen=True, slots=True)
class SelfEdit:
    """What the policy wrote, with the examples and the tuning read out of it."""

    id: str
    problem_id: str
    text: str
    round: int
    index: int
    """Which of the problem's M edits this round."""
    prompt: Prompt
    examples: tuple[Example, ...] = ()
    tuning: Tuning = Tuning()
    tokens: int = 0
    """What the policy wrote for it, in its tokens: the text, and what tools had it write."""
    source: str = "policy"
    """Who wrote it: `policy`; `passage`, `sentences` (nobody: the passage itself, its own sentences); `given` (a file); `fixed`,
    `oracle`, `grid` (tried plans)."""
    fault: Fault | None = None
    cut: int = 0


@dataclass(frozen=True, slots=True)
class Ask:
    """One thing the model is asked after (or before) it changed."""

    query_id: str
    prompt: Prompt
    target: str | None = None
    """If given, its log-probability as the reply is measured."""
    max_tokens: int = 64
    """Most tokens of the reply; 0 = score the target only."""
    view: str = ""
    """Which view of the query (an augmented puzzle); empty for the query itself."""
    logprob: bool = False
    """Whether the reply's own log-probability is wanted."""
    temperature: float = 0.0
    """0 = the reply is greedy; above, it is drawn, from `top_p` of the mass and by `seed`, and cut where the context ends."""
    top_p: float = 1.0
    seed: int = 0


@dataclass(frozen=True, slots=True)
class Reply:
    """What a model said."""

    text: str
    tokens: int = 0
    ended: bool = True
    """It stopped by itself; False: cut at the limit."""
    query_id: str = ""
    view: str = ""
    target_logprob: float | None = None
    """Sum of the target's token log-probabilities, in nats."""
    logprob: float | None = None
    """The same of the reply's own tokens, its end included, where that was asked for."""


@dataclass(frozen=True, slots=True)
class Sampling:
    """How self-edits are drawn (paper B.3: temperature 1.0, top-p 0.95)."""

    n: int = 1
    """Samples a prompt."""
    temperature: float = 1.0
    """0 = greedy."""
    top_p: float = 0.95
    max_tokens: int = 512


@dataclass(frozen=True, slots=True)
class Cost:
    """What a trial took. Seconds are the trial's share where several ran at once."""

    train_tokens: int = 0
    """Real tokens that went through forward and backward."""
    train_steps: int = 0
    train_seconds: float = 0.0
    answer_tokens: int = 0
    answer_seconds: float = 0.0


@dataclass(frozen=True, slots=True)
class Job:
    """One inner fine-tune and the questions that follow; what a Trainer is given."""

    id: str
    examples: tuple[Example, ...]
    """None at all: the questions are put to the unchanged model."""
    asks: tuple[Ask, ...]
    tuning: Tuning = Tuning()
    seed: int = 0
    save: Path | None = None
    """Directory the adapter is written to, as PEFT has it; None = it is dropped."""
    protected: tuple[Path, ...] = ()
    """Directions of the layers' inputs (files of `Engine.inputs`) that the adapter does not act on."""


@dataclass(frozen=True, slots=True)
class Finished:
    """What came back of a Job. Ungraded."""

    job_id: str
    replies: tuple[Reply, ...] = ()
    """One an ask, in the asks' order; empty on a fault."""
    cost: Cost = Cost()
    losses: tuple[float, ...] = ()
    """Mean training loss of every step."""
    fault: Fault | None = None


@dataclass(frozen=True, slots=True)
class PolicyGradient:
    """An example's weight is its advantage, below zero too: likelier or less likely, clipped as PPO's (arXiv 1707.06347), with a
    leash to the policy as it was before the update. The loss is a mean over the step's labelled tokens, as in DAPO."""

    kl: float = 0.04
    """Weight of the leash: KL(policy || policy before), estimated at each labelled token (GRPO, arXiv 2402.03300, equation 4)."""
    clip: float = 0.2
    """How far a token's probability ratio may move from 1 and still be pushed on."""


@dataclass(frozen=True, slots=True)
class Preference:
    """Examples come in twos, the better one first: DPO (arXiv 2305.18290, equation 7), the policy before being its reference."""

    beta: float = 0.1
    """How tight the leash is: nats of margin count by it."""


Objective = PolicyGradient | Preference
"""What an update minimises, where that is not the weighted mean of its examples' losses."""


@dataclass(frozen=True, slots=True)
class Absorbed:
    """What an update of the policy did."""

    losses: tuple[float, ...] = ()
    """Of every step."""
    left_out: int = 0
    """Examples longer than the model's context: not learnt from."""


@dataclass(frozen=True, slots=True)
class Answer:
    """A reply, graded."""

    query_id: str
    text: str
    """What was taken for the answer."""
    score: float | None
    """1.0 correct, 0.0 wrong, or between; None: could not be graded, and no mean includes it."""
    metrics: dict[str, float] = field(default_factory=dict)
    """Other measures beside it: `f1`, `exact`, `recall`, `logprob`."""


@dataclass(frozen=True, slots=True)
class Trial:
    """One self-edit, applied once with one seed."""

    id: str
    problem: Problem
    edit: SelfEdit | None
    """None: the unchanged model."""
    repeat: int = 0
    seed: int = 0


@dataclass(frozen=True, slots=True)
class Outcome:
    """A trial's answers before and after, its cost, or its fault."""

    trial: Trial
    before: tuple[Answer, ...]
    """The unchanged model's answers; asked once a problem."""
    after: tuple[Answer, ...]
    """Empty on a fault. But where one training serves many edits, one that could not be read has the shared adapter's answers."""
    cost: Cost = Cost()
    losses: tuple[float, ...] = ()
    fault: Fault | None = None
