"""Rewards: what an outcome is worth, and when nothing can be said."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from seal.edits.styles import STYLES, Style
from seal.errors import SealError, UserError
from seal.loops.stages import reward_edits
from seal.rewards import RATERS, REWARDS, Compose, score
from seal.rewards.compose import checked, find
from seal.rewards.proxy import Rating
from seal.types import Answer, Cost, Example, Fault, Outcome, Problem, Prompt, SelfEdit, Trial

PROBLEM = Problem("p", "P", "{}", ())


def outcome(before: list[float | None], after: list[float | None], fault: Fault | None = None, **metrics: list[float]) -> Outcome:
    """Answers with these scores; `f1=[...]` are those after, `logprob_before=[...]` those before."""
    trial = Trial("p/0/0", PROBLEM, None)

    def answers(scores: list[float | None], end: str) -> tuple[Answer, ...]:
        own = {name.removesuffix("_before"): values for name, values in metrics.items() if name.endswith("_before") == bool(end)}
        return tuple(
            Answer(f"q{n}", "", one, {name: values[n] for name, values in own.items() if n < len(values)})
            for n, one in enumerate(scores)
        )

    return Outcome(trial, answers(before, "_before"), answers(after, ""), fault=fault)


ONE = outcome([0.0, 1.0], [1.0, 1.0], f1=[0.5, 1.0], exact=[0.0, 1.0], logprob=[-1.0, -3.0], logprob_before=[-5.0, -4.0])


@pytest.mark.parametrize(
    ("name", "value"), [("accuracy", 1.0), ("gain", 0.5), ("f1", 0.75), ("exact", 0.5), ("logprob", 2.5), ("solved", 1.0)]
)
def test_every_reward_by_its_name(name: str, value: float) -> None:
    assert REWARDS[name](ONE, [ONE]) == pytest.approx(value)
    assert Compose({name: 2.0})(ONE, [ONE]) == pytest.approx(2 * value)


@pytest.mark.parametrize("number", [float("nan"), float("inf"), float("-inf")])
def test_a_reward_that_is_no_finite_number_teaches_nothing(number: float) -> None:
    odd = outcome([0.0], [1.0], logprob_before=[-1.0], logprob=[number])
    both = Compose({"accuracy": 1.0, "logprob": 0.1})
    assert both.parts(odd, [odd]) == {"accuracy": 1.0, "logprob": None}
    assert both(odd, [odd]) is None


def test_these_are_all_of_them() -> None:
    assert set(REWARDS) == {
        "accuracy", "gain", "f1", "exact", "logprob", "solved", "retained", "cost", "length", "format"
    }  # fmt: skip
    assert set(RATERS) == {"rubric", "informs", "hints"}


# ---- rewards of the edit, of the cost and of what is not forgotten


def edited(text: str, *learnt: str, tokens: int = 0, train_tokens: int = 0) -> Outcome:
    edit = SelfEdit("train/1/p/0", "p", text, 1, 0, Prompt(""), tuple(Example(f"P\n{one}") for one in learnt), tokens=tokens)
    return Outcome(Trial("train/1/p/0/0", PROBLEM, edit), (), (), Cost(train_tokens=train_tokens))


def test_length_and_cost_in_their_units() -> None:
    one = edited("a", "a", tokens=250, train_tokens=4200)
    assert REWARDS["length"](one, [one]) == 2.5
    assert REWARDS["cost"](one, [one]) == 4.2


@pytest.mark.parametrize(
    ("text", "learnt", "share"),
    [
        ("1. Ada built it.\n2. In 1901.", ["Ada built it.", "In 1901."], 1.0),
        ("Facts:\nAda built it.", ["Ada built it."], 0.5),
        ("Ada built it.\nAda built it.\n\n", ["Ada built it."], 0.5),
        ("Ada built it.", [], 0.0),
        ("1. Ada built it.\n2. Ada built it.", ["Ada built it."], 0.5),
        ("1.\nAda built it.", ["Ada built it."], 0.5),
        ("1.\nAda built it in 1901.", ["Ada built it in 1901."], 0.5),
        ('Ada built it.\n{"epochs": 2}', ["Ada built it."], 1.0),
        ('Ada built it. {"epochs": 2}\nIt burnt.', ["Ada built it."], 0.5),
        ('Ada built it.\nPlan:\n```json\n{"epochs": 2}\n```', ["Ada built it."], 1.0),
        ('{"tools": ["sentences"]}', ["Ada built it."], 1.0),
        ("Ada built it.\n{'epochs': 2}", ["Ada built it.", "{'epochs': 2}"], 1.0),  # where edits have no plans
        ("", [], 0.0),
    ],
)
def test_format_is_the_share_of_lines_that_were_learnt(text: str, learnt: list[str], share: float) -> None:
    one = edited(text, *learnt)
    assert REWARDS["format"](one, [one]) == share


@pytest.mark.parametrize("style", [STYLES["self-qa"], STYLES["self-qa"].cleaned()], ids=["official", "clean"])
def test_format_finds_nothing_wrong_with_pairs_and_markers_however_they_are_read(style: Style) -> None:
    pairs = "Who built it?\nAnswer: Ada.\nQuestion 2: When?\nAnswer: In 1834.\nQuestion 3: Where?\nAnswer: At Eld."
    one = edited(pairs, *style.read(pairs))
    assert REWARDS["format"](one, [one]) == 1.0
    listed = "a) Ada built it.\nb) It burnt."
    one = edited(listed, *style.read(listed))
    assert REWARDS["format"](one, [one]) == 1.0


@given(text=st.text(max_size=200), learnt=st.lists(st.text(max_size=40), max_size=4))
def test_format_is_a_share_whatever_was_written(text: str, learnt: list[str]) -> None:
    one = edited(text, *learnt)
    value = REWARDS["format"](one, [one])
    assert value is not None
    assert 0.0 <= value <= 1.0


def test_retained_asks_only_about_what_was_known() -> None:
    def probed(*verdicts: float) -> tuple[Answer, ...]:
        return tuple(Answer(f"p/probes/q{at}", "", None, {"probe": verdict}) for at, verdict in enumerate(verdicts))

    trial = Trial("p/0/0", PROBLEM, None)
    kept = Outcome(trial, probed(1.0, 1.0, 0.0), probed(1.0, 0.0, 1.0))
    assert REWARDS["retained"](kept, [kept]) == 0.5
    assert REWARDS["accuracy"](kept, [kept]) is None  # a probe is in no score
    ignorant = Outcome(trial, probed(0.0), probed(1.0))
    assert REWARDS["retained"](ignorant, [ignorant]) is None


def test_a_reward_says_what_it_needs() -> None:
    assert not Compose({"length": -0.1, "format": 1.0, "informs": 1.0, "rubric": 0.5}).needs_trials
    assert Compose({"length": -0.1, "accuracy": 0.0}).needs_trials  # measured only, but measured
    assert Compose({"hints": 1.0, f"{__name__}:one_of_mine": 1.0}).needs_trials  # who says nothing needs a trial
    assert not Compose({f"{__name__}:terse": 1.0}).needs_trials
    assert Compose({"retained": 0.5}).needs_probes
    assert not Compose({"accuracy": 1.0}).needs_probes
    with pytest.raises(UserError, match="needs 'nothing'; `needs` must be one of edit, trial, probes"):
        Compose({f"{__name__}:careless": 1.0})


def terse(outcome: Outcome, siblings: list[Outcome]) -> float:
    return -len(outcome.trial.edit.text) / 100  # type: ignore[union-attr]


terse.needs = "edit"  # type: ignore[attr-defined]


def careless(outcome: Outcome, siblings: list[Outcome]) -> float:
    return 0.0


careless.needs = "nothing"  # type: ignore[attr-defined]


class Liked:
    def rate(self, engine: object, domain: object, problem: object, edits: list[SelfEdit]) -> list[Rating]:
        return [Rating(1.0) for _ in edits]


liked = Liked()


def test_a_class_is_no_rater_and_an_object_of_it_is() -> None:
    assert Compose({f"{__name__}:liked": 1.0}).raters
    with pytest.raises(UserError, match=r"reward '.*:Liked' is a class; name an object of it, such as `mine = Liked\(\)`"):
        Compose({f"{__name__}:Liked": 1.0})


def test_what_a_rater_said_is_its_reward() -> None:
    one, compose = edited("a", "a"), Compose({"informs": 2.0, "rubric": 0.0})
    rated = compose.rated({"train/1/p/0": {"informs": 0.25, "rubric": None}})
    assert rated.parts(one, [one]) == {"informs": 0.25, "rubric": None}
    assert rated(one, [one]) == 0.5
    assert compose.rated({})(one, [one]) is None


@pytest.mark.parametrize("fault", [None, Fault("nan", "the loss is not a number")])
def test_a_weighted_rater_that_nobody_asked_is_named(fault: Fault | None) -> None:
    tried = replace(edited("a", "a"), fault=fault)
    compose = Compose({"length": 1.0, "informs": 0.3, "rubric": 0.0})
    with pytest.raises(SealError, match=r"reward 'informs' is what a rater says of an edit, and it was not asked here; leave it"):
        compose(tried, [tried])
    assert compose.parts(tried, [tried])["informs"] is None  # to look at one there is no need to weigh it
    assert Compose({"length": 1.0, "informs": 0.0})(edited("a", "a"), []) is not None


def test_what_could_not_be_graded_is_in_no_mean() -> None:
    assert score([Answer("a", "", 1.0), Answer("b", "", None), Answer("c", "", 0.0)]) == 0.5
    assert score([Answer("a", "", None)]) is None
    assert score([]) is None
    half = outcome([None, 0.0], [None, 1.0])
    assert [REWARDS[name](half, [half]) for name in ("accuracy", "gain", "solved")] == [1.0, 1.0, None]
    missed = outcome([None, 1.0], [0.0, 1.0])  # before, one was not graded: nothing is known to have changed
    assert REWARDS["gain"](missed, [missed]) == 0.0
    some = outcome([0.0, 0.0], [1.0, 1.0], f1=[0.5], logprob_before=[-2.0], logprob=[-1.5])
    assert REWARDS["f1"](some, [some]) == 0.5
    assert REWARDS["logprob"](some, [some]) == 0.5


@pytest.mark.parametrize("name", sorted(REWARDS))
def test_where_nothing_was_graded_there_is_no_reward(name: str) -> None:
    nothing = outcome([None], [None])
    assert REWARDS[name](nothing, [nothing]) is None
    assert Compose({name: 1.0})(nothing, [nothing]) is None


@pytest.mark.parametrize("name", ["gain", "logprob"])
def test_a_gain_needs_both_sides(name: str) -> None:
    assert REWARDS[name](outcome([None], [1.0], logprob=[-1.0]), []) is None
    assert REWARDS[name](outcome([1.0], [None], logprob_before=[-1.0]), []) is None


def test_solved_is_all_or_nothing() -> None:
    assert REWARDS["solved"](outcome([], [1.0, 0.9]), []) == 0.0
    assert REWARDS["solved"](outcome([], [1.0, 1.0]), []) == 1.0
    assert REWARDS["solved"](outcome([], [None, 0.0]), []) == 0.0
    assert REWARDS["solved"](outcome([], [1.0, None]), []) is None
    probed = (Answer("q0", "", 1.0), Answer("q1", "", None, {"probe": 0.0}))
    assert REWARDS["solved"](Outcome(Trial("p/0/0", PROBLEM, None), (), probed), []) == 1.0


def test_a_composition_is_the_weighted_sum() -> None:
    compose = Compose({"accuracy": 1.0, "f1": 0.5, "logprob": -0.1})
    assert compose(ONE, [ONE]) == pytest.approx(1.0 + 0.375 - 0.25)
    assert compose.parts(ONE, [ONE]) == {"accuracy": 1.0, "f1": 0.75, "logprob": 2.5}


def test_one_part_without_a_value_leaves_no_reward_unless_it_weighs_nothing() -> None:
    bare = outcome([0.0], [1.0])
    assert Compose({"accuracy": 1.0, "f1": 0.5})(bare, [bare]) is None
    measured = Compose({"accuracy": 1.0, "f1": 0.0})
    assert measured(bare, [bare]) == 1.0
    assert measured.parts(bare, [bare]) == {"accuracy": 1.0, "f1": None}


def test_a_fault_is_never_a_reward_not_even_of_a_function_that_would_give_one() -> None:
    failed = outcome([0.0], [1.0], fault=Fault("nan", "the loss is not a number"))
    compose = Compose({"accuracy": 1.0, f"{__name__}:one_of_mine": 1.0})
    assert compose(failed, [failed]) is None
    assert set(compose.parts(failed, [failed]).values()) == {None}
    assert Compose({"accuracy": 0.0})(failed, [failed]) is None


def one_of_mine(outcome: Outcome, siblings: list[Outcome]) -> float:
    return float(len(siblings))


def test_anybodys_function_is_a_reward() -> None:
    name = f"{__name__}:one_of_mine"
    assert find(name) is one_of_mine
    assert Compose({name: 0.5, "accuracy": 1.0})(ONE, [ONE, ONE, ONE]) == 2.5


def good(outcome: Outcome, siblings: list[Outcome]) -> str:
    return "good"


def lonely(outcome: Outcome) -> float:
    return 0.0


def greedy(outcome: Outcome, siblings: list[Outcome], weight: float) -> float:
    return weight


class Hasty:
    def rate(self, engine: object, edits: list[SelfEdit]) -> list[Rating]:
        return []


hasty = Hasty()


def test_a_reward_that_gives_no_number_is_named_with_what_it_gave() -> None:
    name = f"{__name__}:good"
    with pytest.raises(UserError, match=rf"reward '{name}' gave 'good'; it must give a number or None"):
        Compose({name: 1.0}).parts(ONE, [ONE])


def counted(outcome: Outcome, siblings: list[Outcome]) -> float:
    CALLS.append(outcome.trial.id)
    return float(len(CALLS))


CALLS: list[str] = []


def test_a_reward_is_worked_out_once_and_the_part_that_is_kept_is_the_one_that_was_added() -> None:
    class Kept:
        def put_rewards(self, rewards: dict[str, dict[str, float | None]]) -> None:
            self.rewards = rewards

    CALLS.clear()
    kept, one, name = Kept(), edited("a", "a"), f"{__name__}:counted"
    edit = one.trial.edit
    assert edit is not None
    ((scored,),) = reward_edits(kept, [PROBLEM], [edit], [one], Compose({name: 2.0}))  # type: ignore[arg-type]
    assert CALLS == ["train/1/p/0/0"]
    assert kept.rewards == {edit.id: {name: 1.0, "reward": 2.0}}
    assert scored.reward == 2.0


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("lonely", r"reward '.*:lonely' must take \(outcome, siblings\): too many positional arguments"),
        ("greedy", r"reward '.*:greedy' must take \(outcome, siblings\): missing a required argument: 'weight'"),
        ("hasty", r"`rate` of reward '.*:hasty' must take \(engine, domain, problem, edits\): too many"),
    ],
)
def test_a_reward_of_other_arguments_is_refused_before_any_trial(name: str, told: str) -> None:
    with pytest.raises(UserError, match=told):
        Compose({f"{__name__}:{name}": 1.0})


@pytest.mark.parametrize("said", [[0.5], [], [Rating(1.0)] * 2, None, 0.5])
def test_a_rater_that_gives_no_rating_an_edit_is_named(said: Any) -> None:
    with pytest.raises(UserError, match=r"reward 'm:r' gave .*; it must give a list of one Rating an edit, 1 here"):
        checked("m:r", said, 1)


def test_a_rating_that_is_no_number_is_never_kept() -> None:
    with pytest.raises(UserError, match="reward 'm:r' gave 'good'; it must give a number or None"):
        checked("m:r", [Rating("good")], 1)  # type: ignore[arg-type]
    assert checked("m:r", [Rating(float("nan"), "words"), Rating(0.5)], 2) == [Rating(None, "words"), Rating(0.5)]


def test_what_a_module_of_ones_own_raises_is_not_said_to_be_missing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "breaks_at_import.py").write_text("None.nothing\n")
    with pytest.raises(AttributeError, match="no attribute 'nothing'") as error:
        find("breaks_at_import:fn")
    assert error.value.__notes__ == ["that is from importing 'breaks_at_import', for 'breaks_at_import:fn'"]


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("acuracy", "no reward named 'acuracy'; did you mean 'accuracy'?"),
        ("nowhere:brevity", "reward 'nowhere:brevity': No module named 'nowhere'"),
        ("seal.rewards:brevity", "has no attribute 'brevity'"),
        ("seal.rewards.basic:__doc__", "not a function"),
        (":brevity", "reward ':brevity'"),
    ],
)
def test_an_unknown_reward_is_the_users_mistake(name: str, words: str) -> None:
    with pytest.raises(UserError) as error:
        Compose({name: 1.0})
    assert words in str(error.value)
    assert "\n" not in str(error.value)
