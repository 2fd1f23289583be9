"""The few-shot domain: a plan is written, the training it asks for is made from the example pairs, then the test is answered."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from copy import copy
from dataclasses import dataclass, replace
from random import Random

from seal.domains.arc.codecs import Codec, cheapest
from seal.domains.arc.layout import laid_out
from seal.domains.arc.leave_out import Limits, practice
from seal.domains.arc.plans import PlanForm, plan_prompt
from seal.domains.arc.puzzles import Grid, Pair, Puzzle, of_problem, text
from seal.domains.arc.record import Record
from seal.domains.arc.transforms import Transform
from seal.domains.arc.views import LeaveOne, View, views
from seal.domains.arc.vote import Ballot, Vote, hit
from seal.edits.plan import alone, later, opens
from seal.errors import EditFault, SealError, UserError
from seal.seeds import derive
from seal.types import Answer, Ask, Example, Problem, Prompt, Query, Reading, Reply, Tuning

CODEC_PUZZLES = 50
"""How many puzzles of each split decide which codec is the cheapest."""
Count = Callable[[Example], int]
"""How many tokens an example is."""


def characters(example: Example) -> int:
    """A stand-in for tokens until a tokenizer is known: no codec has more tokens than characters."""
    prompt = example.prompt or Prompt("")
    return len(example.completion) + len(prompt.text) + len(prompt.system or "")


@dataclass(frozen=True, slots=True)
class Sight:
    """Under which views a test input is asked, and how the answers become two attempts."""

    transforms: tuple[Transform, ...]
    orders: int
    leave_one: LeaveOne
    vote: Vote
    by_logprob: bool = False
    """The vote needs the answers' log-probabilities."""
    temperature: float = 0.0
    """0 = answers are greedy; above, each is drawn, by a seed of its puzzle, test input and view."""


