"""Absorb a passage, then answer questions about it with the passage gone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Literal

from seal.domains.passages import context_of
from seal.edits.plan import opens
from seal.edits.questions import question_prompt, titled
from seal.edits.reading import sequence
from seal.edits.sentences import sentences
from seal.edits.styles import Style
from seal.edits.text_plan import TextPlans, Written
from seal.errors import SealError, UserError
from seal.grading.grade import Grade, Grader, grade_all, wants_topic
from seal.seeds import derive
from seal.types import Answer, Ask, Bounds, Example, Problem, Prompt, Query, Reading, Reply, Tuning

ANSWER_TOKENS = 64

Own = Literal["sentences"] | bool
"""What of the passage itself every edit is learnt with: all of it, its sentences first, or nothing."""


class Knowledge:
    """The knowledge domain (implements `protocols.Domain`)."""

    name = "knowledge"

    def __init__(
        self,
        *,
        problems: Mapping[str, Sequence[Problem]],
        style: Style,
        tuning: Tuning,
        bounds: Bounds,
        grader: Grader,
        train_on_passage: Own = True,
        plans: TextPlans | None = None,
    ) -> None:
        """`problems` by split; `train_on_passage`: the passage itself is one more example of every edit, the last;
        `"sentences"`: after each of its own sentences.

        `plans`: an edit may also say how it is learnt and call tools; None: it is text and nothing else.
        """
        self._problems = {split: tuple(found) for split, found in problems.items()}
        self._style, self._tuning, self._bounds = style, tuning, bounds
        self._grader, self._train_on_passage, self._plans = grader, train_on_passage, plans

    def graded_by(self) -> Grader:
        """What grades the answers."""
        return self._grader

    def problems(self, split: str) -> Sequence[Problem]:
        """Raises UserError if there is no such split."""
        if split not in self._problems:
            raise UserError(f"no {split!r} passages here; there are {', '.join(self._problems) or 'none'}: name them in `data`")
        return self._problems[split]

    def edit_prompt(self, problem: Problem) -> Prompt:
        """The style's prompt for the passage, or the one for a plan."""
        if self._plans is None:
            return self._style.prompt(problem.title, context_of(problem))
        return self._plans.prompt(problem.title, context_of(problem), derive("plans", problem.id))

    def edit_prompts(self, problem: Problem, n: int, seed: int) -> list[Prompt]:
        """Where plans are shown, others for each edit: a small model writes much of what it is shown."""
        if self._plans is None or not self._plans.shown:
            return [self.edit_prompt(problem)]
        context = context_of(problem)
        return [self._plans.prompt(problem.title, context, derive(seed, index)) for index in range(n)]

    def read_edit(self, problem: Problem, text: str) -> Reading:
        """One plain document a segment, under the title. The bounds count what was written, not the passage. Raises EditFault."""
        return self._reading(problem, text)

    def finish_edit(self, problem: Problem, text: str, replies: Sequence[str]) -> Reading:
        """The same, with what the model wrote to the reading's `asks`."""
        return self._reading(problem, text, replies)

    def go_on(self, text: str, more: str) -> str:
        """The one below the other; with plans, both plans as one, or where an edit is a plan alone the later one."""
        return self._plans.go_on(text, more) if self._plans else f"{text.rstrip()}\n{more.lstrip()}"

    def opens_plan(self, line: str) -> bool:
        """Without plans a brace is text like any other."""
        return self._plans is not None and opens(line)

    def _reading(self, problem: Problem, text: str, replies: Sequence[str] | None = None) -> Reading:
        if self._plans is None:
            written = Written(tuple(Example(sequence(problem.title, segment)) for segment in self._style.read(text)))
        else:
            written = self._plans.read(problem.title, context_of(problem), text, replies)
        tuning = written.plan.tuning(self._tuning)
        return self._bounded(problem, written.examples, tuning, written.asks, written.text)

    def _bounded(
        self,
        problem: Problem,
        examples: Sequence[Example],
        tuning: Tuning,
        asks: tuple[Prompt, ...] = (),
        text: str | None = None,
    ) -> Reading:
        """As many examples as the bounds allow, then what of the passage itself is trained on."""
        kept = tuple(examples[: self._bounds.examples])
        return Reading(kept + self.own_examples(problem), tuning, len(examples) - len(kept), asks, text)

    def in_sentences(self, problem: Problem) -> Reading:
        """The passage's own sentences as an edit, one plain document each: what a model that lists all of it, and nothing else,
        would write. Where every edit is learnt with them, nothing comes twice: it is what an edit has to add to."""
        text = "\n".join(sentences(context_of(problem)))
        written = () if self._train_on_passage == "sentences" else self._sentence_examples(problem)
        return self._bounded(problem, written, self._tuning, text=text)

    def own_examples(self, problem: Problem) -> tuple[Example, ...]:
        """What of the passage itself every edit is learnt with, after what was written: the bounds do not count it."""
        if not self._train_on_passage:
            return ()
        own = self._sentence_examples(problem) if self._train_on_passage == "sentences" else ()
        return own + self.passage_examples(problem)

    def _sentence_examples(self, problem: Problem) -> tuple[Example, ...]:
        return tuple(Example(sequence(problem.title, one)) for one in sentences(context_of(problem)))

    def passage_only(self, problem: Problem) -> Reading:
        """What the passage-only condition trains on: the passage itself and nothing else."""
        return Reading(self.passage_examples(problem), self._tuning)

    def passage_examples(self, problem: Problem) -> tuple[Example, ...]:
        """The passage as a training row."""
        return (Example(sequence(problem.title, context_of(problem).strip())),)

    def ask(self, problem: Problem) -> list[Ask]:
        """Every query, without the passage."""
        return [_ask(query, question_prompt(query.question, problem.title)) for query in problem.queries]

    def ask_in_context(self, problem: Problem) -> list[Ask]:
        """Every query with the passage before it: a reference, not a bound."""
        passage = f"Passage:\n{problem.title}\n{context_of(problem)}\n\n"
        return [replace(one, prompt=Prompt(passage + one.prompt.text)) for one in self.ask(problem)]

    def grade(self, problem: Problem, replies: Sequence[Reply]) -> list[Answer]:
        """One answer a query; a judge is put the question that the model was put. Raises SealError if a query has no reply: that
        is a machine's mistake, not a wrong answer."""
        by_query = {reply.query_id: reply for reply in replies}
        missing = [query.id for query in problem.queries if query.id not in by_query]
        if missing:
            raise SealError(f"no reply to {', '.join(missing)}")
        said = [(query, by_query[query.id]) for query in problem.queries]
        title = problem.title if wants_topic(self._grader) else ""
        rows = [(titled(query.question, title), query.answer, reply.text.strip()) for query, reply in said]
        grades = grade_all(self._grader, rows)
        return [_answer(query, reply, grade) for (query, reply), grade in zip(said, grades, strict=True)]


def _answer(query: Query, reply: Reply, grade: Grade) -> Answer:
    logprob = {} if reply.target_logprob is None else {"logprob": reply.target_logprob}
    return Answer(query.id, reply.text.strip(), grade.score, {**grade.metrics, **logprob})


def _ask(query: Query, prompt: Prompt) -> Ask:
    return Ask(query.id, prompt, target=query.answer, max_tokens=ANSWER_TOKENS)
