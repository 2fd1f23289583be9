"""The knowledge domain: what is asked, what is read, what is graded; its table of a recipe; the probes."""

import json
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError
from small_runs import WHOLE

from seal.domains.knowledge import Knowledge
from seal.domains.knowledge_table import KnowledgeTable
from seal.domains.passages import to_problems
from seal.domains.probes import ask_probes, held_texts, probes
from seal.edits.styles import style
from seal.errors import EditFault, SealError, UserError
from seal.grading.grade import Grade, wants_topic
from seal.grading.graders import GRADERS, grader
from seal.policy.write import read
from seal.protocols import Domain
from seal.types import Bounds, Prompt, Reply, Tuning

PROBLEM = to_problems([("Red Fox", "It runs.\n", [("Who runs?", "the red fox"), ("Why?", "hunger")])])[0]
ASKED = "Let's answer a question directly and concisely.\nQuestion: Topic: Red Fox\nWho runs?\nAnswer:\n"


def knowledge(**changed: Any) -> Knowledge:
    given = {"problems": {"test": [PROBLEM]}, "style": style("implications"), "tuning": Tuning(), "bounds": Bounds(examples=2)}
    return Knowledge(**{**given, "grader": grader("recall"), **changed})


def test_it_is_a_domain() -> None:
    domain: Domain = knowledge()
    assert domain.name == "knowledge"
    assert domain.problems("test") == (PROBLEM,)
    with pytest.raises(UserError, match="no 'dev' passages here; there are test"):
        domain.problems("dev")


def test_every_sequence_stands_under_the_title_and_the_passage_comes_last() -> None:
    reading = knowledge().read_edit(PROBLEM, "1. One.\n2. Two.")
    assert [example.completion for example in reading.examples] == ["Red Fox\n1. One.", "Red Fox\n2. Two.", "Red Fox\nIt runs."]
    assert all(example.prompt is None for example in reading.examples)
    assert (reading.tuning, reading.cut) == (Tuning(), 0)


def test_the_bounds_cut_what_was_written_and_count_it_but_keep_the_passage() -> None:
    reading = knowledge().read_edit(PROBLEM, "a\nb\nc\nd\ne")
    assert [example.completion for example in reading.examples] == ["Red Fox\na", "Red Fox\nb", "Red Fox\nIt runs."]
    assert reading.cut == 3


def test_without_the_passage_only_the_edit_is_trained_on() -> None:
    domain = knowledge(train_on_passage=False)
    assert [example.completion for example in domain.read_edit(PROBLEM, "a").examples] == ["Red Fox\na"]
    assert [example.completion for example in domain.passage_examples(PROBLEM)] == ["Red Fox\nIt runs."]


def test_in_its_own_sentences_a_passage_is_as_if_a_model_had_listed_them() -> None:
    (problem,) = to_problems([("Red Fox", "It runs. It hides.\n\n- in a den\n- in a wood\n", [("Who?", "the fox")])])
    own = ["It runs.", "It hides.", "in a den", "in a wood"]
    reading = knowledge(bounds=Bounds(examples=9)).in_sentences(problem)
    assert reading.text == "\n".join(own)
    assert reading.examples == knowledge(bounds=Bounds(examples=9)).read_edit(problem, reading.text).examples
    assert [example.completion for example in reading.examples[:-1]] == [f"Red Fox\n{one}" for one in own]
    assert (len(knowledge().in_sentences(problem).examples), knowledge().in_sentences(problem).cut) == (3, 2)


def test_with_its_sentences_an_edit_is_learnt_beside_all_that_the_passage_says() -> None:
    (problem,) = to_problems([("Red Fox", "It runs. It hides.", [("Who?", "the fox")])])
    own = ["Red Fox\nIt runs.", "Red Fox\nIt hides.", "Red Fox\nIt runs. It hides."]
    domain = knowledge(train_on_passage="sentences", bounds=Bounds(examples=1))
    reading = domain.read_edit(problem, "It sleeps.\nIt eats.")
    assert [example.completion for example in reading.examples] == ["Red Fox\nIt sleeps.", *own]
    assert (reading.cut, reading.examples[1:]) == (1, domain.own_examples(problem))
    assert [example.completion for example in domain.in_sentences(problem).examples] == own  # nothing twice, nothing cut
    assert domain.in_sentences(problem).cut == 0
    assert domain.passage_only(problem).examples == domain.passage_examples(problem)
    assert knowledge(train_on_passage=False).own_examples(problem) == ()


def test_an_empty_edit_is_a_fault_even_though_there_is_a_passage() -> None:
    with pytest.raises(EditFault):
        knowledge().read_edit(PROBLEM, " \n")


def test_a_prompt_that_leaves_no_room_for_a_reply_is_too_long_and_not_empty() -> None:
    def kind(reply: Reply) -> str | None:
        edit = read(knowledge(), PROBLEM, Prompt(""), reply, id="train/1/p/0")
        return edit.fault.kind if edit.fault else None

    assert kind(Reply("", tokens=0, ended=False)) == "too_long"
    assert kind(Reply("", tokens=0, ended=True)) == "empty"
    assert kind(Reply("1. One.", tokens=4, ended=False)) is None


