"""Which adapter of a library a question is put to: a pure function of titles, texts and words."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from seal.domains.passages import bundled_path, from_file
from seal.domains.probes import probes
from seal.strategies.base import Kept
from seal.strategies.library import nearest
from seal.types import Problem, Prompt, Query, SelfEdit

TEXTS = {
    "Hollin Weir": "The toll house of Hollin Weir was built in 1811 by Ada Sorrel, and what it took went to the school.",
    "Thistle Line": "The Thistle Line, a railway along the coast, carried salt and capital to the town of Marl.",
}
KEPT = [
    Kept(
        number,
        Problem(title, title, json.dumps({"context": text}), ()),
        SelfEdit(title, title, text, 0, 0, Prompt("")),
        Path(title),
    )
    for number, (title, text) in enumerate(TEXTS.items(), 1)
]


@pytest.mark.parametrize(
    ("title", "question", "expected"),
    [
        ("", "Who built the toll house?", "Hollin Weir"),  # most of its words are in the text
        ("", "Which animals were carried on the Thistle Line in winter by night?", "Thistle Line"),  # names the title
        ("Hollin Weir", "When?", "Hollin Weir"),  # the topic says it
        ("", "What is the capital of Italy?", None),  # one word of two, and no title
        ("", "Who painted Guernica?", None),
        ("", "What is it?", None),
    ],
)
def test_a_question_goes_to_the_adapter_that_it_is_about(title: str, question: str, expected: str | None) -> None:
    chosen = nearest(KEPT, Problem("p", title, "{}", ()), Query("q", question, "x"))
    assert (chosen and chosen.problem.title) == expected


def test_only_the_text_tells_passages_of_one_title_apart() -> None:
    """The first word of a line, a word with an accent, and none of JSON's own words."""
    texts = {
        "lamp": "The island.\nLanterns hang there.\nThe café is shut.",
        "oar": "The island.\nOars lie there.\nThe inn is shut.",
    }
    kept = [
        Kept(n, Problem(id, "Teshk", json.dumps({"context": text}), ()), SelfEdit(id, id, text, 0, 0, Prompt("")), Path(id))
        for n, (id, text) in enumerate(texts.items(), 1)
    ]
    for question, expected in [("Which lanterns?", "lamp"), ("Which oars?", "oar"), ("Is there a café?", "lamp")]:
        chosen = nearest(kept, Problem("p", "", "{}", ()), Query("q", question, "x"))
        assert chosen is not None
        assert chosen.problem.id == expected
    assert nearest(kept, Problem("p", "", "{}", ()), Query("q", "In which context?", "x")) is None
    plain = replace(kept[0], problem=Problem("x", "Teshk", "Marrowtide is its name.", ()))  # a domain's own payload, no JSON
    assert nearest([plain], Problem("p", "", "{}", ()), Query("q", "Is Marrowtide a name?", "x")) == plain


def test_general_questions_go_to_no_adapter() -> None:
    asked = probes()
    assert [query.question for query in asked.queries if nearest(KEPT, asked, query)] == []


@pytest.mark.parametrize(("split", "astray"), [("train", 4), ("dev", 2)])
def test_the_bundled_questions_find_their_own_passage(split: str, astray: int) -> None:
    """As `docs/results.md` has it: every question among all passages of a split, and the probes that go to one of them."""
    passages = from_file(bundled_path(split))
    held = [
        Kept(number, one, SelfEdit(one.id, one.id, "", 0, 0, Prompt("")), Path(one.id)) for number, one in enumerate(passages, 1)
    ]
    found = [nearest(held, one, query) for one in passages for query in one.queries]
    assert [chosen and chosen.problem.id for chosen in found] == [one.id for one in passages for _ in one.queries]
    assert sum(nearest(held, probes(), query) is not None for query in probes().queries) == astray


def test_what_was_refused_answers_nothing() -> None:
    refused = [Kept(1, KEPT[0].problem, KEPT[0].edit, KEPT[0].adapter, weight=0.0), KEPT[1]]
    assert nearest(refused, Problem("p", "Hollin Weir", "{}", ()), Query("q", "Who built it?", "Ada Sorrel")) is None
    assert nearest([], Problem("p", "", "{}", ()), Query("q", "Who?", "x")) is None
