"""What train, eval and demo do alike: make a recipe's objects, run the loops on a store, say how to resume."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import typer

from seal.cli.track import Tracking, refuse_absent
from seal.errors import UserError

if TYPE_CHECKING:
    from seal.cli.progress import Display
    from seal.config import Recipe
    from seal.loops.continual import Course
    from seal.loops.evaluate import Evaluation
    from seal.protocols import Domain
    from seal.store import Store
    from seal.types import Problem


FREE = ("engine.", "track=")
"""How values begin that may change while a run goes on."""
Kind = Literal["train", "eval", "continual", "solvable", "adapt"]
VERBS: dict[Kind, str] = {
    "train": "seal train",
    "eval": "seal eval",
    "continual": "seal continual",
    "solvable": "seal arc solvable",
    "adapt": "seal adapt",
}
"""What makes a run of each kind."""


class Work:
    """A recipe's objects, made before a run begins: a user's mistakes show before any work is done."""

    def __init__(self, recipe: Recipe, display: Display, domain: Domain | None = None) -> None:
        """`domain`: instead of the recipe's own."""
        from seal.loops import build
        from seal.loops.solvable import remarks

        refuse_absent(recipe.track)
        self.recipe, self.display = recipe, display
        self.domain = domain or build.domain(recipe)
        for remark in remarks(recipe, self.domain):
            display.note(remark)
        self.reward = build.reward(recipe)

    def evaluation(self, policy: Path | None) -> Evaluation:
        """What the recipe's evaluation measures. Raises UserError if that is nothing."""
        from seal.loops import build

        evaluation = build.evaluation(self.recipe, self.domain, policy)
        if not evaluation.conditions:
            raise UserError("eval.conditions: 'seal' alone needs a trained policy; name others, or give --policy DIR")
        return evaluation

    def open_engine(self, policy: Path | None = None, *, updates: bool = False) -> None:
        """Opens the model, pulling it first if it is one that is pulled. Raises UserError if `policy` is for another one, or it
        lacks a layer that is to be tuned. `updates`: whether its policy is to learn from edits, by `update.tuning`."""
        name = self.recipe.model.name
        self.display.say(f"opening {name}")
        from seal.loops import build
        from seal.models import names, pull

        if name in names():
            pull(name, progress=self.display.say)
        self.engine = build.engine(self.recipe, progress=self.display.tokens)
        build.refuse_absent_layers(self.engine, "tuning", self.recipe.tuning)
        if updates:
            build.refuse_absent_layers(self.engine, "update.tuning", self.recipe.update.tuning)
        self.domain = build.counted(self.domain, self.engine)
        build.seat_judge(self.domain, self.engine)
        if policy is not None:
            self.engine.load(policy)  # only to see that it can be
            self.engine.load(None)

    def begun(self) -> Path | None:
        """The policy that the first round is to begin with."""
        name = self.recipe.outer.policy
        return None if name is None else named_policy(name)

    def train(self, store: Store) -> None:
        """Every round of the outer loop that the store does not have."""
        from seal.cli.progress import noted
        from seal.loops import build
        from seal.loops.replay import begin_with
        from seal.loops.rest_em import rest_em

        outer = build.outer(self.recipe)
        if (begun := self.begun()) and not store.policy(0):
            begin_with(begun, learnt_by(begun), store)

        def where() -> str:
            return f"round {next((n for n in range(1, outer.rounds) if not store.policy_dir(n).exists()), outer.rounds)}"

        with self.working(store), self._tracking(store) as tracking:
            notify = tracking.behind(noted(self.display.stages(where), store, where))
            domain = build.train_domain(self.recipe, self.domain, self.reward, self.engine, store, notify)
            rest_em(
                self.engine,
                domain,
                store,
                outer,
                reward=self.reward,
                select=build.select(self.recipe),
                update=build.update(self.recipe, domain),
                seed=self.recipe.seed,
                notify=notify,
            )
            tracking.send_rounds()
        self._say_spent()

    def evaluate(self, store: Store, evaluation: Evaluation, *, curve: bool = False) -> None:
        """Every condition that the store does not have whole; then every point of the curve, if that is asked for."""
        from seal.cli.progress import noted
        from seal.loops.curve import curve as measure_curve
        from seal.loops.evaluate import evaluate

        with self.working(store), self._tracking(store) as tracking:
            for measure in (evaluate, measure_curve) if curve else (evaluate,):
                for condition in evaluation.conditions:  # one by one, so that each is shown by its name
                    one, where = replace(evaluation, conditions=(condition,)), lambda condition=condition: condition
                    notify = noted(self.display.stages(where), store, where)
                    measure(self.engine, self.domain, store, one, seed=self.recipe.seed, notify=notify)
            tracking.send_table()
        self._say_spent()

    def course(self, policy: Path | None) -> Course:
        """What the recipe's streams are. Raises UserError if they cannot be."""
        from seal.loops import build

        return build.continual(self.recipe, self.domain, policy)

    def continual(self, store: Store, course: Course, policy: Path | None) -> None:
        """Every step of every stream that the store does not have."""
        from seal.cli.progress import noted
        from seal.loops import build
        from seal.loops.continual import continual

        bench = build.bench(self.recipe, self.engine, policy)
        with self.working(store):

            def where() -> str:
                return "in sequence"

            notify = noted(self.display.stages(where), store, where)
            continual(bench, self.domain, store, course, seed=self.recipe.seed, notify=notify)
        self._say_spent()

    def refuse_untrainable(self) -> None:
        """Raises UserError if the domain lacks what the recipe would train by: a passage its questions, a problem its prompts."""
        from seal.loops import build

        build.refuse_unasked(self.recipe, self.domain, self.reward)
        build.refuse_one_prompt(self.recipe, self.domain)

    def refuse_overlap(self, evaluation: Evaluation) -> None:
        """Raises UserError, naming it, if a passage would be trained on and measured too."""
        from seal.loops import build
        from seal.loops.evaluate import refuse_overlap
        from seal.loops.rest_em import contexts

        outer, train = build.outer(self.recipe), self.domain.problems("train")
        rounds = range(1, outer.rounds + 1)
        refuse_overlap([one for round in rounds for one in contexts(train, outer, round, self.recipe.seed)], evaluation.problems)

    def _say_spent(self) -> None:
        from seal.loops import build

        spent = build.spent(self.domain)
        if spent is not None:
            self.display.note(spent)

    def _tracking(self, store: Store) -> Tracking:
        return Tracking(self.recipe.track, store, self.recipe.model_dump(mode="json", exclude_none=True))

    @contextmanager
    def working(self, store: Store) -> Iterator[None]:
        """Within: the run is not finished, and has the backends it measured before, so that it goes on as it began; new choices
        are written down."""
        store.set_state("finished", False)
        known = store.environment.get("routing", {})
        self.engine.remember_routing(known, lambda found: store.put_environment("routing", found))
        try:
            yield
        finally:
            self.engine.remember_routing({}, None)


