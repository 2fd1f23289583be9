"""Numbers and dates as values, and the calibrated grader: what it says, how fast, and how well."""

from __future__ import annotations

import io
import json
import random
import re
import sys
import time
from collections.abc import Callable
from importlib import import_module
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from seal.cli.app import run
from seal.grading import calibrated as module
from seal.grading.calibrated import calibrated, from_json, probabilities, read
from seal.grading.features import NAMES, features, stem
from seal.grading.grade import correct, grade_all
from seal.grading.graders import GRADERS, grader
from seal.grading.lexical import values
from seal.grading.values import readings, words
from seal.stats import kappa

LABELS = Path(__file__).parents[1] / "docs" / "data" / "hand_labels.jsonl"
SCRIPTS = Path(__file__).parents[1] / "scripts"
OFFICIAL = Path(__file__).parents[2] / "shared" / "data" / "official"


# -- values ---------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("1,200", "twelve hundred"),
        ("1,200", "1200"),
        ("1.2 thousand", "1200"),
        ("3.5 million", "3,500,000"),
        ("10%", "ten per cent"),
        ("10 percent", "10 %"),
        ("205", "two hundred and five"),
        ("5,430", "five thousand four hundred and thirty"),
        ("1984", "nineteen eighty-four"),
        ("2006", "two thousand and six"),
        ("21", "twenty-one"),
        ("21st", "twenty-first"),
        ("9th", "ninth"),
        ("dozen", "twelve"),
        ("one hundred thousand", "100000"),
        ("Sept", "september"),
        ("U.S.", "US"),
        ("−40", "-40"),
        (".5", "0.5"),
        ("$.50", "$0.5"),
        ("-.05 percent", "-0.05%"),
        ("3½ miles", "3 1/2 miles"),
        ("50th", "fiftieth"),
        ("the 40th", "the fortieth"),
        ("99th", "ninety-ninth"),
        ("5,430", "five thousand, four hundred and thirty"),
        ("105", "one hundred, and five"),
    ],
)
def test_one_value_is_one_word_however_written(one: str, other: str) -> None:
    assert words(one) == words(other)


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("1811-1879", ["1811", "1879"]),
        ("the 1990s", ["the", "1990s"]),
        ("3G/4G, 4:3", ["3g", "4g", "4", "3"]),
        ("ten to fifteen", ["10", "to", "15"]),
        ("seven and eight", ["7", "and", "8"]),
        ("3,5", ["3", "5"]),
        ("hundred", ["100"]),
        ("fifteen, twenty", ["15", "20"]),
        ("twenty. Five were left", ["20", "5", "were", "left"]),
        ("“nineteen,” eighty-four", ["19", "84"]),
        ("one hundred. Five", ["100", "5"]),
        ("3..5, v.5", ["3", "5", "v", "5"]),
        ("O'Neil's", ["o'neil's"]),
        ("99/99/9999", ["99", "99", "9999"]),
        ("", []),
    ],
)
def test_what_is_no_single_number_stays_apart(text: str, found: list[str]) -> None:
    assert words(text) == found


def test_a_numeric_date_has_two_readings_unless_only_one_can_be() -> None:
    assert readings("9/6/1886") == [["6", "september", "1886"], ["9", "june", "1886"]]
    assert readings("1886-06-09") == [["9", "june", "1886"]]
    assert readings("6/25/1886") == readings("25.6.1886") == [["25", "june", "1886"]]


@pytest.mark.parametrize(
    ("target", "answer", "score"),
    [
        ("9 June 1886", "It opened on June 9, 1886.", 1.0),
        ("9 June 1886", "9/6/1886", 1.0),
        ("9 June 1886", "1886-06-09", 1.0),
        ("9 June 1886", "June 1886", 0.0),  # every number is needed
        ("1886", "on 9 June 1886", 1.0),
        ("two", "2 of them", 1.0),
        ("nineteen pells", "19 pells", 1.0),
        ("one-sixteenth", "1/16", 1.0),
        ("61%", "61", 1.0),
        ("1,200 men", "1,300 men", 0.0),
        ("Berta Undle", "the cook Berta Undle", 1.0),
        ("the", "a", 0.0),
        (".5", "5", 0.0),
        (".5", "0.5", 1.0),
        ("twenty", "twenty. Five of them", 1.0),
    ],
)
def test_the_values_grader(target: str, answer: str, score: float) -> None:
    assert grader("values")("?", target, answer).score == score


