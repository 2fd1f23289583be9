"""The tables of a recipe. A field left out of the file has the default written here; None is written by leaving it out."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, SerializeAsAny, model_validator

from seal.config import checks
from seal.config.shipped import shipped_policies
from seal.domains.arc.table import ArcTable
from seal.domains.knowledge_table import KnowledgeTable
from seal.domains.self_questions import Asking, Way
from seal.domains.table import DomainTable, Split
from seal.named import refuse_unknown
from seal.policy.selection import Ties
from seal.rewards import RATERS, REWARDS
from seal.strategies import (
    GateSettings,
    LeashSettings,
    NullSpaceSettings,
    ReplaySettings,
    Settings,
    SuperpositionSettings,
    strategy,
)
from seal.types import ALL_LINEAR, Bounds, Sampling, Tuning

DOMAINS: dict[str, type[DomainTable]] = {"knowledge": KnowledgeTable, "arc": ArcTable}
"""The table each `domain.kind` brings; `module:Table` names one of your own."""

Condition = Literal["base", "passage", "in_context", "sentences", "untrained", "given", "fixed", "oracle", "seal"]
AtLeastOne = Annotated[int, Field(ge=1)]

POLICY_TUNING = Tuning(rank=64, alpha=128.0, targets=(ALL_LINEAR,), lr=3e-4, epochs=2, batch=10, loss="completion")
"""How the paper fine-tunes the policy on the edits it kept."""


def _on_policy_tuning(given: Any) -> Any:
    """A table that names some fields keeps the policy's defaults for the others."""
    return {**asdict(POLICY_TUNING), **given} if isinstance(given, dict) else given


def _one_name(device: str) -> str:
    """A device's one name."""
    return {"cuda": "cuda:0", "cpu:0": "cpu"}.get(device, device)


def _if_there(name: str, folder: Path, known: Collection[str]) -> str:
    """The whole path, if there is such a file and it is no known name; else the name as it is."""
    path = folder / Path(name).expanduser()
    return str(path) if name not in known and path.exists() else name


def _known_reward(name: str) -> str:
    refuse_unknown("reward", name, {*REWARDS, *RATERS})
    return name


RewardName = Annotated[str, AfterValidator(_known_reward)]
InnerTuning = Annotated[Tuning, AfterValidator(checks.tuning)]
PolicyTuning = Annotated[Tuning, BeforeValidator(_on_policy_tuning), AfterValidator(checks.tuning)]


class Table(BaseModel):
    """A table of the recipe: unknown keys, infinities and NaN are mistakes."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class ModelTable(Table):
    """The base model."""

    name: str = "smollm2-135m"
    """The embedded model, a hub id or a path."""
    device: str = "auto"
    """`cpu`, `cuda`, `cuda:1`; auto = the GPU if there is one."""
    dtype: Literal["auto", "float32", "float64", "bfloat16", "float16"] = "auto"
    """auto = float32 on a CPU, bfloat16 on a GPU that computes in it."""
    chat: bool | None = None
    """Whether prompts go through the chat template; None = if the model was made for one."""
    trust_remote_code: bool = False
    """Run Python code that comes with the model."""


class EditTable(Table):
    """How self-edits are sampled."""

    temperature: Annotated[float, Field(ge=0)] = 1.0
    """0 = greedy."""
    top_p: Annotated[float, Field(gt=0, le=1)] = 0.95
    """Each token is drawn from the likeliest that together have this probability; 1 = from all."""
    max_tokens: AtLeastOne = 512
    """Most tokens of a self-edit."""

    def sampling(self, n: int) -> Sampling:
        """The same, with `n` samples a prompt."""
        return Sampling(n, self.temperature, self.top_p, self.max_tokens)


class ShortlistTable(Table):
    """Which edits are worth a trial: a proxy rates them all, and the best of each problem are tried."""

    by: RewardName = "informs"
    """A proxy reward: `informs`, `hints`, `rubric`, or `module:object` of one's own."""
    size: AtLeastOne = 4
    """Edits of each problem that are tried."""


