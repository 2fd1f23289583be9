"""Training without labels: what the model asks itself, which of it stays, and that it is written once."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from small_runs import OUTER, Watched, changed, train

from seal.domains.knowledge import Knowledge
from seal.domains.passages import to_problems
from seal.domains.self_questions import Asking, SelfQuestions, asking, read_questions, write_questions
from seal.edits.questions import spans
from seal.edits.sentences import sentences
from seal.engine import Engine
from seal.errors import SealError, UserError
from seal.grading.lexical import f1
from seal.loops.questions import candidates, found_questions, freeze, own_questions
from seal.loops.takeover import replay
from seal.report import render
from seal.report.rewards import questions_row
from seal.store import Store
from seal.types import Finished, Job, Problem, Prompt, Reply, Sampling

ASKED = """ Who built the ferry?
Answer: Ada
Question 2: Which person built the ferry?
Answer: Ada.
Question 3: What did Ada build?
Answer: the ferry
Question 4: In which year was the ferry built?
Answer: 1900
Question 5: Who is the ferry's captain?
Answer: Bo
Question 6: What colour is the sky?
Answer: blue
Question 7: Did Ada build it?
Answer: Ada
Question 8: and"""


class Reader:
    """An engine that has read the passage, if it is shown it, and knows that the sky is blue."""

    def __init__(self, *says: str) -> None:
        self.says = list(says)
        self.sampled: list[Prompt] = []

    def load(self, path: Path | None) -> None:
        assert path is None

    def sample(self, prompts: Sequence[Prompt], how: Sampling, *, seed: int) -> list[list[Reply]]:
        self.sampled += prompts
        return [[Reply(self.says[(at + n) % len(self.says)]) for n in range(how.n)] for at, _ in enumerate(prompts)]

    def run(self, jobs: Iterable[Job]) -> Iterator[Finished]:
        for job in jobs:
            yield Finished(job.id, tuple(self.reply(ask.query_id, ask.prompt.text) for ask in job.asks))

    def reply(self, query_id: str, prompt: str) -> Reply:
        question = prompt.partition("Question: ")[2]
        seen = "Passage:" in prompt
        answer = "It is blue." if "sky" in question else "I do not know."
        if seen and ("Who built" in question or "person" in question or "Complete the sentence" in question):
            answer = "Ada built the ferry in 1900."
        elif seen and "What did" in question:
            answer = "The ferry"
        elif seen and "year" in question:
            answer = "In 1900."
        return Reply(answer, query_id=query_id, target_logprob=-1.0 if seen else -float(len(question)))


@pytest.fixture
def problem(domain: Knowledge) -> Problem:
    return domain.problems("train")[0]  # The ferry: "Ada built the ferry in 1900."


def written(engine: Reader, domain: Knowledge, problem: Problem, **how: Any) -> list[tuple[str, str]]:
    found = write_questions(engine, domain, problem, Asking(samples=1, **how), seed=0)  # type: ignore[arg-type]
    return [(one.question, one.verdict) for one in found]


def test_what_stays_is_answered_with_the_text_and_only_with_it(domain: Knowledge, problem: Problem) -> None:
    assert dict(written(Reader(ASKED), domain, problem)) == {
        "In which year was the ferry built?": "kept",
        "Which person built the ferry?": "kept",
        "What did Ada build?": "kept",
        "Who built the ferry?": "repeated",  # the same answer again; the text helps less with it
        "Who is the ferry's captain?": "not answered with the text",
        "What colour is the sky?": "answered without it",
        "Did Ada build it?": "given away",
    }


def test_a_score_between_counts_from_half_on(domain: Knowledge, problem: Problem, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(domain, "_grader", f1)
    found = dict(written(Reader(ASKED), domain, problem))
    assert found["In which year was the ferry built?"] == "kept"  # "In 1900.": two thirds
    assert found["What colour is the sky?"] == "answered without it"  # "It is blue.": half
    assert found["Which person built the ferry?"] == "not answered with the text"  # its whole sentence: a third


def test_the_questions_that_the_text_helps_most_with_stay(domain: Knowledge, problem: Problem) -> None:
    found = dict(written(Reader(ASKED), domain, problem, most=1))
    assert [question for question, verdict in found.items() if verdict == "kept"] == ["In which year was the ferry built?"]
    assert found["What did Ada build?"] == "left over"


def test_gold_questions_are_never_looked_at(domain: Knowledge, problem: Problem) -> None:
    engine = Reader(ASKED)
    bare = asking(problem, [])
    assert written(engine, domain, problem) == written(engine, domain, bare)
    assert all("When?" not in prompt.text for prompt in engine.sampled)


def test_a_later_way_only_fills_up(domain: Knowledge, problem: Problem) -> None:
    engine = Reader("nothing that can be read")
    assert dict(written(engine, domain, problem, ways=("list", "cloze"))) == {
        'Complete the sentence: "Ada built the ferry in ..."': "kept"
    }
    enough = dict(written(Reader(ASKED), domain, problem, ways=("list", "cloze"), most=2))
    assert not any("Complete" in question for question in enough)


def test_a_span_is_asked_about_from_its_sentence(domain: Knowledge, problem: Problem) -> None:
    engine = Reader(" was the ferry built? And so on")
    assert written(engine, domain, problem, ways=("spans",)) == [("In which year was the ferry built?", "kept")]
    (prompt,) = engine.sampled
    assert prompt.text.endswith("Sentence: Ada built the ferry in 1900.\nAnswer: 1900")
    assert prompt.prefill == "Question: In which year"


def test_a_question_about_the_worked_example_does_not_stay(domain: Knowledge, problem: Problem) -> None:
    engine = Reader(" did a flood carry off the toll house of Hollin Weir? And so on")
    ((question, verdict),) = written(engine, domain, problem, ways=("spans",))
    assert (question[-12:], verdict) == ("Hollin Weir?", "of the example")
    (mill,) = to_problems([("The mill", "In 1900 Ada built the mill at Hollin.", [])])
    engine = Reader(" was the mill built? And so on")
    assert dict(written(engine, domain, mill, ways=("spans",)))["In which year was the mill built?"] != "of the example"


def test_no_sentence_goes_over_into_the_next_paragraph() -> None:
    assert sentences("Keeping it\n\nThe clock is wound\nby Bo. It strikes. \n \n\nThe end") == [
        "Keeping it",
        "The clock is wound by Bo.",
        "It strikes.",
        "The end",
    ]


@pytest.mark.parametrize(
    ("body", "found"),
    [
        ("Opening:\n- The desk opens\n  at 9\n- The bar opens at 11", ["Opening:", "The desk opens at 9", "The bar opens at 11"]),
        ("1. Fill in form 12\n   - in ink\n2. Hand it to Ada", ["Fill in form 12", "in ink", "Hand it to Ada"]),
        ("1. Ask\n\n2. Wait\n\n1. Go", ["Ask", "Wait", "Go"]),
        ("The mill was built by Ada and cost\n12. It stands.", ["The mill was built by Ada and cost 12.", "It stands."]),
        ("Days:\n| who | days |\n|---|:-:|\n| staff | 25 |\nThe end", ["Days:", "who | days", "staff | 25", "The end"]),
        ("who | days\nstaff | 25", ["who | days", "staff | 25"]),
        ("Run it:\n\n```sh\nrun 12 Ada\n```\n\nDone.", ["Run it:", "Done."]),
        ("Run it:\n```\nrun 12 Ada", ["Run it:"]),  # cut within the code
        ("run 12 Ada\n```\nThen go.\n```sh\nrun 13\n```\nDone.", ["Then go.", "Done."]),
        ("One.\n```\nrun\n```\nTwo.\n~~~py\nrun\n```sh\nrun\n~~~\nThree.", ["One.", "Two.", "Three."]),
        ("```Ada``` is 12.\n```\nrun\n```\nDone.", ["```Ada``` is 12.", "Done."]),
        ("It is −5 or\n-7 degrees; 3 * 4\nis 12.", ["It is −5 or -7 degrees; 3 * 4 is 12."]),
    ],
)
def test_an_item_and_a_row_are_sentences_and_code_is_none(body: str, found: list[str]) -> None:
    assert sentences(body) == found


def test_names_and_numbers_are_found_where_they_stand() -> None:
    body = "In 1886 the Thistle Line ran 44.5 miles. It passed Fenning Cross, King Edrin III of Brask and Old Sour in 1886."
    assert [span.text for span in spans(body, "Thistle Line")] == [
        "1886",
        "44.5",
        "Fenning Cross",
        "King Edrin III of Brask",
        "Old Sour",
    ]
    assert spans(body)[1] == ("In 1886 the Thistle Line ran 44.5 miles.", "Thistle Line", 12)
    assert spans("The dam was built in the year 1840 with 4 mills.")[1].start == 40
    assert [span.text for span in spans("Lunet Brask opened it. Officially it was King Edrin's.")] == [
        "Lunet Brask",
        "King Edrin's",
    ]
    assert spans("") == []


@pytest.mark.parametrize(
    ("body", "found"),
    [
        ("Der Müller über dem Fluss hieß Östen Ånd.", ["Der Müller", "Fluss", "Östen Ånd"]),
        ("Le pont fut bâti à Écully par Émile Léry.", ["Écully", "Émile Léry"]),
        ("Мост построил Иван Лунд.", ["Иван Лунд"]),
        ("桥 由 他 建于 1834.", ["1834"]),
    ],
)
def test_a_name_begins_with_a_capital_of_any_alphabet(body: str, found: list[str]) -> None:
    assert [span.text for span in spans(body)] == found


def test_names_have_their_titles_and_no_function_words() -> None:
    body = (
        "When Mara Dunn met Dr. Ada Lund, I was in St. Gallen and I'm not. J. R. R. Tolkien left. The Old Mill burnt."
        " In March it rose. Dr. Lund came with Henry I. Brask. It was Elizabeth I who left. What If."
        " It is vitamin C. This is in the U.S., said C. S. Lewis and J.R.R. Tolkien. B. The end."
    )
    assert [span.text for span in spans(body)] == [
        *("Mara Dunn", "Dr. Ada Lund", "St. Gallen", "J. R. R. Tolkien", "Old Mill", "March"),
        *("Dr. Lund", "Henry I. Brask", "Elizabeth I", "C", "U.S.", "C. S. Lewis", "J.R.R. Tolkien"),
    ]
    assert spans("When Mara Dunn left.")[0].start == 5


def test_numbers_are_whole() -> None:
    body = "at 10:30 on 2024-05-17 from 3–4 to 1/2, in the 1990s, 1 000 of 12,500.75 at 10^6, 3.5kg and 12-year and 1834 200."
    found = [span.text for span in spans(body)]
    assert found == ["10:30", "2024-05-17", "3–4", "1/2", "1 000", "12,500.75", "10^6", "12", "1834", "200"]


@given(st.text(max_size=400) | st.text("1 .,:-–s", max_size=40) | st.text("AI.'’ the", max_size=40))
def test_whatever_a_text_is_its_spans_stand_in_their_sentences(body: str) -> None:
    found = spans(body)
    assert all(span.text and span.sentence.startswith(span.text, span.start) for span in found)
    assert len({span.text for span in found}) == len(found)


@pytest.mark.parametrize(
    ("reply", "pairs"),
    [
        ("Question 1: Who?\nAnswer: Ada.", [("Who?", "Ada")]),
        (
            "**Question 1:** Who?\n**Answer:** Ada\n\nQuestion 2: When?\nAnswer: in 1900\nand so on",
            [("Who?", "Ada"), ("When?", "in 1900")],
        ),
        ("Q: Who? A: Ada", [("Who?", "Ada")]),
        ("Question 1: Who?\nA. Ada", [("Who?", "Ada")]),
        ("Question 1: Which novel did A. A. Milne write?\nAnswer: Pooh", [("Which novel did A. A. Milne write?", "Pooh")]),
        ("Question 1: What did NASA. build? Answer: a rocket", [("What did NASA. build?", "a rocket")]),
        ("Question 1: Who?", []),
        ("Answer: Ada", []),
        ("Question 1: ?\nAnswer: Ada", []),
        ("", []),
    ],
)
def test_pairs_are_read_out_of_what_was_written(reply: str, pairs: list[tuple[str, str]]) -> None:
    assert read_questions(reply) == pairs


@given(st.text(alphabet="Question Answer:1?\n*", max_size=200) | st.text(max_size=200))
def test_no_reply_breaks_the_reader(reply: str) -> None:
    assert all(question.strip() and answer.strip() for question, answer in read_questions(reply))


# ---- frozen


def test_they_are_written_once(domain: Knowledge, store: Store) -> None:
    engine = Reader(ASKED)
    made = freeze(engine, domain, store, Asking(samples=1), seed=0)  # type: ignore[arg-type]
    assert len(engine.sampled) == 4
    again = freeze(Reader("Another Question 1: Who?"), domain, store, Asking(samples=1), seed=0)  # type: ignore[arg-type]
    assert again.problems("train") == made.problems("train")
    assert engine.sampled[0].text.startswith("Write five short questions")


def test_killed_in_between_the_rest_is_written(domain: Knowledge, store: Store) -> None:
    class Mortal(Reader):
        def sample(self, prompts: Sequence[Prompt], how: Sampling, *, seed: int) -> list[list[Reply]]:
            if len(self.sampled) == 2:
                raise KeyboardInterrupt
            return super().sample(prompts, how, seed=seed)

    with pytest.raises(KeyboardInterrupt):
        freeze(Mortal(ASKED), domain, store, Asking(samples=1), seed=0)  # type: ignore[arg-type]
    assert len(store.states("questions/")) == 2
    engine = Reader(ASKED)
    freeze(engine, domain, store, Asking(samples=1), seed=0)  # type: ignore[arg-type]
    assert len(engine.sampled) == 2


def test_those_of_a_run_of_before_stand(domain: Knowledge, store: Store, tmp_path: Path) -> None:
    """Then all problems' were kept together."""
    first, second, *_ = domain.problems("train")
    kept = {"question": "Who?", "answer": "Ada", "verdict": "kept", "way": "list"}
    store.set_state("questions", {first.id: [kept, {**kept, "question": "What?", "verdict": "repeated"}]})
    engine = Reader(ASKED)
    freeze(engine, domain, store, Asking(samples=1), seed=0)  # type: ignore[arg-type]
    assert len(engine.sampled) == 3
    assert own_questions(store)[first.id] == [("Who?", "Ada")]
    assert candidates(store, first) == [("Who?", "Ada"), ("What?", "Ada")]
    assert len(candidates(store, second)) == 7
    row = questions_row(store)
    assert row is not None
    assert (row["texts"], row["written"]) == (4, 2 + 3 * 7)
    store.put_problems(domain.problems("train"))
    with Store.create(tmp_path / "other", "other", "", {}) as other:
        replay(store, other)
        assert found_questions(other) == found_questions(store)