@given(st.integers(1, 10**5), st.integers(0, 2), st.sampled_from([("thousand", 3), ("million", 6), ("billion", 9)]))
def test_an_amount_with_a_fraction_is_its_digits(digits, places, scale) -> None:
    """4.1 million is 4,100,000; as floats it would be 4099999.9999999995."""
    name, zeros = scale
    written = f"{digits // 10**places}.{digits % 10**places:0{places}d}" if places else str(digits)
    assert words(f"about {written} {name} people") == ["about", str(digits * 10 ** (zeros - places)), "people"]


@given(st.integers(0, 10**12))
def test_digits_are_their_value_with_and_without_commas(number: int) -> None:
    assert words(str(number)) == words(f"{number:,}") == [str(number)]


def test_a_number_without_end_is_no_number() -> None:
    looped = "5 " + "trillion " * 370
    assert values("How many?", "5 trillion", looped).score is not None
    assert values("How many?", "5000000000000", "5 trillion").score == 1.0


# -- calibrated -----------------------------------------------------------------------------------------------------------


def test_it_follows_the_obvious() -> None:
    asked = "Who wrote the rules of quillet?"
    rows = [(asked, "Ivven Tarl", answer) for answer in ("Ivven Tarl", "It was Ivven Tarl.", "A man called Hobb.", "", " ")]
    assert [one.score for one in grade_all(calibrated, rows)] == [1.0, 1.0, 0.0, 0.0, 0.0]
    assert [calibrated("Which vitamin?", "A", said).score for said in ("A", "a.", "...", "the")] == [1.0, 1.0, 0.0, 0.0]
    grades = grade_all(calibrated, rows)
    assert [one.metrics["recall"] for one in grades] == [1.0, 1.0, 0.0, 0.0, 0.0]
    assert all((one.metrics["probability"] >= 0.5) == (one.score == 1.0) for one in grades)


def test_one_by_one_or_all_at_once_is_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    rows = labelled()[0][:40]
    together = grade_all(calibrated, rows)
    assert [calibrated(*row) for row in rows] == together
    monkeypatch.setattr(module, "BATCH", 7)
    assert grade_all(calibrated, rows) == together
    assert grade_all(calibrated, []) == []


def test_the_trees_are_walked_as_they_are_written() -> None:
    content = json.loads(module.path().read_text())
    trees = from_json(content)
    rows = labelled()[0][:20]
    numbers = np.array([features(*row, trees.rarity) for row in rows])
    for row, found in zip(numbers, trees.probability(numbers), strict=True):
        odds = content["start"]
        for which, cuts, leaves in zip(content["which"], content["cuts"], content["leaves"], strict=True):
            node = 0
            while node < len(which):
                node = 2 * node + (2 if row[which[node]] > cuts[node] else 1)
            odds += leaves[node - len(which)]
        assert found == pytest.approx(1 / (1 + np.exp(-odds)))


def test_trees_fitted_to_other_numbers_are_refused() -> None:
    with pytest.raises(ValueError, match="fit_calibrated"):
        from_json({**json.loads(module.path().read_text()), "numbers": [*NAMES[1:]]})


def test_the_tables_are_small() -> None:
    assert module.path().stat().st_size < 200_000
    assert len(read().which) <= 300


def test_words_of_one_family_share_a_stem() -> None:
    assert stem("farming") == stem("farms") == stem("farmer")
    assert stem("1886") == "1886"


def test_grading_takes_no_longer_than_counting_the_same_words_ten_times() -> None:
    """Both in turns and in this process's own seconds, so that machine and neighbours matter little: it is 4.6 to 6 times, and
    10,000 answers a second would be 15.

    What that is in answers a second stands in docs/grading.md. Different answers all.
    """

    def count() -> None:
        for row in rows:
            counts: dict[str, int] = {}
            for word in re.findall(r"\w+", " ".join(row).lower()):
                counts[word] = counts.get(word, 0) + 1

    def seconds(work: Callable[[], object]) -> float:
        began = time.process_time()
        work()
        return time.process_time() - began

    rows = [(q, t, f"{a} ({number})") for number in range(10) for q, t, a in labelled()[0]]
    grade_all(calibrated, rows[:300])
    laps = [(seconds(lambda: grade_all(calibrated, rows)), seconds(count)) for _ in range(15)]
    graded, counted = map(min, zip(*laps, strict=True))
    assert graded < 10 * counted


PIECES = [
    "not",
    "9/6/1886",
    "1,200",
    "twenty",
    "hundred",
    "and",
    "first",
    "%",
    "-",
    "−5",
    "U.S.",
    "é",
    "\ud800",
    "½",
    "Ⅷ",
    "\n\n",
    "Q:",
]


