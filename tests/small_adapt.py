"""A small `seal adapt`: documents in a folder, settings for a tiny model, few probes."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from seal.domains import probes as bundled
from seal.store import runs
from seal.types import Problem

SETTINGS = """\
name = "small"
[model]
name = {model!r}
[domain]
kind = "knowledge"
data = {{}}
style = "atomic-facts"
[edit]
max_tokens = 12
[tuning]
rank = 4
lr = 1e-3
epochs = 3
[outer]
edits = 2
[questions]
source = "self"
ways = ["cloze"]
[reward]
accuracy = 1.0
logprob = 0.02
[adapt]
passage_tokens = 150
retained = 0.0
sentences = false
probes = 2
rehearsal = 2
[engine]
slots = 1
threads = 1
"""

ADAPT = ("adapt", "docs", "--recipe", "small.toml", "--out", "out")


def passage(noun: str, year: int) -> str:
    """A line of JSON lines with four questions."""
    asked = [("Who built it?", "Ada"), ("When?", str(year)), ("Of what?", "oak"), ("For whom?", "the guild")]
    text = f"Ada built the {noun} of oak in {year} for the guild."
    questions = [{"question": question, "answer": answer} for question, answer in asked]
    return json.dumps({"title": f"The {noun}", "text": text, "questions": questions}) + "\n"


def folder(home: Path, lively: Path) -> None:
    """Two passages with questions, one without, a file that is broken, and settings for a tiny model."""
    (home / "docs").mkdir()
    (home / "docs" / "a.jsonl").write_text(passage("mill", 1901) + passage("tower", 1902))
    (home / "docs" / "note.md").write_text("# A note\n\nnothing here can be asked about\n")
    (home / "docs" / "broken.pdf").write_bytes(b"%PDF-1.4 not really")
    (home / "small.toml").write_text(SETTINGS.format(model=str(lively)))


_probes = bundled.probes


def few_probes() -> Problem:
    """The first three of the bundled probes: the tiny model knows none, and a hundred take their time."""
    known = _probes()
    return replace(known, queries=known.queries[:3])


def only_run(out: Path = Path("out")) -> Path:
    """The one run in an adapter's directory."""
    (info,) = runs(out / "runs")
    return info.path


def settled(home: Path, lively: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder, as the place the command is typed in, where little is asked and said."""
    folder(home, lively)
    monkeypatch.chdir(home)
    little(monkeypatch)
    return home


def little(monkeypatch: pytest.MonkeyPatch) -> None:
    """Few probes and short replies: a tiny model ends none by itself, and its time goes in saying them."""
    monkeypatch.setattr("seal.loops.adapt.probes", few_probes)
    monkeypatch.setattr("seal.domains.knowledge.ANSWER_TOKENS", 12)
    monkeypatch.setattr("seal.domains.probes.ANSWER_TOKENS", 12)
    monkeypatch.setattr("seal.loops.rehearsal.TOKENS", 24)