def test_training_is_asked_their_way_and_evaluation_the_gold_way(domain: Knowledge, store: Store) -> None:
    made = freeze(Reader(ASKED), domain, store, Asking(samples=1), seed=0)  # type: ignore[arg-type]
    assert isinstance(made, SelfQuestions)
    assert made.problems("test") == domain.problems("test")
    first = made.problems("train")[0]
    assert [query.id.rpartition("/")[2] for query in first.queries] == ["s0", "s1", "s2"]
    assert first.id == domain.problems("train")[0].id
    assert {query.question for query in first.queries}.isdisjoint(
        {query.question for query in domain.problems("train")[0].queries}
    )
    row = questions_row(store)
    assert row is not None
    assert (row["texts"], row["asked"], row["written"]) == (4, len(made.problems("train")), 28)
    assert f"{row['asked']} can be asked" in str(render.questions(row))


def test_a_text_nothing_could_be_asked_about_is_left_out(domain: Knowledge) -> None:
    ids = [problem.id for problem in domain.problems("train")]
    made = SelfQuestions(domain, {ids[0]: [("Who?", "Ada")], ids[1]: []})
    assert [problem.id for problem in made.problems("train")] == ids[:1]


def test_where_nothing_was_of_use_the_run_says_so(domain: Knowledge, store: Store) -> None:
    with pytest.raises(SealError, match="not one question"):
        freeze(Reader("..."), domain, store, Asking(samples=1), seed=0)  # type: ignore[arg-type]


def test_a_domain_without_texts_is_refused(store: Store) -> None:
    class Sums:
        name = "sums"

    with pytest.raises(UserError, match="needs a domain of texts; 'sums' is none"):
        freeze(Reader(ASKED), Sums(), store, Asking(), seed=0)  # type: ignore[arg-type]


def test_the_loop_runs_on_them_as_on_any(engine: Engine, domain: Knowledge, store: Store) -> None:
    """A random model answers nothing, so the questions are given; it is asked for some all the same."""
    problem = domain.problems("train")[0]
    found = [one for way in ("spans", "cloze") for one in write_questions(engine, domain, problem, Asking((way,)), seed=0)]
    assert found
    assert all(one.verdict != "kept" for one in found)
    own = SelfQuestions(domain, {one.id: [("Who built it?", "Ada")] for one in domain.problems("train")})
    watched = Watched(engine)
    train(watched, own, store, changed(OUTER, rounds=1))  # type: ignore[arg-type]
    assert store.outcomes("train", 1)
    for outcome in store.outcomes("train", 1):
        assert [answer.query_id.rpartition("/")[2] for answer in outcome.before] == ["s0"]
    asked = {ask.prompt.text for job in watched.jobs for ask in job.asks}
    assert not any("When?" in text for text in asked)