Learner = Literal["policy", "base"]


class OuterTable(Table):
    """The sizes of the outer loop."""

    rounds: AtLeastOne = 1
    """Rounds of writing, trying and learning from the best."""
    policy: str | None = None
    """The trained policy that round one of `seal train` begins with: one that comes with seal, or a PEFT directory; None = the
    plain model."""
    contexts: AtLeastOne = 24
    """Problems a round."""
    edits: AtLeastOne = 4
    """Self-edits a problem."""
    repeats: AtLeastOne = 1
    """Trials a self-edit, each with its own seed."""
    allocation: Literal["uniform", "halving"] = "uniform"
    """`halving`: that many trials on average, most of them for the edits that may yet be the best of their problem."""
    fresh: bool = True
    """New problems every round, as the paper does; false = the same ones."""
    rounds_on_same: AtLeastOne = 1
    """Passes over a problem: from the second on, the model adapted to a self-edit writes on in it."""
    learner: Learner = "policy"
    """Which weights a self-edit is trained into, in the rounds and in the condition `seal`: `policy`, those of the model that
    wrote it (the paper's way), or `base`, the untrained model's: the updates then change only what is written."""
    shortlist: ShortlistTable | None = None
    """None = every self-edit is tried."""
    retrain: Annotated[int, Field(ge=0)] = 0
    """Self-edits a round of `seal train`, drawn by seed, that are tried once more: by them nothing is chosen, but the line of
    noise knows how far equal trainings differ. With `repeats` of 2 or more it knows, and none is made."""

    @model_validator(mode="after")
    def _has_repeats_to_share_out(self) -> Self:
        if self.allocation == "halving" and self.repeats == 1:
            raise ValueError("allocation: 'halving' shares out repeats; set repeats to 2 or more, or choose \"uniform\"")
        return self

    @model_validator(mode="after")
    def _writes_as_many_as_it_tries(self) -> Self:
        if self.shortlist is not None and self.shortlist.size > self.edits:
            raise ValueError(
                f"shortlist: cannot try {self.shortlist.size} edits of each problem where outer.edits = {self.edits} are written;"
                " set outer.shortlist.size below that, or leave the shortlist out (outer.shortlist=) to try them all"
            )
        return self


class QuestionsTable(Table):
    """Whose questions make the reward. Those of the evaluation are always the domain's own."""

    source: Literal["gold", "self"] = "gold"
    """`gold`: the training problems' own. `self`: the base model writes them from the text, once, before round one."""
    ways: Annotated[tuple[Way, ...], Field(min_length=1)] = ("list",)
    """`self` only: `list` (lists of questions), `spans` (a question for each name and number), `cloze` (its sentence broken
    off before it); a later one only where those before it left fewer than `most`."""
    samples: AtLeastOne = 4
    """`self` only: lists of questions sampled of each text."""
    most: AtLeastOne = 5
    """`self` only: questions kept of each text; one with none is left out of training."""

    @property
    def asking(self) -> Asking:
        """How the model writes them."""
        return Asking(self.ways, self.samples, self.most)


