"""`seal export`: everything a run has, readable by others, and the official form read back by what reads the released files."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from hand_made import a_record, a_run

from seal.cli.app import run
from seal.edits.official import read_articles
from seal.loops.official import official_select
from seal.report import export
from seal.report.export import export_files, write_export
from seal.report.forgetting import matrix_of
from seal.store import Store, runs
from seal.types import Prompt, Trial


@pytest.fixture
def made(tmp_path):
    return a_run(tmp_path)


def rows(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_everything_is_there_and_reads_back(made, tmp_path, capsys):
    out = tmp_path / "new" / "exported"
    assert run(["export", str(made), "--out", str(out), "--json"]) == 0
    given = json.loads(capsys.readouterr().out)["files"]
    assert sorted(given) == sorted(path.relative_to(out).as_posix() for path in out.rglob("*") if path.is_file())
    edits, outcomes, kept = (rows(out / f"{name}.jsonl") for name in ("edits", "outcomes", "kept/train"))
    assert (len(edits), len(outcomes), len(kept)) == (33, 33, 6)
    assert {row["id"] for row in edits if row["kept"]} == {row["id"] for row in kept}
    assert kept[0]["completion"] == "Ada built the ferry. It was round 1."
    best = next(row for row in outcomes if row["edit"] == "train/3/mill/1")
    assert [one["score"] for one in best["after"]] == [1.0, 0.0]
    assert best["cost"]["train_seconds"] == 0.5
    articles = read_articles(out / "official-train-round-2.json")
    assert [one.title for one in articles] == ["The ferry", "The mill", "The bridge"]
    assert [(edit.score, edit.gain) for edit in articles[0].edits] == [(0.0, 0.0), (0.5, 0.5), (0.0, 0.0)]
    selected = [row["completion"] for row in official_select(out / "official-train-round-2.json")]
    assert selected == [f"Ada built the {noun}. It was round 2." for noun in ("ferry", "mill", "bridge")]


def test_a_prompts_earlier_turns_are_a_part_of_it(made):
    prompt = Prompt("Another.", turns=(("Passage: ...", "{}"),))
    with Store.open(made, write=True) as store:
        first = store.outcomes("train", 1)[0]
        edit = replace(first.trial.edit, id="train/4/ferry/0", round=4, prompt=prompt)
        store.put_edits([edit])
        store.put_base("train", 4, edit.problem_id, first.before)
        store.put_outcome("train", 4, replace(first, trial=Trial(f"{edit.id}/0", first.trial.problem, edit)))
        store.put_kept("train", 4, [edit.id])
        files = export_files(store)
    row = next(row for row in map(json.loads, files["kept/train.jsonl"].splitlines()) if row["id"] == edit.id)
    assert (row["turns"], row["prompt"]) == ([{"user": "Passage: ...", "reply": "{}"}], "Another.")
    assert "Passage: ...{}\\n\\nAnother." in files["official-train-round-4.json"]


def test_a_loss_that_is_no_number_is_null(made):
    with Store.open(made, write=True) as store:
        outcome = store.outcomes("train", 1)[0]
        trial = Trial(outcome.trial.edit.id + "/1", outcome.trial.problem, outcome.trial.edit, 1)
        store.put_outcome("train", 1, replace(outcome, trial=trial, losses=(1.5, math.nan)))
        lines = export_files(store)["outcomes.jsonl"].splitlines()
    assert next(row["losses"] for row in map(json.loads, lines) if row["trial"] == trial.id) == [1.5, None]


def test_a_folder_that_cannot_be_made_is_said(made, tmp_path, capsys):
    (tmp_path / "file").write_text("")
    assert run(["export", str(made), "--out", str(tmp_path / "file" / "x")]) == 2
    assert "--out" in capsys.readouterr().err
    (made / "export").write_text("")  # as in a run that may not be written to
    assert run(["export", str(made)]) == 2
    assert f"{made / 'export'}: cannot be written (File exists); --out DIR puts the export elsewhere" in capsys.readouterr().err


def test_without_a_folder_it_goes_into_the_run_which_stays_what_it_is(made, tmp_path, capsys):
    (line,) = runs(made.parent)
    assert run(["export", made.name, "--runs", str(made.parent), "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert document["out"] == str(made / "export")
    assert all((made / "export" / name).is_file() for name in document["files"])
    assert runs(made.parent) == [line]
    with Store.open(made, write=True) as store:  # gone on with
        assert len(store.edits("train", 1)) == 9


def test_it_takes_the_place_of_the_runs_own_export_and_of_nothing_else(made, tmp_path, capsys):
    out, other = tmp_path / "exported", a_run(tmp_path, "other")
    assert run(["export", str(made), "--out", str(out)]) == 0
    (out / "mine.txt").write_text("mine")
    manifest = json.loads((out / "export.json").read_text())
    manifest["files"].append("official-gone-round-0.json")
    (out / "official-gone-round-0.json").write_text("an earlier export's")
    (out / "export.json").write_text(json.dumps(manifest))
    before = {path: path.read_bytes() for path in out.rglob("*") if path.is_file()}
    assert run(["export", str(other), "--out", str(out)]) == 2
    assert f"is the export of another run, {made.name}; name another folder" in capsys.readouterr().err
    assert {path: path.read_bytes() for path in out.rglob("*") if path.is_file()} == before
    assert run(["export", str(made), "--out", str(out)]) == 0
    assert {path.name for path in before} - {path.name for path in out.rglob("*")} == {"official-gone-round-0.json"}
    assert (out / "mine.txt").read_text() == "mine"

    own = tmp_path / "own"
    own.mkdir()
    (own / "edits.jsonl").write_text("mine")
    assert run(["export", str(made), "--out", str(own)]) == 2
    assert "has what would be overwritten: edits.jsonl; name another folder, or move that away" in capsys.readouterr().err
    assert [(path.name, path.read_text()) for path in own.iterdir()] == [("edits.jsonl", "mine")]


def test_what_a_kill_left_is_written_anew(made, tmp_path, monkeypatch):
    out = tmp_path / "exported"
    with monkeypatch.context() as patch, Store.open(made, write=False) as store:
        patch.setattr("seal.report.export._put", _killed_after(3, export._put))
        with pytest.raises(KeyboardInterrupt):
            write_export(store, out)
    assert len(list(out.iterdir())) == 3
    assert run(["export", str(made), "--out", str(out)]) == 0
    assert (out / "kept" / "train.jsonl").is_file()


def _killed_after(count: int, put: Callable[[Path, str], None]) -> Callable[[Path, str], None]:
    done: list[Path] = []

    def putting(path: Path, content: str) -> None:
        put(path, content)
        done.append(path)
        if len(done) == count:
            raise KeyboardInterrupt

    return putting


def test_a_run_of_streams_has_its_steps_with_their_answers(tmp_path):
    with Store.create(tmp_path, "stream", "", {}) as store:
        store.set_state("continual/merge/0/0", {**a_record(0, {"a": 0.0, "b": 0.5}), "order": ["a", "b"]})
        store.set_state("continual/merge/0/1", a_record(1, {"a": 1.0, "b": 0.25}))
        answer = {"query_id": "q", "text": "Ada", "score": 0.75, "metrics": {"logprob": math.nan}}
        store.set_state("continual/merge/0/2", a_record(2, {"a": 0.5}, row={"a": {"score": 0.75, "answers": [answer]}}))
        files = export_files(store)
        matrix = matrix_of([store.get_state(f"continual/merge/0/{step}") for step in range(3)])
    assert list(files) == ["edits.jsonl", "steps.jsonl"]  # no trial, so no file of them
    steps = [json.loads(line) for line in files["steps.jsonl"].splitlines()]
    assert [(row["strategy"], row["stream"], row["step"]) for row in steps] == [("merge", "0", step) for step in range(3)]
    scores = [{one["problem"]: one["score"] for one in row["asked"]} for row in steps]
    assert [[row.get(id) for id in steps[0]["order"]] for row in scores] == matrix == [[0.0, 0.5], [1.0, 0.25], [0.75, None]]
    assert steps[2]["asked"][0]["answers"] == [{**answer, "metrics": {"logprob": None}}]


def test_the_kept_edits_load_as_a_dataset(made, tmp_path):
    datasets = pytest.importorskip("datasets", reason="no datasets here: pip install -e '.[hub]'")
    out = tmp_path / "exported"
    assert run(["export", str(made), "--out", str(out)]) == 0
    loaded = datasets.load_dataset(str(out / "kept"), cache_dir=str(tmp_path / "cache"))
    assert list(loaded) == ["train"]
    assert loaded["train"].to_list() == rows(out / "kept" / "train.jsonl")
    assert loaded["train"].column_names == ["id", "round", "problem", "reward", "system", "turns", "prompt", "completion"]
    first = loaded["train"][0]
    assert (first["id"], first["reward"]) == ("train/1/ferry/1", 0.25)
    card = (out / "kept" / "README.md").read_text()
    assert f"# Kept self-edits of {made.name}" in card
    assert "6 self-edits" in card


def test_a_run_that_kept_nothing_has_no_such_folder(tmp_path):
    with Store.create(tmp_path, "empty", "", {}) as store:
        assert list(export_files(store)) == ["edits.jsonl", "outcomes.jsonl"]
