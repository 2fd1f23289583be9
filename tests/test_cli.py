"""The command line, on a random model of a few thousand weights: what it prints, what it refuses, what its exit code is."""

from __future__ import annotations

import contextlib
import dataclasses
import errno
import io
import json
import math
import os
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest
import torch
from hand_made import a_run
from peft import PeftConfig
from rich.console import Console
from safetensors.torch import load_file

from seal.cli.app import app, run
from seal.cli.output import print_tables
from seal.cli.policies import learnt_by
from seal.cli.progress import Display
from seal.config import dump, flat, load, shipped
from seal.config.recipe import OuterTable
from seal.engine import Engine
from seal.machine import cores, threads
from seal.store import Store, runs
from seal.types import Problem, Prompt, SelfEdit

SHARED = Path(__file__).parents[2] / "shared" / "data" / "official"
needs_shared = [pytest.mark.shared, pytest.mark.skipif(not SHARED.is_dir(), reason="no data folder beside the checkout")]

ALL_LINEAR = {
    *("adapt", "arc", "ask", "bench", "chat", "compare", "continual", "demo", "doctor", "eval", "export", "grade", "models"),
    *("official", "recipes", "report", "runs", "show", "train", "undo", "watch"),
}

RECIPE = """\
# A small one
[model]
name = {model!r}
[domain]
kind = "knowledge"
data = {{ train = "train.json", test = "test.json" }}
[edit]
max_tokens = 12
[tuning]
rank = 2
epochs = 1
[outer]
contexts = 2
edits = 2
[update.tuning]
rank = 2
epochs = 1
[eval]
conditions = ["base", "untrained", "seal"]
edits = 1
[engine]
slots = 1
threads = 1
"""


def passages(*names: str) -> str:
    asked = [{"question": "How many mills?", "answer": "two"}]
    return json.dumps([{"title": name, "context": f"{name} has two mills.", "questions": asked} for name in names])


