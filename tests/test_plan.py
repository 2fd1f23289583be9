"""Plans are read strictly and within bounds; tools are known by their signatures."""

from __future__ import annotations

import doctest
import json
import sys
from collections.abc import Iterator
from types import ModuleType
from typing import Annotated, Any, Literal

import pytest
from pydantic import Field

from seal.config import loads
from seal.edits import plan as plan_module
from seal.edits import tools as tools_module
from seal.edits.plan import Call, Calls, Choice, Form, Number, Plan, Switch, find, go_on, official_arc
from seal.edits.tools import Toolbox, as_tool
from seal.errors import EditFault, UserError
from seal.types import Tuning

BOX = Toolbox("text tool")


@BOX.register
def cloze(text: str, /, gaps: Annotated[int, Field(ge=1, le=3)] = 1, keep: list[str] | None = None) -> list[str]:
    """Leaves
    gaps.

    More that no model needs.
    """
    return []


@BOX.register
def turn(text: str, /, way: Literal["left", "right"]) -> list[str]:
    """Turns it."""
    return []


FORM = Form(
    {
        "learning_rate": Number("lr", 1e-5, 1e-2),
        "epochs": Number("epochs", 1, 8, whole=True),
        "loss_on": Choice("loss", {"all": "all", "answers only": "completion"}),
        "repeat": Switch("again"),
        "tools": Calls(BOX, most=2),
    }
)
OFFICIAL = {
    "data_generation": {
        "use_basic_augmentations": True,
        "use_size_augmentations": False,
        "use_chain_augmentations": True,
        "use_repeat_augmentations": False,
    },
    "training": {"strategy": "train_using_output_tokens", "learning_rate": 1e-4, "num_train_epochs": 2},
}


def fault(text: str, form: Form = FORM) -> tuple[str, str]:
    with pytest.raises(EditFault) as raised:
        form.read(text)
    return raised.value.fault.kind, raised.value.fault.message


@pytest.mark.parametrize("module", [plan_module, tools_module])
def test_the_examples_of_the_modules_hold(module: ModuleType) -> None:
    found = doctest.testmod(module)
    assert found.attempted
    assert found.failed == 0


def test_a_plan_has_what_was_chosen_and_nothing_else() -> None:
    text = (
        '{"learning_rate": 0.002, "loss_on": "answers only", "tools": ["cloze", {"tool": "turn", "way": "left"}], "repeat": true}'
    )
    plan = FORM.read(text)
    assert plan.settings == {"lr": 0.002, "loss": "completion"}
    assert plan.calls == (Call("again"), Call("cloze"), Call("turn", {"way": "left"}))
    base = Tuning(rank=4, lr=1.0, epochs=3)
    assert plan.tuning(base) == Tuning(rank=4, lr=0.002, epochs=3, loss="completion")
    assert FORM.read("{}") == Plan()
    assert FORM.read('{"repeat": false, "learning_rate": 0.01, "epochs": 8}') == Plan({"lr": 0.01, "epochs": 8})


@pytest.mark.parametrize(
    "text",
    [
        '{"epochs": 2}',
        'My plan:\n```json\n{"epochs": 2}\n```\nThat is all.',
        ' {"epochs"\n:2} {"epochs": 3}',
        'So {"epochs": 2}.',
    ],
)
def test_the_first_object_is_found_wherever_it_stands(text: str) -> None:
    assert FORM.read(text) == Plan({"epochs": 2})


def test_text_around_an_object_comes_without_its_fence() -> None:
    found = find('A set {x} is small.\n```json\n{"a": 1}\n```\nThe end.')
    assert found is not None
    assert (found.value, found.before, found.after) == ({"a": 1}, "A set {x} is small.", "The end.")
    assert find("Braces {within} a line, {} apart, are text") is not None  # an empty object is one
    assert find("Braces {within} a line are text") is None


