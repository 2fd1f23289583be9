"""The scripts that measure questions, passes and repeats: what they print, from a tiny model's runs and outcomes made by hand."""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from types import ModuleType, SimpleNamespace

import numpy as np
import pytest
from small_runs import a_domain

from seal.config import load
from seal.errors import UserError
from seal.loops import build
from seal.rewards import Compose
from seal.store import Store
from seal.types import Answer, Example, Outcome, Problem, Prompt, SelfEdit, Trial

SCRIPTS = Path(__file__).parents[1] / "scripts"


@pytest.fixture
def scripts(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> dict[str, ModuleType]:
    monkeypatch.syspath_prepend(SCRIPTS)
    monkeypatch.chdir(tmp_path)
    from importlib import import_module

    names = ("halving_simulation", "halving_experiment", "label_free", "passes", "resumable")
    found = {name: import_module(name) for name in names}
    for name in found:
        monkeypatch.delitem(sys.modules, name)
    return found


def test_a_run_is_gone_on_with_by_its_whole_name_and_its_own_recipe(scripts: dict[str, ModuleType], tmp_path: Path) -> None:
    open_run = scripts["resumable"].open_run
    with open_run("bundled-halving", load("bundled")) as other, open_run("halving", load("bundled")) as run:
        assert (other.path.name[11:], run.path.name[11:]) == ("bundled-halving", "halving")
    earlier = run.path.rename(run.path.with_name("2026-01-31-halving"))
    with open_run("halving", load("bundled", ["engine.slots=2", "name=mine"])) as again:  # another day, as fast as it may be
        assert again.path == earlier
    for _ in range(2):  # it is let go of each time
        with pytest.raises(UserError, match=r"begun with seed = 0, not 1, reward.informs = 0.3, not None; give the same recipe,"):
            open_run("halving", load("bundled", ["seed=1", "reward.informs="]))


def tried(problem: int, edit: int, gold: float, own: float) -> Outcome:
    asked = Problem(f"p{problem}", "", "{}", ())
    written = SelfEdit(f"train/1/p{problem}/{edit}", asked.id, "", 1, edit, Prompt(""))
    after = (Answer(f"p{problem}/q0", "", gold), Answer(f"p{problem}/s0", "", own))
    before = tuple(Answer(answer.query_id, "", 0.0) for answer in after)
    return Outcome(Trial(f"{written.id}/0", asked, written), before, after)


def test_agreement_by_hand(scripts: dict[str, ModuleType]) -> None:
    # within a problem the two rewards agree to the last edit, although the problems differ the other way round
    outcomes = [tried(problem, edit, gold=edit / 4, own=edit / 8 + problem / 2) for problem in (0, 1) for edit in range(4)]
    found = scripts["label_free"].agreement(outcomes, Compose({"accuracy": 1.0}))
    assert (found["problems"], found["edits"], found["trials"]) == (2, 8, 8)
    assert found["reward"]["within"]["mean"] == pytest.approx(1.0)
    assert 0 < found["reward"]["all"]["mean"] < 1
    assert found["accuracy"] == found["reward"]
    assert (found["picked"]["any"], found["picked"]["by_own"], found["picked"]["by_gold"]) == (0.375, 0.75, 0.75)
    assert found["picked"]["by_own_minus_any"]["mean"] == 0.375
    wrong = [tried(0, edit, gold=edit / 4, own=-edit) for edit in range(4)]
    assert scripts["label_free"].agreement(wrong, Compose({"accuracy": 1.0}))["picked"]["by_own"] == 0.0


def test_a_mean_within_a_problem_is_over_the_edits_that_have_both(scripts: dict[str, ModuleType]) -> None:
    outcomes = [tried(problem, edit, gold=edit / 4, own=edit / 8) for problem in (0, 1) for edit in range(4)]
    ungraded = tried(0, 4, gold=9.0, own=0.0)
    ungraded = replace(ungraded, after=(ungraded.after[0], replace(ungraded.after[1], score=None)))
    agreement = scripts["label_free"].agreement
    one, other = (agreement(found, Compose({"accuracy": 1.0}))["reward"]["within"] for found in (outcomes, [*outcomes, ungraded]))
    assert one == other
    assert one["mean"] == pytest.approx(1.0)


@pytest.mark.parametrize(
    ("script", "more"), [("label_free", {}), ("passes", {}), ("halving_experiment", {"repeats": 5, "splits": 20})]
)
def test_a_model_that_grades_itself_is_seated(
    script: str, more: dict[str, int], scripts: dict[str, ModuleType], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Seated(Exception):
        """Far enough."""

    def seat(domain: object, engine: object) -> None:
        raise Seated(engine)

    monkeypatch.setattr(build, "engine", lambda recipe: "the engine")
    monkeypatch.setattr(build, "seat_judge", seat)
    itself = ["domain.grader=judge", "domain.judge=self"]
    with pytest.raises(Seated, match="the engine"):
        scripts[script].main(small(tmp_path, tmp_path, name="judged", overrides=itself, **more))


def small(folder: Path, model: Path, **more: object) -> argparse.Namespace:
    """Two edits each of two passages for a tiny model, as a script is given them."""
    a_domain(folder)
    (folder / "small.toml").write_text(
        f'[model]\nname = "{model}"\ndevice = "cpu"\n'
        f'[domain]\ndata = {{ train = "{folder}/train.json" }}\nstyle = "atomic-facts"\n'
        "[edit]\nmax_tokens = 60\n[tuning]\nrank = 4\nalpha = 8\nepochs = 2\n[engine]\nslots = 1\nmemory_gb = 0.5\n"
    )
    return argparse.Namespace(recipe="small.toml", split="train", **{"overrides": [], "limit": 2, "edits": 2, **more})


@pytest.mark.parametrize(("apart", "taken", "short"), [(("c c", "d d", "e e"), ("c c", "d d"), 0), (("c c",), ("c c",), 1)])
def test_what_the_passes_wrote_is_never_cut(
    apart: tuple[str, ...], taken: tuple[str, ...], short: int, scripts: dict[str, ModuleType]
) -> None:
    """A token a word: the passage has three, the first edit two more, and what was written on in it three."""
    problem, passage = Problem("p", "", "{}", ()), "the passage itself"

    def wrote(index: int, *texts: str) -> SelfEdit:
        return SelfEdit(f"x/1/p/{index}", "p", "", 1, index, Prompt(""), examples=tuple(map(Example, (passage, *texts))))

    language = SimpleNamespace(encode_example=lambda example: (example.completion.split(), ()))
    domain = SimpleNamespace(own_examples=lambda problem: (Example(passage),))
    first, chained = [wrote(0, "a a")], [wrote(0, "a a", "b b b")]
    drawn = [wrote(index, text) for index, text in enumerate(apart)]
    made, few = scripts["passes"].matched(SimpleNamespace(language=language), domain, [problem], first, chained, drawn)
    assert few == short
    assert made["again"] == chained
    assert [one.completion for one in made["apart"][0].examples] == [passage, *taken]
    assert made["longer"][0].tuning.epochs == round(first[0].tuning.epochs * 8 / 5)


def test_passes_at_equal_tokens_and_resumed(
    scripts: dict[str, ModuleType], lively_path: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    given = small(tmp_path, lively_path, name="passes")
    scripts["passes"].main(given)
    first = json.loads(capsys.readouterr().out)
    assert [row["way"] for row in first["table"]] == ["again-1", "again-2", "apart-2", "longer-2"]
    rows = {row["way"]: row for row in first["table"]}
    assert first["short"].keys() == {"apart-2"}
    (run,) = (tmp_path / "runs").iterdir()
    with Store.open(run, write=False) as store:
        again, written = (store.edits(phase, 1) for phase in ("again-2", "written"))
    assert [edit.examples for edit in again] == [edit.examples for edit in written]
    assert rows["again-2"]["score"]["mean"] is not None
    assert "again_minus_this_score" in rows["longer-2"]
    assert "again_minus_this_score" not in rows["again-2"]
    scripts["passes"].main(given)
    assert json.loads(capsys.readouterr().out) == first


def test_halving_problem_by_problem_and_resumed(
    scripts: dict[str, ModuleType], lively_path: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    sizes = {"name": "halving", "overrides": ["reward={logprob=1.0}"], "repeats": 5, "splits": 20}
    given, one = small(tmp_path, lively_path, **sizes), small(tmp_path, lively_path, limit=1, **sizes)
    scripts["halving_experiment"].main(one)
    first = json.loads(capsys.readouterr().out)
    assert [(row["repeats"], row["truth"], row["passages"]) for row in first["rows"]] == [(2, 1, 1)]
    scripts["halving_experiment"].main(given)
    both = json.loads(capsys.readouterr().out)
    assert both["rows"][0]["passages"] == 2
    assert 0 <= both["noise"] <= 1
    scripts["halving_experiment"].main(one)
    assert json.loads(capsys.readouterr().out) == first


def test_halving_is_about_what_trials_say(scripts: dict[str, ModuleType], lively_path: Path, tmp_path: Path) -> None:
    given = small(tmp_path, lively_path, name="halving", overrides=["reward={logprob=1.0, informs=0.3}"], repeats=5, splits=20)
    with pytest.raises(UserError, match="reward: informs say the same of an edit in all of its repeats"):
        scripts["halving_experiment"].main(given)
    assert not (tmp_path / "runs").exists()


def test_a_better_edit_is_picked_whatever_the_rule(scripts: dict[str, ModuleType]) -> None:
    rewards = [[[float(edit)] * 16 for edit in range(5)] for _ in range(3)]  # no noise: both rules always find the best
    found = scripts["halving_experiment"].judge(rewards, 4, 6, splits=10, seed=0)
    assert found["best_uniform"]["mean"] == found["best_halving"]["mean"] == pytest.approx(1)
    assert found["best_difference"]["mean"] == 0
    assert (found["truth"], found["worth_difference"]["mean"]) == (10, 0)
    noisy = np.random.default_rng(0).normal(size=(4, 5, 16)) + np.arange(5)[:, None]
    assert scripts["halving_experiment"].judge(noisy.tolist(), 4, 6, splits=50, seed=0)["worth_difference"]["mean"] > 0


@pytest.mark.parametrize(
    ("script", "absent", "says"),
    [
        ("draw_report.py", "import os; os.environ['PATH'] = ''", "needs Chromium: apt-get install chromium"),
        ("fit_calibrated.py", "sys.modules['sklearn'] = None", "needs scikit-learn: pip install --group fit"),
    ],
)
def test_what_a_script_lacks_is_one_line(script: str, absent: str, says: str) -> None:
    path = str(SCRIPTS / script)
    code = f"import runpy, sys; {absent}; sys.argv = [{path!r}, 'x']; runpy.run_path({path!r}, run_name='__main__')"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert (done.returncode, done.stderr.count("\n")) == (1, 1), done.stderr
    assert says in done.stderr


def test_how_families_run_is_told_by_kind(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.syspath_prepend(SCRIPTS)
    from importlib import import_module

    families = import_module("families")
    monkeypatch.delitem(sys.modules, "families")
    asked = argparse.Namespace(families=["llama", "gemma3_text", "lfm2", "roberta", "emu3"], json=False)
    families.main(asked)
    assert capsys.readouterr().out.splitlines() == [
        "packed, fused blocks (1): llama",
        "packed, its own modules (1): gemma3_text",
        "side by side (1): lfm2",
        "refused (1): roberta",
        "not made (1): emu3",
    ]
