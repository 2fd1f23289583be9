"""Fixtures for all tests: tiny random models, an engine, a domain and a run, the embedded model, and an empty cache."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import hypothesis
import pytest
import torch
from small_runs import WHOLE, a_domain, an_engine, say_briefly
from tiny import make_lively, make_tiny

from seal.cli.app import run
from seal.domains.knowledge import Knowledge
from seal.engine import Engine
from seal.models import EMBEDDED, LanguageModel, open_model, pull
from seal.store import Store

hypothesis.settings.register_profile("any machine", deadline=None)
hypothesis.settings.load_profile("any machine")


@pytest.fixture(scope="session", autouse=True)
def threads() -> None:
    """As many threads as there are cores, unless the environment says how many."""
    torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS") or os.cpu_count() or 1))


@pytest.fixture(scope="session", autouse=True)
def brief() -> None:
    """Short answers for all runs but those of the embedded model."""
    say_briefly()


@pytest.fixture(autouse=True)
def cache(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory) -> None:
    """An empty cache and no hub for every test, but the user's own cache, and whole answers, for those that run the embedded
    model."""
    if "embedded" in request.keywords:
        monkeypatch.setattr("seal.domains.knowledge.ANSWER_TOKENS", WHOLE)
        monkeypatch.setattr("seal.domains.probes.ANSWER_TOKENS", WHOLE)
    else:
        monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
        monkeypatch.setenv("SEAL_HOME", str(tmp_path_factory.mktemp("seal-home")))


@pytest.fixture(scope="session")
def tiny_path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Directory of a tiny random chat model."""
    return make_tiny(tmp_path_factory.mktemp("tiny"))


@pytest.fixture(scope="session")
def tiny(tiny_path: Path) -> LanguageModel:
    """A tiny random chat model, in float32 on the CPU."""
    return open_model(str(tiny_path), device="cpu", dtype="float32")


@pytest.fixture(scope="session")
def lively_path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Directory of a tiny model whose replies vary."""
    return make_lively(tmp_path_factory.mktemp("lively"))


@pytest.fixture(scope="session")
def other_policy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A policy of a model whose layers are wider than those of the tiny ones."""
    folder = tmp_path_factory.mktemp("other")
    engine = an_engine(make_tiny(folder / "model", hidden=64))
    engine.export(folder / "policy")
    engine.close()
    return folder / "policy"


@pytest.fixture(scope="session")
def embedded_path() -> Path:
    """Directory of the embedded model, pulled if this machine does not have it yet. Only for tests marked `embedded`."""
    return pull(EMBEDDED)


@pytest.fixture(scope="module")
def engine(lively_path: Path) -> Iterator[Engine]:
    """An engine of one slot on the lively model."""
    engine = an_engine(lively_path)
    yield engine
    engine.close()


@pytest.fixture
def domain(tmp_path: Path) -> Knowledge:
    """Six passages, four to train on."""
    return a_domain(tmp_path)


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    """A run with nothing in it yet."""
    with Store.create(tmp_path / "runs", "small", "", {}) as store:
        yield store


@pytest.fixture
def seal(capsys: pytest.CaptureFixture[str]) -> Callable[..., tuple[int, str, str]]:
    """Runs a command line: its exit code, stdout and stderr."""

    def call(*arguments: str) -> tuple[int, str, str]:
        capsys.readouterr()
        code = run(arguments)
        return code, *capsys.readouterr()

    return call
