"""Properties of answer comparison and of the lexical graders."""

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from seal import text
from seal.errors import UserError, unknown
from seal.grading.graders import GRADERS, grader

ANSWERS = st.text(max_size=40) | st.lists(st.sampled_from(["the", "A", "red", "Fox!", "1,900", "naïve", "—"]), max_size=8).map(
    " ".join
)


@given(ANSWERS)
@example("e-\u0301")  # what the hyphen parted comes together
def test_normalising_twice_changes_nothing(answer: str) -> None:
    assert text.normalise(text.normalise(answer)) == text.normalise(answer)


@given(ANSWERS, ANSWERS)
def test_f1_is_symmetric_and_in_range_and_never_above_one_where_exact(left: str, right: str) -> None:
    assert 0 <= text.f1(left, right) <= 1
    assert text.f1(left, right) == text.f1(right, left)
    if text.measure(left, right)["exact"]:
        assert text.f1(left, right) == text.recall(left, right) == 1


@given(ANSWERS, ANSWERS)
def test_saying_more_never_lowers_recall(answer: str, more: str) -> None:
    if text.tokens("red fox") and text.tokens(answer):
        assert text.recall(f"{answer} {more}", "red fox") >= text.recall(answer, "red fox")


@pytest.mark.parametrize(
    ("answer", "target", "f1", "recall"),
    [
        ("The red fox.", "a Red Fox", 1.0, 1.0),
        ("red red", "red red fox", 0.8, 2 / 3),  # repeated tokens are counted, not merged
        ("red", "red red", 2 / 3, 0.5),
        ("‘Kestrel’ – 1750—1840", "Kestrel - 1750-1840", 1.0, 1.0),  # Unicode punctuation is punctuation
        ("ﬁve", "five", 1.0, 1.0),
        ("vitamin", "A", 0.0, 0.0),
        ("the", "A", 0.0, 0.0),
        ("a", "A", 1.0, 1.0),  # an answer made of articles keeps them
        ("", "fox", 0.0, 0.0),
        ("", "!", 1.0, 1.0),
    ],
)
def test_examples(answer: str, target: str, f1: float, recall: float) -> None:
    assert text.f1(answer, target) == pytest.approx(f1)
    assert text.recall(answer, target) == pytest.approx(recall)


@given(ANSWERS.filter(text.tokens))
def test_every_grader_accepts_the_target_itself(target: str) -> None:
    for name in GRADERS:
        assert grader(name)("?", target, target).score == 1.0


def test_every_grade_carries_all_three_metrics() -> None:
    for name in GRADERS:
        assert grader(name)("?", "red fox", "a red hen").metrics.items() >= {"f1": 0.5, "exact": 0.0, "recall": 0.5}.items()


def test_graders_differ_as_their_names_say() -> None:
    said = "it was the fox, a red one, in 1900"
    scores = {name: grader(name)("?", "red fox", said).score for name in GRADERS}
    assert scores == {
        "recall": 1.0,
        "f1": pytest.approx(4 / 9),
        "exact": 0.0,
        "contains": 0.0,
        "values": 1.0,
        "calibrated": 1.0,
    }
    assert grader("contains")("?", "red fox", "the Red Fox, they say").score == 1.0
    assert grader("recall")("?", "one red fox", "red fox").score == 0.0  # two of three is under 67%


def test_an_unknown_grader_gets_the_nearest_name() -> None:
    with pytest.raises(UserError, match="did you mean 'recall'"):
        grader("recal")


def test_of_many_names_the_nearest_ten_are_told() -> None:
    many = [f"{number:08x}" for number in range(400)]
    told = str(unknown("ARC puzzle", "nosuch", ["nobody", *many]))
    assert told.startswith("no ARC puzzle named 'nosuch'; the nearest of the 401 known: nobody, 0")
    assert told.count(",") == 9
    assert str(unknown("word", "q", ["b", "a"])) == "no word named 'q'; known: a, b"


def test_sentences_end_where_sentences_end() -> None:
    written = "Mr. A. Lund left.  “Why?” he asked in 1834.\nIt cost 2.50 at St. Olav. 12 men came! No. 3 did not."
    assert text.sentences(written) == [
        "Mr. A. Lund left.",
        "“Why?” he asked in 1834.",
        "It cost 2.50 at St. Olav.",
        "12 men came!",
        "No. 3 did not.",
    ]
    assert text.sentences('He said "Go." Then she left.\nMr.\nLund') == ['He said "Go."', "Then she left.", "Mr.", "Lund"]
    assert text.sentences(" \n ") == []


@pytest.mark.parametrize(
    "written",
    [
        *("See Fig. 3 and Figs. 4 and 5, p. 12, pp. 3 and 4.", "Lund et al. 1990 say so.", "It is approx. 12 miles."),
        *("On Jan. 5 and Sept. 6 it rained.", "Mt. Tarn and Lt. Lund."),
    ],
)
def test_abbreviations_end_no_sentence(written: str) -> None:
    assert text.sentences(f"{written} Al. 12 came in Jan. She is 5 p. Yes. No.") == [
        *(written, "Al.", "12 came in Jan.", "She is 5 p.", "Yes.", "No."),
    ]


@pytest.mark.parametrize(
    "parts",
    [
        ["Er ging.", "Über dem Tor stand 1834.", "„Ja.“", "Ölbilder hingen dort."],
        ["Elle vint.", "Émile Zola, ou É. Zola, écrit.", "«Oui.»", "À Paris aussi."],
        ["Salió.", "¿Qué dijo?", "¡Nada!", "Ángel calló."],
        ["Он пришёл.", "Мост построил А. Лунд.", "Это всё."],
    ],
)
def test_sentences_end_before_any_alphabets_capitals(parts: list[str]) -> None:
    assert text.sentences(" ".join(parts)) == parts


@given(st.text() | st.lists(st.sampled_from(["Mr.", "A.", "ran.", '"No!"', "b", "12", "\n", " "])).map(" ".join))
def test_sentences_lose_no_word(written: str) -> None:
    assert " ".join(text.sentences(written)).split() == written.split()