class SelectTable(Table):
    """Which self-edits the policy learns from under `update.method = "rest_em"`, or a function of your own. Of it `dpo` takes
    `ties`."""

    rule: Literal["best_of_group", "gaining", "solved", "top_fraction"] = "best_of_group"
    """The paper's code for passages; every edit that gains, its equation 2; every edit that solves its problem, its code for
    puzzles; the best of all groups together."""
    ties: Ties = "seed"
    """Among equal rewards, of a problem or (`top_fraction`) of all: one drawn by the seed, or the first."""
    keep: AtLeastOne = 1
    """`best_of_group` only: how many of each problem, no two of them equal."""
    floor: float | None = None
    """`best_of_group` only: what an edit must gain more than, to stand for selection; None = nothing."""
    fraction: Annotated[float, Field(gt=0, le=1)] | None = None
    """`top_fraction` only, and needed there."""

    @model_validator(mode="after")
    def _fits_the_rule(self) -> Self:
        for name in ("floor", "keep"):
            if self.rule != "best_of_group" and getattr(self, name) != type(self).model_fields[name].default:
                raise ValueError(f"{name}: rule {self.rule!r} has none; leave it out, or choose best_of_group")
        if (self.fraction is not None) != (self.rule == "top_fraction"):
            set_it, leave_it = "set it, as in select.fraction=0.5", "leave it out (select.fraction=), or choose top_fraction"
            out = set_it if self.fraction is None else leave_it
            raise ValueError(f"fraction: goes with rule 'top_fraction', and with no other; {out}")
        return self


Tracker = Literal["tensorboard", "wandb", "mlflow", "trackio"]
METHODS = ("rest_em", "weighted", "gradient", "dpo")


def _known_method(name: str) -> str:
    refuse_unknown("update method", name, METHODS)
    return name


class UpdateTable(Table):
    """How the outcomes of a round change the policy."""

    method: Annotated[str, AfterValidator(_known_method)] = "rest_em"
    """`rest_em`: supervised fine-tuning on the edits that [select] keeps; the others choose by themselves. `weighted`: on every
    edit with a reward above 0, weighed by it. `gradient`: a policy gradient on advantages within the problem. `dpo`: the best
    edit of a problem preferred to its worst. A function of your own, as `module:function`, learns from what [select] keeps."""
    kl: Annotated[float, Field(ge=0)] = 0.04
    """`gradient` only: weight of the leash to the policy before the update; 0 = none."""
    clip: Annotated[float, Field(gt=0, lt=1)] = 0.2
    """`gradient` only: how far a token's probability ratio may move from 1 and still be pushed on."""
    beta: Annotated[float, Field(gt=0)] = 0.1
    """`dpo` only: how tight the leash to the policy before the update is."""
    prompts: Annotated[int, Field(ge=0)] = 0
    """`rest_em` and `weighted` only, for a domain that asks for each edit of a problem with another prompt
    (`shown_plans`): under how many new ones each kept edit is learnt, in every epoch; 0 = under the one it was written under."""
    tuning: PolicyTuning = POLICY_TUNING

    @model_validator(mode="after")
    def _is_read(self) -> Self:
        wrong = []
        for name, method in (("kl", "gradient"), ("clip", "gradient"), ("beta", "dpo")):
            if self.method != method and getattr(self, name) != type(self).model_fields[name].default:
                out = f"leave it out (update.{name}= on the command line), or choose {method!r}"
                wrong.append(f"{name}: method {self.method!r} has none; {out}")
        if wrong:
            raise ValueError("\n".join(wrong))
        return self

    @model_validator(mode="after")
    def _on_policy(self) -> Self:
        if self.prompts and self.method in ("gradient", "dpo"):
            raise ValueError(
                f"prompts: {self.method!r} goes by how likely an edit was under the prompt it was written under; leave it out,"
                " or choose 'rest_em' or 'weighted'"
            )
        if self.method == "dpo" and not (self.tuning.tokens is self.tuning.steps is None):
            raise ValueError("tuning: 'dpo' learns from pairs, which tokens and steps would cut apart; give epochs instead")
        if self.method in ("gradient", "dpo") and self.tuning.pad_loss == "official":
            raise ValueError(
                f"tuning.pad_loss: {self.method!r} goes by how likely an edit is, and 'official' would count its padding;"
                ' choose "none" or "eos"'
            )
        return self


class QuickTable(Table):
    """What `seal eval --quick` measures instead: a look, not a result."""

    limit: AtLeastOne = 4
    """Problems."""
    edits: AtLeastOne = 1
    """Self-edits a problem."""