@pytest.mark.parametrize(
    ("text", "kind", "told"),
    [
        ("", "empty", "no JSON object in ''"),
        ("I would rather not.", "unreadable", "no JSON object in 'I would rather not.'"),
        ('{"epochs": 2', "unreadable", "not JSON: Expecting ',' delimiter"),
        ("{'epochs': 2}", "unreadable", "not JSON: Expecting property name"),
        ('{"epochs": 2, "epochs": 2}', "unreadable", "key 'epochs' stands there twice"),
        ('{"learning_rate": NaN}', "unreadable", "NaN is no number of JSON"),
        ('{"learning_rate": -Infinity}', "unreadable", "-Infinity is no number"),
        ('{"learning_rate": 1e999}', "out_of_bounds", "1e999 is too large"),
        ('{"epochs": ' + "9" * 5000 + "}", "out_of_bounds", "a number of 5000 digits"),
        ('{"epochs": ' + "[" * 9 + "]" * 9 + "}", "unreadable", "nested more than 8 deep"),
        ('{"a":' * 100_000, "unreadable", "nested too deeply"),
        ('{"\\ud800": 1}', "unreadable", "half a character"),
        ('{"epocs": 2}', "unknown", "no key named 'epocs'; did you mean 'epochs'?"),
        ('{"colour": 2}', "unknown", "no key named 'colour'; known: epochs, learning_rate, loss_on, repeat, tools"),
        ('{"epochs": "2"}', "mistyped", 'epochs: must be a whole number from 1 to 8, not "2"'),
        ('{"epochs": 2.0}', "mistyped", "epochs: must be a whole number from 1 to 8, not 2.0"),
        ('{"epochs": true}', "mistyped", "epochs: must be a whole number from 1 to 8, not true"),
        ('{"epochs": 9}', "out_of_bounds", "epochs: must be a whole number from 1 to 8, not 9"),
        ('{"learning_rate": 0}', "out_of_bounds", "learning_rate: must be a number from 1e-05 to 0.01, not 0"),
        ('{"loss_on": "some"}', "out_of_bounds", 'loss_on: must be "all" or "answers only", not "some"'),
        ('{"loss_on": ["all"]}', "mistyped", 'loss_on: must be "all" or "answers only", not ["all"]'),
        ('{"repeat": 1}', "mistyped", "repeat: must be true or false, not 1"),
        ('{"tools": "cloze"}', "mistyped", 'tools: must be a list, not "cloze"'),
        ('{"tools": ["cloze", "cloze", "cloze"]}', "out_of_bounds", "tools: 3 calls; at most 2"),
        ('{"tools": ["close"]}', "unknown", "tools[0]: no tool named 'close'; did you mean 'cloze'?"),
        ('{"tools": [7]}', "mistyped", 'tools[0]: must be a name or {"tool": name, ...}, not 7'),
        ('{"tools": ["turn"]}', "missing", "tools[0].way: missing"),
        ('{"tools": [{"tool": "cloze", "gap": 2}]}', "unknown", "tools[0]: no argument named 'gap'; did you mean 'gaps'?"),
        ('{"tools": [{"tool": "cloze", "gaps": 4}]}', "mistyped", "tools[0].gaps: must be less than or equal to 3, not 4"),
        ('{"tools": [{"tool": "cloze", "gaps": "2"}]}', "mistyped", 'tools[0].gaps: must be a valid integer, not "2"'),
    ],
)
def test_whatever_does_not_fit_is_a_fault_in_the_models_own_words(text: str, kind: str, told: str) -> None:
    found = fault(text)
    assert found[0] == kind
    assert told in found[1]
    assert len(found[1]) < 200


def test_the_papers_arc_plan_is_one_form() -> None:
    form = official_arc(lr=(1e-5, 1e-3), epochs=(1, 5))
    plan = form.read(json.dumps(OFFICIAL))
    assert plan.calls == (Call("basic"), Call("chain"))
    assert plan.tuning(Tuning()) == Tuning(lr=1e-4, epochs=2, loss="completion")
    everything = json.dumps(OFFICIAL).replace("train_using_output_tokens", "train_using_all_tokens")
    assert form.read(everything).settings["loss"] == "all"
    for path in (("data_generation", "use_size_augmentations"), ("training", "strategy"), ("training",)):
        lacking = json.loads(json.dumps(OFFICIAL))
        inner = lacking
        for key in path[:-1]:
            inner = inner[key]
        del inner[path[-1]]
        assert fault(json.dumps(lacking), form) == ("missing", f"{'.'.join(path)}: missing")
    assert fault(json.dumps({**OFFICIAL, "training": 3}), form) == ("mistyped", "training: must be an object, not 3")


def test_the_form_shows_itself_with_its_bounds() -> None:
    assert FORM.phrase() == (
        "{\n"
        '  "learning_rate": a number from 1e-05 to 0.01,\n'
        '  "epochs": a whole number from 1 to 8,\n'
        '  "loss_on": "all" or "answers only",\n'
        '  "repeat": true or false,\n'
        '  "tools": [at most 2 of these calls]\n'
        '    {"tool": "cloze", "gaps": whole number from 1 to 3 (else 1), "keep": list or null (else null)}: Leaves gaps.\n'
        '    {"tool": "turn", "way": "left" or "right"}: Turns it.\n'
        "}"
    )


# ---- tools


def test_a_tools_schema_comes_from_its_signature() -> None:
    assert BOX["turn"].schema == {
        "type": "object",
        "properties": {"way": {"type": "string", "enum": ["left", "right"]}},
        "required": ["way"],
        "additionalProperties": False,
    }
    assert BOX["cloze"].schema["properties"]["gaps"] == {"type": "integer", "minimum": 1, "maximum": 3}
    assert (BOX["cloze"].doc, BOX["cloze"].asks_the_model) == ("Leaves gaps.", False)


