"""`seal export`: everything a run has, readable by others, and the official form read back by what reads the released files."""

from __future__ import annotations

import json
import math
from dataclasses import replace

import pytest
from hand_made import a_run

from seal.cli.app import run
from seal.edits.official import read_articles
from seal.loops.official import official_select
from seal.report.export import export_files
from seal.store import Store
from seal.types import Trial


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


def test_the_kept_edits_load_as_a_dataset(made, tmp_path):
    datasets = pytest.importorskip("datasets", reason="no datasets here: pip install -e '.[hub]'")
    out = tmp_path / "exported"
    assert run(["export", str(made), "--out", str(out)]) == 0
    loaded = datasets.load_dataset(str(out / "kept"), cache_dir=str(tmp_path / "cache"))
    assert list(loaded) == ["train"]
    assert loaded["train"].to_list() == rows(out / "kept" / "train.jsonl")
    assert loaded["train"].column_names == ["id", "round", "problem", "reward", "system", "prompt", "completion"]
    first = loaded["train"][0]
    assert (first["id"], first["reward"]) == ("train/1/ferry/1", 0.25)
    card = (out / "kept" / "README.md").read_text()
    assert f"# Kept self-edits of {made.name}" in card
    assert "6 self-edits" in card


def test_a_run_that_kept_nothing_has_no_such_folder(tmp_path):
    with Store.create(tmp_path, "empty", "", {}) as store:
        assert list(export_files(store)) == ["edits.jsonl", "outcomes.jsonl"]
