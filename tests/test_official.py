"""Released files: their training sequences, and the rows they select."""

import json
from pathlib import Path
from typing import Any

import pytest

from seal.edits.official import read_articles, sequences
from seal.errors import UserError
from seal.loops.official import jsonl, official_select
from seal.policy.selection import gaining

SHARED = Path(__file__).parents[2] / "shared" / "data" / "official"
needs_shared = [pytest.mark.shared, pytest.mark.skipif(not SHARED.is_dir(), reason="no data folder beside the checkout")]
ARTICLE = {"title": "T", "context": " C. ", "prompt": "P\n"}


def edit(text: str, score: Any = 0.5, gain: float = 0.1) -> dict[str, Any]:
    return {"text": text, "stats": {"adapter_mean": score, "gain_mean": gain}, "questions": []}


def write(folder: Path, content: Any) -> Path:
    path = folder / "run.json"
    path.write_text(json.dumps(content))
    return path


def test_sequences_of_both_kinds_of_file(tmp_path: Path) -> None:
    given = write(tmp_path, [{**ARTICLE, "questions": [], "completions": ["1. A\n\n2. B", ""]}])
    assert sequences(given) == [[["T\n1. A", "T\n2. B", "T\nC."], ["T\nC."]]]
    assert sequences(given, split_newlines=False) == [[["T\n1. A\n\n2. B", "T\nC."], ["T\n", "T\nC."]]]
    results = write(tmp_path, {"articles": [{**ARTICLE, "completions": [edit("Who?\nAnswer: A\nQuestion 2: B?\nAnswer: C")]}]})
    assert sequences(results) == [[["T\nQuestion 1: Who?\nAnswer: A", "T\nQuestion 2: B?\nAnswer: C", "T\nC."]]]


def test_thoughts_are_cut_only_where_the_prompt_asked_for_them(tmp_path: Path) -> None:
    completions = ["Hm.\nImplications:\nA"]
    path = write(
        tmp_path, [{**ARTICLE, "prompt": prompt, "completions": completions} for prompt in ("x\nThought Process:\n", "x\n")]
    )
    assert sequences(path) == [[["T\nA", "T\nC."]], [["T\nHm.", "T\nImplications:", "T\nA", "T\nC."]]]


def test_the_best_is_kept_even_without_a_gain_and_blank_edits_are_not(tmp_path: Path) -> None:
    first = {**ARTICLE, "completions": [edit("low", 0.1), edit(" best\n", 0.4, -0.2), edit("also", 0.4, 0.3)]}
    path = write(tmp_path, {"articles": [first, {**ARTICLE, "completions": [edit("  ", 0.9)]}, {**ARTICLE, "completions": []}]})
    assert official_select(path) == [{"prompt": "P\n", "completion": "best"}]
    assert [row["completion"] for row in official_select(path, gaining)] == ["low", "also"]


def test_rows_are_written_one_a_line_with_their_own_characters() -> None:
    assert jsonl([{"prompt": "ü\n", "completion": "–"}]) == '{"prompt": "ü\\n", "completion": "–"}\n'


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (3, "must hold a list of articles"),
        ({"rows": []}, "field 'articles' is missing"),
        ([{**ARTICLE, "completions": [3]}], "record 1, completion 1: field 'text' must be text, not 3"),
        ([{**ARTICLE}], "record 1: field 'completions' is missing"),
        ({"articles": [{**ARTICLE, "completions": [{"text": "x"}]}]}, "record 1, completion 1: field 'stats' is missing"),
        (
            {"articles": [{**ARTICLE, "completions": [edit("x", "1")]}]},
            "completion 1, stats: field 'adapter_mean' must be a finite number",
        ),
    ],
)
def test_a_bad_file_gets_one_line_with_file_record_and_field(tmp_path: Path, content: Any, says: str) -> None:
    path = write(tmp_path, content)
    with pytest.raises(UserError) as error:
        read_articles(path)
    assert str(error.value).startswith(f"{path}: ")
    assert says in str(error.value)


def test_self_edits_without_scores_cannot_be_selected_from(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="a result file"):
        official_select(write(tmp_path, [{**ARTICLE, "completions": ["x"]}]))


class TestReleasedFiles:
    pytestmark = needs_shared

    def test_the_paper_s_rows_are_selected_byte_for_byte(self) -> None:
        rows = official_select(SHARED / "train" / "rank_iter0.json")
        assert len(rows) == 50
        assert jsonl(rows) == (SHARED / "train" / "sft_best1of5_iter0.jsonl").read_text(encoding="utf-8")

    def test_scored_edits_are_the_self_edits_file_s_first_five(self) -> None:
        written, scored = (sequences(SHARED / "train" / name) for name in ("iter0_train.json", "rank_iter0.json"))
        assert [edits[:5] for edits in written[:50]] == scored

    def test_the_passage_alone_is_what_the_naive_run_trained_on(self) -> None:
        path = SHARED / "eval" / "naive.json"
        assert all(
            edits == [[f"{one.title}\n{one.context}"]] for one, edits in zip(read_articles(path), sequences(path), strict=True)
        )
        whole = sequences(path, split_newlines=False)
        assert (
            sum(len(edit) for edits in whole for edit in edits)
            == json.loads((SHARED / "cpt" / "cpt_naive.json").read_text())["train_sequences"]
        )

    def test_an_introduction_of_gpt_4_1_is_dropped(self) -> None:
        first = sequences(SHARED / "eval" / "gpt4_1.json")[0][0]
        assert first[0].startswith("Genghis Khan\n1. ")
        assert first[-1].startswith("Genghis Khan\nThe Shah's army was split")