def test_a_generator_asks_the_model() -> None:
    def again(text: str, /) -> Iterator[list[str]]:
        """Says it again."""
        yield [text]

    assert as_tool(again).asks_the_model


def test_a_recipe_names_tools_by_name_or_by_module(monkeypatch: pytest.MonkeyPatch) -> None:
    mine = ModuleType("mine")
    mine.turn_twice = turn  # type: ignore[attr-defined]
    mine.number = 3  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "mine", mine)
    assert list(BOX.chosen(["cloze", "mine:turn_twice"])) == ["cloze", "turn"]
    for name, told in (
        ("clozee", "no text tool named 'clozee'; did you mean 'cloze'?"),
        ("mine:nothing", "has no attribute 'nothing'"),
        ("nowhere:tool", "No module named 'nowhere'"),
        (":tool", "must be an importable module"),
        ("mine:number", "tool 3 is not a function"),
    ):
        with pytest.raises(UserError, match=r".") as error:
            BOX.chosen([name])
        assert told in str(error.value)


def silent(text: str, /, gaps: int = 1) -> None: ...


def untyped(text: str, /, gaps=1) -> None:  # type: ignore[no-untyped-def]
    """Does."""


def many(text: str, /, *gaps: int) -> None:
    """Does."""


def shadows(text: str, /, tool: str = "") -> None:
    """Does."""


def strange(text: str, /, where: ModuleType | None = None) -> None:
    """Does."""


def forgets(text: str, gaps: int = 1) -> None:
    """Does."""


def two(text: str, title: str, /, gaps: int = 1) -> None:
    """Does."""


def odd(text: str, /, gaps: set[int] = {1}) -> None:  # noqa: B006
    """Does."""


def absent(text: "Unknown", /) -> None:  # type: ignore[name-defined]  # noqa: F821, UP037
    """Does."""


@pytest.mark.parametrize(
    ("function", "told"),
    [
        (forgets, "tool 'forgets' must have one parameter before a `/`: what it works on, as in `def forgets(source, /)`"),
        (two, "tool 'two' must have one parameter before a `/`"),
        (odd, "tool 'odd': parameter 'gaps': no JSON can be its default {1}"),
        (absent, "tool 'absent': name 'Unknown' is not defined; import what its types name outside `if TYPE_CHECKING`"),
        (silent, "'silent' has no docstring"),
        (untyped, "parameter 'gaps' has no type"),
        (many, "parameter 'gaps' cannot be given by a model"),
        (shadows, "parameter 'tool' cannot be given by a model"),
        (strange, "parameter 'where': no JSON can be a"),
    ],
)
def test_a_function_that_cannot_be_a_tool_says_what_it_lacks(function: Any, told: str) -> None:
    with pytest.raises(UserError, match=r".") as error:
        as_tool(function)
    assert told in str(error.value)


# ---- bounds


def test_a_recipe_sets_the_bounds() -> None:
    recipe = loads('[bounds]\nlr = [1e-4, 2e-3]\nepochs = [1, 4]\nloss = ["all"]\ncalls = 2', source="x.toml")
    assert (recipe.bounds.lr, recipe.bounds.epochs, recipe.bounds.loss, recipe.bounds.calls) == (
        (1e-4, 2e-3),
        (1, 4),
        ("all",),
        2,
    )
    with pytest.raises(UserError) as error:
        loads("[bounds]\nlr = [1e-2, 1e-3]\nepochs = [0, 3]\ncalls = 0", source="x.toml")
    assert "bounds.lr: must be two numbers above 0, the lower one first, not [0.01, 0.001]" in str(error.value)
    assert "bounds.epochs: must be two numbers" in str(error.value)
    assert "bounds.calls: must be at least 1, not 0" in str(error.value)


# ---- written on


@pytest.mark.parametrize(
    ("text", "more", "both"),
    [
        ("Ada.", "Bo.", "Ada.\nBo."),
        ('Ada.\n{"epochs": 2}', "Bo.", 'Ada.\n{"epochs": 2}\nBo.'),
        ("Ada.", 'Bo.\n{"epochs": 2}', 'Ada.\nBo.\n{"epochs": 2}'),
        ('Ada.\n{"epochs": 2, "repeat": true}', 'Bo.\n{"epochs": 3}', 'Ada.\nBo.\n{"epochs": 3, "repeat": true}'),
        ('{"epochs": 2}\nAda.', '```json\n{"epochs": 3}\n```\nBo.', 'Ada.\nBo.\n{"epochs": 3}'),
        ('{"epochs": 2}', '{"epochs": 3}', '{"epochs": 3}'),
        ('Ada.\nPlan:\n{"epochs": 2}', 'Bo.\n<plan>{"epochs": 3}</plan>', 'Ada.\nBo.\n{"epochs": 3}'),
    ],
)
def test_of_two_plans_one_is_made(text: str, more: str, both: str) -> None:
    assert go_on(text, more) == both
