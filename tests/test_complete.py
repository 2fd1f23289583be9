"""Shell completion, as bash asks for it: verbs, flags, names of runs and recipes."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from typer.main import get_command

from seal.cli.app import app
from seal.store import Store

SEAL = [sys.executable, "-c", "from seal.cli import main; main()"]


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with two runs, one elsewhere, and a recipe of one's own."""
    for root, name in (("runs", "one"), ("runs", "two"), ("other", "three")):
        Store.create(tmp_path / root, name, "", {}).close()
    (tmp_path / "runs" / "no-run").mkdir()
    (tmp_path / "mine.toml").write_text("")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def completed(line: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> list[str]:
    """What bash is told when the tab key is pressed at the end of a line."""
    from seal.cli.app import run

    words = line.split(" ")
    monkeypatch.setenv("_SEAL_COMPLETE", "complete_bash")
    monkeypatch.setenv("COMP_WORDS", "\n".join(words))
    monkeypatch.setenv("COMP_CWORD", str(len(words) - 1))
    capsys.readouterr()
    with pytest.raises(SystemExit) as end:
        run([])
    assert end.value.code == 0
    return capsys.readouterr().out.split()


def test_names_of_runs_and_recipes_complete(home, monkeypatch, capsys):
    def tab(line: str) -> list[str]:
        return completed(line, monkeypatch, capsys)

    days = [path.name for path in sorted((home / "runs").glob("*-*")) if (path / "run.db").is_file()]
    assert [day[-3:] for day in days] == ["one", "two"]
    assert tab("seal wat") == ["watch"]
    assert tab("seal watch --on") == ["--once"]
    assert tab("seal watch ") == ["last", "one", "two", *days]
    assert tab("seal show tw") == ["two"]
    assert tab(f"seal compare last {days[1][:-1]}") == [days[1]]
    assert [name[-5:] for name in tab("seal show --runs other ")] == ["last", "three", "three"]
    assert sorted(tab("seal train bundled")) == ["bundled", "bundled-no-labels"]
    assert tab("seal train mi") == ["mine.toml"]
    assert tab("seal recipes dem") == ["demo"]
    assert tab("seal recipes mi") == []
    assert tab("seal eval la") == ["last"]
    assert "bundled" in tab("seal eval ")
    monkeypatch.chdir(home / "other")
    assert tab("seal show ") == []


def test_whatever_takes_a_recipe_or_a_run_completes_it(home, monkeypatch, capsys):
    offered = {"RUN": "last", "RECIPE": "mine.toml"}
    takers = [(line, kinds) for line, kinds in arguments_and_options("seal", get_command(app)) if offered.keys() & kinds]
    assert {"seal continual ", "seal undo ", "seal adapt --recipe ", "seal arc solvable --resume "} < {line for line, _ in takers}
    for line, kinds in takers:
        found = completed(line, monkeypatch, capsys)
        assert {kind for kind, name in offered.items() if name in found} == kinds, line


def arguments_and_options(line: str, command: Any) -> Iterator[tuple[str, set[str]]]:
    """Every place where a word of one's own belongs: the line up to it, and what its help says it is, `RECIPE|RUN` being two."""
    before = f"{line} "
    for one in command.params:
        option = one.opts[0].startswith("-")
        yield f"{line} {one.opts[0]} " if option else before, set((one.metavar or "").split("|"))
        before += "" if option else "word "
    for name, verb in getattr(command, "commands", {}).items():
        yield from arguments_and_options(f"{line} {name}", verb)


@pytest.mark.skipif(not shutil.which("bash"), reason="no bash here")
def test_bash_itself_completes(home):
    """The script that --install-completion puts in place, in a real bash."""
    bin = home / "bin"
    bin.mkdir()
    (bin / "seal").write_text(f"#!/bin/sh\nexec {sys.executable} -c 'from seal.cli import main; main()' \"$@\"\n")
    (bin / "seal").chmod(0o755)
    program = """
eval "$(_SEAL_COMPLETE=source_bash seal)"
COMP_WORDS=(seal watch la) COMP_CWORD=2
_seal_completion seal la watch
echo "${COMPREPLY[@]}"
complete -p seal
"""
    environment = {**os.environ, "PATH": f"{bin}:{os.environ['PATH']}"}
    done = subprocess.run(["bash", "-c", program], env=environment, capture_output=True, text=True, timeout=60)
    reply, registered = done.stdout.splitlines()
    assert (reply, done.returncode) == ("last", 0), done.stderr
    assert "_seal_completion" in registered


def test_what_completes_loads_no_torch(home):
    code = "import sys; sys.argv = ['seal']; from seal.cli import main\ntry: main()\nfinally: print('torch' in sys.modules)"
    environment = {**os.environ, "_SEAL_COMPLETE": "complete_bash", "COMP_WORDS": "seal\neval\n", "COMP_CWORD": "2"}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, timeout=60)
    assert done.stdout.split()[-1] == "False"
    assert "last" in done.stdout.split()
