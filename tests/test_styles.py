"""The paper's prompts word for word, its reading rules, and our cleaner reading."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from seal.edits import reading
from seal.edits.styles import STYLES, style
from seal.errors import EditFault, UserError

PASSAGE = "Passage:\nTitle\nThe text.\n\n"
LIST_OF = (
    "Let's read the following passage and produce a {}list of implications derived directly or indirectly from the content.\n\n"
)
PROMPTS = {
    "implications": LIST_OF.format("") + PASSAGE + "Implications:\n",
    "implications-long": LIST_OF.format("long ") + PASSAGE + "Implications:\n",
    "implications-very-long": LIST_OF.format("very long ") + PASSAGE + "Implications:\n",
    "implications-chain-of-thought": "Let's read the following passage, think step by step, and then produce a list of "
    "implications derived directly or indirectly from the content. "
    'We should first generate a "Thought Process" and then "Implications"\n\n' + PASSAGE + "Thought Process:\n",
    "rewrite": "Let's read the following passage and rewrite it in a few different ways, each one separated by a newline.\n\n"
    + PASSAGE
    + "Rewritten passages:\n",
    "self-qa": "Let's read the following passage and rewrite it in a question-answer format.\n\n" + PASSAGE + "Question 1: ",
    "none": PASSAGE,
}
WRITTEN = st.text() | st.lists(
    st.sampled_from(
        ["\n", "---", "1. ", "- ", "**", "# ", "Question 1: ", "Question 2:", "Answer:", "\nImplications:", "A fact.", ":", " "]
    )
).map("".join)


@pytest.mark.parametrize("name", PROMPTS)
def test_a_base_model_gets_the_papers_prompt(name: str) -> None:
    prompt = style(name).prompt("Title", "The text.")
    assert prompt.text + prompt.prefill == PROMPTS[name]
    assert prompt.system is None


def test_braces_in_a_passage_are_left_alone() -> None:
    assert "Passage:\n{context}\n{title} {0}\n" in style("implications").prompt("{context}", "{title} {0}").text


READINGS = [read for one in STYLES.values() for read in (one, one.cleaned(), one.whole())]


@given(st.sampled_from(READINGS), WRITTEN)
def test_any_text_gives_sequences_or_a_fault(one, written: str) -> None:
    try:
        segments = one.read(written)
    except EditFault:
        return
    assert any(reading.has_words(segment) for segment in segments)


@given(WRITTEN)
def test_official_reading_loses_no_words_but_an_introduction(written: str) -> None:
    written = written.replace("---", " ").replace("Question", "Why")
    words, kept = written.split(), " ".join(reading.official(written)).split()
    assert words[len(words) - len(kept) :] == kept


@pytest.mark.parametrize(
    ("written", "segments"),
    [
        ("1. One.\n\n  2. Two. \n", ["1. One.", "2. Two."]),
        ("Sure, here they are:\n1. One.\n2. Two.", ["1. One.", "2. Two."]),
        ("Sure:\n\n---\n\n1. One.", ["1. One."]),
        ("Sure:\n- One.\n1. Two.", ["Sure:", "- One.", "1. Two."]),  # only the second line counts
        ("1. One.\n10. Ten.", ["1. One.", "10. Ten."]),
        ("One.---Two.\nThree.", ["One.", "Two.", "Three."]),
        ("", []),
        (
            "Who?\nAnswer: Ann.\n\nQuestion 2: When?\nAnswer: Now,\nor later.",
            ["Question 1: Who?\nAnswer: Ann.", "Question 2: When?\nAnswer: Now,\nor later."],
        ),
        ("Question 1: Who?\nAnswer: Ann.\nQuestion 2: Why?", ["Question 1: Who?\nAnswer: Ann.", "Question 2: Why?"]),
        (" Question 1: Who?\nAnswer: Ann.\nQuestion 2: Why? \n", ["Question 1: Who?\nAnswer: Ann.", "Question 2: Why?"]),
        ("Question 1: Who?\nAnswer: Ann.\n\nQuestion 2: Why?", ["Question 1: Who?\nAnswer: Ann.\n", "Question 2: Why?"]),
        ("Who?\nAnswer: Ann.", ["Who?", "Answer: Ann."]),  # without "Question N:" it is text like any other
        ("Question 1: Who?\nQuestion 2: Why?", ["Question 1: Who?", "Question 2: Why?"]),
    ],
)
def test_official_reading_line_by_line(written: str, segments: list[str]) -> None:
    assert reading.official(written) == segments


@pytest.mark.parametrize(
    ("written", "segments"),
    [("1. One.\n2. Two.\n", ["1. One.\n2. Two."]), ("One.\n---\nTwo.", ["One.", "Two."]), ("  ", [""]), ("---", ["---"])],
)
def test_official_reading_unsplit(written: str, segments: list[str]) -> None:
    assert reading.official(written, split_newlines=False) == segments


@pytest.mark.parametrize("name", STYLES)
def test_a_whole_edit_is_one_segment_but_for_its_dashes(name: str) -> None:
    assert style(name).whole().read("1. One.\nTwo.\n---\n\nThree. ") == ["1. One.\nTwo.", "Three."]
    assert style(name).whole().prompt("T", "C") == style(name).prompt("T", "C")
    with pytest.raises(EditFault, match="nothing to learn"):
        style(name).whole().read("---")


def test_thoughts_are_not_trained_on() -> None:
    thinks = style("implications-chain-of-thought")
    assert thinks.whole().read("First, I see.\nImplications:\n- One.\n- Two.") == ["- One.\n- Two."]
    assert thinks.cleaned().read("First, I see.\nImplications:\n- One.\n- Two.") == ["One.", "Two."]
    assert style("implications-chain-of-thought").read("First, I see.\nImplications:\n- One.\nImplications:\n2. Two.") == [
        "- One.",
        "Implications:",
        "2. Two.",
    ]
    assert style("implications").read("A.\nImplications:\nB.") == ["A.", "Implications:", "B."]


@pytest.mark.parametrize(
    ("line", "plain"),
    [
        ("1. One.", ["One."]),
        ("  - **Two**: it *is*.", ["Two: it *is*."]),
        ("(a) 12) • Three.", ["Three."]),
        ("**4. Four.**", ["Four."]),
        ("1.5 million lived there.", ["1.5 million lived there."]),
        ("-5 degrees", ["-5 degrees"]),
        ("12 men sat there.", ["12 men sat there."]),
        ("He asked Question 1: why.", ["He asked Question 1: why."]),
        ("Here are the facts:", []),
        ("## Facts", []),
        ("**Early life**", []),
        ("7.", []),
        ("***", []),
    ],
)
def test_atomic_facts_are_plain_sentences(line: str, plain: list[str]) -> None:
    assert reading.facts(line) == plain


def test_atomic_facts_drop_repetitions_and_keep_order() -> None:
    assert style("atomic-facts").read("1. B is red.\n2. A is blue.\n- b is  red.") == ["B is red.", "A is blue."]


def test_a_question_with_its_answer_on_a_line_is_one_fact() -> None:
    line = "Question: Who built it? Answer: Ada Lund. In 1834."
    assert style("atomic-facts").read(f"1. {line}\n2. It burnt.") == [line, "It burnt."]


def test_a_clean_question_keeps_its_answer_and_loses_its_number() -> None:
    read = style("self-qa").cleaned().read("Who?\nAnswer: Ann.\nQuestion 2: When?\nAnswer:\nNow")
    assert read == ["Question: Who?\nAnswer: Ann.", "Question: When?\nAnswer:\nNow"]


@given(st.lists(WRITTEN))
def test_cleaning_twice_changes_nothing(segments: list[str]) -> None:
    assert reading.clean(reading.clean(segments)) == reading.clean(segments)


def test_faults_say_what_was_wrong() -> None:
    with pytest.raises(EditFault) as empty:
        style("implications").read(" \n ")
    assert empty.value.fault.kind == "empty"
    with pytest.raises(EditFault, match="'---'") as unreadable:
        style("rewrite").read("---")
    assert unreadable.value.fault.kind == "unreadable"


def test_an_unknown_style_gets_the_nearest_name() -> None:
    with pytest.raises(UserError, match="did you mean 'implications'"):
        style("implcations")
