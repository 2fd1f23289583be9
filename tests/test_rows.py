"""How examples become rows: which tokens carry loss, in which order they come, and what cannot be trained on."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tiny import CONTEXT

from seal.engine import Bank, Engine
from seal.engine.pack import IGNORE, Row
from seal.engine.rows import Prepared, learnable, prepare
from seal.models import LanguageModel, open_model
from seal.types import LLAMA_LINEAR, Ask, Example, Fault, Finished, Job, Prompt, Tuning

TUNING = Tuning(rank=4, alpha=8, targets=LLAMA_LINEAR, lr=1e-2, epochs=2, batch=2)
TEXTS = ("Ada built the ferry.", "It sails at nine.", "Two hundred can stand on deck, and the captain's dog sleeps below.")


def opened(path: Path) -> LanguageModel:
    return open_model(str(path), device="cpu", dtype="float32")


@pytest.fixture
def language(lively_path: Path) -> LanguageModel:
    return opened(lively_path)


@pytest.fixture
def engine(language: LanguageModel) -> Iterator[Engine]:
    engine = Engine(language, slots=3, memory_gb=0.5)
    yield engine
    engine.close()


def a_job(id: str, texts: Sequence[str] = TEXTS, asks: int = 2, seed: int = 0, tuning: Tuning = TUNING, **more: Path) -> Job:
    asked = tuple(Ask(f"q{n}", Prompt(f"Question {n}?"), target="Ada", max_tokens=6) for n in range(asks))
    return Job(id, tuple(Example(text) for text in texts), asked, tuning, seed, **more)


def run(engine: Engine, jobs: Sequence[Job]) -> dict[str, Finished]:
    found = list(engine.run(jobs))
    assert sorted(one.job_id for one in found) == sorted(job.id for job in jobs)
    return {one.job_id: one for one in found}


@pytest.mark.parametrize("pad_loss", ["none", "eos", "official"])
def test_pads_carry_loss_as_the_tuning_says(language: LanguageModel, lively_path: Path, pad_loss: str) -> None:
    tuning = Tuning(rank=4, alpha=8, batch=3, pad_loss=pad_loss, pad_length=48)  # type: ignore[arg-type]
    ready = prepare(a_job("pads", tuning=tuning), language)
    assert isinstance(ready, Prepared)
    plain = opened(lively_path)
    real = [plain.encode_example(Example(text))[0] for text in TEXTS]
    ends = {"none": 0, "eos": 1, "official": 48}[pad_loss]
    ids = [one + [plain.end_id] * ends for one in real]
    if pad_loss == "official":
        ids = [row[:48] for row in ids]  # what is longer is cut
    assert [list(row.ids) for row in ready.rows] == ids
    width = max(map(len, ids))
    assert width == {"none": 66, "eos": 67, "official": 48}[pad_loss]
    shown = [min(len(one), 48) if pad_loss == "official" else len(row) for one, row in zip(real, ids, strict=True)]
    mask = torch.tensor([[1] * size + [0] * (width - size) for size in shown])
    labels = torch.tensor([row + [-100] * (width - len(row)) for row in ids])
    padded = torch.tensor([row + [0] * (width - len(row)) for row in ids])
    with torch.no_grad():
        expected = plain.model(input_ids=padded, attention_mask=mask, labels=labels).loss
    bank = Bank(language.model, slots=1, rank=4)
    bank.start(0, tuning, steps=1, seed=0)
    loss = bank.step({0: ready.rows})[0]
    bank.close()
    torch.testing.assert_close(loss, expected, atol=1e-5, rtol=1e-5)


def test_rows_may_be_padded_to_the_longest_of_them(language: LanguageModel) -> None:
    tuning = replace(TUNING, pad_loss="official", pad_length="longest")
    ready = prepare(a_job("pads", tuning=tuning), language)
    assert isinstance(ready, Prepared)
    real = [language.encode_example(Example(text))[0] for text in TEXTS]
    longest = max(map(len, real))
    assert [list(row.ids) for row in ready.rows] == [ids + [language.end_id] * (longest - len(ids)) for ids in real]
    assert [row.keys for row in ready.rows] == [len(ids) for ids in real]
    assert all(row.labels == row.ids for row in ready.rows)
    assert all(learnable(Example(text), tuning, language) for text in TEXTS)


def test_loss_lies_on_the_completion_when_asked(language: LanguageModel) -> None:
    example = Example("Ada.", Prompt("Who?"), loss="completion")
    prompt = len(language.encode_prompt(Prompt("Who?")))
    for one, tuning, skipped in (
        (example, TUNING, prompt),
        (replace(example, loss="all"), TUNING, 0),
        (replace(example, loss="all"), replace(TUNING, loss="completion"), prompt),
        (example, replace(TUNING, loss="all"), 0),
    ):
        ready = prepare(Job("one", (one,), (), tuning), language)
        assert isinstance(ready, Prepared)
        (row,) = ready.rows
        assert row.labels == (-100,) * skipped + row.ids[skipped:]
        assert row.ids[-1] == language.reply_end_id


def test_a_job_that_cannot_be_trained_is_a_fault_and_the_others_go_on(engine: Engine) -> None:
    long = a_job("long", ["x" * (CONTEXT + 1)])
    found = run(engine, [long, a_job("fits", ["x" * CONTEXT], asks=0), a_job("empty", [""]), a_job("whole")])
    assert found["long"].fault == Fault("too_long", f"an example of {CONTEXT + 1} tokens; the model's context is {CONTEXT}")
    assert found["empty"].fault is not None
    assert found["empty"].fault.kind == "empty"
    assert found["fits"].fault is None
    assert found["fits"].replies == ()
    assert len(found["whole"].replies) == 2


def test_an_edit_of_67_examples_and_one_of_a_single_word_train_side_by_side(engine: Engine) -> None:
    long = a_job(
        "long", [f"Fact {n}: the ferry sails at {n}." for n in range(67)], asks=0, tuning=replace(TUNING, batch=1, epochs=1)
    )
    found = run(engine, [long, a_job("short", ["Ada"], asks=1), a_job("other")])
    assert (found["long"].fault, found["long"].cost.train_steps) == (None, 67)
    assert (found["short"].fault, len(found["short"].replies)) == (None, 1)


def test_every_epoch_has_every_row_once_in_its_own_order(language: LanguageModel) -> None:
    tuning = replace(TUNING, epochs=3, batch=2)
    ready = prepare(a_job("order", [f"text {n}" for n in range(7)], tuning=tuning, seed=1), language)
    assert isinstance(ready, Prepared)
    batches = list(ready.batches())
    assert [len(batch) for batch in batches] == [2, 2, 2, 1] * 3
    assert len(batches) == ready.steps
    epochs = [[row for batch in batches[at : at + 4] for row in batch] for at in (0, 4, 8)]
    assert all(sorted(epoch, key=lambda row: row.ids) == sorted(ready.rows, key=lambda row: row.ids) for epoch in epochs)
    assert epochs[0] != epochs[1]
    assert batches == list(ready.batches())


# ---- at equal tokens


def learnt(row: Row) -> list[int]:
    """The tokens of a row that are predicted with loss."""
    return [token for token, label in zip(row.ids[1:], row.labels[1:], strict=True) if label != IGNORE]


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.lists(st.text("ab ", min_size=2, max_size=40), min_size=1, max_size=6).filter(lambda texts: any(map(str.strip, texts))),
    st.integers(1, 12),
    st.integers(0, 200),
    st.sampled_from(["none", "eos"]),
)
def test_a_budget_is_met_to_the_token_whatever_the_rows_are(
    language: LanguageModel, texts: list[str], steps: int, more: int, pad_loss: str
) -> None:
    tokens = steps + more
    tuning = replace(TUNING, tokens=tokens, steps=steps, pad_loss=pad_loss)  # type: ignore[arg-type]
    ready = prepare(a_job("budget", texts, tuning=tuning), language)
    assert isinstance(ready, Prepared)
    batches = list(ready.batches())
    sizes = [sum(len(learnt(row)) for row in batch) for batch in batches]
    assert (len(batches), sum(sizes), ready.steps) == (steps, tokens, steps)
    assert max(sizes) - min(sizes) <= 1
    assert ready.tokens == sum(len(row.ids) for batch in batches for row in batch)
    assert all(row.labels[-1] != IGNORE for batch in batches for row in batch)  # nothing is read that teaches nothing
    # what is learnt is the rows themselves, each whole before the next begins and with all that stands before it
    stream = [token for batch in batches for row in batch for token in learnt(row)]
    epoch = sum(len(learnt(row)) for row in ready.rows)
    assert sorted(stream[:epoch]) == sorted([token for row in ready.rows for token in learnt(row)][:tokens]) or tokens < epoch
    assert all(any(whole.ids[: len(row.ids)] == row.ids for whole in ready.rows) for batch in batches for row in batch)


def test_a_budget_of_one_epoch_in_one_step_is_that_epoch(engine: Engine, language: LanguageModel) -> None:
    ready = prepare(a_job("epoch", tuning=replace(TUNING, pad_loss="eos")), language)
    assert isinstance(ready, Prepared)
    tokens = sum(len(learnt(row)) for row in ready.rows)
    budget = replace(TUNING, pad_loss="eos", tokens=tokens, steps=1)
    whole = replace(TUNING, pad_loss="eos", epochs=1, batch=len(TEXTS))
    found = run(engine, [a_job("budget", tuning=budget), a_job("whole", tuning=whole)])
    assert found["budget"].losses == pytest.approx(found["whole"].losses, rel=1e-5)
    assert found["budget"].cost.train_steps == 1


def test_only_what_carries_loss_counts(language: LanguageModel) -> None:
    example = Example("Ada built it.", Prompt("Who?"), loss="completion")
    ready = prepare(Job("one", (example,), (), replace(TUNING, tokens=10, steps=5)), language)
    assert isinstance(ready, Prepared)
    prompt = len(language.encode_prompt(Prompt("Who?")))
    assert [[len(learnt(row)) for row in batch] for batch in ready.batches()] == [[2]] * 5
    assert all(len(row.ids) > prompt for batch in ready.batches() for row in batch)
