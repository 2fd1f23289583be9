"""The outer loop on a tiny model: what it leaves in the store, whenever it is stopped and however often."""

from __future__ import annotations

import io
import itertools
import json
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest
import torch
from peft import PeftModel
from rich.console import Console
from small_runs import (
    INNER,
    OUTER,
    REWARD,
    Watched,
    a_domain,
    an_engine,
    changed,
    die,
    interrupt,
    interrupted_until_done,
    killed_until_done,
    rows,
    stop_after,
    train,
    weights,
    whole_run,
)

from seal.config.recipe import OuterTable, ShortlistTable
from seal.domains.knowledge import Knowledge
from seal.domains.knowledge_table import KnowledgeTable
from seal.domains.wrapped import Wrapped
from seal.edits.styles import STYLES
from seal.engine import Engine
from seal.errors import SealError, UserError
from seal.grading.grade import Grade
from seal.loops.refuse import refuse_changed
from seal.loops.rest_em import _clocked, contexts
from seal.loops.stages import Stages
from seal.loops.takeover import _copy_round as copy_round
from seal.models import open_model
from seal.policy.selection import gaining
from seal.protocols import nobody
from seal.report import render
from seal.report.export import export_files
from seal.report.tables import evaluation_table, problems_table, training_table
from seal.rewards import REWARDS, Compose
from seal.store import Store, keys
from seal.types import Bounds, Problem, Prompt, Reply, Sampling


@pytest.fixture(scope="module")
def whole(engine: Engine, tmp_path_factory: pytest.TempPathFactory) -> Store:
    """A run that was never stopped."""
    return whole_run(engine, tmp_path_factory.mktemp("whole"))


class Writing:
    """An engine that counts what it is asked to write at once, and is stopped before a second batch."""

    def __init__(self, batches: int) -> None:
        self.left, self.sizes = batches, list[int]()

    def sample(self, prompts: Sequence[Prompt], how: Sampling, *, seed: int) -> list[list[Reply]]:
        if not self.left:
            raise KeyboardInterrupt
        self.left -= 1
        self.sizes.append(len(prompts) * how.n)
        return [[Reply(f"Said by {seed} to {at}, {n}.", 4) for n in range(how.n)] for at in range(len(prompts))]


@pytest.mark.parametrize(("environment", "sizes"), [({}, [16, 16]), ({"edits_at_once": 32}, [32])])
def test_as_many_edits_are_written_at_once_as_when_the_run_began(
    domain: Knowledge, tmp_path: Path, environment: dict[str, int], sizes: list[int]
) -> None:
    found = []
    for name, lives in (("whole", [9]), ("stopped", [1, 9])):
        with Store.create(tmp_path, name, "", environment) as store:
            store.put_problems(domain.problems("train"))
            written = []
            for batches in lives:
                engine = Writing(batches)
                with suppress(KeyboardInterrupt):
                    Stages(engine, domain, store, "train", 1, 3).sample(domain.problems("train"), Sampling(n=8))  # type: ignore[arg-type]
                written += engine.sizes
            assert written == sizes
            found.append([(edit.id, edit.text) for edit in store.edits("train", 1)])
    assert found[0] == found[1]
    assert len(found[0]) == 32