def train_and_evaluate(work: Work, store: Store, evaluation: Evaluation | None) -> None:
    """The rounds, then the evaluation of what they made (None: no evaluation)."""
    work.train(store)
    if evaluation is not None:
        work.evaluate(store, replace(evaluation, policy=store.policy_dir(work.recipe.outer.rounds)))
    store.finish()


def named_policy(name: str) -> Path:
    """A policy that comes with seal, by its name, or any folder."""
    from seal.config import shipped_policies

    return shipped_policies().get(name, Path(name).expanduser())


def refuse_no_adapter(policy: Path, key: str) -> None:
    """Raises UserError if there is no adapter at `policy`, which the user gave as `key`."""
    if not (policy / "adapter_config.json").is_file():
        raise UserError(f"{key} {policy}: no PEFT adapter there (no adapter_config.json)")


def learnt_by(policy: Path) -> set[str]:
    """Ids of what an adapter was trained on, as far as its run or its `seal.json` says what that was."""
    from seal.loops.evaluate import trained_on
    from seal.models.adapter import read_about
    from seal.store import Store

    learnt = set(read_about(policy).trained)
    try:
        origin = Store.open(policy.resolve().parent.parent, write=False)
    except UserError:
        return learnt
    with origin:
        return learnt | trained_on(origin)


def refuse_learnt(policy: Path, problems: Sequence[Problem]) -> None:
    """A policy must not be measured on what it was trained on, as far as that is known."""
    learnt = learnt_by(policy)
    for problem in problems:
        if problem.id in learnt:
            raise UserError(
                f"{problem.title!r} ({problem.id}) is one of those that the policy {policy} was trained on; measure others, or a"
                " policy of your own: --policy DIR"
            )


@contextmanager
def new_run(recipe: Recipe, name: str, root: Path, kind: Kind, flags: str = "") -> Iterator[Store]:
    """A new run; whatever stops it says how to go on, `flags` behind.

    Files in its recipe are kept by their whole paths, so that it can be gone on with from any folder.
    """
    from seal.config import dump
    from seal.loops import build
    from seal.store import Store

    whole = dump(recipe.rooted(Path.cwd()))
    with Store.create(root, name, whole, build.environment(recipe)) as store, resumable(go_on(kind, store.path) + flags):
        store.set_state("kind", kind)
        yield store


def kind_of(store: Store) -> Kind:
    """What made a run; of one that does not say so yet, what its content shows."""
    from seal.loops.solvable import GRID

    kind: Kind | None = store.get_state("kind")
    if kind is not None:
        return kind
    if any(phase == GRID for phase, _ in store.rounds()):
        return "solvable"
    states: dict[str, Kind] = {"evaluation": "eval", "continual": "continual", "adapt.documents": "adapt"}
    return next((kind for state, kind in states.items() if store.get_state(state)), "train")


def refuse_other(store: Store, *kinds: Kind) -> None:
    """Raises UserError, with the command that goes on with it, if a run is none of these: another loop in it would take for its
    own what it finds there."""
    own = kind_of(store)
    if own not in kinds:
        raise UserError(
            f"{store.path} is a run of `{VERBS[own]}`, not of `{VERBS[kinds[0]]}`; {go_on(own, store.path)} goes on with it"
        )


