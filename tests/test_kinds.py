"""Which characters of a text are of a kind, and that only their tokens carry loss."""

from __future__ import annotations

import doctest
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from seal import kinds
from seal.engine import Bank
from seal.engine.pack import IGNORE
from seal.engine.rows import Prepared, prepare
from seal.kinds import Kind, spans
from seal.models import LanguageModel, open_model
from seal.types import Example, Fault, Job, Prompt, Tuning

KINDS: tuple[Kind, ...] = ("answers", "numbers", "names", "dates")
TEXT = "On 3 March 1834 the Lund family sold 1,200 sheep to Ada Moe's firm in Tarn."


@pytest.mark.parametrize(
    ("kind", "text", "found"),
    [
        ("numbers", TEXT, ["3", "1834", "1,200"]),
        ("dates", TEXT, ["3 March 1834"]),
        ("names", TEXT, ["Lund", "Ada Moe's", "Tarn"]),
        ("answers", TEXT, []),
        ("numbers", "Two of them paid 12.50, at 10:30, in A4b.", ["Two", "12.50", "10:30"]),
        ("names", "It’s Ann’s. Don't, Don’t, I’m, You'll.", ["Ann’s"]),
        ("dates", "May I? In May 1999, on Friday, in the 1890s and the 19th century; 2001-02-03; June 4th, 1900.", None),
        (
            "names",
            "The mill was Ann's. It burnt. However, Émile Noé and O'Hara saw it in June.",
            ["Ann's", "Émile Noé", "O'Hara"],
        ),
        (
            "answers",
            "Question: Who?\nAnswer: Ann.\nQuestion 2: When?\n Answer 2: now,\nor later. \n",
            ["Ann.", "now,\nor later."],
        ),
        ("answers", "Answer:\nQuestion: What?", []),
        ("answers", "Question: Who? Answer: Ann.\nIt burnt.", ["Ann.\nIt burnt."]),
        ("answers", "1. Question: Who? Answer: Ann.", []),
        ("answers", "Question 1: Who? Answer: Ann. Question 2: When? Answer: now", ["Ann.", "now"]),
        ("answers", "It says Answer: no. Question: Who?", []),
    ],
)
def test_the_characters_of_a_kind(kind: Kind, text: str, found: list[str] | None) -> None:
    if found is None:
        found = ["May", "May 1999", "Friday", "1890s", "19th century", "2001-02-03", "June 4th, 1900"]
    assert [text[start:end] for start, end in spans(text, kind)] == found


def test_the_example_of_the_module_holds() -> None:
    assert doctest.testmod(kinds) == (0, 1)


@given(st.text(), st.sampled_from(KINDS))
def test_spans_are_in_order_and_within_the_text(text: str, kind: Kind) -> None:
    places = [place for span in spans(text, kind) for place in span]
    assert places == sorted(places)
    assert all(0 <= place <= len(text) for place in places)


# ---- tokens


@pytest.fixture
def language(lively_path: Path) -> LanguageModel:
    return open_model(str(lively_path), device="cpu", dtype="float32")


def learnt(language: LanguageModel, example: Example, tuning: Tuning) -> tuple[list[int], list[int]]:
    """Ids of the row's labelled tokens, and of all its tokens."""
    ready = prepare(Job("one", (example,), (), tuning), language)
    assert isinstance(ready, Prepared)
    (row,) = ready.rows
    assert all(label in (id, IGNORE) for label, id in zip(row.labels, row.ids, strict=True))
    return [label for label in row.labels if label != IGNORE], list(row.ids)


@pytest.mark.parametrize("kind", ["numbers", "names", "dates"])
def test_only_the_tokens_of_a_kind_carry_loss(language: LanguageModel, kind: Kind) -> None:
    said = "".join(TEXT[start:end] for start, end in spans(TEXT, kind))
    for example, tuning in (
        (Example(TEXT, loss=kind), Tuning()),
        (Example(TEXT), Tuning(loss=kind)),
        (Example(TEXT, Prompt("In 1834, Ada?"), loss=kind), Tuning()),
        (Example(TEXT), Tuning(loss=kind, pad_loss="eos")),
    ):
        labels, _ = learnt(language, example, tuning)
        assert language.decode(labels) == said