def test_what_the_papers_padding_cuts_off_is_counted_and_told(tmp_path: Path) -> None:
    domain = a_domain(tmp_path)
    domain._tuning = replace(INNER, pad_loss="official", pad_length=24)
    problems = domain.problems("train")
    engine = Writing(9)
    engine.count = lambda example: len(example.completion)  # type: ignore[attr-defined]
    with Store.create(tmp_path, "cut", "", {}) as store, Store.create(tmp_path, "after", "", {}) as after:
        store.put_problems(problems)
        for phase in ("train", "untrained"):
            Stages(engine, domain, store, phase, 1, 3).sample(problems, Sampling(n=2))  # type: ignore[arg-type]
        lengths = [[len(one.completion) for one in edit.examples] for edit in store.edits("train", 1)]
        lost = sum(max(0, length - 24) for own in lengths for length in own)
        (row,) = training_table(store)
        assert row["cut_tokens"] == lost > 0
        console = Console(width=200, file=io.StringIO())
        console.print(render.training([row]), render.problems(problems_table(store)))
        shown = console.file.getvalue()  # type: ignore[attr-defined]
        assert f"Tokens of edits cut off at tuning.pad_length and not learnt: round 1 {lost:,}." in shown
        assert f"tokens cut: {sum(max(0, length - 24) for length in lengths[0])}" in shown
        (row,) = evaluation_table(store)
        console.print(render.evaluation([row]))
        assert f"not learnt: untrained edits {row['cut_tokens']}." in console.file.getvalue()  # type: ignore[attr-defined]
        copy_round(store, after, 1)
        assert training_table(after)[0]["cut_tokens"] == lost  # a run that begins with these edits tells it too
        domain._tuning = replace(INNER, pad_loss="official", pad_length="longest")  # nothing is longer than the longest
        Stages(engine, domain, store, "dev/untrained", 1, 3).sample(problems, Sampling(n=2))  # type: ignore[arg-type]
        assert {one["phase"]: one["cut_tokens"] for one in evaluation_table(store)}["dev/untrained"] == 0


# ---- training


def test_two_rounds_leave_all_their_rows_and_a_policy_each(
    engine: Engine, domain: Knowledge, store: Store, lively_path: Path
) -> None:
    told: list[tuple[str, int, int]] = []
    train(engine, domain, store, notify=lambda *what: told.append(what))
    seen = []
    for round in (1, 2):
        edits, outcomes = store.edits("train", round), store.outcomes("train", round)
        problems = list(dict.fromkeys(edit.problem_id for edit in edits))
        seen += problems
        assert [(edit.problem_id, edit.index) for edit in edits] == [(problem, index) for problem in problems for index in (0, 1)]
        assert [outcome.trial.edit for outcome in outcomes] == edits
        assert set(store.base("train", round)) == set(problems)
        for outcome in outcomes:
            assert outcome.before == store.base("train", round)[outcome.trial.problem.id]
            assert len(outcome.after) == (0 if outcome.fault else 2)
        rewards = store.rewards("train", round)
        assert set(rewards) == {edit.id for edit in edits}
        for outcome in outcomes:
            parts = rewards[outcome.trial.edit.id]  # type: ignore[union-attr]
            assert parts == pytest.approx({**Compose(REWARD).parts(outcome, []), "reward": Compose(REWARD)(outcome, [])})
        for problem in problems:
            own = {edit.id: rewards[edit.id]["reward"] for edit in edits if edit.problem_id == problem and not edit.fault}
            kept = [id for id in store.kept("train", round) if id in own]
            assert [own[id] for id in kept] == ([max(own.values())] if own else [])  # type: ignore[type-var]
        assert store.metrics()[round]["policy_loss_first"] > 0
    assert len(set(seen)) == 4  # new problems every round
    assert store.rounds() == [("train", 1), ("train", 2)]
    assert {what for what, done, total in told if done == total} == {"base answers", "edits", "trials", "policy"}
    first, second = weights(store.policy_dir(1)), weights(store.policy_dir(2))
    assert all(torch.equal(first[name], second[name][: len(first[name])]) for name in first if "lora_A" in name)
    base = open_model(str(lively_path), device="cpu", dtype="float32").model
    ids = torch.tensor([[70, 80, 90]])
    with torch.no_grad():
        logits = [base(input_ids=ids).logits]
        adapted = PeftModel.from_pretrained(base, store.policy_dir(1), adapter_name="one")
        adapted.load_adapter(store.policy_dir(2), adapter_name="two")
        for name in ("one", "two"):
            adapted.set_adapter(name)
            logits.append(adapted(input_ids=ids).logits)
    assert all((one - other).abs().max() > 1e-3 for one, other in itertools.pairwise(logits))