class EvalTable(Table):
    """What `seal eval` measures."""

    split: Split = "test"
    """Whose problems are measured."""
    conditions: tuple[Condition, ...] = ("base", "passage", "in_context", "untrained", "seal")
    """The rows of the table."""
    edits: AtLeastOne = 4
    """Self-edits a passage in `untrained` and `seal`; `given` takes all its file has."""
    repeats: AtLeastOne = 1
    """Trials a self-edit."""
    mode: Literal["single", "continued"] = "single"
    """`single`: one adapter a passage. `continued`: one adapter for all passages."""
    given: str | None = None
    """Where the given edits come from: a file, or `teacher` for those bundled with the documents."""
    limit: AtLeastOne | None = None
    """Passages measured, from the split's beginning; None = all."""
    policy: str | None = None
    """The trained policy that `seal eval RECIPE` measures as `seal`, and that writes the edits of `seal continual RECIPE` if
    `continual.edits` is `seal`: one that comes with seal, or a PEFT directory."""
    quick: QuickTable = QuickTable()
    """The sizes of `seal eval --quick`."""
    match: Literal["tokens"] | None = None
    """`tokens`: every trial, and every step of a stream, trains on equally many tokens in equally many steps, instead of the
    tuning's epochs and batch."""
    tokens: AtLeastOne = 2048
    """Tokens a trial trains on under `match`."""
    steps: AtLeastOne = 64
    """Optimiser steps of a trial under `match`."""
    curve: Annotated[tuple[AtLeastOne, ...], Field(min_length=1)] = (64, 128, 256, 512)
    """Most synthetic tokens a passage, point by point: what `seal eval --curve tokens` measures."""

    @model_validator(mode="after")
    def _has_what_it_measures(self) -> Self:
        wrong = []
        if not self.conditions or len(set(self.conditions)) < len(self.conditions):
            wrong.append("conditions: must name at least one, and none twice")
        if "given" in self.conditions and self.given is None:
            wrong.append("given: condition 'given' needs a file, or \"teacher\"")
        if self.tokens < self.steps:
            wrong.append(f"steps: must be at most the tokens ({self.tokens}), not {self.steps}")
        if wrong:
            raise ValueError("\n".join(wrong))
        return self


class AdaptTable(Table):
    """What `seal adapt` makes of documents."""

    passage_tokens: Annotated[int, Field(ge=16)] = 256
    """Most tokens of a passage, its title included."""
    retained: Annotated[float, Field(ge=0, le=1)] = 0.7
    """The acceptance gate: of what the model knew of the probes, the share that the finished adapter must leave."""
    edit_retained: Annotated[float, Field(ge=0, le=1)] | None = None
    """The same of a single edit, which is tried without the rehearsal that the adapter has; None = as `retained`."""
    probes: AtLeastOne = 24
    """Probes each edit is asked; the finished adapter is asked all there are."""
    sentences: bool = False
    """Whether a passage's own sentences are one more edit of it, tried and judged as those that the model writes."""
    lessons: Annotated[int, Field(ge=0)] = 1
    """Most questions to each sentence of a passage that the adapter learns to answer with that sentence."""
    rehearsal: Annotated[int, Field(ge=0, le=48)] = 32
    """Most questions about other things, with the model's own replies, that the adapter learns beside the documents."""
    lr: Annotated[float, Field(gt=0)] = 2e-3
    """Peak learning rate of the finished adapter: with rehearsal beside it, it bears more than a trial does."""
    epochs: AtLeastOne = 3
    """Passes of the finished adapter over all it learns."""


def _known_strategy(name: str) -> str:
    strategy(name)
    return name


