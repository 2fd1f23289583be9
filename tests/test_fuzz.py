"""Whatever a model writes, its reader gives a value or an EditFault: no crash, no hang. A new reader is a line in `READERS`."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from functools import partial
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from seal.domains.arc.codecs import CODECS
from seal.domains.arc.plans import plan_form
from seal.domains.passages import bundled_path
from seal.domains.self_questions import read_questions
from seal.edits import reading
from seal.edits.plan import go_on, later, official_arc
from seal.edits.styles import STYLES
from seal.edits.text_plan import TextPlans
from seal.edits.text_tools import TEXT_TOOLS
from seal.errors import EditFault
from seal.grading.calibrated import calibrated
from seal.grading.features import features
from seal.grading.judge import read_verdict
from seal.grading.lexical import values
from seal.kinds import spans
from seal.rewards.proxy import read_rubric
from seal.types import Bounds

BOUNDS = Bounds(examples=8, tools=tuple(TEXT_TOOLS), styles=("self-qa",), loss=("all", "answers", "numbers", "names", "dates"))
PLANS = TextPlans(STYLES["atomic-facts"], {"self-qa": STYLES["self-qa"]}, TEXT_TOOLS.chosen(BOUNDS.tools), BOUNDS)
ALONE = TextPlans(None, {}, PLANS.tools, BOUNDS)
OFFICIAL = official_arc((1e-5, 1e-2), (1, 10))
SHORT = plan_form("short", Bounds(tools=("turns", "size"), loss=("all", "outputs", "completion")))


def text_plan(plans: TextPlans, text: str) -> None:
    """Both times that an edit is read: before its tools have asked the model, and after."""
    written = plans.read("The Mill", "Ada Lund built it in 1834. It burnt.", text)
    if written.asks:
        plans.read("The Mill", "Ada Lund built it in 1834. It burnt.", text, [text] * len(written.asks))


READERS: dict[str, Callable[[str], object]] = {
    "official": STYLES["implications"].read,
    "chain of thought": STYLES["implications-chain-of-thought"].read,
    "atomic facts": STYLES["atomic-facts"].read,
    "clean": STYLES["self-qa"].cleaned().read,
    "unsplit": lambda text: reading.official(text, split_newlines=False),
    "text plan": partial(text_plan, PLANS),
    "a plan alone": partial(text_plan, ALONE),
    "ARC plan": OFFICIAL.read,
    "short ARC plan": SHORT.read,
    "two passes": lambda text: go_on(text, text),
    "two plans alone": lambda text: later(text, text),
    **{f"grid as {name}": codec.read for name, codec in CODECS.items()},
    "a judge's verdict": read_verdict,
    "ratings by a rubric": read_rubric,
    "the model's own questions": read_questions,
    "an answer by values": lambda text: values("How many?", "12 May 1834", text),
    "an answer's features": lambda text: features("How many?", "12 May 1834", text, {}),
}
COUNT = 100_000
"""Strings that every reader is given."""
LIMIT = 2.0
"""Most seconds of CPU one string may take."""

SNIPPETS = (
    *(
        "\n",
        "\n\n",
        " ",
        "---",
        "1. ",
        "- ",
        "**",
        "# ",
        "```",
        "```json\n",
        "Question 1:",
        "Question 2: ",
        "Answer:",
        "Answer: ",
    ),
    *(
        "\nImplications:\n",
        "Ada Lund",
        " in 1834",
        " and 12 ",
        ".",
        "!",
        ":",
        "e.g. ",
        "“",
        "”",
        "\t",
        "\r\n",
        "\x00",
        "\u2028",
        "é",
    ),
    *("{", "}", "[", "]", '"', ",", "\\", '{"', '":', '"epochs": 2', '"learning_rate": 1e-3', '"learning_rate": NaN', "1e999"),
    *(
        '"loss_on": "names"',
        '"style": "self-qa"',
        '"tools": ["cloze"]',
        '{"tool": "cloze", "gaps": 2}',
        "null",
        "true",
        "-0",
        "9" * 30,
    ),
    *(
        '"training": {',
        '"strategy": "train_using_all_tokens"',
        '"use_basic_augmentations": true',
        "\ud800",
        '"\\ud800"',
        "😀",
        "语",
    ),
)
PLAN_LINES = (
    '{"learning_rate": 0.002, "epochs": 4, "loss_on": "numbers", "tools": ["sentences", {"tool": "cloze", "gaps": 2}]}',
    '```json\n{"style": "self-qa", "tools": ["reverse", {"tool": "paraphrase", "times": 2}]}\n```',
    (
        '{"data_generation": {"use_basic_augmentations": true, "use_size_augmentations": false, "use_chain_augmentations": '
        'false, "use_repeat_augmentations": true}, "training": {"strategy": "train_using_output_tokens", "learning_rate": 1e-4, '
        '"num_train_epochs": 2}}'
    ),
    '{"learning_rate": 0.002, "epochs": 4, "loss_on": "names", "tools": ["questions", "cloze"]}',
    '{"tools": ["turns"], "colours": "permuted", "loss": "outputs", "lr": 0.001, "epochs": 2}',
)


def outputs() -> list[str]:
    """What real models wrote: the teacher's edits that come with the documents, whole and by lines, some with a plan."""
    whole = [edit for article in json.loads(bundled_path("teacher").read_text()) for edit in article["completions"]]
    lines = [line for edit in whole for line in edit.splitlines()]
    return [*whole[:20], *lines[:200], *PLAN_LINES, *(f"{lines[at]}\n{plan}" for at, plan in enumerate(PLAN_LINES * 40))]


