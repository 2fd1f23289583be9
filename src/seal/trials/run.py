"""Trial -> Job -> Finished -> Outcome: what a Trainer sends back is graded here, in this process, whichever trainer it was."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace

from seal.grading.judge import Judge
from seal.offers import Graded
from seal.protocols import Domain, Trainer
from seal.types import Answer, Ask, Cost, Finished, Job, Outcome, Problem, Reply, Trial, Tuning

Before = Mapping[str, tuple[Answer, ...]]
"""The unchanged model's answers, by problem id."""
AHEAD = 32
"""Most trials that wait for a judge while others train; a kill costs them."""
Asks = Callable[[Problem], Sequence[Ask]]


def unchanged(
    trainer: Trainer, domain: Domain, problems: Sequence[Problem], *, ask: Asks | None = None
) -> Iterator[tuple[Problem, tuple[Answer, ...], Cost]]:
    """The model's answers as it stands, each problem once; the caller keeps them. `ask`: other asks than the domain's own."""
    by_id = {problem.id: problem for problem in problems}
    jobs = [Job(problem.id, (), tuple((ask or domain.ask)(problem))) for problem in problems]
    for finished in trainer.run(jobs):
        problem = by_id[finished.job_id]
        ungraded = [Answer(query.id, "", None) for query in problem.queries]  # the questions do not fit the model's context
        answers = ungraded if finished.fault else domain.grade(problem, finished.replies)
        yield problem, tuple(answers), finished.cost


def run(trainer: Trainer, domain: Domain, trials: Sequence[Trial], before: Before) -> Iterator[Outcome]:
    """Every trial once, in the order in which the trainer finishes them. An edit that could not be read is an outcome with its
    fault, and no training. A judge over the network is asked while the trainer goes on."""
    by_id = {}
    jobs = []
    for trial in trials:
        edit = trial.edit
        assert edit is not None, "a trial without an edit: use unchanged()"
        if edit.fault is not None:
            yield Outcome(trial, before[trial.problem.id], (), fault=edit.fault)
            continue
        by_id[trial.id] = trial
        jobs.append(Job(trial.id, edit.examples, tuple(domain.ask(trial.problem)), edit.tuning, trial.seed))

    def graded(finished: Finished) -> Outcome:
        trial = by_id[finished.job_id]
        return _outcome(domain, trial, before[trial.problem.id], finished)

    if isinstance(domain, Graded) and isinstance(domain.graded_by(), Judge):
        yield from _beside(trainer.run(jobs), graded)
    else:
        yield from map(graded, trainer.run(jobs))


def _beside(trained: Iterator[Finished], graded: Callable[[Finished], Outcome]) -> Iterator[Outcome]:
    """Grades beside the training, one trial after the other: a budget in calls then ends at the same answer however long each
    call takes. What goes wrong is raised when its trial's turn comes."""
    waiting: deque[Future[Outcome]] = deque()
    pool = ThreadPoolExecutor(1)
    try:
        for finished in trained:
            waiting.append(pool.submit(graded, finished))
            while waiting and (waiting[0].done() or len(waiting) > AHEAD):
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    except (Exception, KeyboardInterrupt):
        yield from [one.result() for one in waiting if one.done() and not one.exception()]  # is kept, whatever went wrong
        raise
    finally:
        pool.shutdown(cancel_futures=True)


def run_pooled(
    trainer: Trainer, domain: Domain, trials: Sequence[Trial], before: Before, *, tuning: Tuning, seed: int
) -> list[Outcome]:
    """Continued pretraining: one adapter learns the edits of all trials together and is asked about every problem.

    What several edits have in common, such as their passage, is learnt as often as they have it, as in the paper's first version.
    The cost is divided evenly. A fault of the training is every trial's; an unreadable edit is only its own: it adds nothing, and
    what the adapter answers stands.
    """
    usable = [trial for trial in trials if trial.edit is not None and trial.edit.fault is None]
    problems = list({trial.problem.id: trial.problem for trial in trials}.values())
    examples = tuple(example for trial in usable if trial.edit for example in trial.edit.examples)
    asks = tuple(ask for problem in problems for ask in domain.ask(problem))
    (finished,) = trainer.run([Job("pooled", examples, asks, tuning, seed)])
    replies: dict[str, list[Reply]] = {}
    for reply in finished.replies:
        replies.setdefault(reply.query_id, []).append(reply)
    share = _share(finished.cost, len(trials))
    outcomes = []
    for trial in trials:
        own = tuple(reply for query in trial.problem.queries for reply in replies.get(query.id, ()))
        outcome = _outcome(domain, trial, before[trial.problem.id], replace(finished, replies=own, cost=share))
        unreadable = None if trial.edit is None else trial.edit.fault
        outcomes.append(replace(outcome, fault=unreadable or outcome.fault))
    return outcomes


def _outcome(domain: Domain, trial: Trial, before: tuple[Answer, ...], finished: Finished) -> Outcome:
    after = () if finished.fault else tuple(domain.grade(trial.problem, finished.replies))
    return Outcome(trial, before, after, finished.cost, finished.losses, finished.fault)


def _share(cost: Cost, n: int) -> Cost:
    return Cost(
        cost.train_tokens // n, cost.train_steps // n, cost.train_seconds / n, cost.answer_tokens // n, cost.answer_seconds / n
    )