class ContinualTable(Table):
    """What `seal continual` measures: streams of problems, learnt one after another."""

    split: Split = "test"
    """Whose problems the streams are of."""
    streams: AtLeastOne = 6
    """Streams, each with its own problems in its own order."""
    length: AtLeastOne = 8
    """Problems a stream, none twice."""
    seeds: AtLeastOne = 1
    """Trainings of each stream."""
    strategies: Annotated[tuple[Annotated[str, AfterValidator(_known_strategy)], ...], Field(min_length=1)] = ("merge",)
    """How each edit is learnt and kept; `gate+replay` is a gate around replay."""
    edits: Literal["given", "untrained", "seal"] = "seal"
    """Whose edits are learnt, by every strategy alike: `given` (eval.given), the untrained model's, the trained policy's."""
    rows: Literal["all", "ends"] = "all"
    """What is asked after every step: all that was seen, the next problem and the probes, or only what was just learnt. Before
    the first step and after the last it is all of it."""
    harmful: Literal["scrambled", "contradictory"] | None = None
    """The edits of about half of the problems are made harmful first: how many of them are refused, and of the others?"""
    probes: AtLeastOne = 50
    """Probe questions, drawn by the seed, with a like share of the held texts: asked after every step (`rows` says which)."""
    guards: Annotated[int, Field(ge=0)] = 24
    """Others of them, which strategies look at."""
    gate: GateSettings = GateSettings()
    replay: ReplaySettings = ReplaySettings()
    leash: LeashSettings = LeashSettings()
    null_space: NullSpaceSettings = NullSpaceSettings()
    superposition: SuperpositionSettings = SuperpositionSettings()

    @property
    def settings(self) -> Settings:
        """What the strategies are given."""
        return Settings(self.gate, self.replay, self.leash, self.null_space, self.superposition)

    @model_validator(mode="after")
    def _names_none_twice(self) -> Self:
        if len(set(self.strategies)) < len(self.strategies):
            raise ValueError("strategies: must name none twice")
        return self

    @model_validator(mode="after")
    def _protects_something(self) -> Self:
        around = {part for name in self.strategies for part in name.split("+")}
        if "null-space" in around and not self.guards and not self.null_space.rehearsal:
            raise ValueError(
                "guards: with none of them, and null_space.rehearsal = 0, null-space has nothing to protect; raise one of them"
            )
        return self


class EngineTable(Table):
    """What the inner loop may use of this machine."""

    devices: tuple[Annotated[str, AfterValidator(_one_name)], ...] | None = None
    """What trials are shared out over, a process a device: `["cuda:0", "cuda:1"]`, or `cpu` several times; all else is done on
    the first. None = all on `model.device`."""
    slots: AtLeastOne | None = None
    """Adapters trained at once, on each device; None = as many as memory holds, 8 on a CPU and 64 on a GPU at most."""
    threads: AtLeastOne | None = None
    """CPU threads, which the processes of `devices` share; None = all cores that the process may use."""
    memory_gb: Annotated[float, Field(gt=0)] | None = None
    """Memory the plan may fill beside the model's weights, in GiB, on each device; None = four fifths of what is free."""

    @model_validator(mode="after")
    def _names_devices_once(self) -> Self:
        devices = self.devices or ()
        if self.devices == ():
            raise ValueError("devices: must name at least one; leave it out for one process (engine.devices=)")
        if len({one.partition(":")[0] for one in devices}) > 1:
            raise ValueError("devices: must be of one kind, as a round is shared out evenly: all of them GPUs, or all cpu")
        if twice := [one for one in devices if devices.count(one) > 1 and one != "cpu"]:
            raise ValueError(f"devices: must name {twice[0]} only once: a second process would open the model there again")
        return self