def go_on(kind: Kind, path: Path) -> str:
    """The command that goes on with a run."""
    if kind == "adapt":
        return "the same `seal adapt` again"
    return f"{VERBS[kind]} --resume {path}" if kind in ("train", "solvable") else f"{VERBS[kind]} {path}"


@contextmanager
def resumable(command: str) -> Iterator[None]:
    """Whatever stops the work, the user is told the command that goes on with it. An update that diverged would diverge again."""
    try:
        yield
    except KeyboardInterrupt:
        print(f"interrupted, nothing is lost\nresume with: {command}", file=sys.stderr)
        raise typer.Exit(130) from None
    except FloatingPointError:
        raise
    except Exception as error:
        error.add_note(f"resume with: {command}")
        raise


def replayed_recipe(source: Store, overrides: Sequence[str], update: str) -> Recipe:
    """The recipe of a run that begins with another's first round, and ends there if not told otherwise: all that the outcomes
    depend on stays.

    Raises UserError for another value that they do depend on, and for a reward of probes that they were not asked.
    """
    from seal.loops import build

    chosen = ["outer.rounds=1", *overrides, f"update.method={update}"]
    recipe = _changed(
        source, overrides, ("outer.rounds=", "reward.", "update.", "select.", "eval.", "reward=", "select="), chosen
    )
    if build.reward(recipe).needs_probes and not build.probed(source):
        raise UserError(f"reward: the trials of {source.path} were not asked the probes; leave rewards that need them out")
    return recipe


def longer_recipe(source: Store, overrides: Sequence[str]) -> Recipe:
    """The recipe of a run that begins with all finished rounds of another and has more of the same. Raises UserError."""
    from seal.loops.replay import finished_rounds

    recipe, done = _changed(source, overrides, ("outer.rounds=", "eval."), overrides), finished_rounds(source)
    if not done:
        raise UserError(f"{source.path} has no finished round to go on from; --update NAME learns from its trials in another way")
    if recipe.outer.rounds <= done:
        raise UserError(f"outer.rounds={recipe.outer.rounds}: {source.path} has {done} rounds already; name more of them")
    return recipe


def _changed(source: Store, overrides: Sequence[str], free: Sequence[str], chosen: Sequence[str]) -> Recipe:
    """A run's recipe with the chosen values. Raises UserError for an override of anything that is not free."""
    from seal.config import loads

    gone = [one for one in taken_back(source) if one in overrides]
    own_recipe(source, gone)  # refuses what this version does not know
    for one in overrides:
        if one not in gone and not one.startswith((*free, *FREE)):
            named = ", ".join(f"{name}*" if name.endswith(".") else name.removesuffix("=") for name in (*free, *FREE))
            raise UserError(f"{one!r}: the outcomes are those of {source.path}; only {named} may change")
    return loads(source.recipe_toml, chosen, source=f"the recipe of {source.path}")


def own_recipe(store: Store, overrides: Sequence[str]) -> Recipe:
    """A run's recipe; of all values only those may change that nothing measured depends on.

    What another version of seal wrote and this one does not know has to be taken back by name, `key=`: it may have mattered.
    """
    from seal.config import loads

    if not store.recipe_toml:
        raise UserError(f"{store.path} was made in Python and has no recipe; what made it goes on with it")
    for one in overrides:
        if not keeps_recipe(store, [one]):
            raise UserError(
                f"{one!r}: a run keeps its recipe, only engine.* and track may change; leave it out, or begin a new run"
            )
    refuse_unknown(store, overrides)
    return loads(store.recipe_toml, overrides, source=f"the recipe of {store.path}")


def refuse_unknown(store: Store, overrides: Sequence[str]) -> None:
    """Raises UserError if another version of seal wrote what this one does not know, and it is not taken back."""
    from seal import __version__

    left = [one for one in taken_back(store) if one not in overrides]
    if left:
        keys = ", ".join(one.removesuffix("=") for one in left)
        raise UserError(
            f"{store.path} was made by another version of seal: this one ({__version__}) does not know {keys}; go on with that"
            f" version, or without what it says: {' '.join(left)}"
        )


def known_recipe(store: Store) -> Recipe:
    """A run's recipe without what this version does not know of it, once that was taken back or where it does not matter."""
    from seal.config import loads

    return loads(store.recipe_toml, taken_back(store), source=f"the recipe of {store.path}")


def model_recipe(store: Store) -> Recipe:
    """A run's recipe where only its model is wanted: what another version said of anything else does not matter."""
    return own_recipe(store, [one for one in taken_back(store) if not one.startswith("model.")])


def keeps_recipe(store: Store, overrides: Sequence[str]) -> bool:
    """Whether a run with these values is the same run."""
    return all(one.startswith(FREE) or one in taken_back(store) for one in overrides)


def taken_back(store: Store) -> list[str]:
    """The overrides, `key=`, that take back what this version of seal does not know in a run's recipe."""
    from seal.config import unknown_keys

    return [f"{key}=" for key in unknown_keys(store.recipe_toml, source=f"the recipe of {store.path}")]