class Arc:
    """The ARC domain (implements `protocols.Domain`)."""

    name = "arc"

    def __init__(
        self,
        *,
        problems: Mapping[str, Sequence[Problem]],
        left_out: Mapping[str, int],
        form: PlanForm,
        codec: Codec | None,
        system: str | None,
        tuning: Tuning,
        limits: Limits,
        sight: Sight,
        record: Record | None = None,
        shown_plans: int = 0,
        count: Count = characters,
    ) -> None:
        """`problems` by split, and how many were `left_out` for their size. `codec`: None = the one that costs the fewest tokens.

        `limits.cost`: tokens a trial may train on. `shown_plans`: how many random plans show the policy what one looks like.
        """
        self._problems = {split: tuple(found) for split, found in problems.items()}
        self.left_out = left_out
        self.form, self._codec, self._system = form, codec, system
        self._tuning, self._limits, self._sight, self.record = tuning, limits, sight, record
        self._shown_plans, self._count = shown_plans, count
        self.layout = laid_out(codec or self._cheapest(), system)

    def counted(self, count: Count) -> Arc:
        """The same domain with the model's own tokenizer to count by: it chooses the codec and holds trials to their limit."""
        made = copy(self)
        made._count = count
        made.layout = laid_out(made._codec or made._cheapest(), made._system)
        return made

    # -- protocols.Domain -------------------------------------------------------------------------------------------------

    def problems(self, split: str) -> Sequence[Problem]:
        """Raises UserError if there is no such split."""
        if split not in self._problems:
            raise UserError(
                f"no {split!r} puzzles here; there are {', '.join(self._problems) or 'none'}: name them in domain.data"
            )
        return self._problems[split]

    def edit_prompt(self, problem: Problem) -> Prompt:
        """The example pairs, what a plan may say, and the request for one."""
        return self._plan_prompt(problem, derive("plans", problem.id))

    def edit_prompts(self, problem: Problem, n: int, seed: int) -> list[Prompt]:
        """Other plans are shown for each edit: a small model writes much of what it is shown. With the same ones a puzzle's plans
        were alike, and a policy learnt its few good plans by heart."""
        if not self._shown_plans:
            return [self.edit_prompt(problem)]
        return [self._plan_prompt(problem, derive(seed, index)) for index in range(n)]

    def _plan_prompt(self, problem: Problem, seed: int) -> Prompt:
        pairs = self.layout.shown(of_problem(problem).shown)
        return plan_prompt(pairs, self.form, examples=self._shown_plans, seed=seed, system=self._system)

    def read_edit(self, problem: Problem, text: str) -> Reading:
        """The training that the plan asks for, out of the example pairs. The same plan gives the same rows. Raises EditFault."""
        plan = self.form.read(text)
        puzzle = of_problem(problem)
        tuning = plan.tuning(self._tuning)
        made = practice(
            puzzle.shown,
            self.form.transforms(plan, Random(derive("tools", puzzle.id))),
            recolour=self.form.recolours(plan),
            unchanged=self.form.unchanged,
            limits=replace(self._limits, cost=self._limits.cost / tuning.epochs),
            cost=lambda task: self._count(self.layout.example(task)),
            seed=derive("practice", puzzle.id),
        )
        if not made.tasks:
            raise EditFault("too_long", f"{tuning.epochs} epochs leave no room for one task, or its grids are too large")
        examples = tuple(map(self.layout.example, made.tasks))
        return Reading(examples, tuning, made.too_large + made.too_many, text=alone(text))

    def go_on(self, text: str, more: str) -> str:
        """The later plan, where there is one."""
        return later(text, more)

    def opens_plan(self, line: str) -> bool:
        """Whether a plan begins in the line."""
        return opens(line)

    def ask(self, problem: Problem) -> list[Ask]:
        """Every test input under every view; the first view also scores the true output."""
        puzzle = of_problem(problem)
        return [
            self._ask(query, puzzle, pair, view, first=place == 0)
            for query, pair in zip(problem.queries, puzzle.asked, strict=True)
            for place, view in enumerate(self._views(puzzle))
        ]

    def grade(self, problem: Problem, replies: Sequence[Reply]) -> list[Answer]:
        """One answer a test input: two attempts by vote, right if one of them is the output. Raises SealError without replies."""
        puzzle = of_problem(problem)
        by_name = {view.name: view for view in self._views(puzzle)}
        answers = []
        for query, pair in zip(problem.queries, puzzle.asked, strict=True):
            own = [reply for reply in replies if reply.query_id == query.id]
            if not own:
                raise SealError(f"no reply to {query.id}")
            answers.append(self._answer(query, pair, own, by_name))
        return answers

    # -- what single conditions of the table need ---------------------------------------------------------------------------

    def ask_in_context(self, problem: Problem) -> list[Ask]:
        """The same as `ask`: the example pairs stand before every question anyway."""
        return self.ask(problem)

    def chosen_plan(self, condition: str, problem: Problem) -> str:
        """The plan of the condition `fixed` (the best single one on the training puzzles) or `oracle` (the puzzle's own best).

        Both come from the record of `seal arc solvable`. Raises UserError without one, if it does not know the puzzle, or if the
        recipe's bounds do not allow its plan.
        """
        if self.record is None:
            raise UserError(f"condition {condition!r} needs the record of a grid of plans: seal arc solvable, then domain.data")
        plan = self.record.fixed() if condition == "fixed" else self.record.best(problem.id)
        try:
            self.form.read(plan)
        except EditFault as error:
            raise UserError(
                f"condition {condition!r}: domain.plan and bounds do not allow the record's plan {plan} ({error}); widen bounds,"
                f" or leave {condition!r} out of eval.conditions"
            ) from None
        return plan

    # -- parts ------------------------------------------------------------------------------------------------------------

    def _views(self, puzzle: Puzzle) -> list[View]:
        return views(puzzle, self._sight.transforms, orders=self._sight.orders, leave_one=self._sight.leave_one)

    def _ask(self, query: Query, puzzle: Puzzle, pair: Pair, view: View, *, first: bool) -> Ask:
        shown, asked = view.seen(puzzle, pair.input)
        prompt = self.layout.prompt([Pair(*one) for one in shown], asked)
        target = self.layout.reply(view.transform(pair.output)) if first and pair.output else None
        drawn = derive("answer", query.id, view.name) if self._sight.temperature else 0
        return Ask(
            query.id,
            prompt,
            target,
            self._longest(puzzle, pair.input),
            view.name,
            self._sight.by_logprob,
            self._sight.temperature,
            seed=drawn,
        )

    def _longest(self, puzzle: Puzzle, asked: Grid) -> int:
        """Tokens an answer may take: twice what the puzzle's largest grid does, or the asked input grown as the shown ones are,
        and no more than the largest grid allowed."""
        side = self._limits.side
        known = [grid for pair in puzzle.shown for grid in (pair.input, pair.output) if grid] + [asked]
        own = self._tokens(asked)
        grown = [own * self._tokens(pair.output) // self._tokens(pair.input) for pair in puzzle.shown if pair.output]
        largest = max(*map(self._tokens, known), *grown)
        return min(2 * largest, self._tokens(((8,) * side,) * side)) + 2

    def _tokens(self, grid: Grid) -> int:
        return self._count(Example(self.layout.codec.write(grid)))

    def _answer(self, query: Query, pair: Pair, replies: Sequence[Reply], by_name: Mapping[str, View]) -> Answer:
        codec = self.layout.codec
        said = [(reply, self.layout.output(reply)) for reply in replies]
        found = [by_name[reply.view].ballot(text, codec, reply.logprob) for reply, text in said if text is not None]
        ballots: list[Ballot] = [ballot for ballot in found if ballot is not None]
        attempts = self._sight.vote(ballots)
        right = hit(pair, attempts)
        metrics = {"readable": len(ballots) / len(replies)}
        if attempts:
            metrics["agreement"] = sum(ballot.grid == attempts[0] for ballot in ballots) / len(replies)
        if right is not None:
            metrics["exact"] = float(attempts[:1] == [pair.output])
        logprobs = [reply.target_logprob for reply in replies if reply.target_logprob is not None]
        if logprobs:
            metrics["logprob"] = logprobs[0]
        return Answer(query.id, "\n\n".join(map(text, attempts)), None if right is None else float(right), metrics)

    def _cheapest(self) -> Codec:
        grids = [
            grid
            for found in self._problems.values()
            for problem in found[:CODEC_PUZZLES]
            for pair in of_problem(problem).shown
            for grid in (pair.input, pair.output)
            if grid
        ]
        return cheapest(grids, lambda written: self._count(Example(written)))


def is_puzzle(problem: Problem) -> bool:
    """Whether a problem of some run is one of this domain's."""
    return problem.payload.startswith('{"shown":')
