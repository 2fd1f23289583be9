"""Raters: what they say of an edit without training on it, and what becomes of it in the loop."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from small_runs import OUTER, Watched, best, changed, rows, train

from seal.config import loads
from seal.domains.knowledge import Knowledge
from seal.engine import Engine
from seal.errors import UserError
from seal.loops import build
from seal.loops.refuse import refuse_unasked
from seal.loops.stages import Stages
from seal.report import render
from seal.report.html import below
from seal.report.rewards import rewards_table
from seal.report.tables import training_table
from seal.rewards import RATERS, Compose, Rating
from seal.rewards.proxy import ASPECTS, Hints, Informs, Rubric, read_rubric
from seal.store import Store
from seal.types import Fault, Finished, Job, Problem, Prompt, Reply, Sampling, SelfEdit


class Counting:
    """An engine to which a target is as likely as many of its words stand in the prompt; it says what it is told to."""

    def __init__(self, *says: str) -> None:
        self.says = says
        self.prompts: list[Prompt] = []

    def run(self, jobs: Iterable[Job]) -> Iterator[Finished]:
        for job in jobs:
            assert not job.examples
            self.prompts += [ask.prompt for ask in job.asks]
            if any("too long" in ask.prompt.text for ask in job.asks):
                yield Finished(job.id, fault=Fault("too_long", ""))
                continue
            replies = [
                Reply(
                    "",
                    query_id=ask.query_id,
                    target_logprob=-sum(word not in ask.prompt.text.split() for word in ask.target.split()),
                )
                for ask in job.asks
                if ask.target is not None
            ]
            yield Finished(job.id, tuple(replies))

    def sample(self, prompts: Sequence[Prompt], how: Sampling, *, seed: int) -> list[list[Reply]]:
        assert how.temperature == 0
        self.prompts += prompts
        return [[Reply(text)] for text, _ in zip(self.says, prompts, strict=True)]


@pytest.fixture
def problem(domain: Knowledge) -> Problem:
    return domain.problems("train")[0]  # The ferry: "Ada built the ferry in 1900."


def edit(text: str, index: int = 0) -> SelfEdit:
    return SelfEdit(f"train/1/p/{index}", "p", text, 1, index, Prompt(""))


def test_informs_is_what_the_edit_tells_of_the_passage(domain: Knowledge, problem: Problem) -> None:
    edits = [edit("Ada built the ferry in 1900."), edit("Ada built"), edit("nothing of use"), edit("too long")]
    said = Informs().rate(Counting(), domain, problem, edits)  # type: ignore[arg-type]
    words = len(["The", "ferry", "Ada", "built", "the", "ferry", "in", "1900."])
    assert [one.value for one in said] == [4 / words, 2 / words, 0.0, None]  # "The", "ferry" and "the" are in the prompt anyway


def test_informs_needs_no_question(domain: Knowledge, problem: Problem) -> None:
    edits = [edit("Ada built the ferry in 1900."), edit("too long")]
    asked, unasked = (
        Informs().rate(Counting(), domain, one, edits)  # type: ignore[arg-type]
        for one in (problem, replace(problem, queries=()))
    )
    assert unasked == asked


@pytest.mark.parametrize(
    ("table", "refused"),
    [
        ("[reward]\naccuracy = 1.0", True),
        ("[reward]\ninforms = 1.0\nhints = 0.1", True),
        ("[reward]\ninforms = 1.0\naccuracy = 0.0", True),
        ("[reward]\ninforms = 1.0\nlength = -0.1", False),
        ("[questions]\nsource = 'self'", False),
    ],
)
def test_passages_without_questions_are_refused_where_the_reward_asks_some(tmp_path: Path, table: str, refused: bool) -> None:
    file = tmp_path / "mine.json"
    file.write_text('[{"title": "Red Fox", "context": "It runs."}]')
    recipe = loads(f"domain.data.train = '{file}'\neval.split = 'train'\neval.conditions = ['base']\n{table}", source="x.toml")
    domain = build.domain(recipe)
    with pytest.raises(UserError, match="'Red Fox' has no question, and the reward") if refused else nullcontext():
        refuse_unasked(recipe, domain, build.reward(recipe))
    with pytest.raises(UserError, match="'Red Fox' has no question to measure by"):
        build.evaluation(recipe, domain, None)


def test_hints_is_what_the_edit_tells_about_the_questions(domain: Knowledge, problem: Problem) -> None:
    edits = [edit("Ada 1900"), edit("in 1900"), edit("nothing"), edit("too long")]
    said = Hints().rate(Counting(), domain, problem, edits)  # type: ignore[arg-type]
    assert [one.value for one in said] == [1.0, 0.5, 0.0, None]


def test_a_judge_sees_text_and_notes_and_its_words_are_kept(domain: Knowledge, problem: Problem) -> None:
    engine = Counting(" 5\nDiversity: 5\nQuality: 5\nCorrectness: 5", "I like it.")
    said = RATERS["rubric"].rate(engine, domain, problem, [edit("Ada built it."), edit("x")])  # type: ignore[arg-type]
    assert said == [Rating(1.0, engine.says[0]), Rating(None, "I like it.")]
    assert all("Ada built the ferry in 1900." in prompt.text for prompt in engine.prompts)
    assert "Ada built it." in engine.prompts[0].text
    silent = Rubric(lambda engine, prompts: [None] * len(prompts))
    assert silent.rate(engine, domain, problem, [edit("x")]) == [Rating(None, "")]  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("reply", "value"),
    [
        (" 1\nDiversity: 1\nQuality: 1\nCorrectness: 1", 0.0),
        ("3\n**Diversity:** 3\nQuality - 3/5\nCorrectness: 3.", 0.5),
        ("2\nDiversity: 3\nQuality: 4\nCorrectness: 5\nQuality: 1", 0.625),  # the first of two counts
        ("Length (1-5): 4\nDiversity (1-5): 4\nQuality [1–5]: 4\nCorrectness (1 = poor, 5 = excellent): 4", 0.75),
        ("1. Length: 4\n2. Diversity: 4\n3. **Quality**: 4\n4) Correctness: 4", 0.75),
        (" (1-5): 4\nDiversity: (4)\nQuality: (4/5)\nCorrectness: 4 (1-5)", 0.75),
        ("4. They are long.\nDiversity: 4. Quality: 4. Correctness: 4.", 0.75),
        ("Length\n2. Diversity: 4\n3. Quality: 4\n4. Correctness: 4", None),
        ("Length 1-5: 4\nDiversity: 4\nQuality: 4\nCorrectness: 4", None),
        ("2\nDiversity: 3\nQuality: 4", None),
        ("2\nDiversity: 3\nQuality: 45\nCorrectness: 5", None),
        ("2\nDiversity: 3\nQuality: 6\nCorrectness: 5", None),
        ("", None),
    ],
)
def test_four_ratings_or_none(reply: str, value: float | None) -> None:
    assert read_rubric(reply) == value


@given(st.text(max_size=300))
def test_no_reply_breaks_the_reader(reply: str) -> None:
    assert read_rubric(reply) is None or 0.0 <= read_rubric(reply) <= 1.0  # type: ignore[operator]


@given(st.lists(st.integers(1, 5), min_size=4, max_size=4), st.permutations(ASPECTS[1:]))
def test_the_order_of_the_ratings_does_not_matter(numbers: list[int], order: list[str]) -> None:
    lines = [f"{name}: {number}" for name, number in zip(order, numbers[1:], strict=True)]
    assert read_rubric("\n".join([f" {numbers[0]}", *lines])) == pytest.approx((sum(numbers) - 4) / 16)


def test_a_domain_without_texts_cannot_be_read(problem: Problem) -> None:
    class Sums:
        name = "sums"

    with pytest.raises(UserError, match="'sums' is none"):
        Informs().rate(Counting(), Sums(), problem, [edit("x")])  # type: ignore[arg-type]


# ---- in the loop


ONE = changed(OUTER, rounds=1)
OF_THE_EDIT = {"informs": 1.0, "hints": 0.5, "length": -0.1}


def test_where_every_reward_needs_only_the_edit_no_trial_is_run(engine: Engine, domain: Knowledge, store: Store) -> None:
    watched = Watched(engine)
    train(watched, domain, store, ONE, reward=Compose(OF_THE_EDIT))  # type: ignore[arg-type]
    assert all(not job.examples for job in watched.jobs)
    assert store.outcomes("train", 1) == []
    rewards = store.rewards("train", 1)
    for named in rewards.values():
        assert named["reward"] == pytest.approx(named["informs"] + 0.5 * named["hints"] - 0.1 * named["length"])  # type: ignore[operator]
    assert len(store.kept("train", 1)) == 2
    assert store.policy_dir(1).is_dir()
    (row,) = training_table(store)
    assert row["trials"] == 0
    assert "no trial was run" in render.noise_line(row)
    assert {one["score"]["mean"] for one in rewards_table(store)} == {None}
    assert below(render.rewards(rewards_table(store))) == []


def test_ratings_are_kept_and_not_asked_for_again(engine: Engine, domain: Knowledge, store: Store) -> None:
    problems = list(domain.problems("train")[:2])
    store.put_problems(problems)
    stages = Stages(engine, domain, store, "train", 1, 3)
    edits = stages.sample(problems, Sampling(n=2, max_tokens=16))
    first = stages.rate(problems[:1], edits, RATERS)
    assert all(first[one.id].keys() == RATERS.keys() for one in edits if one.problem_id == problems[0].id)
    before = rows(store)["answers"]
    watched = Watched(engine)
    both = replace(stages, engine=watched).rate(problems, edits, RATERS)
    assert watched.jobs
    assert all(problems[0].id not in ask.query_id for job in watched.jobs for ask in job.asks)
    assert {id: both[id] for id in first if first[id]} == {id: named for id, named in first.items() if named}
    assert set(before) < set(rows(store)["answers"])
    again = Watched(engine)
    assert replace(stages, engine=again).rate(problems, edits, RATERS) == both
    assert (again.jobs, again.sampled) == ([], 0)


def test_a_measured_rater_is_compared_with_what_the_trials_gave(engine: Engine, domain: Knowledge, store: Store) -> None:
    train(engine, domain, store, changed(ONE, contexts=4), reward=Compose({"logprob": 1.0, "informs": 0.0}), select=best)
    found = {row["reward"]: row for row in rewards_table(store)}
    assert set(found) == {"logprob", "informs", "reward"}
    assert found["reward"]["logprob"]["mean"] == found["logprob"]["logprob"]["mean"] == pytest.approx(1.0)
    assert found["logprob"]["logprob_within"]["mean"] == pytest.approx(1.0)
    assert (
        -1.0
        <= found["informs"]["logprob"]["low"]
        <= found["informs"]["logprob"]["mean"]
        <= found["informs"]["logprob"]["high"]
        <= 1.0
    )
    assert (found["informs"]["n"], found["informs"]["problems"]) == (8, 4)
    shown = render.rewards(list(found.values()))
    assert below(shown) == ["4 problems are too few for an interval to say anything; 6 are the least."]
    assert below(render.rewards([row | {"problems": 6} for row in found.values()])) == []