@pytest.fixture
def home(tmp_path: Path, tiny_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder to work in, with a recipe and its passages."""
    (tmp_path / "train.json").write_text(passages("Ada", "Bo"))
    (tmp_path / "test.json").write_text(passages("Cleo", "Dag"))
    (tmp_path / "small.toml").write_text(RECIPE.format(model=str(tiny_path)))
    monkeypatch.chdir(tmp_path)
    return tmp_path


def conditions(document: dict[str, Any]) -> list[str]:
    return [row["condition"] for row in document["table"]]


def one_line(error: str) -> bool:
    return error.startswith("seal: ") and error.count("\n") == 1


# ---- train, eval, show, runs


def test_train_then_eval_then_show(home, seal):
    code, out, _ = seal("train", "small.toml", "outer.rounds=2")
    assert code == 0
    assert "untrained edits" in out
    assert "seal show" in out
    (info,) = runs(Path("runs"))
    assert info.status == "done"

    # everything is there: nothing is measured again, and the table is the same
    code, out, error = seal("eval", "last", "--json")
    document = json.loads(out)
    assert (code, error) == (0, "")
    assert conditions(document) == ["base", "untrained", "seal"]
    assert {row["n"] for row in document["table"]} == {2}
    assert [row["round"] for row in document["training"]] == [1, 2]

    code, out, _ = seal("show", info.name, "--json", "-n", "1", "--edits", "2")
    document = json.loads(out)
    (problem,) = document["problems"]
    assert len(problem["edits"]) == 2
    assert document["questions"] is None
    assert {row["reward"] for row in document["rewards"]} == {*problem["edits"][0]["rewards"]}
    assert {row["round"] for row in document["rewards"]} == {1, 2}
    assert "within a problem" in seal("show", info.name)[1]
    assert problem["edits"][0]["earned"] >= problem["edits"][1]["earned"]
    assert [row["question"] for row in problem["edits"][0]["answers"]] == ["How many mills?"]
    assert "How many mills?" in seal("show", str(info.path), "--phase", "seal", "--worst")[1]
    assert [len(row["edits"]) for row in json.loads(seal("show", "last", "--json")[1])["problems"]] == [1, 1, 1, 1]

    (row,) = json.loads(seal("runs", "--json")[1])["runs"]
    assert (row["recipe"], row["rounds"], row["rounds_planned"], row["trials"]) == ("small", 2, 2, 8)
    assert list(row["means"]) == ["base", "untrained", "seal"]


def test_an_update_that_diverges_names_the_setting_to_lower(home, seal):
    code, _, error = seal("train", "small.toml", "update.tuning.lr=1e39")
    assert code == 1
    first, way_out = error.splitlines()
    assert first.startswith("seal: the update failed: the l")
    assert "update.tuning.lr" in way_out
    assert "--resume" not in error  # it would fail the same way
    (failed,) = runs(Path("runs"))
    code, _, error = seal("train", "--from", failed.name, "outer.rounds=2")
    assert (code, one_line(error), "has no finished round to go on from" in error) == (2, True, True)
    code, _, error = seal("train", "--from", failed.name, "--update", "rest_em", "update.tuning.lr=1e-3", "--no-eval")
    assert (code, error) == (0, "")  # its trials are whole
    (again,) = [info for info in runs(Path("runs")) if info.name != failed.name]
    with Store.open(failed.path, write=False) as one, Store.open(again.path, write=False) as other:
        assert other.outcomes("train", 1) == one.outcomes("train", 1)
        assert other.policy_dir(1).exists()


@pytest.mark.parametrize("key", ["tuning", "update.tuning"])
def test_a_layer_that_the_model_lacks_is_named_by_its_key_before_there_is_a_run(home, seal, key):
    code, _, err = seal("train", "small.toml", f'{key}.targets=["q_proj", "foo"]')
    assert code == 2
    assert f"seal: {key}.targets: the model has no linear layer named foo; it has down_proj, " in err
    assert "resume" not in err
    assert not Path("runs").exists()


def test_a_finished_round_is_learnt_from_in_another_way(home, seal):
    assert seal("train", "small.toml", "reward.length=1.0", "outer.rounds=2")[0] == 0
    (first,) = runs(Path("runs"))
    code, out, error = seal("train", "--from", "last", "--update", "dpo", "update.beta=0.5", "--json")
    assert (code, error) == (0, "")
    (second,) = [info for info in runs(Path("runs")) if info.name != first.name]
    assert (second.name, second.status) == (f"{first.name}-dpo", "done")
    document = json.loads(out)
    assert [row["round"] for row in document["training"]] == [1]
    assert conditions(document) == ["base", "untrained", "seal"]
    with Store.open(first.path, write=False) as one, Store.open(second.path, write=False) as other:
        assert other.edits("train", 1) == one.edits("train", 1)
        assert other.outcomes("train", 1) == one.outcomes("train", 1)
        assert 'method = "dpo"' in other.recipe_toml
        assert "beta = 0.5" in other.recipe_toml

    code, _, error = seal("train", "--from", first.name, "--update", "rest_em", "outer.rounds=2", "--no-eval")
    assert (code, error) == (0, "")
    (longer,) = [info for info in runs(Path("runs")) if info.name not in (first.name, second.name)]
    assert longer.name == f"{first.name}-rest_em"
    with Store.open(first.path, write=False) as one, Store.open(longer.path, write=False) as other:
        assert other.outcomes("train", 1) == one.outcomes("train", 1)
        assert [round for phase, round in other.rounds() if phase == "train"] == [1, 2]
        assert other.policy_dir(2).exists()

    code, out, _ = seal("train", "--from", first.name, "--update", "gradient", "--dry-run")
    assert (code, 'method = "gradient"' in out, "rounds = 1" in out) == (0, True, True)
    code, out, _ = seal("train", "--from", first.name, "--update", "rest_em", "reward={informs=1.0}", "--dry-run")
    assert (code, "[reward]\ninforms = 1.0\n\n" in out) == (0, True)
    for arguments, says in [
        (["small.toml", "--from", "last", "--update", "dpo"], "--from takes recipe and seed of its run"),
        (["--from", "last"], "--from needs --update NAME"),
        (["--from", "last", "--update", "dpo", "tuning.rank=3"], "the outcomes are those of"),
        (
            ["--from", "last", "--update", "dpo", "outer.rounds_on_same=2"],
            "only name, outer.rounds, reward.*, update.*, select.*, eval.*",
        ),
        (
            ["--from", "last", "outer.rounds=3", "outer.rounds_on_same=2"],
            "only name, outer.rounds, eval.*, engine.*, model.device, track may change",
        ),
        (["--from", "last", "--update", "dpo", "eval.split=train"], "would be trained on and measured too"),
        (["--from", "last", "--update", "rest_em", "update.prompts=2"], "asks for all edits of a problem with one prompt"),
        (["--from", "last", "--update", "dop"], "update.method"),
        (["--from", "last", "--update", "dpo", "reward.retained=1.0"], "were not asked the probes"),
        (["--resume", "last", "--update", "dpo"], "leave --update out"),
    ]:
        code, _, error = seal("train", *arguments)
        assert (code, one_line(error)) == (2, True), error
        assert says in error
    assert kind_of(first.path) == "train"
    seal("eval", "small.toml")
    assert kind_of(runs(Path("runs"))[-1].path) == "eval"
    code, _, error = seal("train", "--from", "last", "--update", "dpo")
    assert (code, "is a run of `seal eval`, not of `seal train`" in error) == (2, True)


def test_a_run_goes_on_for_more_rounds_in_a_new_one(home, seal, monkeypatch):
    assert seal("train", "small.toml", "outer.rounds=3", "--no-eval")[0] == 0
    (whole,) = runs(Path("runs"))
    assert seal("train", "small.toml", "outer.rounds=2")[0] == 0
    (short,) = [info for info in runs(Path("runs")) if info.name != whole.name]
    for arguments, says in [
        (["outer.rounds=2"], "has 2 rounds already; name more of them"),
        (["outer.rounds=3", "reward.length=1.0"], "only name, outer.rounds, eval.*, "),
        (
            ["outer.rounds=3", "update.method=dpo"],
            "track may change; with --update NAME, which learns from its first round anew, more",
        ),
    ]:
        code, _, error = seal("train", "--from", short.name, *arguments)
        assert (code, one_line(error), says in error) == (2, True, True), error
    before = (short.path / "run.db").read_bytes()
    with monkeypatch.context() as patched:
        stop_after(patched, 1, KeyboardInterrupt())  # in the third round: the others are whole
        assert seal("train", "--from", short.name, "outer.rounds=3", "--no-eval")[0] == 130
    (longer,) = [info for info in runs(Path("runs")) if info.name not in (whole.name, short.name)]
    assert longer.name.endswith("-3-rounds")
    code, _, error = seal("train", "--resume", longer.name, "--no-eval")
    assert (code, error) == (0, "")
    assert (short.path / "run.db").read_bytes() == before
    with Store.open(whole.path, write=False) as one, Store.open(longer.path, write=False) as other:
        for round in (1, 2, 3):
            assert [edit.text for edit in other.edits("train", round)] == [edit.text for edit in one.edits("train", round)]
            assert other.rewards("train", round) == one.rewards("train", round)
            assert other.kept("train", round) == one.kept("train", round)
            assert other.metrics()[round].keys() == one.metrics()[round].keys()
        mine, theirs = (load_file(store.policy_dir(3) / "adapter_model.safetensors") for store in (other, one))
        assert all(torch.equal(mine[name], theirs[name]) for name in theirs)


def test_what_was_not_taken_over_yet_is_taken_over_on_resume(home, seal, monkeypatch):
    assert seal("train", "small.toml", "outer.rounds=2", "--no-eval")[0] == 0
    (whole,) = runs(Path("runs"))
    put = Store.put_outcomes

    def stopped(self, phase, round, outcomes):
        if round == 2:
            raise KeyboardInterrupt
        put(self, phase, round, outcomes)

    with monkeypatch.context() as patched:
        patched.setattr(Store, "put_outcomes", stopped)
        assert seal("train", "--from", whole.name, "outer.rounds=3", "--no-eval")[0] == 130
    (longer,) = [info for info in runs(Path("runs")) if info.name != whole.name]
    whole.path.rename("elsewhere")
    code, _, error = seal("train", "--resume", longer.name, "--no-eval")
    assert (code, f"took over what {whole.path.absolute()} has, and that is not there any more; put it back" in error) == (
        2,
        True,
    )
    Path("elsewhere").rename(whole.path)
    sampled = []
    sample = Engine.sample
    with monkeypatch.context() as patched:
        patched.setattr(Engine, "sample", lambda self, *asked, **how: (sampled.append(asked), sample(self, *asked, **how))[1])
        code, _, error = seal("train", "--resume", longer.name, "--no-eval")
    assert (code, error) == (0, "")
    with Store.open(whole.path, write=False) as one, Store.open(longer.path, write=False) as other:
        for round in (1, 2):
            assert other.outcomes("train", round) == one.outcomes("train", round)
            for file in ("adapter_model.safetensors", "adapter_config.json"):
                assert (other.policy_dir(round) / file).read_bytes() == (one.policy_dir(round) / file).read_bytes()
        assert other.policy(3)
    assert len(sampled) == 1  # the third round's, in one batch


def test_what_would_be_measured_and_trained_on_is_known_once_the_questions_are(home, seal, monkeypatch):
    """A passage that the model asks nothing about is left out, so another one is trained on than with gold questions."""
    from seal.domains.self_questions import SelfQuestions
    from seal.loops import build

    chosen = ["questions.source=self", "outer.contexts=1", 'domain.data={train="train.json"}', "eval.split=train", "eval.limit=1"]

    def asked_about(place):
        def train_domain(recipe, domain, *_):
            problems = domain.problems("train")
            return SelfQuestions(domain, {problems[place].id: [("Who?", "Ada")]})

        return train_domain

    for place, code in ((0, 2), (1, 0)):
        monkeypatch.setattr(build, "train_domain", asked_about(place))
        found, _, error = seal("train", "small.toml", *chosen)
        assert (found, "would be trained on and measured too" in error) == (code, code == 2), error


def test_texts_that_are_asked_about_and_never_used_are_told_of(home, seal, monkeypatch):
    from seal.loops import build
    from seal.loops.questions import remark

    (home / "train.json").write_text(passages("Ada", "Bo", "Eva", "Finn"))
    monkeypatch.setattr(build, "train_domain", lambda recipe, domain, *_: domain)
    for contexts, said in ((1, True), (2, False)):
        found, _, error = seal("train", "small.toml", "questions.source=self", f"outer.contexts={contexts}", "--no-eval")
        assert found == 0, error
        assert ("questions about all 4 training texts, and the rounds use 1;" in error) == said, error
    assert "and the rounds use 1" not in seal("train", "small.toml", "outer.contexts=1", "--no-eval")[2]
    monkeypatch.setattr("seal.loops.questions.found_questions", lambda store: {id: [] for id in "abcd"})  # all are written
    assert "and the rounds" not in seal("train", "small.toml", "questions.source=self", "outer.contexts=1", "--no-eval")[2]
    assert "all 18,896 training texts, and the rounds use 100;" in str(remark(18_896, OuterTable(rounds=2, contexts=50)))
    assert remark(200, OuterTable(rounds=2, contexts=50)) is None
    assert remark(101, OuterTable(rounds=2, contexts=50, fresh=False)) is not None


def kind_of(path: Path) -> str | None:
    with Store.look(path) as store:
        return store.get_state("kind")


GO_ON = {
    "train": (["train", "--resume"], "seal train --resume {}"),
    "eval": (["eval"], "seal eval {}"),
    "continual": (["continual"], "seal continual {}"),
    "solvable": (["arc", "solvable", "--resume"], "seal arc solvable --resume {}"),
    "adapt": ([], "the same `seal adapt` again"),
}
OLDER = {"eval": "evaluation", "continual": "continual", "adapt": "adapt.documents"}
"""What told runs apart before they said their kind."""


@pytest.mark.parametrize("says", [True, False])
@pytest.mark.parametrize("kind", [*GO_ON])
def test_no_verb_goes_on_with_a_run_of_another_kind(home, seal, kind, says):
    with Store.create(Path("runs"), "x", (home / "small.toml").read_text(), {}) as store:
        if says:
            store.set_state("kind", kind)
        elif kind in OLDER:
            store.set_state(OLDER[kind], {"policy": None})
        elif kind == "solvable":
            problem = Problem("p", "p", "{}", ())
            store.put_problems([problem])
            store.put_edits([SelfEdit("grid/0/p/0", "p", "{}", 0, 0, Prompt("x"))])
        path = store.path
    before = (path / "run.db").read_bytes()
    # evaluating what a run trained is no going on with it
    others = [verb for other, (verb, _) in GO_ON.items() if verb and other != kind and (other, kind) != ("eval", "train")]
    for verb in [*others, *([["train", "--update", "dpo", "--from"]] if kind != "train" else [])]:
        code, _, error = seal(*verb, str(path))
        assert (code, one_line(error)) == (2, True), (verb, error)
        assert GO_ON[kind][1].format(path) in error
        assert (path / "run.db").read_bytes() == before


def test_outcomes_with_probes_are_learnt_from_by_a_reward_without(home, seal, monkeypatch):
    assert seal("train", "small.toml", "reward.retained=1.0", "--no-eval")[0] == 0
    (first,) = runs(Path("runs"))
    onwards = ("train", "--from", first.name, "--update", "rest_em", "outer.rounds=2", "--no-eval")
    code, _, error = seal(*onwards, "reward={informs=1.0}")
    assert (code, error) == (0, "")
    (second,) = [info for info in runs(Path("runs")) if info.name != first.name]
    with Store.open(first.path, write=False) as one, Store.open(second.path, write=False) as other:
        assert other.problems() == one.problems()
    # what was asked the probes may be rewarded for them again
    assert seal("train", "--from", second.name, "--update", "dpo", "reward={retained=1.0}", "--dry-run")[0] == 0

    with monkeypatch.context() as patched:
        stop_after(patched, 1, KeyboardInterrupt())  # in round two: those of round one are not tried again
        assert seal(*onwards, "reward={accuracy=1.0}")[0] == 130
    (third,) = [info for info in runs(Path("runs")) if info.status == "stopped"]
    code, _, error = seal("train", "--resume", third.name, "--no-eval")
    assert (code, error) == (0, "")
    with Store.open(third.path, write=False) as store:
        assert all(len(one.after) == 1 + 8 for one in store.outcomes("train", 2) if not one.fault)


def test_a_run_that_begins_with_another_may_have_a_name_of_its_own(home, seal):
    assert seal("train", "small.toml", "--no-eval")[0] == 0
    (first,) = runs(Path("runs"))
    assert seal("train", "--from", "last", "--update", "weighted", "name=mine", "--no-eval")[0] == 0
    (second,) = [info for info in runs(Path("runs")) if info.name != first.name]
    assert (second.name[11:], first.name[:11]) == ("mine", second.name[:11])


def test_contenders_alone_are_not_learnt_from_by_what_compares_all_edits(home, seal):
    assert seal("train", "small.toml", "outer.allocation=halving", "outer.repeats=2", "--no-eval")[0] == 0
    code, _, error = seal("train", "--from", "last", "--update", "dpo")
    assert (code, one_line(error)) == (2, True), error
    assert "update.method 'dpo' compares all edits; choose rest_em, or a new run with outer.allocation=uniform" in error
    assert seal("train", "--from", "last", "--update", "rest_em", "--dry-run")[0] == 0
    code, _, error = seal("train", "--from", "last", "--update", "rest_em", "reward.length=0.5", "--dry-run")
    assert (code, one_line(error), "it said which edits of" in error) == (2, True, True), error


def test_other_values_evaluate_the_policy_in_a_new_run(home, seal):
    assert seal("train", "small.toml", "--no-eval")[0] == 0
    trained = runs(Path("runs"))[0].path
    for other in ("eval.policy=elsewhere", 'eval={policy="elsewhere"}'):
        code, _, error = seal("eval", str(trained), other)
        assert (code, one_line(error), "keeps the policy it has" in error) == (2, True, True)
    for other in ("outer.rounds=2", "outer.policy=elsewhere"):  # neither names another policy of the run
        code, _, error = seal("eval", str(trained), other)
        assert (code, one_line(error), f"{other.split('=')[0]}: {trained} keeps" in error) == (2, True, True)
    (home / "other.json").write_text(passages("Eno"))
    other = 'domain.data={train="train.json",test="other.json"}'
    code, out, _ = seal("eval", str(trained), other, "--json")
    document = json.loads(out)
    assert code == 0
    assert conditions(document) == ["base", "untrained", "seal"]
    assert document["table"][0]["n"] == 1
    assert document["run"] != str(trained)
    assert seal("eval", document["run"], "--json")[1] == out  # goes on in the same directory, with the same policy
    with Store.open(trained, write=False) as store:
        assert [phase for phase, _ in store.rounds()] == ["train"]
    code, _, error = seal("eval", "small.toml", "--policy", str(trained))
    assert (code, f"there are {trained / 'policy' / 'round-1'}" in error) == (2, True), error
    # the same by hand, and the passages it was trained on are refused either way
    policy = str(trained / "policy" / "round-1")
    assert conditions(json.loads(seal("eval", "small.toml", "--policy", policy, "--json")[1])) == ["base", "untrained", "seal"]
    for arguments in (["small.toml", "--policy", policy], [str(trained)]):
        code, _, error = seal("eval", *arguments, 'domain.data={train="train.json",test="train.json"}')
        assert code == 2
        assert "'Ada'" in error
        assert "trained on" in error


def test_a_copied_policy_is_not_measured_on_what_it_was_trained_on(home, seal):
    assert seal("train", "small.toml", "outer.contexts=1", "--no-eval")[0] == 0
    run = runs(Path("runs"))[0].path
    with Store.open(run, write=False) as store:
        (learnt,) = {edit.problem_id for edit in store.edits("train", 1)}
    assert json.loads((run / "policy" / "round-1" / "seal.json").read_text()) == {"trained": [learnt]}
    shutil.move(run / "policy" / "round-1", home / "copy")
    changes = ('domain.data={test="train.json"}', 'eval.conditions=["seal"]')
    code, _, error = seal("eval", "small.toml", "--policy", "copy", *changes)
    assert (code, learnt in error, "that the policy copy was trained on" in error) == (2, True, True)
    assert PeftConfig.from_pretrained(home / "copy").r == 2
    assert seal("eval", "small.toml", "--policy", "copy", 'eval.conditions=["seal"]')[0] == 0


def test_the_policy_of_an_early_round_is_measured_on_what_later_rounds_learn(home, seal):
    assert seal("train", "small.toml", "outer.contexts=1", "outer.rounds=2", "--no-eval")[0] == 0
    run = runs(Path("runs"))[0].path
    with Store.open(run, write=False) as store:
        (first,), (second,) = ({edit.problem_id for edit in store.edits("train", round)} for round in (1, 2))
    assert first != second
    assert learnt_by(run / "policy" / "round-1") == {first}
    (run / "policy" / "round-2" / "seal.json").unlink()  # as the runs of an earlier version: all that the run has learnt
    assert learnt_by(run / "policy" / "round-2") == {first, second}


def test_the_rest_of_the_training_split_can_be_measured(home, seal):
    for number in (1, 2):  # whichever of the two the seed trains on
        chosen = ('domain.data={train="train.json"}', "eval.split=train", "eval.limit=1", f"seed={number}", "outer.contexts=1")
        code, _, error = seal("train", "small.toml", *chosen)
        if code == 0:
            break
        assert "would be trained on and measured too" in error
    assert code == 0


def test_a_trained_policy_is_trained_further(home, seal, monkeypatch):
    alone = ("--no-eval", "outer.contexts=1", "update.tuning.lr=0.05")
    assert seal("train", "small.toml", 'domain.data={train="test.json"}', *alone)[0] == 0
    first = runs(Path("runs"))[0].path
    shutil.move(first / "policy" / "round-1", home / "begun")
    (before,) = json.loads((home / "begun" / "seal.json").read_text())["trained"]
    config = home / "begun" / "adapter_config.json"  # what it is for, training need not be told
    config.write_text(json.dumps(json.loads(config.read_text()) | {"base_model_name_or_path": None}))
    begun = "outer.policy=begun"
    code, _, error = seal("train", "small.toml", begun)  # its test passage is what the policy has learnt
    assert (code, one_line(error), "that the policy begun was trained on" in error) == (2, True, True)
    assert seal("train", "small.toml", *alone)[0] == 0
    plain = next(info.path for info in runs(Path("runs")) if info.path != first)
    known = {first, plain}
    with monkeypatch.context() as patched:
        stop_after(patched, 1, KeyboardInterrupt())
        code, _, error = seal("train", "small.toml", begun, *alone)
    assert (code, error.endswith(" --no-eval\n")) == (130, True), error
    (further,) = (info.path for info in runs(Path("runs")) if info.path not in known)
    shutil.rmtree(home / "begun")
    assert seal("train", "--resume", str(further), "--no-eval")[0] == 0
    with Store.open(plain, write=False) as one, Store.open(further, write=False) as other:
        texts = [[edit.text for edit in store.edits("train", 1)] for store in (one, other)]
        assert texts[0] != texts[1]
        (learnt,) = {edit.problem_id for edit in other.edits("train", 1)}
    assert json.loads((further / "policy" / "round-1" / "seal.json").read_text()) == {"trained": sorted([before, learnt])}
    code, _, error = seal("eval", str(further), 'eval.conditions=["seal"]')
    assert (code, before in error, "trained on" in error) == (2, True, True)
    # the run has kept what it began with, and hands it on
    assert seal("train", "--from", str(further), "outer.rounds=2", "--no-eval")[0] == 0
    assert seal("train", "--from", str(further), "--update", "weighted", "--no-eval")[0] == 0
    kept = [load_file(path) for path in Path("runs").glob("*/policy/round-0/adapter_model.safetensors")]
    assert len(kept) == 3
    assert all(torch.equal(other[name], kept[0][name]) for other in kept for name in kept[0])


def test_a_policy_of_another_model_is_refused_before_anything_is_measured(home, seal, other_policy):
    code, _, error = seal("eval", "small.toml", "--policy", str(other_policy))
    assert (code, "the policy is for another model" in error, one_line(error)) == (2, True, True)
    assert not (home / "runs").exists()
    assert seal("eval", "small.toml", 'eval.conditions=["base"]')[0] == 0
    with Store.open(runs(Path("runs"))[0].path, write=True) as store:  # one that was begun before that was seen
        store.set_state("evaluation", {"policy": str(other_policy)})
    code, _, error = seal("eval", "last")
    assert (code, "the policy is for another model" in error, one_line(error)) == (2, True, True)


def test_a_recipe_is_evaluated_without_a_policy(home, seal):
    code, out, error = seal("eval", "small.toml", "--seed", "3", "--json")
    document = json.loads(out)
    assert conditions(document) == ["base", "untrained"]
    assert (code, error.count("\n"), "'seal' is left out" in error, "--policy" in error) == (0, 1, True, True)
    assert "seed = 3" in (Path(document["run"]) / "recipe.toml").read_text()
    code, _, error = seal("eval", "small.toml", 'eval.conditions=["seal"]')
    assert code == 2
    assert one_line(error)
    assert "--policy" in error
    code, _, error = seal("train", "--resume", document["run"])
    assert (code, f"seal eval {document['run']}" in error) == (2, True)


def test_the_same_command_gives_the_same_run(home, seal):
    first, second = (json.loads(seal("train", "small.toml", "--json", "--seed", "5")[1]) for _ in range(2))
    for document in (first, second):
        document.pop("run")
        for row in document["training"]:
            row.pop("seconds")
    assert first == second


def test_the_demo_says_what_it_is_shows_an_edit_and_the_table(home, seal, tiny_path):
    data = 'domain.data={train="train.json",test="test.json"}'
    sizes = ["edit.max_tokens=12", "tuning.epochs=1", "tuning.rank=2", "update.tuning.rank=2", "outer.edits=2", "engine.slots=1"]
    # whatever the recipe's own sizes and conditions are
    arguments = ["demo", f"model.name={tiny_path}", data, *sizes, 'eval.conditions=["base", "untrained", "seal"]']
    code, out, error = seal(*arguments)
    assert (code, error) == (0, "")  # silent: stdout is no terminal
    places = [out.index(words) for words in ("It cannot show", "How many mills?", "SEAL", "seal train bundled  ")]
    assert places[0] < places[1] < places[3]
    assert out.index("untrained edits") > places[1]

    code, out, error = seal(*arguments, "--json", "--seed", "1")
    document = json.loads(out)
    assert code == 0
    assert "It cannot show" in error
    assert len(document["best"]["edits"]) == 1
    assert conditions(document) == ["base", "untrained", "seal"]


def test_dry_run_prints_a_recipe_that_is_the_same_recipe(home, seal):
    code, out, _ = seal("train", "small.toml", "outer.rounds=3", "--seed", "9", "--slots", "3", "--dry-run")
    assert code == 0
    (home / "again.toml").write_text(out)
    assert seal("train", "again.toml", "--dry-run")[1] == out
    recipe = json.loads(seal("train", "again.toml", "--dry-run", "--json")[1])["recipe"]
    assert (recipe["seed"], recipe["outer"]["rounds"], recipe["engine"]["slots"]) == (9, 3, 3)
    assert not (home / "runs").exists()


# ---- interruptions


def stop_after(monkeypatch: pytest.MonkeyPatch, calls: int, error: BaseException) -> None:
    """The engine raises `error` once it has run that many trials."""
    whole = Engine.run
    left = [calls]

    def failing(self, jobs):
        for finished in whole(self, jobs):
            if left[0] == 0:
                raise error
            left[0] -= 1
            yield finished

    monkeypatch.setattr(Engine, "run", failing)


def everything(path: Path) -> dict[str, Any]:
    """All rows of a run but the seconds."""
    with Store.open(path, write=False) as store:
        found = {}
        for phase, round in store.rounds():
            found[phase, round] = [
                store.edits(phase, round),
                [(one.trial, one.before, one.after, one.losses) for one in store.outcomes(phase, round)],
                store.base(phase, round),
                store.kept(phase, round),
            ]
        return found


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (["select.rule=gaining", "select.fraction=", "reward={informs=1.0}"], "select: 'gaining', 'solved' and `floor` go by"),
        (['domain.data={train="nowhere.json", test="test.json"}'], "nowhere.json"),
        (['reward={"nowhere:reward"=1.0}'], "reward 'nowhere:reward': No module named 'nowhere'"),
        (["eval.limit=1", 'domain.data={train="train.json", test="train.json"}'], "train"),
    ],
)
def test_dry_run_refuses_what_could_not_begin(home, seal, change, says):
    code, out, error = seal("train", "small.toml", *change, "--dry-run")
    assert (code, out) == (2, "")
    assert says in error


def test_a_module_of_ones_own_is_found_in_the_working_directory_and_elsewhere_by_the_path_that_is_named(home, seal, monkeypatch):
    monkeypatch.setattr(sys, "path", [*sys.path])
    text = "def brief(outcome, siblings):\n    return -float(len(outcome.trial.edit.text))\n"
    (home / "brevity.py").write_text(text)
    change = ("small.toml", 'reward={"brevity:brief"=1.0}', "--dry-run")
    assert seal("train", *change)[0] == 0
    assert sys.path[-1] == str(home)
    monkeypatch.delitem(sys.modules, "brevity")
    monkeypatch.setattr(sys, "path", sys.path[:-1])
    (home / "elsewhere").mkdir()
    monkeypatch.chdir(home / "elsewhere")
    data = 'domain.data={train="../train.json", test="../test.json"}'
    code, _, error = seal("train", "../small.toml", data, *change[1:])
    assert (code, "No module named 'brevity'" in error, "PYTHONPATH" in error) == (2, True, True)


@pytest.mark.parametrize("calls", [1, 4, 9])
def test_interrupted_and_resumed_it_is_the_run_it_would_have_been(home, seal, monkeypatch, calls):
    with monkeypatch.context() as patched:
        stop_after(patched, calls, KeyboardInterrupt())
        code, out, error = seal("train", "small.toml")
    (info,) = runs(Path("runs"))
    assert (code, out, info.status) == (130, "", "stopped")
    assert f"resume with: seal train --resume {info.path}" in error
    assert seal("train", "--resume", "last", "engine.slots=2")[0] == 0
    assert runs(Path("runs"))[0].status == "done"
    assert seal("train", "small.toml")[0] == 0
    resumed, whole = (everything(one.path) for one in runs(Path("runs")))
    assert alike(resumed, whole)


def alike(one: Any, other: Any) -> bool:
    """Equal, numbers up to the order they were added in: which trials shared a step differs after an interruption."""
    if isinstance(one, float) and isinstance(other, float):
        return math.isclose(one, other, rel_tol=1e-4, abs_tol=1e-5)
    if dataclasses.is_dataclass(one):
        return type(one) is type(other) and alike(vars_of(one), vars_of(other))
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(alike(one[key], other[key]) for key in one)
    if isinstance(one, list | tuple):
        return len(one) == len(other) and all(map(alike, one, other))
    return bool(one == other)


def vars_of(one: Any) -> dict[str, Any]:
    return {field.name: getattr(one, field.name) for field in dataclasses.fields(one)}


def test_an_interrupted_evaluation_says_how_to_go_on(home, seal, monkeypatch):
    with monkeypatch.context() as patched:
        stop_after(patched, 3, KeyboardInterrupt())
        code, _, error = seal("eval", "small.toml")
    path = runs(Path("runs"))[0].path
    assert (code, f"resume with: seal eval {path}" in error) == (130, True)
    assert conditions(json.loads(seal("eval", str(path), "--json")[1])) == ["base", "untrained"]
    assert len(runs(Path("runs"))) == 1


def test_on_a_full_disk_the_mistake_is_still_told(home, seal, monkeypatch):
    def full(*a: Any, **b: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("seal.config.load", full)
    monkeypatch.setattr("tempfile.NamedTemporaryFile", full)
    code, _, error = seal("train", "small.toml")
    why = "OSError: [Errno 28] No space left on device"
    way = "the traceback could not be written ([Errno 28] No space left on device); SEAL_DEBUG=1 shows it"
    assert (code, error) == (1, f"seal: {why}; {way}\n")


def test_what_nobody_expected_is_one_line_and_leaves_its_traceback(home, seal, monkeypatch):
    with monkeypatch.context() as patched:
        stop_after(patched, 2, RuntimeError("the machine is on fire\nand more"))
        code, out, error = seal("train", "small.toml")
        assert (code, out) == (1, "")
        first, second = error.splitlines()
        assert first.startswith("seal: RuntimeError: the machine is on fire; the traceback is in ")
        assert second.startswith("resume with: seal train --resume runs")
        written = Path(first.partition("traceback is in ")[2].partition(", and")[0])
        assert "failing" in written.read_text()
        written.unlink()
        patched.setenv("SEAL_DEBUG", "1")
        assert "in failing" in seal("train", "--resume", "last")[2]


def test_too_little_memory_is_said_plainly(home, seal):
    code, _, error = seal("train", "small.toml", "engine.memory_gb=0.0001")
    assert code == 1
    assert re.search(r"need \d+\.\d MiB and 0\.1 MiB are free", error)
    assert "traceback" not in error


@pytest.mark.parametrize("key", ["tuning", "update.tuning"])
def test_padded_rows_that_do_not_fit_are_refused_before_an_edit_is_written(home, seal, key):
    padded = [f"{key}.pad_loss=official", f"{key}.pad_length=400", "engine.memory_gb=0.002"]
    code, _, error = seal("train", "small.toml", *padded)
    assert (code, one_line(error)) == (1, True)
    assert re.search(r"a row of 400 tokens need \d+\.\d MiB and 2\.0 MiB are free; shorter rows need less", error)
    assert not (home / "runs").exists()


def test_that_a_long_edit_would_stop_the_update_is_said_before_any_is_written(home, seal):
    warning = "should an edit of 400 tokens be kept, the policy's update would stop the run: 1 adapter and a row of 400 tokens"
    for memory, said in (("0.002", True), ("0.5", False)):
        code, _, error = seal(
            "train", "small.toml", "--no-eval", "edit.max_tokens=400", f"engine.memory_gb={memory}", "reward.length=1"
        )
        assert (warning in error) == said
    assert code == 0
    assert warning not in seal("eval", "small.toml", "edit.max_tokens=400", "engine.memory_gb=0.002")[2]


def test_a_run_in_use_is_left_alone(home, seal):
    with Store.create(Path("runs"), "busy", "", {}) as store:
        holder = f"""
import pathlib, time
from seal.store import Store
with Store.open(pathlib.Path({str(store.path)!r}), write=True):
    print("have it", flush=True)
    time.sleep(60)
"""
    process = subprocess.Popen([sys.executable, "-c", holder], stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout.readline() == "have it\n"
        code, _, error = seal("train", "--resume", "last")
        assert code == 2
        assert "in use by another process" in error
    finally:
        process.kill()
        process.wait()


# ---- mistakes


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["trian"], "Did you mean 'train'"),
        (["train"], "seal recipes"),
        (["train", "bundeld"], "did you mean 'bundled'"),
        (["train", "gone.toml"], "gone.toml: no such file"),
        (["train", "small.toml", "--sede", "1"], "--sede"),
        (["train", "small.toml", "--seed", "one"], "--seed"),
        (["train", "small.toml", "seed=2", "--seed", "1"], "--seed 1 and 'seed=2' do not go together; leave one of them out"),
        (["eval", "small.toml", "engine.slots=2", "--slots", "4"], "--slots 4 and 'engine.slots=2' do not go together"),
        (["continual", "small.toml", "engine.slots=2", "--slots", "4"], "--slots 4 and 'engine.slots=2' do not go together"),
        (["adapt", "train.json", "engine.slots=2", "--slots", "4"], "--slots 4 and 'engine.slots=2' do not go together"),
        (["train", "--from", "last", "outer.rounds=2", "engine.slots=2", "--slots", "4"], "'engine.slots=2' do not go together"),
        (["train", "small.toml", "update.method=dpo", "--update", "rest_em"], "'update.method=dpo' do not go together"),
        (["train", "--from", "last", "update.method=dpo", "--update", "rest_em"], "'update.method=dpo' do not go together"),
        (["train", "small.toml", "--outer.rounds=3"], "a recipe's value is given without the dashes: outer.rounds=..."),
        (["train", "small.toml", "--resume", "last"], "leave 'small.toml' out"),
        (["train", "--resume", "last", "--seed", "1"], "leave --seed out"),
        (["train", "--resume", "last"], "there are none in runs"),
        (["train", "small.toml", "model.name=./nowhere"], "./nowhere"),
        (["train", "small.toml", 'domain.data={train="train.json",test="gone.json"}'], "gone.json: no such file"),
        (["eval", "smal"], "no recipe or run named 'smal'"),
        (["eval", "small.toml", "--policy", "nowhere"], "--policy nowhere"),
        (["eval", "small.toml", "eval.policy=nowhere"], "seal: eval.policy nowhere: no PEFT adapter there"),
        (["train", "small.toml", "outer.policy=nowhere"], "seal: outer.policy nowhere: no PEFT adapter there"),
        (["adapt", "train.json", "nowhere.md"], "seal: nowhere.md: no such file or folder"),
        (["demo", "outer.policy=nowhere"], "seal: outer.policy nowhere: no PEFT adapter there"),
        (["adapt", "train.json", "outer.policy=nowhere"], "takes the policy as an option: --policy nowhere"),
        (["train", "small.toml", "--runs", "train.json"], "'--runs': dir 'train.json' is a file"),
        (["show", "last"], "there are none in runs"),
        (["official"], "official --help"),
        (["recipes", "bundeld"], "did you mean 'bundled'"),
        (["recipes", "--keys", "outer.round_"], "no key named 'outer.round_'; did you mean 'outer.rounds'?"),
        (["models", "pull", "smolm2-135m"], "did you mean 'smollm2-135m'"),
        (["grade", "gone.jsonl"], "gone.jsonl: no such file"),
        (["grade", "gone.jsonl", "--grader", "recal"], "did you mean 'recall'"),
        (["grade", "."], ".: cannot be read (Is a directory)"),
        (["arc", "solvable", "arc-embedded", "--out", "nowhere/r.json"], "--out nowhere/r.json: there is no folder nowhere, or"),
        (["arc", "solvable", "arc-embedded", "--out", "."], "--out . is a folder; name a file"),
    ],
)
def test_a_mistake_is_one_line_and_exit_code_2(home, seal, arguments, says):
    code, out, error = seal(*arguments)
    assert (code, out) == (2, "")
    assert one_line(error), error
    assert says in error
    assert not (home / "runs").exists()  # nothing was begun


def test_an_adapter_is_no_model_and_what_it_is_for_is_said(home, seal):
    (home / "mine").mkdir()
    (home / "mine" / "adapter_config.json").write_text('{"base_model_name_or_path": "some/model"}')
    code, _, error = seal("train", "small.toml", "model.name=mine")
    assert (code, one_line(error)) == (2, True)
    assert "mine is an adapter and no model; name the model that it is for (model.name=some/model), and the" in error
    code, _, error = seal("ask", "mine", "Who?", "--base", "./nowhere")
    assert (code, error) == (2, "seal: --base ./nowhere: no model at './nowhere': there is no such file or directory\n")
    (home / "mine" / "config.json").write_text("{}")
    code, _, error = seal("train", "small.toml", "model.name=mine")
    assert (code, "mine holds an adapter beside a model, which would be part of it unasked; move mine/adapter" in error) == (
        2,
        True,
    )


def test_what_was_begun_to_be_typed_is_meant(home, seal):
    Store.create(Path("runs"), "mine-continual", recipe_toml="", environment={}).close()
    Store.create(Path("runs"), "mint", recipe_toml="", environment={}).close()
    (first, _) = [info.name for info in runs(Path("runs"))]
    assert f"did you mean {first!r}?" in seal("show", first.removesuffix("-continual"))[2]


def test_only_what_was_learnt_in_sequence_is_undone(home, seal):
    assert seal("train", "small.toml", "--no-eval")[0] == 0
    code, _, error = seal("undo", "last", "--step", "1")
    assert (code, one_line(error), "has learnt nothing in sequence; name a run of `seal continual`" in error) == (
        2,
        True,
        True,
    ), error


def test_interrupted_outside_a_verb_nothing_is_printed(monkeypatch, capsys):
    def interrupted(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr("seal.cli.app.app", interrupted)
    assert run(["runs"]) == 130
    assert capsys.readouterr() == ("", "")


def test_given_edits_that_lack_a_passage_are_refused_before_any_training(home, seal):
    (home / "edits.json").write_text(json.dumps([{"title": "Cleo", "context": "Cleo has two mills.", "completions": ["Two."]}]))
    code, _, error = seal("train", "small.toml", "eval.given=edits.json", 'eval.conditions=["base", "given"]')
    assert code == 2
    assert one_line(error)
    assert "'Dag'" in error
    assert not (home / "runs").exists()


def test_a_run_made_in_python_has_its_line_and_is_not_resumed_with_somebody_elses_recipe(home, seal):
    Store.create(Path("runs"), "by-hand", recipe_toml="", environment={}).close()
    (row,) = json.loads(seal("runs", "--json")[1])["runs"]
    assert (row["kind"], row["status"], row["recipe"], row["rounds_planned"]) == ("python", "stopped", "–", 0)
    for verb in (["train", "--resume", "last"], ["eval", "last"]):
        code, _, error = seal(*verb)
        assert (code, "made in Python" in error) == (2, True)


@pytest.mark.parametrize("kind", [*GO_ON])
def test_rounds_are_listed_of_what_has_rounds(home, seal, kind):
    recipe = (home / "small.toml").read_text().replace("[outer]", "[outer]\nrounds = 1")
    with Store.create(Path("runs"), "x", recipe, {}) as store:
        store.set_state("kind", kind)
        store.finish()
    (row,) = json.loads(seal("runs", "--json")[1])["runs"]
    assert (row["kind"], row["status"], row["rounds_planned"]) == (kind, "done", 1 if kind == "train" else 0)
    assert ("0/1" in seal("runs")[1]) == (kind == "train")


def test_a_run_where_a_recipe_belongs_is_said_to_be_a_run(home, seal):
    assert "no recipe named 'last'" in seal("train", "last")[2]
    path = Store.create(Path("runs"), "x", recipe_toml="", environment={})
    path.close()
    for name in ("last", path.path.name, str(path.path), str(path.path.resolve())):
        code, _, error = seal("train", name)
        assert (code, one_line(error)) == (2, True)
        assert error.startswith(f"seal: {name} is a run, not a recipe")
        assert f"--resume {name}" in error
        assert f"--from {name}" in error


def test_all_mistakes_of_a_recipe_at_once(home, seal):
    code, _, error = seal("train", "small.toml", "tuning.epohcs=3", "outer.rounds=0", "domain.style=implcations")
    assert code == 2
    assert "3 mistakes" in error
    for words in ("did you mean epochs?", "outer.rounds", "did you mean 'implications'?"):
        assert words in error


def test_a_run_keeps_its_recipe(home, seal):
    seal("train", "small.toml", "--no-eval")
    code, _, error = seal("train", "--resume", "last", "outer.rounds=2")
    assert code == 2
    assert "only engine.*, model.device and track may change" in error
    assert seal("train", "--resume", "last", "model.device=cpu", "--no-eval")[0] == 0


def test_a_run_goes_on_in_the_numbers_it_was_begun_in(home, seal, monkeypatch):
    """Which "auto" chooses by the device, and a run may go on on another one."""
    assert seal("train", "small.toml", "--no-eval")[0] == 0
    path = runs(Path("runs"))[0].path
    assert json.loads((path / "environment.json").read_text())["dtype"] == "float32"
    monkeypatch.setattr("seal.models.open.dtype_named", lambda name, place: getattr(torch, "float64" if name == "auto" else name))
    for verb in (["train", "--resume"], ["eval"]):
        code, _, error = seal(*verb, "last")
        assert (code, "was begun in float32, and here the model is opened in float64" in error) == (2, True), error
        assert "add model.dtype=float32" in error
        assert seal(*verb, "last", "model.dtype=float32")[0] == 0
    assert len(runs(Path("runs"))) == 1
    assert "keeps its recipe" in seal("train", "--resume", "last", "model.dtype=float64")[2]
    assert seal("train", "--resume", "last", "--dry-run")[1] == (runs(Path("runs"))[0].path / "recipe.toml").read_text()


def test_what_another_version_wrote_into_a_recipe_is_taken_back_by_name(home, seal):
    assert seal("train", "small.toml", "--no-eval")[0] == 0
    path = str(runs(Path("runs"))[0].path)
    recipe = Path(path) / "recipe.toml"
    recipe.write_text(recipe.read_text().replace("[outer]\n", "[outer]\nkept_only = true\n"))
    go_on = ["train", "--resume", path, "--no-eval"]
    for verb in (go_on, ["eval", path], ["train", "--from", path, "--update", "dpo"]):
        code, _, error = seal(*verb)
        assert (code, one_line(error)) == (2, True), error
        assert f"{path} was made by another version of seal" in error
        assert "does not know outer.kept_only" in error
        assert "without what it says: outer.kept_only=" in error
    code, _, error = seal(*go_on, "outer.kept_only=", "outer.edits=")
    assert (code, "'outer.edits=': a run keeps its recipe" in error) == (2, True)
    assert seal(*go_on, "outer.kept_only=")[0] == 0
    assert seal("eval", path, "outer.kept_only=", "engine.slots=2")[0] == 0
    assert len(runs(Path("runs"))) == 1
    assert seal("train", "--from", path, "--update", "dpo", "outer.kept_only=", "--dry-run")[0] == 0


def test_passages_that_would_be_trained_on_and_measured_are_refused_before_any_training(home, seal):
    both = 'domain.data={train="train.json",test="train.json"}'
    code, _, error = seal("train", "small.toml", both)
    assert (code, one_line(error), "'Ada'" in error or "'Bo'" in error) == (2, True, True)
    assert not (home / "runs").exists()
    assert seal("train", "small.toml", both, "outer.contexts=1", "eval.split=train", "eval.limit=2")[0] == 2
    assert seal("train", "small.toml", both, "--no-eval", "tuning.rank=1")[0] == 0


def test_a_run_goes_on_from_another_folder(home, seal, monkeypatch):
    with monkeypatch.context() as patched:
        stop_after(patched, 3, KeyboardInterrupt())
        assert seal("train", "small.toml")[0] == 130
    path = runs(Path("runs"))[0].path.resolve()
    (home / "elsewhere").mkdir()
    monkeypatch.chdir(home / "elsewhere")
    assert seal("train", "--resume", str(path))[0] == 0


def test_a_curve_is_measured_when_it_is_asked_for_and_goes_on_where_it_was(home, seal, monkeypatch):
    small = ["small.toml", "eval.curve=[20, 60]", "eval.match=tokens", "eval.tokens=40", "eval.steps=2"]
    assert json.loads(seal("eval", *small, "--json")[1])["curve"] == []
    with monkeypatch.context() as patched:
        stop_after(patched, 3, KeyboardInterrupt())
        code, _, error = seal("eval", "last", "--curve", "tokens")
    path = runs(Path("runs"))[0].path
    assert (code, f"resume with: seal eval {path} --curve tokens" in error) == (130, True)
    code, out, _ = seal("eval", "last", "--curve", "tokens", "--json")
    assert code == 0
    assert [(row["condition"], row["most"]) for row in json.loads(out)["curve"]] == [
        ("base", 0), ("untrained", 20), ("untrained", 60)
    ]  # fmt: skip
    assert len(runs(Path("runs"))) == 1
    assert "synthetic tokens" in seal("eval", "last")[1]


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        (['eval.conditions=["base", "passage", "seal"]'], "the edits of sentences, untrained, given, seal, and none of them"),
        (["domain.plan=alone", 'bounds.tools=["cloze"]'], "these are plans alone; leave it out"),
    ],
)
def test_a_curve_of_what_cannot_be_cut_is_refused(home, seal, changed, said):
    code, _, error = seal("eval", "small.toml", *changed, "--curve", "tokens")
    assert (code, one_line(error)) == (2, True)
    assert said in error
    assert not Path("runs").exists()


def test_show_says_what_is_noise_and_keeps_its_lines_short_in_a_pipe(home, seal):
    seal("train", "small.toml", "--no-eval", "outer.repeats=2")
    _, out, _ = seal("show", "last")
    assert "retraining noise" in out
    assert "kept edits gained nothing" in out
    edits, _ = out.split("Rewards, and how they follow")  # that is a table, and as wide as its columns
    assert 50 < max(len(line) for line in edits.splitlines() if "│" in line) <= 100
    (noise,) = json.loads(seal("show", "last", "--json")[1])["noise"]
    assert set(noise) == {"round", "noise", "question_noise", "ties", "problems", "kept", "kept_without_gain"}
    seal("train", "small.toml", "--no-eval", "outer.repeats=1")
    assert "share of retraining noise unknown" in seal("show", "last")[1]


def test_a_run_is_found_by_where_one_is_and_its_commands_can_be_pasted(home, monkeypatch):
    from seal.cli.find import find_run
    from seal.cli.resume import go_on

    place = home / "my runs" / "one"
    place.mkdir(parents=True)
    monkeypatch.chdir(place)
    assert find_run(".", Path("runs")).name == "one"
    assert go_on("train", place) == f"seal train --resume '{place}'"


def test_a_run_is_found_by_its_name_without_the_date(home, seal):
    from seal.cli.find import find_run

    root = home / "runs"
    for directory in ("2026-01-31-one", "2026-02-01-one", "2026-02-01-one-2", "2026-02-01-one-eval", "2026-02-02-one.more"):
        Store.create(root, "made", "", {}).path.rename(root / directory)
    assert find_run("one", root).name == "2026-02-01-one-2"
    assert find_run("one-2", root).name == "2026-02-01-one-2"
    assert find_run("one-eval", root).name == "2026-02-01-one-eval"
    Store.create(root, "made", "", {}).path.rename(root / "2026-02-03-one-7")  # called one-7, for that day has no other
    assert find_run("one", root).name == "2026-02-01-one-2"
    assert find_run("one-7", root).name == "2026-02-03-one-7"
    assert find_run("2026-01-31-one", root).name == "2026-01-31-one"
    (home / "one").mkdir()  # somebody's folder, and no run
    assert find_run("one", root).name == "2026-02-01-one-2"
    assert seal("show", "oneXmore")[0] == 2
    assert "did you mean 'one-eval'?" in seal("show", "one-evl")[2]
    assert "did you mean '2026-01-31-one'?" in seal("show", "2026-01-30-one")[2]
    assert "one is a run, not a recipe" in seal("train", "one")[2]
    assert f"{home / 'one'} is not a run" in seal("show", str(home / "one"))[2]


def test_a_run_that_somebody_else_wrote_does_not_hide_the_others(home, seal):
    for name, recipe in (("odd", 'model = "tiny"'), ("red", 'name = "[red]x"\n[model]\nname = "m"')):
        Store.create(home / "runs", name, recipe, {}).close()
    code, out, _ = seal("runs")
    assert code == 0
    assert "[red]x" in out
    assert "unreadable" in out


def test_two_runs_are_compared(home, seal):
    names = []
    for seed in ("1", "2"):
        names.append(Path(json.loads(seal("eval", "small.toml", "--json", "--seed", seed)[1])["run"]).name)
    document = json.loads(seal("compare", *names, "--json")[1])
    assert conditions(document) == ["base", "untrained"]
    assert document["table"][0]["mean"] == 0.0
    assert "Difference A - B" in seal("compare", ",".join(names), "last")[1]


def test_a_run_is_tracked_and_watched_and_a_resumed_one_logs_no_step_twice(home, seal, monkeypatch):
    accumulator = pytest.importorskip(
        "tensorboard.backend.event_processing.event_accumulator", reason="pip install -e '.[track]'"
    )
    with monkeypatch.context() as patched:
        stop_after(patched, 9, KeyboardInterrupt())  # in its second round
        assert seal("train", "small.toml", "outer.rounds=2", "track=tensorboard")[0] == 130
    path = runs(Path("runs"))[0].path
    assert json.loads(seal("watch", "last", "--json")[1])["status"] == "stopped"
    with Store.open(path, write=True) as store:  # as if it were going on
        noted = store.get_state("progress")
        assert (noted["where"], noted["stage"], noted["total"]) == ("round 2", "trials", 4)
        row = json.loads(seal("watch", "last", "--json")[1])
        assert (row["status"], row["round"], row["rounds"], row["stage"]) == ("running", 2, 2, "trials")
    assert seal("train", "--resume", "last")[0] == 0
    assert seal("eval", "last", "track=tensorboard")[0] == 0  # everything is there and was sent
    events = accumulator.EventAccumulator(str(path / "tensorboard"))
    events.Reload()
    rewards = [row["reward"] for row in json.loads(seal("eval", "last", "--json")[1])["training"]]
    assert [(one.step, one.value) for one in events.Scalars("train/reward")] == [
        (step, pytest.approx(value)) for step, value in enumerate(rewards, 1)
    ]
    assert [one.step for one in events.Scalars("eval/seal/score")] == [3]
    assert len(runs(Path("runs"))) == 1
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    code, _, error = seal("train", "small.toml", "track=wandb")
    assert (code, one_line(error), "pip install wandb" in error) == (2, True, True)


def test_an_evaluation_is_watched(home, seal, monkeypatch):
    with monkeypatch.context() as patched:
        stop_after(patched, 3, KeyboardInterrupt())
        assert seal("eval", "small.toml")[0] == 130
    with Store.open(runs(Path("runs"))[0].path, write=True):
        row = json.loads(seal("watch", "last", "--json")[1])
    assert (row["where"], row["stage"], row["round"], row["rounds"]) == ("untrained", "trials", None, None)
    assert (row["last"]["trials"], row["trials"]) == (1, 1)


def test_show_knows_which_phases_have_edits(home, seal):
    seal("eval", "small.toml")
    assert json.loads(seal("show", "last", "--json")[1])["phase"] == "untrained"
    code, _, error = seal("show", "last", "--phase", "base")
    assert code == 2
    assert "untrained" in error


# ---- small verbs


def test_grade(home, seal):
    rows = [
        {"question": "Who?", "target": "Ada Lovelace", "answer": "It was Ada Lovelace."},
        {"question": "When?", "target": "1901", "answer": ""},
        {"question": "Where?", "target": "by\u2028the sea", "answer": "by the sea"},
    ]
    file = home / "answers.jsonl"
    file.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")
    good, bad = {"score": 1.0, "correct": True}, {"score": 0.0, "correct": False}
    assert json.loads(seal("grade", "answers.jsonl", "--grader", "recall", "--json")[1]) == [good, bad, good]
    assert json.loads(seal("grade", "answers.jsonl", "--grader", "exact", "--json")[1]) == [bad, bad, good]
    assert "3 answers by recall: 2 correct, 1 wrong, 0 ungraded; mean score 0.667" in seal("grade", "answers.jsonl")[1]


def test_an_answer_nobody_could_grade_is_not_wrong(home, seal, monkeypatch):
    from seal.grading.grade import Grade
    from seal.grading.graders import GRADERS

    monkeypatch.setitem(GRADERS, "away", lambda question, target, answer: Grade(None, {}))
    (home / "answers.jsonl").write_text('{"question": "q", "target": "t", "answer": "a"}\n')
    assert json.loads(seal("grade", "answers.jsonl", "--grader", "away", "--json")[1]) == [{"score": None, "correct": None}]
    assert "0 wrong, 1 ungraded; mean score –" in seal("grade", "answers.jsonl", "--grader", "away")[1]


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ('{"question": "q", "target": "t"}', "bad.jsonl: line 2: field 'answer' is missing"),
        ('{"question": "q", "target": [7], "answer": ""}', "bad.jsonl: line 2: field 'target' must be text"),
        ("[1]", "bad.jsonl: line 2: must be an object"),
        ("{", "bad.jsonl: line 2: not JSON (column 2: "),
        (f'{{"question": {"9" * 5000}}}', "bad.jsonl: line 2: holds a number of too many digits"),
        ("[" * 100_000, "bad.jsonl: line 2: nested too deeply"),
    ],
)
def test_a_bad_row_is_named_by_file_line_and_field(home, seal, line, says):
    (home / "bad.jsonl").write_text('{"question": "q", "target": "t", "answer": "a"}\n' + line + "\n")
    code, out, error = seal("grade", "bad.jsonl", "--json")
    assert (code, out) == (2, "")
    assert one_line(error)
    assert says in error


def results(home: Path) -> str:
    """A result file: two edits tied at the top, of which the first gains nothing."""

    def edit(text: str, score: float, gain: float) -> dict[str, Any]:
        return {"text": text, "stats": {"adapter_mean": score, "gain_mean": gain}, "questions": []}

    completions = [edit("low", 0.1, -0.1), edit("even", 0.5, 0.0), edit("up", 0.5, 0.2)]
    articles = [{"title": "T", "context": "C", "prompt": "P", "completions": completions}]
    (home / "run.json").write_text(json.dumps({"articles": articles}))
    return "run.json"


@pytest.mark.parametrize(
    ("options", "kept"),
    [
        ([], ["even"]),
        (["--floor", "0.0"], ["up"]),
        (["--rule", "gaining"], ["up"]),
        (["--rule", "top_fraction", "--fraction", "0.6"], ["even", "up"]),
    ],
)
def test_official_select(home, seal, options, kept):
    code, out, _ = seal("official", "select", results(home), "--out", "sft.jsonl", "--json", *options)
    assert (code, json.loads(out)) == (0, {"rows": len(kept), "out": "sft.jsonl"})
    rows = [json.loads(line) for line in (home / "sft.jsonl").read_text().splitlines()]
    assert rows == [{"prompt": "P", "completion": text} for text in kept]


def test_official_select_draws_ties_by_the_seed(home, seal):
    def kept(seed: int) -> str:
        seal("official", "select", results(home), "--out", "sft.jsonl", "--ties", "seed", "--seed", str(seed))
        return json.loads((home / "sft.jsonl").read_text())["completion"]

    drawn = [kept(seed) for seed in range(8)]
    assert set(drawn) == {"even", "up"}
    assert drawn == [kept(seed) for seed in range(8)]


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (["--rule", "bset"], "--rule"),
        (["--rule", "gaining", "--floor", "0"], "--floor goes with"),
        (["--rule", "top_fraction"], "needs --fraction"),
        (["--fraction", "0.5"], "--fraction goes with"),
        (["--rule", "gaining", "--ties", "seed"], "--ties goes with"),
        (["--seed", "0"], "--seed goes with --ties seed"),
        (["--out", "nowhere/sft.jsonl"], "--out nowhere"),
    ],
)
def test_official_select_refuses_what_does_not_go_together(home, seal, options, says):
    code, _, error = seal("official", "select", results(home), "--out", "sft.jsonl", *options)
    assert code == 2
    assert one_line(error)
    assert says in error


def test_official_sequences(home, seal):
    (home / "edits.json").write_text(json.dumps([{"title": "T", "context": "C", "completions": ["1. A\n2. B"]}]))
    assert json.loads(seal("official", "sequences", "edits.json", "--json")[1]) == [[["T\n1. A", "T\n2. B", "T\nC"]]]
    whole = seal("official", "sequences", "edits.json", "--no-split-newlines", "--json")[1]
    assert json.loads(whole) == [[["T\n1. A\n2. B", "T\nC"]]]
    assert "article 1, self-edit 1: 3 sequences" in seal("official", "sequences", "edits.json")[1]


class TestReleasedFiles:
    pytestmark = needs_shared

    def test_the_released_rows_exactly(self, tmp_path, seal):
        train = SHARED / "train"
        assert seal("official", "select", str(train / "rank_iter0.json"), "--out", str(tmp_path / "sft.jsonl"))[0] == 0
        mine, theirs = (
            [json.loads(line) for line in path.read_text().splitlines()]
            for path in (tmp_path / "sft.jsonl", train / "sft_best1of5_iter0.jsonl")
        )
        assert len(mine) == 50
        assert mine == theirs

    def test_sequences_of_a_released_file(self, seal):
        found = json.loads(seal("official", "sequences", str(SHARED / "eval" / "gpt4_1.json"), "--json")[1])
        assert all(isinstance(text, str) for article in found for edit in article for text in edit)
        assert min(len(edit) for article in found for edit in article) > 1


def test_recipes(seal):
    out = seal("recipes")[1]
    assert re.search(r"bundled +The whole method", out)
    about = {row["name"]: row["about"] for row in json.loads(seal("recipes", "--json")[1])["recipes"]}
    assert about["bundled"] == "The whole method on the embedded model and the bundled documents: seal train bundled"
    assert about["adapt"] == "How `seal adapt` absorbs documents of your own"
    assert about["bundled-no-labels"].endswith("once, before round one: seal train bundled-no-labels")  # of the second line
    text = seal("recipes", "demo")[1]
    assert text.startswith("# What `seal demo` runs")
    assert {row["name"] for row in json.loads(seal("recipes", "--json")[1])["recipes"]} >= {"bundled", "demo", "squad"}
    assert json.loads(seal("recipes", "demo", "--json")[1])["recipes"][0]["text"] == text


def test_the_keys_of_a_recipe_are_listed(seal, monkeypatch):
    def keys(*prefix):
        return json.loads(seal("recipes", "--keys", *prefix, "--json")[1])["keys"]

    rows = {(row["kind"], row["key"]): row for row in keys()}
    assert rows[None, "update.tuning.lr"]["default"] == 3e-4  # not that of [tuning], though it is the same type
    assert rows[None, "select.fraction"] == {
        "key": "select.fraction",
        "type": "number, above 0, at most 1",
        "default": None,
        "about": "`top_fraction` only, and needed there.",
        "kind": None,
    }
    assert rows[None, "select.rule"]["type"] == '"best_of_group" | "gaining" | "solved" | "top_fraction"'
    assert rows[None, "questions.ways"]["type"] == 'list of "list" | "spans" | "cloze"'
    assert (rows["arc", "domain.grid"]["type"], rows[None, "bounds.lr"]["type"]) == (
        "list of tables of lists of values",
        "two numbers",
    )
    assert rows["knowledge", "domain.judge.at_once"]["about"] == "Requests under way together."
    assert [row["key"] for row in rows.values() if not row["about"]] == []
    for name in shipped():
        recipe = tomllib.loads(dump(load(name)))
        kind = recipe["domain"]["kind"]
        known = {key for of, key in rows if of in (None, kind)}
        assert [key for key in flat(recipe) if key not in known and not key.startswith(("reward.", "domain."))] == []
    assert {row["key"].partition(".")[0] for row in keys("outer.sh")} == {"outer"}

    monkeypatch.setattr("seal.cli.output.console", lambda piped: Console(width=80, highlight=False))
    out = seal("recipes", "--keys")[1]
    assert {key for _, key in rows} <= set(out.split())
    assert max(map(len, out.splitlines())) == 80
    assert out.index("engine.slots") < out.index('domain.kind = "knowledge"') < out.index('domain.kind = "arc"')
    assert "[select]" in out  # no markup of rich's


def test_models_and_doctor_know_that_nothing_is_pulled_yet(home, seal):
    assert "seal models pull smollm2-135m" in seal("models")[1]
    assert json.loads(seal("models", "--json")[1])["models"][0]["pulled"] is False
    found = json.loads(seal("doctor", "--json")[1])
    assert found["embedded"]["pulled"] is False
    assert any("seal models pull" in line for line in found["missing"])
    assert (found["cores"], found["threads"]) == (cores(), threads())
    project = tomllib.loads((Path(__file__).parents[1] / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert set(found["extras"]) == set(project["optional-dependencies"])
    fits = [row["fits"] for row in found["models"]]
    assert fits == sorted(fits, reverse=True)  # from small to large
    assert "adapters at once" in seal("doctor")[1]


@pytest.mark.skipif(torch.cuda.is_available(), reason="a GPU computes in bfloat16 anyway")
def test_doctor_says_where_a_cpu_is_quick_in_bfloat16(home, seal, monkeypatch):
    for has in (True, False):
        monkeypatch.setattr("torch.cpu.get_capabilities", lambda has=has: {"amx_bf16": has}, raising=False)
        assert json.loads(seal("doctor", "--json")[1])["amx"] is has
        assert ("model.dtype=bfloat16" in seal("doctor")[1]) is has


def test_doctor_says_what_a_gpu_computes_in(home, seal, monkeypatch):
    """80 GB of it, so that what fits depends on the bytes of a weight."""
    for name, value in {"is_available": True, "memory_reserved": 0, "memory_allocated": 0, "get_device_name": "a GPU"}.items():
        monkeypatch.setattr(torch.cuda, name, lambda *_, value=value: value)
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda _: (80 * 10**9, 80 * 10**9))
    monkeypatch.setattr(torch.cuda, "device", lambda _: contextlib.nullcontext())
    for computes, dtype in ((True, "bfloat16"), (False, "float32")):
        monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation, computes=computes: computes)
        found = json.loads(seal("doctor", "--json")[1])
        assert found["dtype"] == dtype
        assert found["models"][0]["weights_gb"] == pytest.approx(0.135 * (2 if computes else 4))
        assert f"a GPU, where a model is {dtype}" in seal("doctor")[1]


# ---- help


def verbs(command: Any, path: tuple[str, ...] = ()) -> list[tuple[str, ...]]:
    found = [path]
    for name, one in getattr(command, "commands", {}).items():
        found += verbs(one, (*path, name))
    return found


def test_every_verb_has_help_with_examples(seal):
    import typer.main

    every = verbs(typer.main.get_command(app))
    assert {path[0] for path in every if path} == ALL_LINEAR
    for path in every:
        code, out, _ = seal(*path, "--help")
        assert code == 0
        assert seal(*path, "-h")[1] == out
        assert "Examples:" in out or path in {("official",), ("bench",), ("arc",)}
        if path not in [(), ("demo",), ("official",), ("bench",), ("arc",)]:
            assert f"seal {' '.join(path)}" in out.partition("Examples:")[2]


def test_every_verb_that_reports_has_json(seal):
    """A group of verbs does nothing by itself but `models`, which lists them; a conversation is no report."""
    import typer.main

    groups = {(), ("official",), ("bench",), ("arc",)}
    without = {path for path in verbs(typer.main.get_command(app)) if "--json" not in seal(*path, "--help")[1]}
    assert without - groups == {("chat",)}


def test_seal_alone_says_where_to_start_and_version_its_version(seal):
    from seal import __version__

    code, out, _ = seal()
    assert code == 0
    assert all(words in out for words in ("seal demo", "seal train bundled", "seal show last"))
    assert seal("--version") == (0, f"seal {__version__}\n", "")


def test_no_version_is_allowed_that_is_known_not_to_work():
    """peft 0.17 imports from transformers what 5.0 no longer has; accelerate 1.8 has no trackio, and its trackers no `start`."""
    project = tomllib.loads((Path(__file__).parents[1] / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    least = dict(line.split(">=") for line in project["dependencies"])
    assert (least["transformers"], least["peft"], least["accelerate"]) == ("5.0", "0.18", "1.9")


@pytest.mark.parametrize("arguments", [["--help"], ["train", "--help"], ["recipes"], ["train", "bundled", "--dry-run"], ["runs"]])
def test_what_needs_no_model_loads_no_torch(arguments, tmp_path):
    code = (
        "import sys; from seal.cli.app import run; run(sys.argv[1:]); sys.exit('torch' in sys.modules or 'peft' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code, *arguments], cwd=tmp_path, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")


def test_what_stdout_has_no_character_for_is_replaced(tmp_path):
    a_run(tmp_path / "runs")
    command = [sys.executable, "-c", "from seal.cli import main; main()", "show", "last"]
    environment = {**os.environ, "PYTHONIOENCODING": "ascii"}
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
    assert "Who built the mill?" in done.stdout


@pytest.mark.parametrize("width", [200, 80, 60])
def test_a_narrow_terminal_cuts_no_number_and_no_name(home, seal, monkeypatch, capsys, width):
    monkeypatch.setattr("seal.cli.output.console", lambda: Console(width=width))
    ends = {"mean": 0.125, "low": -0.25, "high": 0.375}
    row = {**ends, "f1": ends, "exact": ends, "minus_untrained": ends, "f1_minus_untrained": ends, "n": 12, "edits": 24}
    row |= {"clusters": 12, "cut_tokens": 0, "ungraded": 0}
    row |= {"condition": "untrained", "phase": "eval/untrained", "round": 0, "faults": 0, "noise": None, "shared_trainings": None}
    print_tables({"training": [], "table": [row], "curve": []})
    Store.create(Path("runs"), "a-name-of-some-length", (home / "small.toml").read_text(), {}).close()
    table = capsys.readouterr().out
    assert "…" not in table
    assert [table.count(number) for number in ("0.125", "-0.250", "0.375")] == [5, 5, 5]
    assert width < 80 or max(map(len, table.splitlines())) <= width
    _, out, _ = seal("runs")
    name = runs(Path("runs"))[0].name
    assert name in out
    assert "…" not in out


# ---- progress


def drawn(shown: bool) -> str:
    console = Console(file=io.StringIO(), force_terminal=True, width=100, _environ={"TERM": "xterm"})
    with Display(shown=shown, console=console) as display:
        display.say("opening [it]")
        tell = display.stages(lambda: "round 1")
        tell("trials", 2, 4)
        display.tokens("train", 600, 1200)
        display._bars.refresh()
        display.tokens("train", 1200, 1200)
        tell("trials", 4, 4)
        tell("policy", 0, 1)
        display._bars.refresh()
        tell("policy", 1, 1)
    return console.file.getvalue()


def test_progress_shows_stage_count_and_tokens_and_leaves_a_line_a_stage():
    text = drawn(True)
    for words in (
        "opening [it]",
        "round 1 · trials",
        "2/4",
        "600/1,200 tokens",
        "round 1 · trials 4/4 in 0:00",
        "round 1 · policy",
    ):
        assert words in text


def test_a_count_that_stopped_short_makes_room_for_the_next():
    console = Console(file=io.StringIO(), force_terminal=True, width=100, _environ={"TERM": "xterm"})
    with Display(shown=True, console=console) as display:
        display.tokens("train", 600, 1200)  # then its last trial had a fault
        display.tokens("policy", 10, 80)
        assert [task.description.strip() for task in display._bars.tasks] == ["policy"]


def test_no_terminal_no_progress():
    assert drawn(False) == ""


def test_what_is_printed_meanwhile_goes_to_stderr(capsys):
    with Display():
        print("a reward's own words")
    assert capsys.readouterr() == ("", "a reward's own words\n")
