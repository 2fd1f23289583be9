"""A grader, a style and an update of one's own, as the pages show them: named in a recipe, used in a whole run."""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path

import pytest
from small_runs import a_domain

from seal.config import loads
from seal.errors import UserError
from seal.loops import build
from seal.store import Store

DOCS = Path(__file__).parents[1] / "docs"
PAGES = {"mygrader": "grading.md", "mystyles": "domains.md", "myupdates": "updates.md"}
RECIPE = """
[model]
name = "{model}"
[domain]
data = {{ train = "train.json", test = "test.json" }}
style = "mystyles:timeline"
grader = "mygrader:cautious"
[edit]
max_tokens = 16
[tuning]
rank = 2
epochs = 1
[outer]
rounds = 1
contexts = 2
edits = 2
[select]
rule = "top_fraction"
fraction = 1.0
[update]
method = "myupdates:short"
[update.tuning]
rank = 2
[eval]
conditions = ["base", "seal"]
[engine]
threads = 1
"""


@pytest.fixture
def mine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with the pages' modules."""
    for module, page in PAGES.items():
        (code,) = re.findall(rf"```python\n(# {module}\.py\n.*?)```", (DOCS / page).read_text(), re.DOTALL)
        (tmp_path / f"{module}.py").write_text(code)
        monkeypatch.delitem(sys.modules, module, raising=False)
    (tmp_path / "wrong.py").write_text("def two(question, answer): ...\nclass Judge:\n    def __call__(self): ...\nnumber = 3\n")
    monkeypatch.delitem(sys.modules, "wrong", raising=False)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    return tmp_path


def test_a_run_has_ones_own_grader_style_and_update(mine, tiny_path, monkeypatch, seal):
    a_domain(mine)  # writes train.json and test.json
    (mine / "own.toml").write_text(RECIPE.format(model=tiny_path))
    import mygrader  # type: ignore[import-not-found]
    import myupdates  # type: ignore[import-not-found]

    graded, learnt = [], []
    cautious, short = mygrader.cautious, myupdates.short
    monkeypatch.setattr(
        mygrader, "cautious", lambda question, target, answer: graded.append(target) or cautious(question, target, "Ada")
    )
    monkeypatch.setattr(myupdates, "short", lambda engine, kept, *rest: learnt.append(len(kept)) or short(engine, kept, *rest))
    code, out, _ = seal("train", "own.toml", "--json")
    assert (code, learnt, "Ada" in graded) == (0, [4], True)
    document = json.loads(out)
    assert [row["mean"] for row in document["table"]] == [0.5, 0.5]  # who built it is right, when it was built is not
    assert [row["reward"] for row in document["training"]] == [0.5]
    with Store.open(Path(document["run"]), write=False) as store:
        assert all("Timeline:" in edit.prompt.text for edit in store.edits("train", 1))
    assert seal("train", "--resume", "last", "--no-eval")[0] == 0
    code, out, _ = seal("train", "--from", "last", "--update", "myupdates:short", "--no-eval", "--json")
    assert (code, learnt, json.loads(out)["run"].endswith("-own-short")) == (0, [4, 4], True)


@pytest.mark.parametrize(
    ("key", "name", "told"),
    [
        ("grader", "wrong:two", r"grader 'wrong:two' must take \(question, target, answer\)"),
        ("grader", "wrong:Judge", r"grader 'wrong:Judge' is a class; name an object of it"),
        ("grader", "wrong:number", r"grader 'wrong:number' is not a function"),
        ("grader", "wrong:none", r"grader 'wrong:none': .*no attribute 'none'"),
        ("grader", "recal", "no grader named 'recal'; did you mean 'recall'"),
        ("style", "wrong:number", "style 'wrong:number' is no Style"),
        ("style", "implcations", "did you mean 'implications'"),
    ],
)
def test_what_is_no_grader_or_style_is_told_in_a_line(mine, key, name, told):
    with pytest.raises(UserError, match=told):
        build.domain(loads(f'[domain]\n{key} = "{name}"', source="mine.toml"))


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("wrong:two", r"update method 'wrong:two' must take \(engine, kept, groups, tuning, seed\)"),
        ("wrong:number", "update method 'wrong:number' is not a function"),
        ("rest_me", "no update method named 'rest_me'; did you mean 'rest_em'"),
    ],
)
def test_what_is_no_update_is_told_before_the_model_is_opened(mine, name, told, seal):
    a_domain(mine)
    (mine / "own.toml").write_text(RECIPE.format(model="nowhere/to-be-found").replace("myupdates:short", name))
    code, _, error = seal("train", "own.toml")
    assert (code, bool(re.search(told, error))) == (2, True)
    assert not (mine / "runs").exists()


def test_a_recipe_is_read_where_its_modules_are_not():
    recipe = loads('[domain]\nstyle = "far:away"\ngrader = "far:off"\n[update]\nmethod = "far:out"', source="mine.toml")
    assert (recipe.update.method, recipe.domain.grader) == ("far:out", "far:off")  # type: ignore[attr-defined]
    with pytest.raises(UserError, match="No module named 'far'"):
        build.domain(recipe)
