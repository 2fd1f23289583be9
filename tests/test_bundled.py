"""What comes with the package: documents, the teacher's edits, probes."""

from __future__ import annotations

import re
from dataclasses import replace
from itertools import combinations
from pathlib import Path

import pytest

from seal.domains.knowledge_table import KnowledgeTable
from seal.domains.passages import bundled_path, context_of, read_passages
from seal.domains.probes import ask_probes, divided, grade_probes, held_texts, probes
from seal.edits.official import read_articles
from seal.engine import Engine
from seal.loops.build import TEACHER
from seal.models import open_model
from seal.text import f1, normalise, recall
from seal.types import Bounds, Job, Problem, Tuning

SIZES = {"train": 48, "dev": 12, "test": 36}
PAIR = re.compile(r"^Question: (?P<question>.+?) Answer: (?P<answer>.+)$")


@pytest.fixture(scope="module")
def documents() -> dict[str, list[Problem]]:
    return {split: read_passages("bundled", split) for split in SIZES}


def test_the_splits_have_their_sizes_and_share_nothing(documents: dict[str, list[Problem]]) -> None:
    assert {split: len(found) for split, found in documents.items()} == SIZES
    titles = [problem.title for found in documents.values() for problem in found]
    assert len(set(titles)) == sum(SIZES.values())


def test_every_passage_is_short_with_five_short_answers_in_it(documents: dict[str, list[Problem]]) -> None:
    for problem in (one for found in documents.values() for one in found):
        context = context_of(problem)
        assert 50 <= len(context.split()) <= 90, problem.title
        assert len(problem.queries) == 5
        assert len({normalise(query.answer) for query in problem.queries}) == 5, problem.title
        for query in problem.queries:
            assert len(query.answer.split()) <= 4
            assert query.answer.casefold() in context.casefold()
            assert recall(query.question, query.answer) < 1, f"{problem.title}: the question holds its answer {query.answer!r}"


def test_no_two_passages_are_written_on_one_template(documents: dict[str, list[Problem]]) -> None:
    contexts = [context_of(problem) for found in documents.values() for problem in found]
    assert max(f1(a, b) for a, b in combinations(contexts, 2)) < 0.5
    assert len({" ".join(context.split()[:2]) for context in contexts}) > 0.9 * len(contexts)


@pytest.mark.parametrize("split", list(TEACHER))
def test_the_teacher_teaches_every_passage_and_asks_none_of_its_questions(
    documents: dict[str, list[Problem]], split: str
) -> None:
    teacher = read_articles(bundled_path(TEACHER[split]))
    assert [(one.title, one.context) for one in teacher] == [(one.title, context_of(one)) for one in documents[split]]
    for article, problem in zip(teacher, documents[split], strict=True):
        (edit,) = article.edits
        asked = [found["question"] for line in edit.text.splitlines() if (found := PAIR.match(line))]
        assert len(asked) >= 2, article.title
        for question in asked:
            for query in problem.queries:
                assert f1(question, query.question) < 0.6, f"{article.title}: {question!r} is asked, as {query.question!r}"


def test_parts_of_the_probes_share_nothing() -> None:
    asked, guards, rest = divided(probes(), (24, 50, 50), seed=3)
    assert [len(one.queries) for one in (asked, guards, rest)] == [24, 50, 26]
    parts = [query.id for one in (asked, guards, rest) for query in one.queries]
    assert len(set(parts)) == 100
    texts = [text.text for one in (asked, guards, rest) for text in held_texts(one)]
    assert len(set(texts)) == len(texts) == len(held_texts(probes()))
    assert divided(probes(), (24,), seed=4)[0] != asked == divided(probes(), (24,), seed=3)[0]


def test_there_are_a_hundred_probes_and_held_texts_with_their_log_probability() -> None:
    problem = probes()
    assert len(problem.queries) == 100
    assert {query.role for query in problem.queries} == {"probe"}
    assert len({normalise(query.question) for query in problem.queries}) == 100
    assert len(held_texts(problem)) >= 10


@pytest.mark.embedded
def test_the_embedded_model_knows_the_probes_and_not_what_the_documents_tell(
    embedded_path: Path, documents: dict[str, list[Problem]]
) -> None:
    """Of the probes every twentieth, and the held texts; of the documents the ten questions of two, without the passage."""
    engine = Engine(open_model(str(embedded_path), device="cpu", dtype="float32"))
    domain, asked = KnowledgeTable().build(Tuning(), Bounds()), documents["test"][::18]
    known = replace(probes(), queries=probes().queries[::20])
    jobs = [Job("probes", (), tuple(ask_probes(known))), *(Job(one.id, (), tuple(domain.ask(one))) for one in asked)]
    replies = {done.job_id: done.replies for done in engine.run(jobs)}
    engine.close()
    answers = grade_probes(known, replies["probes"])
    assert [answer.score for answer in answers[:5]] == [1.0] * 5
    assert [answer.metrics["logprob"] for answer in answers[5:]] == pytest.approx(
        [text.logprob for text in held_texts(known)], rel=1e-3
    )
    scores = [answer.score for one in asked for answer in domain.grade(one, replies[one.id])]
    assert scores == [0.0] * 10