class Recipe(Table):
    """All a run is told."""

    name: Annotated[str, Field(pattern=r"^\w[\w.-]*$")]
    """What the run is called; without it, the recipe's file name."""
    seed: Annotated[int, Field(ge=0)] = 0
    """What every draw of the run derives from."""
    track: Tracker | None = None
    """Where metrics go besides the run's own files; None = nowhere."""
    model: ModelTable = ModelTable()
    domain: SerializeAsAny[DomainTable] = KnowledgeTable()
    """In the file: `kind`, and the fields of that kind's own table."""
    edit: EditTable = EditTable()
    tuning: InnerTuning = Tuning()
    """The inner loop's fine-tune."""
    bounds: Annotated[Bounds, AfterValidator(checks.bounds)] = Bounds()
    """How much of a self-edit is trained on, and what its plan may choose."""
    outer: OuterTable = OuterTable()
    questions: QuestionsTable = QuestionsTable()
    reward: Annotated[dict[RewardName, float], Field(min_length=1)] = {"accuracy": 1.0}
    """Weight of each reward, by name; `mymodule:function` is one of your own."""
    select: SelectTable = SelectTable()
    update: UpdateTable = UpdateTable()
    eval: EvalTable = EvalTable()
    adapt: AdaptTable = AdaptTable()
    continual: ContinualTable = ContinualTable()
    engine: EngineTable = EngineTable()

    def rooted(self, folder: Path) -> Self:
        """The same recipe whichever folder it is read in: relative paths are taken from `folder`."""
        from seal.models import CATALOG  # with torch, which a recipe is read without

        model = self.model.model_copy(update={"name": _if_there(self.model.name, folder, CATALOG)})
        given = self.eval.given
        if given is not None and given != "teacher":
            given = str(folder / Path(given).expanduser())
        begun, measured = (one and _if_there(one, folder, shipped_policies()) for one in (self.outer.policy, self.eval.policy))
        tables = {
            "model": model,
            "domain": self.domain.rooted(folder),
            "outer": self.outer.model_copy(update={"policy": begun}),
            "eval": self.eval.model_copy(update={"given": given, "policy": measured}),
        }
        return self.model_copy(update=tables)

    @model_validator(mode="after")
    def _begins_with_its_device(self) -> Self:
        device, devices = self.model.device, self.engine.devices
        if devices and device != "auto" and _one_name(device) != devices[0]:
            raise ValueError(
                f"engine.devices: begins with {devices[0]}, where all but the trials is done, and model.device is {device};"
                " take one of them back (model.device= or engine.devices= on the command line), or begin with it"
            )
        return self

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        chosen = (("update.method", self.update.method, "rest_em"), ("select.rule", self.select.rule, "best_of_group"))
        for key, value, best in chosen:
            if self.outer.allocation == "halving" and value != best:
                raise ValueError(
                    f"outer: allocation 'halving' looks for the best of each group, and {key} {value!r} compares all edits;"
                    f" choose {best}, or a new run with outer.allocation=uniform"
                )
        if self.outer.allocation == "halving" and self.select.keep > 2:
            raise ValueError(
                f"outer: allocation 'halving' narrows each group to two, and select.keep = {self.select.keep} would keep more;"
                " set keep to 1 or 2, or choose a new run with outer.allocation=uniform"
            )
        # under rest_em it is a control: equal rewards are drawn by the seed, and something is learnt
        if self.update.method != "rest_em" and not any(self.reward.values()):
            raise ValueError(
                f"reward: every weight is 0, and update.method {self.update.method!r} learns nothing from equal rewards;"
                " give one of them another weight"
            )
        if isinstance(self.domain, ArcTable) and self.domain.codec == "paper" and not self.model.chat:
            raise ValueError(
                "domain.codec: 'paper' puts the example pairs into a chat model's system message; set model.chat = true, or"
                " choose another codec"
            )
        if self.domain.plans_alone and self.eval.mode == "continued":
            raise ValueError(
                "eval: mode 'continued' has one training for all, and here each plan chooses its own; set eval.mode = \"single\""
            )
        if self.eval.match is not None and self.tuning.pad_loss == "official":
            raise ValueError(
                "eval: match 'tokens' counts the tokens that are trained on, and tuning.pad_loss 'official' trains on padding;"
                ' choose tuning.pad_loss = "none" or "eos"'
            )
        return self
