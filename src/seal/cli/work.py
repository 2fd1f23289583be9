"""What the verbs that run something do alike: make a recipe's objects, run the loops on a store."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from seal.cli.policies import learnt_by, named_policy
from seal.cli.track import Tracking, refuse_absent
from seal.errors import UserError

if TYPE_CHECKING:
    from seal.cli.progress import Display
    from seal.config import Recipe
    from seal.loops.continual import Course
    from seal.loops.evaluate import Evaluation
    from seal.protocols import Domain, Notify
    from seal.store import Store


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

    def evaluation_to_come(self) -> Evaluation:
        """What is measured once the rounds have made their policy. Raises UserError as `evaluation` does, and for a passage that
        would be trained on and measured too, naming it."""
        evaluation = self.evaluation(Path())  # train_and_evaluate says where the policy is, once there is one
        if self.recipe.questions.source != "self":  # of its own questions `train` knows, once they are written
            self._refuse_overlap(self.domain, evaluation)
        return evaluation

    def _refuse_overlap(self, domain: Domain, evaluation: Evaluation) -> None:
        """Raises UserError if a problem of the evaluation is one that a round is to train on."""
        from seal.loops.refuse import refuse_among
        from seal.loops.rest_em import contexts

        outer, train = self.recipe.outer, domain.problems("train")
        rounds = range(1, outer.rounds + 1)
        training = {one.id for round in rounds for one in contexts(train, outer, round, self.recipe.seed)}
        why = "would be trained on and measured too; take it out of one of the splits, or name another eval.split"
        refuse_among(training, evaluation.problems, why)

    def open_engine(self, policy: Path | None = None, *, updates: bool = False) -> None:
        """Opens the model, pulling it first if it is one that is pulled. `updates`: whether its policy is to learn from edits, by
        `update.tuning`; then rows that are all padded to one length must fit. Raises UserError if `policy` is for another model,
        or the model lacks a layer that is to be tuned, and MemoryError."""
        name = self.recipe.model.name
        self.display.say(f"opening {name}")
        from seal.loops import build
        from seal.loops.refuse import refuse_absent_layers

        self.engine = build.engine(self.recipe, progress=self.display.tokens, say=self.display.say)
        refuse_absent_layers(self.engine, "tuning", self.recipe.tuning)
        if updates:
            refuse_absent_layers(self.engine, "update.tuning", self.recipe.update.tuning)
            self._refuse_long_rows()
            self._remark_long_edits()
        self.domain = build.counted(self.domain, self.engine)
        build.seat_judge(self.domain, self.engine)
        if policy is not None:
            self.engine.load(policy)  # only to see that it can be
            self.engine.load(None)

    def _refuse_long_rows(self) -> None:
        """Raises MemoryError, before an edit is written, if rows that are all padded to one length do not fit."""
        for tuning in (self.recipe.tuning, self.recipe.update.tuning):
            if tuning.pad_loss == "official" and tuning.pad_length != "longest":
                self.engine.plan(tuning.rank, tuning.targets, tuning.layers, longest=tuning.pad_length, slots=1)

    def _remark_long_edits(self) -> None:
        """Says so where the longest edit that may be written would stop the run in the policy's update, even without its prompt:
        whether one is kept shows only after all trials."""
        tuning, longest = self.recipe.update.tuning, min(self.recipe.edit.max_tokens, self.engine.language.context)
        if tuning.pad_loss == "official" and tuning.pad_length != "longest":
            return  # it is cut
        together = 2 if self.recipe.update.method == "dpo" else 1
        try:
            self.engine.plan(tuning.rank, tuning.targets, tuning.layers, longest=together * longest, slots=1)
        except MemoryError as error:
            self.display.note(f"should an edit of {longest} tokens be kept, the policy's update would stop the run: {error}")

    def counter(self) -> Callable[[str], int]:
        """How many tokens a text is for the model, which is not opened for it."""
        from seal.models import open_counter

        table = self.recipe.model
        return open_counter(table.name, trust_remote_code=table.trust_remote_code, say=self.display.say)

    def begun(self) -> Path | None:
        """The policy that the first round is to begin with."""
        name = self.recipe.outer.policy
        return None if name is None else named_policy(name)

    def train(self, store: Store, evaluation: Evaluation | None = None) -> None:
        """Every round of the outer loop that the store does not have. `evaluation`: what is to be measured then, and so not to be
        trained on."""
        from seal.loops import build
        from seal.loops.questions import found_questions, remark
        from seal.loops.rest_em import rest_em
        from seal.loops.takeover import begin_with

        outer = self.recipe.outer
        if self.recipe.questions.source == "self":
            texts = len(self.domain.problems("train"))
            if len(found_questions(store)) < texts and (line := remark(texts, outer)):
                self.display.note(line)
        if (begun := self.begun()) and not store.policy(0):
            begin_with(begun, learnt_by(begun), store)

        def where() -> str:
            return f"round {next((n for n in range(1, outer.rounds) if not store.policy(n)), outer.rounds)}"

        with self.working(store), self.tracking(store) as tracking:
            notify = tracking.behind(self.notify(store, where))
            domain = build.train_domain(self.recipe, self.domain, self.reward, self.engine, store, notify)
            if evaluation is not None:
                self._refuse_overlap(domain, evaluation)
            rest_em(
                self.engine,
                domain,
                store,
                outer,
                self.recipe.edit,
                reward=self.reward,
                select=build.select(self.recipe),
                update=build.update(self.recipe, domain),
                seed=self.recipe.seed,
                notify=notify,
            )
            tracking.send_rounds()

    def evaluate(self, store: Store, evaluation: Evaluation, *, curve: bool = False) -> None:
        """Every condition that the store does not have whole; then every point of the curve, if that is asked for."""
        from seal.loops.curve import curve as measure_curve
        from seal.loops.evaluate import evaluate

        with self.working(store), self.tracking(store) as tracking:
            for measure in (evaluate, measure_curve) if curve else (evaluate,):
                for condition in evaluation.conditions:  # one by one, so that each is shown by its name
                    one = replace(evaluation, conditions=(condition,))
                    notify = self.notify(store, partial(str, condition))
                    measure(self.engine, self.domain, store, one, seed=self.recipe.seed, notify=notify)
            tracking.send_table()

    def course(self, policy: Path | None) -> Course:
        """What the recipe's streams are. Raises UserError if they cannot be."""
        from seal.loops import build

        return build.continual(self.recipe, self.domain, policy)

    def continual(self, store: Store, course: Course, start: Path | None) -> None:
        """Every step of every stream that the store does not have. `start`: the policy that they begin with; None: the base
        model."""
        from seal.loops import build
        from seal.loops.continual import continual

        bench = build.workbench(self.recipe, self.engine, start)
        with self.working(store), self.tracking(store) as tracking:
            notify = tracking.behind(self.notify(store, lambda: "in sequence"))
            continual(bench, self.domain, store, course, seed=self.recipe.seed, notify=notify)
            tracking.send_steps()
            tracking.send_strategies()

    def refuse_untrainable(self) -> None:
        """Raises UserError if what the recipe would train by is not there: a passage's questions, a problem's prompts, its own
        update."""
        from seal.loops import build
        from seal.loops.refuse import refuse_one_prompt, refuse_unasked

        refuse_unasked(self.recipe, self.domain, self.reward)
        refuse_one_prompt(self.recipe, self.domain)
        build.update(self.recipe, self.domain)

    def notify(self, store: Store, where: Callable[[], str]) -> Notify:
        """Shows the stages of a loop and notes them in the run; `where` names the part of it that a stage begins in."""
        from seal.cli.progress import noted

        return noted(self.display.stages(where), store, where)

    def _say_spent(self) -> None:
        from seal.loops import build

        spent = build.spent(self.domain)
        if spent is not None:
            self.display.note(spent)

    def tracking(self, store: Store) -> Tracking:
        """What sends a run's metrics to the recipe's tracker, if it names one."""
        return Tracking(self.recipe.track, store, self.recipe.model_dump(mode="json", exclude_none=True))

    @contextmanager
    def working(self, store: Store) -> Iterator[None]:
        """Within: the run is not finished, and has the backends it measured before on such a device, so that it goes on as it
        began; new choices are written down. What the judge took is said however it ends: that has been paid for. Raises UserError
        if the model computes in other numbers than those the run was begun in."""
        from seal.store import keys

        here = str(self.engine.language.dtype).removeprefix("torch.")
        if (begun := store.environment.get("dtype", here)) != here:
            raise UserError(f"{store.path} was begun in {begun}, and here the model is opened in {here}; add model.dtype={begun}")
        store.set_state(keys.FINISHED, False)
        known = store.environment.get("routing", {})
        self.engine.remember_routing(known, lambda found: store.put_environment("routing", found))
        try:
            yield
        finally:
            self.engine.remember_routing({}, None)
            self._say_spent()


def train_and_evaluate(work: Work, store: Store, evaluation: Evaluation | None) -> None:
    """The rounds, then the evaluation of what they made (None: no evaluation)."""
    work.train(store, evaluation)
    if evaluation is not None:
        work.evaluate(store, replace(evaluation, policy=store.policy_dir(work.recipe.outer.rounds)))
    store.finish()
