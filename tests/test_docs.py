"""The pages are true: their commands parse, their links lead somewhere, the tree names the rooms, the worked example runs."""

from __future__ import annotations

import ast
import json
import re
import shlex
import sys
from functools import cache
from importlib import import_module
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
import torch
from peft import PeftModel
from typer.main import get_command
from typer.testing import CliRunner

from seal.cli.app import app
from seal.cli.app import run as run_verb
from seal.config import dump, load, loads, shipped
from seal.domains.knowledge import Knowledge
from seal.engine import Engine
from seal.errors import EditFault, UserError
from seal.loops import build
from seal.loops.evaluate import Evaluation, evaluate
from seal.models import LanguageModel
from seal.report.tables import evaluation_table
from seal.rewards import RATERS, REWARDS, Compose
from seal.rewards.needs import needs_of
from seal.store import Store, edit_id, trial_id
from seal.types import LLAMA_LINEAR, Answer, Bounds, Outcome, Problem, Prompt, Sampling, SelfEdit, Trial, Tuning

ROOT = Path(__file__).parents[1]
README = ROOT / "README.md"
PAGES = [README, *sorted((ROOT / "docs").glob("*.md"))]
DOMAINS = ROOT / "docs" / "domains.md"
REWARDS_PAGE = ROOT / "docs" / "rewards.md"

# ---- commands


def blocks(page: Path, language: str = "") -> list[str]:
    """The fenced blocks of a language."""
    return re.findall(rf"^```{language}\n(.*?)^```$", page.read_text(), re.MULTILINE | re.DOTALL)


def commands(page: Path) -> list[str]:
    """Every `seal ...` of a page: in a line of its own, or within text."""
    text = page.read_text()
    for block in re.findall(r"^```.*?^```$", text, re.MULTILINE | re.DOTALL):
        if "\n$ " in block:  # a transcript: what stands after a prompt is typed, the rest is printed
            text = text.replace(block, "\n".join(f"    {line[2:]}" for line in block.splitlines() if line.startswith("$ ")))
    own = re.findall(r"^(?: {4})?(?:[A-Z]+=\S+ )*(?:\.venv/bin/)?(seal [a-z].*?)(?: {2}.*)?$", text, re.MULTILINE)
    return own + re.findall(r"(?<!`)`(seal [a-z][^`]*)`", text)


@cache
def verbs_there_are() -> Any:
    """Every verb; to put it together takes a while."""
    return get_command(app)


@cache
def has_help(*verbs: str) -> bool:
    return CliRunner().invoke(app, [*verbs, "--help"]).exit_code == 0


def parsed(command: str) -> tuple[list[str], Any, list[str]]:
    """Verbs, the click command they name, and the words after them."""
    words = shlex.split(command.replace("[a.b=value ...]", ""), comments=True)[1:]
    found, verbs = verbs_there_are(), []
    while words and words[0] in getattr(found, "commands", {}):
        verbs.append(words.pop(0))
        found = found.commands[verbs[-1]]
    return verbs, found, words


ALL_LINEAR = [pytest.param(command, id=f"{page.name}: {command}") for page in PAGES for command in dict.fromkeys(commands(page))]


@pytest.mark.parametrize("command", ALL_LINEAR)
def test_every_command_has_its_verb_and_its_flags(command, monkeypatch):
    verbs, found, words = parsed(command)
    assert verbs, "no such verb"
    assert not hasattr(found, "commands") or not words or words[0].startswith("-"), "no such verb"
    assert has_help(*verbs)
    flags = {flag for parameter in found.params for flag in parameter.opts}
    assert {word for word in words if word.startswith("-")} <= flags
    recipe = next((word for word in words if word in shipped() or word.startswith("recipes/")), None)
    if recipe:
        monkeypatch.chdir(ROOT)
        load(recipe, [word for word in words if "=" in word])


def test_continued_pretraining_is_the_papers_first_version():
    (command,) = {one for page in PAGES for one in commands(page) if "eval.mode=continued" in one}
    recipe = load("squad", [word for word in shlex.split(command) if "=" in word])
    assert (recipe.domain.reading, recipe.eval.mode, recipe.eval.edits) == ("whole", "continued", 5)
    tuning = recipe.tuning
    assert (tuning.rank, tuning.alpha, tuning.lr, tuning.epochs, tuning.batch) == (32, 64.0, 1e-3, 3, 4)


