"""Reading passages in every form, and what bad files get."""

import json
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from seal.domains import passages
from seal.errors import UserError
from seal.types import Problem

SHARED = Path(__file__).parents[2] / "shared"
ROW = {"title": "Red Fox", "context": "It runs.", "questions": [{"question": "Runs?", "answer": "yes"}]}


def write(folder: Path, content: Any) -> Path:
    path = folder / "x.json"
    path.write_text(content if isinstance(content, str) else json.dumps(content), encoding="utf-8")
    return path


def test_the_official_form(tmp_path: Path) -> None:
    [problem] = passages.from_file(write(tmp_path, [ROW]))
    assert problem.id.startswith("red-fox-")
    assert (problem.title, passages.context_of(problem), problem.cluster) == ("Red Fox", "It runs.", "")
    [query] = problem.queries
    assert (query.id, query.question, query.answer, query.role) == (f"{problem.id}/q0", "Runs?", "yes", "target")


@pytest.mark.parametrize(
    ("payload", "is_one"),
    [
        ('{"context": "It runs."}', True),
        ('{"context": ["It", "runs."]}', False),
        ('{"shown": []}', False),
        ('["context"]', False),
        ("a text of one's own", False),
        ("", False),
    ],
)
def test_a_passage_is_told_from_other_problems(payload: str, is_one: bool) -> None:
    assert passages.is_passage(Problem("red-fox", "Red Fox", payload, ())) is is_one


def test_json_lines_are_read_like_a_list_of_the_same_records(tmp_path: Path) -> None:
    rows = [
        {"title": title, "context": f"{title} stands.\u2028Still.", "questions": [{"question": "What?", "answer": title}]}
        for title in ("Mill", "Ferry")
    ]
    lines = tmp_path / "mine.JSONL"
    lines.write_text("\ufeff" + "\n\n".join(json.dumps(row, ensure_ascii=False) for row in rows) + "\n", encoding="utf-8")
    assert passages.from_file(lines) == passages.from_file(write(tmp_path, rows))
    lines.write_text('{"title": "Mill"}\n{"title": "Ferry"', encoding="utf-8")
    with pytest.raises(UserError, match=r"mine\.JSONL: line 2: not JSON \(column 18"):
        passages.from_file(lines)


def test_several_answers_are_refused_by_their_name(tmp_path: Path) -> None:
    asked = {"question": "Who?", "answers": ["Ada", "Ada Lund"]}
    with pytest.raises(UserError, match=r"record 1, question 1: field 'answer' is missing; of several 'answers' give the one"):
        passages.from_file(write(tmp_path, [{"title": "Mill", "context": "Ada built it.", "questions": [asked]}]))


def test_squad_and_official_give_the_same_problems(tmp_path: Path) -> None:
    answers = [{"text": "yes", "answer_start": 0}, {"text": "no", "answer_start": 1}]
    paragraphs = [
        {"context": "Unasked.", "qas": []},
        {"context": "It runs.", "qas": [{"id": "1", "question": "Runs?", "answers": answers}]},
    ]
    squad = {"version": "1.1", "data": [{"title": "Red_Fox", "paragraphs": paragraphs}]}
    found = passages.from_file(write(tmp_path, squad))
    assert found == passages.from_file(write(tmp_path, [ROW]))


def test_a_result_file_gives_each_question_once(tmp_path: Path) -> None:
    asked = [{"rep": rep, "question": f"{at}?", "answer": "yes"} for rep in range(3) for at in range(2)]
    article = {"title": "T", "context": "C", "completions": [{"text": "", "questions": asked}, {"text": "", "questions": asked}]}
    [problem] = passages.from_file(write(tmp_path, {"articles": [article]}))
    assert [query.question for query in problem.queries] == ["0?", "1?"]


def test_passages_of_one_title_are_one_cluster_and_equal_records_one_problem(tmp_path: Path) -> None:
    more = {**ROW, "questions": [*ROW["questions"], {"question": "Sits?", "answer": "no"}]}
    first, second = passages.from_file(write(tmp_path, [ROW, {**ROW, "context": "It sits."}, more]))
    assert first.cluster == second.cluster == "Red Fox"
    assert [query.question for query in first.queries] == ["Runs?", "Sits?"]