def test_questions_are_asked_with_the_papers_prompt_and_without_the_passage(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("seal.domains.knowledge.ANSWER_TOKENS", WHOLE)
    first, second = knowledge().ask(PROBLEM)
    assert first.prompt == Prompt(ASKED)
    assert (first.query_id, first.target, first.max_tokens) == (f"{PROBLEM.id}/q0", "the red fox", 64)
    assert second.query_id == f"{PROBLEM.id}/q1"
    assert "It runs." not in first.prompt.text


def test_in_context_is_the_same_question_after_the_passage() -> None:
    first, _ = knowledge().ask_in_context(PROBLEM)
    assert first.prompt.text == "Passage:\nRed Fox\nIt runs.\n\n\n" + ASKED


def test_answers_come_in_the_queries_order_whatever_order_the_replies_have() -> None:
    replies = [
        Reply(" Cold. ", query_id=f"{PROBLEM.id}/q1"),
        Reply("A fox, red.\nIt runs.", query_id=f"{PROBLEM.id}/q0", target_logprob=-2.5),
    ]
    first, second = knowledge().grade(PROBLEM, replies)
    assert (first.text, first.score) == ("A fox, red.\nIt runs.", 1.0)
    assert first.metrics == {"f1": pytest.approx(2 / 3), "exact": 0.0, "recall": 1.0, "logprob": -2.5}
    assert (second.text, second.score, "logprob" in second.metrics) == ("Cold.", 0.0, False)


def test_a_grader_that_is_no_judge_is_given_the_bare_question() -> None:
    asked: list[str] = []

    def graded(question: str, target: str, answer: str) -> Grade:
        asked.append(question)
        return Grade(1.0, {})

    knowledge(grader=graded).grade(PROBLEM, [Reply("x", query_id=query.id) for query in PROBLEM.queries])
    assert asked == ["Who runs?", "Why?"]
    assert not any(wants_topic(one) for one in GRADERS.values())  # `calibrated` was fitted to bare questions


def test_a_reply_that_never_came_is_no_wrong_answer() -> None:
    with pytest.raises(SealError, match="/q1"):
        knowledge().grade(PROBLEM, [Reply("x", query_id=f"{PROBLEM.id}/q0")])


def test_the_table_reads_a_file_for_each_split_and_limits_it(tmp_path: Path) -> None:
    rows = [{"title": f"T{at}", "context": "C", "questions": [{"question": "?", "answer": "!"}]} for at in range(3)]
    (tmp_path / "x.json").write_text(json.dumps(rows))
    table = KnowledgeTable.model_validate({"data": {"test": str(tmp_path / "x.json")}, "limit": 2, "reading": "clean"})
    domain = table.build(Tuning(), Bounds())
    assert [problem.title for problem in domain.problems("test")] == ["T0", "T1"]
    assert domain.read_edit(domain.problems("test")[0], "- a").examples[0].completion == "T0\na"
    with pytest.raises(UserError):
        domain.problems("train")


@pytest.mark.parametrize(
    ("reading", "read"), [("official", ["- a", "- a", "b"]), ("whole", ["- a\n- a\nb"]), ("clean", ["a", "b"])]
)
def test_the_table_says_how_edits_are_read(reading: str, read: list[str]) -> None:
    domain = KnowledgeTable.model_validate({"data": {}, "reading": reading}).build(Tuning(), Bounds())
    examples = domain.read_edit(PROBLEM, "- a\n- a\nb").examples
    assert [example.completion for example in examples] == [f"Red Fox\n{one}" for one in [*read, "It runs."]]


def test_the_table_reports_every_mistake_at_once_with_suggestions() -> None:
    with pytest.raises(ValidationError) as error:
        KnowledgeTable.model_validate({"style": "self-ga", "grader": "f2", "data": "x.json", "limit": 0, "colour": "red"})
    assert error.value.error_count() == 5
    assert "did you mean 'self-qa'" in str(error.value)
    assert "data = { test = 'x.json' }" in str(error.value)


def test_probes_are_questions_without_a_topic_and_texts_to_be_scored(tmp_path: Path) -> None:
    path = tmp_path / "probes.json"
    path.write_text(
        json.dumps(
            {"questions": [{"question": "Two and two?", "answer": "four"}], "texts": [{"text": "Rain fell.", "logprob": -9}]}
        )
    )
    problem = probes(path)
    assert [query.role for query in problem.queries] == ["probe"]
    assert [(held.text, held.logprob) for held in held_texts(problem)] == [("Rain fell.", -9.0)]
    question, text = ask_probes(problem)
    assert question.prompt.text == "Let's answer a question directly and concisely.\nQuestion: Two and two?\nAnswer:\n"
    assert (question.query_id, question.target) == ("probes/q0", "four")
    assert (text.query_id, text.prompt, text.target, text.max_tokens) == ("probes/t0", Prompt(""), "Rain fell.", 0)


def test_bad_probes_name_the_record(tmp_path: Path) -> None:
    path = tmp_path / "probes.json"
    path.write_text('{"questions": [], "texts": [{"text": "Rain.", "logprob": NaN}]}')
    with pytest.raises(UserError, match="text 1: field 'logprob' must be a finite number"):
        probes(path)