def test_generated_texts_break_no_grader() -> None:
    draw = random.Random(0)

    def text() -> str:
        return " ".join(
            draw.choice(PIECES) if draw.random() < 0.7 else chr(draw.randrange(0x2FFF)) for _ in range(draw.randrange(9))
        )

    rows = [(text(), text(), text()) for _ in range(3000)]
    for name in GRADERS:
        assert all(one.score is not None and 0 <= one.score <= 1 for one in grade_all(grader(name), rows)), name
    began = time.monotonic()
    for long in ("twenty " * 20_000, "9" * 20_000, "1,000," * 20_000, "a." * 20_000, "1/" * 20_000, "\n" * 20_000, "Aa" * 20_000):
        probabilities([("?", "twenty 9", long)])
    assert time.monotonic() - began < 20


# -- seal grade -----------------------------------------------------------------------------------------------------------


def test_standard_input_is_graded_in_order(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    rows = [{"question": "When?", "target": "9 June 1886", "answer": said} for said in ("on June 9, 1886", "in May", "")]
    lines = "\n".join(map(json.dumps, rows)).encode()
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(lines)))
    assert run(["grade", "-", "--grader", "values", "--json"]) == 0
    assert [one["correct"] for one in json.loads(capsys.readouterr().out)] == [True, False, False]


def test_a_number_is_graded_as_its_text(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    lines = [b'{"question": "When?", "target": 1886, "answer": "in 1886"}', b'{"question": "?", "target": "0.5", "answer": 0.5}']
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(b"\n".join(lines))))
    assert run(["grade", "-", "--json"]) == 0
    assert [one["correct"] for one in json.loads(capsys.readouterr().out)] == [True, True]


@pytest.mark.parametrize(
    ("line", "says"),
    [
        (b'{"question": "q", "answer": "a"}', "standard input: line 2: field 'target' is missing"),
        (b'{"question": "q", "target": "t", "answer": true}', "line 2: field 'answer' must be text, not true/false"),
        (b'{"question": "q", "target": "t", "answer": NaN}', "line 2: field 'answer' must be text, not nan"),
        (b'{"question": 7, "target": "t", "answer": "a"}', "line 2: field 'question' must be text, not 7"),
        (b"[1]", "line 2: must be an object"),
        (b"not json", "line 2: not JSON"),
        (b"\xff", "standard input: cannot be read"),
    ],
)
def test_a_bad_row_is_named(line: bytes, says: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    good = b'{"question": "q", "target": "t", "answer": "a"}\n'
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(good + line)))
    assert run(["grade", "-"]) == 2
    out, error = capsys.readouterr()
    assert out == ""
    assert says in error


# -- how well -------------------------------------------------------------------------------------------------------------


def labelled() -> tuple[list[tuple[str, str, str]], list[bool]]:
    found = [json.loads(line) for line in LABELS.read_text(encoding="utf-8").splitlines()]
    return [(one["question"], one["target"], one["answer"]) for one in found], [one["correct"] for one in found]


@pytest.mark.parametrize(("name", "least"), [("recall", 0.94), ("values", 0.94), ("contains", 0.90), ("calibrated", 0.90)])
def test_graders_agree_with_hand_labels(name: str, least: float) -> None:
    """300 answers of the embedded model, labelled blind (docs/grading.md)."""
    rows, truth = labelled()
    assert (len(rows), len(set(rows))) == (300, 300)
    agreed = kappa([correct(one.score) for one in grade_all(grader(name), rows)], truth)
    assert agreed is not None
    assert agreed >= least


@pytest.mark.shared
@pytest.mark.skipif(not OFFICIAL.is_dir(), reason="no data folder beside the checkout")
def test_on_titles_it_has_not_seen_calibrated_agrees_with_gpt(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(SCRIPTS)
    script = import_module("fit_calibrated")
    monkeypatch.delitem(sys.modules, "fit_calibrated")
    verdicts, _ = script.read_verdicts(OFFICIAL)
    held = script.held_out({one.title for one in verdicts})
    unseen = [one for one in verdicts if one.title in held]
    said = [correct(one.score) for one in grade_all(grader("calibrated"), [one.row for one in unseen])]
    both = [pair for one, ours in zip(unseen, said, strict=True) for pair in [(one.correct, ours)] * one.seen]  # every verdict
    assert len(held) == script.HELD_OUT
    agreement = kappa([theirs for theirs, _ in both], [ours for _, ours in both])
    assert agreement is not None
    assert agreement >= 0.76