@given(st.lists(st.tuples(st.text(max_size=3), st.text(max_size=3)), unique=True))
def test_ids_are_unique_and_do_not_depend_on_the_neighbours(pairs: list[tuple[str, str]]) -> None:
    found = passages.to_problems((title, context, [("?", "!")]) for title, context in pairs)
    assert len({problem.id for problem in found}) == len(pairs)
    alone = [passages.to_problems([(title, context, [("?", "!")])])[0] for title, context in pairs]
    assert [problem.id for problem in found] == [problem.id for problem in alone]


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ("[{", "not JSON (line 1"),
        (f'[{{"title": {"9" * 5000}}}]', "holds a number of too many digits to be read"),
        ("3", "must hold a list of passages"),
        ([], "holds no passages"),
        ([ROW, 7], "record 2: must be an object with the field 'title', not 7"),
        ([ROW, {**ROW, "title": None}], "record 2: field 'title' must be text, not null"),
        ([{**ROW, "context": "  "}], "record 1: field 'context' is empty"),
        ([{**ROW, "context": "\ud800"}], "record 1: field 'context' holds half a character"),
        ([{"title": "T", "context": "C"}], "record 1: field 'questions' is missing"),
        ([{**ROW, "questions": []}], "record 1: field 'questions' is empty"),
        ([{**ROW, "questions": [{"question": "?"}]}], "record 1, question 1: field 'answer' is missing"),
        ({"data": [{"title": "T", "paragraphs": {}}]}, "record 1: field 'paragraphs' must be a list, not an object"),
        (
            {"data": [{"title": "T", "paragraphs": [{"context": "C", "qas": [{"question": "?", "answers": []}]}]}]},
            "record 1, paragraph 1, question 1: field 'answers' is empty",
        ),
    ],
)
def test_a_bad_file_gets_one_line_with_file_record_and_field(tmp_path: Path, content: Any, says: str) -> None:
    path = write(tmp_path, content)
    with pytest.raises(UserError) as error:
        passages.from_file(path)
    assert str(error.value).startswith(f"{path}: ")
    assert says in str(error.value)
    assert "\n" not in str(error.value)


def test_files_that_are_not_text_or_not_there(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"nowhere\.json: no such file"):
        passages.read_passages(str(tmp_path / "nowhere.json"), "test")
    with pytest.raises(UserError, match="cannot be read"):
        passages.from_file(tmp_path)
    (tmp_path / "y.json").write_bytes(b'["\xff"]')
    with pytest.raises(UserError, match="not UTF-8 text"):
        passages.from_file(tmp_path / "y.json")


@pytest.mark.parametrize("asked", [{}, {"questions": []}])
def test_only_passages_to_train_on_may_be_without_questions(tmp_path: Path, asked: dict[str, Any]) -> None:
    file = write(tmp_path, [{"title": "Owl", "context": "It flies.", **asked}, ROW])
    assert [len(one.queries) for one in passages.read_passages(str(file), "train")] == [0, 1]
    with pytest.raises(UserError, match="record 1: field 'questions' is"):
        passages.read_passages(str(file), "test")


def test_squad_by_name_says_how_to_get_its_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "datasets", None)
    with pytest.raises(UserError, match=r"pip install 'seal\[hub\]'"):
        passages.read_passages("squad", "train")
    with pytest.raises(UserError, match="squad has no 'dev' set"):
        passages.read_passages("squad", "dev")


def test_squad_by_name_groups_the_hubs_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    class Hub:
        @staticmethod
        def load_dataset(name: str, split: str) -> list[dict[str, Any]]:
            assert split == "validation"
            return [
                {"title": "Red_Fox", "context": "It runs.", "question": q, "answers": {"text": [q, "no"]}} for q in ("a", "b")
            ]

    monkeypatch.setitem(sys.modules, "datasets", Hub)
    [problem] = passages.read_passages("squad", "test")
    assert [(query.question, query.answer) for query in problem.queries] == [("a", "a"), ("b", "b")]


def test_squad_by_name_is_tested_in_the_papers_order(monkeypatch: pytest.MonkeyPatch) -> None:
    class Hub:
        @staticmethod
        def load_dataset(name: str, split: str) -> list[dict[str, Any]]:
            return [{"title": "T", "context": str(at), "question": "?", "answers": {"text": ["!"]}} for at in range(6)]

    monkeypatch.setitem(sys.modules, "datasets", Hub)
    train, test = ([passages.context_of(one) for one in passages.read_passages("squad", split)] for split in ("train", "test"))
    assert train == list("012345")
    assert test == list("312405")  # random.seed(42), random.shuffle


@pytest.mark.shared
@pytest.mark.skipif(not SHARED.is_dir(), reason="no data folder beside the checkout")
def test_the_papers_200_passages_are_the_first_of_its_order() -> None:
    folder = SHARED / "data" / "squad"
    everything, papers = (passages.from_file(folder / name) for name in ("val_2067.json", "val_200_official_order.json"))
    assert [one.id for one in passages.papers_order(everything)[:200]] == [one.id for one in papers]


@pytest.mark.shared
@pytest.mark.skipif(not SHARED.is_dir(), reason="no data folder beside the checkout")
def test_the_official_files_have_the_known_sizes() -> None:
    sizes = {
        "squad/val_200_official_order.json": (200, 974, 47),
        "squad/val_2067.json": (2067, 10570, 48),
        "official/train/rank_iter0.json": (50, 225, None),
        "official/eval/base.json": (200, 974, 47),
    }
    for name, (count, questions, titles) in sizes.items():
        found = passages.from_file(SHARED / "data" / name)
        assert (len(found), sum(len(problem.queries) for problem in found)) == (count, questions)
        assert titles is None or len({problem.title for problem in found}) == titles
        assert len({problem.id for problem in found}) == count