def generated(count: int, seed: int) -> Iterator[str]:
    """Half mutated outputs, half loose pieces."""
    random, known = Random(seed), outputs()
    for _ in range(count):
        if random.random() < 0.5:
            yield "".join(random.choices(SNIPPETS, k=random.randrange(1, 12)))
            continue
        text = random.choice(known)
        for _ in range(random.randrange(1, 4)):
            at, to = sorted((random.randrange(len(text) + 1), random.randrange(len(text) + 1)))
            new = random.choice(SNIPPETS)
            text = text[:at] + new + text[random.choice((at, at + 1, to)) :]
        yield text[:400]


def fed(read: Callable[[str], object], text: str) -> str:
    """How it ended. Anything but a value or a fault is raised."""
    began = time.thread_time()
    try:
        read(text)
        ended = "read"
    except EditFault as error:
        ended = error.fault.kind
        json.dumps(error.fault.message, ensure_ascii=False).encode()  # it goes into the run's database
    took = time.thread_time() - began
    assert took < LIMIT, f"{took:.1f} s for {text[:80]!r}"
    return ended


@pytest.mark.timeout(250)
def test_a_hundred_thousand_strings_leave_every_reader_standing() -> None:
    ended: dict[str, dict[str, int]] = {name: {} for name in READERS}
    for text in generated(COUNT, seed=0):
        for name, read in READERS.items():
            how = fed(read, text)
            ended[name][how] = ended[name].get(how, 0) + 1
    for name, counts in ended.items():
        assert sum(counts.values()) == COUNT
        assert counts.get("read"), f"{name} never read anything: the strings are too wild to say much"
    assert {"read", "unreadable", "unknown", "mistyped", "out_of_bounds"} <= set(ended["text plan"])
    for name in ("ARC plan", "short ARC plan"):
        assert {"read", "unreadable", "unknown", "missing"} <= set(ended[name])


@settings(max_examples=300, deadline=None)
@given(st.text(st.characters(exclude_categories=[])) | st.lists(st.sampled_from(SNIPPETS)).map("".join))
def test_any_text_at_all_is_read_or_a_fault(text: str) -> None:
    for read in READERS.values():
        fed(read, text)
    fed(lambda text: calibrated("How many?", "12 May 1834", text), text)  # what it adds to the features is numbers alone


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inside: st.lists(inside, max_size=3) | st.dictionaries(st.sampled_from(["epochs", "tools", "tool", "x"]), inside),
    max_leaves=8,
)


@settings(max_examples=300, deadline=None)
@given(st.dictionaries(st.sampled_from(["epochs", "learning_rate", "loss_on", "style", "tools", "training"]), JSON))
def test_any_json_is_read_or_a_fault(plan: dict[str, object]) -> None:
    for name in ("text plan", "ARC plan"):
        fed(READERS[name], json.dumps(plan))


@pytest.mark.parametrize(
    "piece",
    [*('{"a":', "[", "{", '{"', '"\\"', "\\", "```json\n", "Question 1:", "Question 1: Who?\nAnswer: Ada.\n", "Answer:", "1. "),
     *("(a) ", " ", "\n", "\t\n", "**", "- - ", "---", "1,", "A. ", "Ada ", "12 May ", "May 1834, ", "{x", "{x:", '.”', '{}'),
     *("hundred ", "five thousand ", "3 dozen ", "-9", "9.9 ", "Question: Who? Answer: Ada. ", "<a>", "ten, ", ".5", "(1")],
)  # fmt: skip
@pytest.mark.timeout(250)
def test_long_repetitions_take_no_longer_than_their_length(piece: str) -> None:
    text = (piece * 30_000)[:30_000]  # a reply of 8,192 tokens
    for read in READERS.values():
        fed(read, text)
        fed(read, f'{text}\n{{"epochs": 2, "tools": ["cloze", "reverse"]}}')
    for kind in ("answers", "numbers", "names", "dates"):
        fed(lambda text, kind=kind: spans(text, kind), text)  # type: ignore[misc]