def test_a_finished_run_has_nothing_left_to_do(engine: Engine, domain: Knowledge, store: Store) -> None:
    train(engine, domain, store, changed(OUTER, rounds=1))
    before = rows(store)
    watched = Watched(engine)
    train(watched, domain, store, changed(OUTER, rounds=1))  # type: ignore[arg-type]
    assert (watched.jobs, watched.sampled, watched.absorbed) == ([], 0, 0)
    assert rows(store) == before


def test_a_training_file_that_changed_between_two_lives_is_refused(
    engine: Engine, domain: Knowledge, store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        stop_after(2, interrupt, patch.setattr)
        with pytest.raises(KeyboardInterrupt):
            train(engine, domain, store)
    before, held = rows(store), (tmp_path / "train.json").read_text()
    for other in (held.replace("190", "180"), json.dumps(json.loads(held)[::-1])):
        (tmp_path / "train.json").write_text(other)
        with pytest.raises(UserError, match=r"problems of split 'train' are not those .*domain\.data"):
            train(engine, reread(tmp_path), store)
    assert rows(store) == before
    (tmp_path / "train.json").write_text(held)
    refuse_changed(store, "train", reread(tmp_path).problems("train"))
    store.set_state(keys.PROBLEMS + "train", None)  # as a run of another version
    refuse_changed(store, "train", [])


def reread(folder: Path) -> Knowledge:
    """The domain of the files as they are now."""
    data = {split: str(folder / f"{split}.json") for split in ("train", "test")}
    return KnowledgeTable(data=data, style="atomic-facts").build(INNER, Bounds())  # type: ignore[arg-type]


def test_a_round_of_which_nothing_is_kept_leaves_the_policy_as_it_was(engine: Engine, domain: Knowledge, store: Store) -> None:
    picky = Compose({"accuracy": 1.0})  # nobody gains: the tiny model knows nothing
    train(engine, domain, store, reward=picky, select=lambda groups, seed: gaining(groups))
    assert store.kept("train", 1) == store.kept("train", 2) == []
    assert "policy_loss_first" not in store.metrics()[1]
    clean = {name: weight.clone() for name, weight in engine.language.model.state_dict().items()}
    engine.load(store.policy_dir(2))
    assert all(torch.equal(weight, clean[name]) for name, weight in engine.language.model.state_dict().items())
    engine.load(None)
    assert all(torch.equal(weight, clean[name]) for name, weight in engine.language.model.state_dict().items())


def test_the_mean_over_repeats_is_an_edits_reward(engine: Engine, domain: Knowledge, store: Store) -> None:
    train(engine, domain, store, OuterTable(rounds=1, contexts=1, edits=1, repeats=3, retrain=1))
    assert not store.outcomes("train.again", 1)  # the noise is known
    (edit,) = store.edits("train", 1)
    outcomes = store.outcomes("train", 1)
    assert [outcome.trial.id for outcome in outcomes] == [f"{edit.id}/{repeat}" for repeat in range(3)]
    assert len({outcome.trial.seed for outcome in outcomes}) == 3
    found = [REWARDS["logprob"](outcome, []) for outcome in outcomes]
    assert len(set(found)) == 3
    assert store.rewards("train", 1)[edit.id]["logprob"] == pytest.approx(sum(found) / 3)  # type: ignore[arg-type]


def test_edits_tried_once_more_tell_of_the_noise_and_choose_nothing(engine: Engine, domain: Knowledge, store: Store) -> None:
    once = OuterTable(rounds=1, contexts=2, edits=3)
    train(engine, domain, store, once)
    assert "noise" not in store.metrics()[1]
    for more in (3, 99):
        with Store.create(store.path.parent, f"again-{more}", "", {}) as again:
            interrupted_until_done(partial(train, engine, domain, again, changed(once, retrain=more)), commits=9)
            for found in ("edits", "rewards", "kept"):
                assert getattr(again, found)("train", 1) == getattr(store, found)("train", 1), found
            both = (run.outcomes("train", 1) for run in (again, store))
            first, second = ([(one.trial, one.after, one.losses) for one in own] for own in both)
            assert first == second
            usable = [edit for edit in store.edits("train", 1) if not edit.fault]
            unlike = {edit.examples for edit in usable}
            tried = again.outcomes("train.again", 1)
            assert len(tried) == min(more, len(unlike)) > 0
            seeds = {one.trial.seed for one in store.outcomes("train", 1)}
            assert not seeds & {one.trial.seed for one in tried}
            share = training_table(again)[0]["noise"]
            assert share is not None
            assert again.latest()[0] == "train"  # type: ignore[index]
            files = export_files(again)
            written = [json.loads(line)["id"] for line in files["edits.jsonl"].splitlines()]
            assert written == [one.id for one in store.edits("train", 1)]
            named = [json.loads(line) for line in files["outcomes.jsonl"].splitlines()]
            assert {one["edit"] for one in named if one["phase"] == "train.again"} <= {one.id for one in usable}
            assert not [name for name in files if "again" in name]
            assert f"{again.metrics()[1]['noise']:.0%} of the reward's variance" in render.noise_line(training_table(again)[0])
            assert all(torch.equal(one, weights(store.policy_dir(1))[name]) for name, one in weights(again.policy_dir(1)).items())


def test_an_edit_tried_once_more_is_among_its_own_siblings(engine: Engine, domain: Knowledge, store: Store) -> None:
    asked: list[int] = []
    reward = Compose({"logprob": 1.0})
    reward._functions["logprob"] = lambda outcome, siblings: asked.append(siblings.index(outcome)) or 1.0  # type: ignore[func-returns-value]
    train(engine, domain, store, OuterTable(rounds=1, contexts=1, edits=3, retrain=2), reward=reward)
    assert len(asked) == len(store.outcomes("train", 1)) + len(store.outcomes("train.again", 1))


def test_rounds_take_the_next_problems_until_all_are_used(domain: Knowledge) -> None:
    problems = domain.problems("train")
    fresh = [contexts(problems, OuterTable(rounds=9, contexts=3), round, 0) for round in range(1, 5)]
    assert [len({problem.id for problem in one}) for one in fresh] == [3, 3, 3, 3]
    assert {problem.id for problem in fresh[0] + fresh[1]} == {problem.id for problem in problems}
    again = OuterTable(rounds=9, contexts=3, fresh=False)
    assert contexts(problems, again, 1, 0) == contexts(problems, again, 2, 0)
    assert len(contexts(problems, OuterTable(rounds=1, contexts=99), 1, 0)) == 4
    assert any(contexts(problems, again, 1, seed) != contexts(problems, again, 1, 0) for seed in range(1, 9))


# ---- faults and failed gradings


def test_an_edit_that_cannot_be_read_is_a_fault_that_earns_nothing(engine: Engine, tmp_path: Path, store: Store) -> None:
    seen: list[str] = []

    def every_other(text: str) -> list[str]:
        seen.append(text)
        return ["..."] if len(seen) % 2 else ["Ada built it."]

    domain = a_domain(tmp_path, style=replace(STYLES["atomic-facts"], reader=every_other))
    watched = Watched(engine)
    train(watched, domain, store, changed(OUTER, rounds=1))  # type: ignore[arg-type]
    edits, rewards = store.edits("train", 1), store.rewards("train", 1)
    assert [edit.fault.kind if edit.fault else None for edit in edits] == ["unreadable", None] * 2
    assert [outcome.fault is not None for outcome in store.outcomes("train", 1)] == [True, False] * 2
    assert [rewards[edit.id]["reward"] is None for edit in edits] == [True, False] * 2
    assert store.kept("train", 1) == [edits[1].id, edits[3].id]
    assert [job.id for job in watched.jobs if job.examples] == [f"{edits[1].id}/0", f"{edits[3].id}/0"]


def test_a_grading_that_failed_is_in_no_mean(engine: Engine, tmp_path: Path, store: Store) -> None:
    def lame(question: str, target: str, answer: str) -> Grade:
        return Grade(1.0, {}) if target == "Ada" else Grade(None, {})

    train(engine, a_domain(tmp_path, grader=lame), store, changed(OUTER, rounds=1), reward=Compose({"accuracy": 1.0}))
    found = [one["accuracy"] for one in store.rewards("train", 1).values() if one["accuracy"] is not None]
    assert found
    assert set(found) == {1.0}


def test_where_no_grading_succeeds_nothing_is_learnt(engine: Engine, tmp_path: Path, store: Store) -> None:
    domain = a_domain(tmp_path, grader=lambda question, target, answer: Grade(None, {}))
    train(engine, domain, store, changed(OUTER, rounds=1), reward=Compose({"accuracy": 1.0}))
    assert {one["reward"] for one in store.rewards("train", 1).values()} == {None}
    assert store.kept("train", 1) == []


# ---- killed and resumed


def one_life(tiny: str, folder: str, run: str, commits: int) -> None:
    """A process that goes on with a run until it is done, or until it has committed so often and kills itself."""
    torch.set_num_threads(1)
    stop_after(commits, die)
    with Store.open(Path(run), write=True) as store:
        train(an_engine(Path(tiny)), a_domain(Path(folder)), store)


@pytest.mark.parametrize("commits", [10, 11, 13])
def test_a_run_killed_again_and_again_is_the_run_that_never_was(
    whole: Store, lively_path: Path, tmp_path: Path, commits: int
) -> None:
    Store.create(tmp_path / "runs", "killed", "", {}).close()
    (path,) = (tmp_path / "runs").iterdir()
    killed_until_done(one_life, str(lively_path), str(tmp_path), str(path), commits, most=30)
    with Store.open(path, write=False) as store:
        mine, theirs = rows(store), rows(whole)
        for table in theirs:
            assert mine[table] == theirs[table], table
        for round in (1, 2):
            one, other = weights(store.policy_dir(round)), weights(whole.policy_dir(round))
            assert one.keys() == other.keys()
            assert all(torch.equal(one[name], other[name]) for name in one)


def test_the_base_model_may_learn_what_the_policy_writes(engine: Engine, domain: Knowledge, store: Store, whole: Store) -> None:
    """The first round is the same, as the policy is the base model there; in the second the policy writes, and is updated."""
    train(engine, domain, store, changed(OUTER, learner="base", fresh=False))
    with Store.create(store.path.parent, "own", "", {}) as own:
        train(engine, domain, own, changed(OUTER, fresh=False))
        first, second = ((store.outcomes("train", round), own.outcomes("train", round)) for round in (1, 2))
        assert [one.after for one in first[0]] == [one.after for one in first[1]]
        assert [one.trial.edit for one in second[0]] == [one.trial.edit for one in second[1]]
        assert [one.losses for one in second[0]] != [one.losses for one in second[1]]
        assert store.base("train", 2) == store.base("train", 1)  # asked of the base model again
        assert own.base("train", 2) != own.base("train", 1)
    mine = weights(store.policy_dir(1)), weights(store.policy_dir(2))
    assert all(torch.equal(mine[0][name], mine[1][name][: len(mine[0][name])]) for name in mine[0] if "lora_A" in name)


def test_a_shortlist_is_tried_and_nothing_else(engine: Engine, tmp_path: Path) -> None:
    outer = OuterTable(rounds=1, contexts=2, edits=4, shortlist=ShortlistTable(by="informs", size=2))
    with Store.create(tmp_path / "runs", "x", "", {}) as store:
        train(engine, a_domain(tmp_path), store, outer, reward=Compose({"accuracy": 1.0, "informs": 0.0}))
        edits, tried = store.edits("train", 1), {one.trial.edit.id for one in store.outcomes("train", 1) if one.trial.edit}
        informs = {answer.query_id: answer.score for said in store.base("train.informs", 1).values() for answer in said}
        rewards, kept = store.rewards("train", 1), store.kept("train", 1)
        rows = problems_table(store)
    assert len(edits) == 8
    assert set(rewards) == tried
    assert set(kept) <= tried
    for id in {edit.problem_id for edit in edits}:
        group = [edit.id for edit in edits if edit.problem_id == id and not edit.fault]
        worst = sorted(group, key=lambda one: informs[one] or 0.0)[: max(0, len(group) - 2)]
        assert not tried & set(worst)
        assert len(tried & set(group)) == min(2, len(group))
    assert sum(len(row["edits"]) for row in rows) == 8  # the report shows those that were not tried too


# ---- rounds that are done, and what a phase had before


def test_of_rounds_that_are_done_no_policy_is_opened(lively_path: Path, domain: Knowledge, store: Store) -> None:
    engine = an_engine(lively_path)
    train(engine, domain, store)
    loaded: list[Path | None] = []
    engine.load = loaded.append  # type: ignore[method-assign,assignment]
    train(engine, domain, store)
    assert loaded == []
    with suppress(AttributeError):  # a third round begins with the second's policy alone
        train(Unwilling(engine), domain, store, changed(OUTER, rounds=3))  # type: ignore[arg-type]
    assert loaded == [store.policy_dir(2)]


class Unwilling:
    """An engine that loads and does nothing else."""

    def __init__(self, engine: Engine) -> None:
        self.load = engine.load


def test_the_seconds_of_a_second_pass_count_too(store: Store) -> None:
    tell = _clocked(store, 1, nobody)
    found = []
    for done in (0, 2, 4, 0, 2):  # four edits, then the same written on
        tell("edits", done, 4)
        found.append(store.metrics().get(1, {}).get("seconds", 0.0))
    assert found[0] == 0 < found[1] < found[2] == found[3] < found[4]


def test_one_prompt_for_all_edits_or_one_for_each_and_that_of_every_problem(
    lively_path: Path, domain: Knowledge, store: Store
) -> None:
    asked = dict(zip((one.id for one in domain.problems("train")), (1, 2, 1, 1), strict=True))

    class Uneven(Wrapped):
        def edit_prompts(self, problem: Problem, n: int, seed: int) -> list[Prompt]:
            return [self.edit_prompt(problem)] * asked[problem.id]

    problems = domain.problems("train")[:2]
    store.put_problems(problems)
    stages = Stages(an_engine(lively_path), Uneven(domain), store, "train", 1, 3)
    with pytest.raises(SealError, match="edit_prompts gives 1, 2 prompts for 2 edits; it is one"):
        stages.sample(problems, Sampling(n=2, max_tokens=4))
    with pytest.raises(SealError, match="edit_prompts gives 1, 2 prompts for 3 edits; it is one"):
        stages.sample(problems, Sampling(n=3, max_tokens=4))
    assert store.edits("train", 1) == []
    asked[problems[0].id] = 2
    assert [edit.index for edit in stages.sample(problems, Sampling(n=2, max_tokens=4))] == [0, 1, 0, 1]


def test_what_is_tried_is_what_was_asked_for_and_not_all_that_a_phase_has(
    lively_path: Path, domain: Knowledge, store: Store
) -> None:
    problems = domain.problems("train")[:2]
    store.put_problems(problems)
    stages = Stages(an_engine(lively_path), domain, store, "train", 1, 3)
    first, second, *_ = stages.sample(problems, Sampling(n=2, max_tokens=8))
    assert [one.trial.edit for one in stages.attempt(problems, [first], 1)] == [first]
    assert [one.trial.edit for one in stages.attempt(problems, [second], 1)] == [second]
    assert [one.trial.edit for one in stages.attempt_halving(problems, [second], 1, Compose({"accuracy": 1.0}))] == [second]
    assert [one.trial.edit for one in store.outcomes("train", 1)] == [first, second]