def test_the_end_is_learnt_where_the_last_characters_are(language: LanguageModel) -> None:
    answer = Example("Question: Who?\nAnswer: Ada", loss="answers")
    for tuning, end in (
        (Tuning(), []),
        (Tuning(pad_loss="eos"), [language.end_id]),
        (Tuning(pad_loss="official", pad_length=64), None),
    ):
        labels, ids = learnt(language, answer, tuning)
        assert labels[:3] == language.encode_target("Ada")
        assert labels[3:] == (end if end is not None else [language.end_id])
        assert len(ids) == (64 if end is None else len(answer.completion) + len(end))
    labels, ids = learnt(language, Example("in Tarn", Prompt("Where?"), loss="names"), Tuning())
    assert labels == [*language.encode_target("Tarn"), language.reply_end_id]
    assert ids[-1] == language.reply_end_id


def test_a_reply_to_a_prompt_is_all_answer(language: LanguageModel) -> None:
    labels, _ = learnt(language, Example("by Ada.", Prompt("Who?"), loss="answers"), Tuning())
    assert labels == [*language.encode_target("by Ada."), language.reply_end_id]


def test_rows_without_such_tokens_are_not_trained_on(language: LanguageModel) -> None:
    examples = (Example("It rains."), Example("It rained in 1834."), Example("It pours."))
    ready = prepare(Job("kinds", examples, (), Tuning(loss="numbers")), language)
    assert isinstance(ready, Prepared)
    assert [language.decode(list(row.ids)) for row in ready.rows] == ["It rained in 1834."]
    assert ready.steps == Tuning().epochs
    assert prepare(Job("none", examples[:1], (), Tuning(loss="numbers")), language) == Fault(
        "empty", "no token of the edit carries loss"
    )


def test_the_loss_is_that_of_the_kinds_tokens_alone(language: LanguageModel, lively_path: Path) -> None:
    tuning = Tuning(rank=4, alpha=8, loss="dates")
    ready = prepare(Job("loss", (Example(TEXT),), (), tuning), language)
    assert isinstance(ready, Prepared)
    plain = open_model(str(lively_path), device="cpu", dtype="float32")
    ids = plain.encode_example(Example(TEXT))[0]  # one token a byte
    start = TEXT.index("3 March")
    with torch.no_grad():
        logits = plain.model(input_ids=torch.tensor([ids])).logits[0].log_softmax(-1)
    wanted = [-logits[at - 1, ids[at]] for at in range(start, start + len("3 March 1834"))]
    bank = Bank(language.model, slots=1, rank=4)
    bank.start(0, tuning, steps=1, seed=0)
    loss = bank.step({0: list(ready.rows)})[0]
    bank.close()
    torch.testing.assert_close(loss, torch.stack(wanted).mean(), atol=1e-5, rtol=1e-5)


def test_tokens_of_more_than_a_character_belong_by_any_of_them(language: LanguageModel) -> None:
    """A SentencePiece-like tokenizer that puts a space before the first word, and whose words take their space along."""
    vocab = {"<e>": 0, "▁": 1, "▁in": 2, "▁Tarn": 3, ",": 4, "▁rain": 5, "\n": 6, "▁\n": 7, "in": 8, "T": 9, "a": 10}
    tokenizer = Tokenizer(models.WordLevel(vocab, unk_token="<e>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Metaspace(prepend_scheme="always"), pre_tokenizers.Punctuation()]
    )
    tokenizer.decoder = decoders.Metaspace()
    language.tokenizer = PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token="<e>")
    language.chat = False
    document = Example("rain in Tarn, rain", loss="names")
    ids, _ = language.encode_example(document)
    assert [ids[place] for place in sorted(language.carriers(document, "names"))] == [3]


def test_a_prompted_reply_is_placed_after_its_prompt(language: LanguageModel) -> None:
    example = Example("in 1834", Prompt("When was it, in 1900?"), loss="numbers")
    ids, prompt = language.encode_example(example)
    places = sorted(language.carriers(example, "numbers"))
    assert places == [*range(prompt + 3, prompt + 7), len(ids) - 1]