def test_the_pages_have_commands():
    """Else the test above would hold of anything."""
    assert len(commands(README)) > 10
    assert {parsed(command)[0][0] for page in PAGES for command in commands(page)} == set(verbs_there_are().commands)  # type: ignore[attr-defined]


# ---- links and files

LINKS = [(page, link) for page in PAGES for link in re.findall(r"\]\(([^)\s]+)\)", page.read_text()) if "://" not in link]


@pytest.mark.parametrize(("page", "link"), [pytest.param(*one, id=f"{one[0].name}: {one[1]}") for one in LINKS])
def test_every_relative_link_leads_to_something(page, link):
    path, _, heading = link.partition("#")
    target = (page.parent / path).resolve() if path else page
    assert target.is_relative_to(ROOT)
    assert target.exists()
    if heading:
        headings = re.findall(r"^#+ (.*)$", target.read_text(), re.MULTILINE)
        assert heading in {re.sub(r"[^\w -]", "", one.lower()).replace(" ", "-") for one in headings}


def tree() -> set[str]:
    """Every path in the README's tree."""
    text = README.read_text().partition("## The tree")[2]
    found, above = set(), []
    for line in re.findall(r"^```\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)[0].splitlines():
        depth = (len(line) - len(line.lstrip())) // 2
        names = re.split(r" {2,}", line.strip())[0].split(" · ")
        above[depth:] = [names[0].rstrip("/")] if names[0].endswith("/") else []
        found |= {"/".join([*above[:depth], name.rstrip("/")]) for name in names}
    return found


def test_the_tree_names_every_room_and_nothing_that_is_not_there():
    source = ROOT / "src" / "seal"
    rooms = {path.relative_to(ROOT).as_posix() for path in source.iterdir() if path.is_dir()}
    named = {name for name in tree() if name.startswith("src/seal/") and not name.endswith(".py")}
    assert named == rooms - {"src/seal/__pycache__"}
    assert [name for name in tree() if not (ROOT / name).exists()] == []


def test_the_design_names_every_room():
    text = (ROOT / "docs" / "design.md").read_text()
    source = ROOT / "src" / "seal"
    rooms = {path.name for path in source.iterdir() if path.is_dir()} - {"data", "__pycache__"}
    assert [room for room in sorted(rooms) if not re.search(rf"^(?:.*\| )?{room}/", text, re.MULTILINE)] == []
    files = {path.stem for path in source.glob("*.py") if path.name != "__init__.py"}
    assert [name for name in sorted(files) if f"{name}.py" not in text] == []


def methods(code: str) -> dict[str, str]:
    """Every method of every class with its arguments and what it returns."""
    classes = [one for one in ast.parse(code).body if isinstance(one, ast.ClassDef)]
    found = [(made.name, one) for made in classes for one in made.body if isinstance(one, ast.FunctionDef)]
    return {
        f"{name}.{one.name}": f"({ast.unparse(one.args)}) -> {one.returns and ast.unparse(one.returns)}" for name, one in found
    }


def test_the_design_has_the_protocols_as_they_stand():
    (block,) = [one for one in blocks(ROOT / "docs" / "design.md", "python") if "Protocol" in one]
    assert methods(block) == methods((ROOT / "src" / "seal" / "protocols.py").read_text())


# ---- the engine by itself


def test_the_engines_example_trains_eight_adapters(tiny_path, tmp_path, monkeypatch):
    (program,) = blocks(ROOT / "docs" / "engine.md", "python")
    monkeypatch.chdir(tmp_path)
    names: dict[str, Any] = {"PATH": str(tiny_path)}
    exec(compile(program, "engine.md", "exec"), names)
    names["bank"].close()
    assert names["losses"].shape == (8,)
    before, after = names["model"], PeftModel.from_pretrained(names["model"], tmp_path / "adapter-0")
    ids = torch.tensor([names["rows"][0].ids])
    with torch.no_grad():
        loss = float(after(input_ids=ids, labels=ids).loss)
        with after.disable_adapter():
            assert loss < float(before(input_ids=ids, labels=ids).loss) - 0.01


# ---- the worked example


@pytest.fixture
def operation(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """The page's domain, as the module a reader would make of it."""
    (tmp_path / "operation.py").write_text(blocks(DOMAINS, "python")[0])
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "operation", raising=False)
    return import_module("operation")


def test_the_example_runs_from_python_as_it_stands(operation, tiny_path, capsys):
    program = blocks(DOMAINS, "python")[1].replace("smollm2-135m", str(tiny_path))
    exec(compile(program, "domains.md", "exec"), {})
    (run,) = Path("runs").iterdir()
    with Store.open(run, write=False) as store:
        assert [row["condition"] for row in evaluation_table(store)] == ["base", "untrained", "seal"]
        assert len(store.outcomes("train", 1)) == 4 * 4
        assert store.policy_dir(1).is_dir()
    assert "'condition': 'seal'" in capsys.readouterr().out


def test_the_example_learns_what_it_is_given(operation, tiny: LanguageModel, tmp_path):
    """A random model writes nothing that can be read; these edits are the answers themselves, and it gets them right."""
    domain = operation.Operation(Tuning(rank=32, alpha=64, lr=5e-3, epochs=100, targets=LLAMA_LINEAR), Bounds())
    problems = tuple(domain.problems("test")[:1])
    given = {one.id: ("\n".join(f"{query.question} {query.answer}" for query in one.queries),) for one in problems}
    plan = Evaluation(("base", "given"), problems, Sampling(), given=given)
    engine = Engine(tiny, slots=1)
    with Store.create(tmp_path, "operation", "", {}) as store:
        evaluate(engine, domain, store, plan, seed=0)
        base, learnt = evaluation_table(store)
    engine.close()
    assert (base["mean"], learnt["faults"]) == (0.0, 0)
    assert learnt["mean"] > 0.5


def test_a_run_of_the_example_is_exported_without_official_articles(operation, tmp_path):
    """The official form has passages alone, and these problems are none."""
    domain = operation.Operation(Tuning(), Bounds())
    problem = domain.problems("train")[0]
    edit = SelfEdit(edit_id("train", 1, problem.id, 0), problem.id, "1 @ 2 = 3", 1, 0, domain.edit_prompt(problem))
    before, after = (tuple(Answer(query.id, query.answer, score) for query in problem.queries) for score in (0.0, 1.0))
    with Store.create(tmp_path / "runs", "operation", "", {}) as store:
        store.put_problems([problem])
        store.put_base("train", 1, problem.id, before)
        store.put_edits([edit])
        store.put_outcome("train", 1, Outcome(Trial(trial_id(edit.id, 0), problem, edit), before, after))
        path = store.path
    assert run_verb(["export", str(path), "--out", "exported"]) == 0
    assert sorted(file.name for file in Path("exported").iterdir()) == ["edits.jsonl", "export.json", "outcomes.jsonl"]
    for name, key in (("edits", "id"), ("outcomes", "edit")):
        (line,) = (Path("exported") / f"{name}.jsonl").read_text().splitlines()
        assert json.loads(line)[key] == edit.id


def test_the_example_reads_edits_within_bounds_and_refuses_others(operation):
    domain = operation.Operation(Tuning(), Bounds(examples=2))
    problem = domain.problems("train")[0]
    reading = domain.read_edit(problem, "1. 1 @ 2 = 3\n2. 4 @ 5 = 6\n7 @ 8 = 9")
    assert [(one.prompt.text, one.completion) for one in reading.examples] == [("1 @ 2 =\n", "3"), ("4 @ 5 =\n", "6")]
    assert reading.cut == 1
    with pytest.raises(EditFault):
        domain.read_edit(problem, "I cannot do sums.")
    with pytest.raises(UserError, match="train, dev, test"):
        domain.problems("validation")
    rules = [one.id for split in ("train", "dev", "test") for one in domain.problems(split)]
    assert len(set(rules)) == len(rules)


def test_the_example_is_a_kind_a_recipe_can_name(operation):
    (text,) = blocks(DOMAINS, "toml")
    recipe = loads(text, source="operation.toml")
    domain = build.domain(recipe)
    assert isinstance(domain, operation.Operation)
    assert (domain.shown, domain.tuning.epochs) == (5, 3)
    assert loads(dump(recipe), source="recipe.toml") == recipe
    assert build.evaluation(recipe, domain, None).conditions == ("base", "untrained")


def test_a_condition_the_domain_does_not_offer_is_refused_before_anything_runs(operation):
    recipe = loads('[domain]\nkind = "operation:OperationTable"', source="operation.toml")
    with pytest.raises(UserError, match=r"'operation' has no 'in_context' \(no method ask_in_context\)"):
        build.evaluation(recipe, build.domain(recipe), None)


@pytest.mark.parametrize(
    ("kind", "told"),
    [
        ("operation:OperationTabel", "has no attribute 'OperationTabel'"),
        ("operation:Operation", "'operation:Operation' is no DomainTable"),
        ("operation:", "must be an importable module"),
        (":OperationTable", "must be an importable module"),
        ("nowhere:OperationTable", "No module named 'nowhere'"),
        ("operation", "no domain named 'operation'; known: arc, knowledge"),
    ],
)
def test_a_kind_that_is_none_is_one_line(operation, kind, told):
    with pytest.raises(UserError) as error:
        loads(f'[domain]\nkind = "{kind}"', source="mine.toml")
    assert str(error.value).startswith("mine.toml: domain.kind: ")
    assert told in str(error.value)
    assert "\n" not in str(error.value)


def test_a_field_of_ones_own_table_is_checked_like_any_other(operation):
    with pytest.raises(UserError, match=r"domain\.shwon: unknown; did you mean shown\?"):
        loads('[domain]\nkind = "operation:OperationTable"\nshwon = 4', source="mine.toml")


# ---- the rewards of one's own


@pytest.fixture
def mymodule(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """The page's rewards, as the module a reader would make of them."""
    (tmp_path / "mymodule.py").write_text(blocks(REWARDS_PAGE, "python")[0])
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "mymodule", raising=False)
    return import_module("mymodule")


def test_the_pages_recipes_load(mymodule):
    rewarded, unlabelled = (loads(text, source="page.toml") for text in blocks(REWARDS_PAGE, "toml"))
    assert build.reward(rewarded).needs_trials
    assert build.reward(rewarded).needs_probes
    assert unlabelled.questions.ways == ("spans", "cloze")


def test_every_reward_is_on_the_page_and_no_other():
    table = REWARDS_PAGE.read_text().partition("| name | what it is | needs |")[2].partition("\n\n")[0]
    names = {name for line in table.splitlines()[2:] for name in re.findall(r"`(\w+)`", line.split("|")[1])}
    assert names == {*REWARDS, *RATERS}
    for name, function in REWARDS.items():
        (line,) = [line for line in table.splitlines() if f"`{name}`" in line]
        assert ("the edit" in line.split("|")[3]) == (needs_of(name, function) == "edit")


def test_the_pages_rubric_asks_its_endpoint(mymodule, monkeypatch: pytest.MonkeyPatch, domain: Knowledge):
    openai = pytest.importorskip("openai")
    asked: list[str] = []

    def create(model: str, messages: list[dict[str, str]]) -> SimpleNamespace:
        if asked:
            raise openai.OpenAIError
        asked.append(messages[0]["content"])
        reply = SimpleNamespace(content="Length: 5\nDiversity: 4\nQuality: 4\nCorrectness: 5")
        return SimpleNamespace(choices=[SimpleNamespace(message=reply)])

    monkeypatch.setattr(
        openai, "OpenAI", lambda **told: SimpleNamespace(chat=SimpleNamespace(completions=SimpleNamespace(create=create)))
    )
    problem = domain.problems("train")[0]
    edits = [SelfEdit(f"train/1/{problem.id}/{at}", problem.id, "Ada built it.", 1, at, Prompt("")) for at in range(2)]
    said = Compose({"mymodule:rubric": 1.0}).raters["mymodule:rubric"].rate(None, domain, problem, edits)
    assert [one.value for one in said] == [0.875, None]
    assert "Ada built it." in asked[0]


def test_the_pages_rewards_do_what_they_say(mymodule, tiny: LanguageModel):
    problem = Problem("p", "The ferry", "{}", ())
    edits = [SelfEdit(f"train/1/p/{at}", "p", text, 1, at, Prompt("")) for at, text in enumerate(("Ada built it", "Ada saw it"))]
    after = (Answer("q0", "Ada", 1.0), Answer("q1", "in the year 1900", 1.0))
    outcomes = [Outcome(Trial(edit.id, problem, edit), (), after) for edit in edits]
    compose = Compose(dict.fromkeys(("mymodule:answers_short", "mymodule:unlike_the_others", "mymodule:on_topic"), 1.0))
    parts = compose.parts(outcomes[0], outcomes)
    assert parts["mymodule:answers_short"] == pytest.approx(1 - 1.5 / 9)
    assert parts["mymodule:unlike_the_others"] == pytest.approx(1 / 3)
    assert parts["mymodule:on_topic"] is None
    assert not Compose({"mymodule:unlike_the_others": 1.0, "mymodule:on_topic": 1.0}).needs_trials
    engine = Engine(tiny, slots=1)
    said = compose.raters["mymodule:on_topic"].rate(engine, None, problem, edits)
    engine.close()
    assert [one.value for one in said] == [float("yes" in one.said.lower()) for one in said]
