"""Whole runs on a tiny model and six passages: what the tests of the loops are made of."""

from __future__ import annotations

import json
import multiprocessing
import os
import signal
import sqlite3
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any
from unittest import mock

import pytest
import torch
from safetensors.torch import load_file

from seal.config.recipe import EditTable, OuterTable
from seal.domains import knowledge, probes
from seal.domains.knowledge import Knowledge
from seal.domains.knowledge_table import KnowledgeTable
from seal.engine import Engine
from seal.loops.rest_em import rest_em
from seal.models import open_model
from seal.policy import update
from seal.policy.selection import best_of_group
from seal.rewards import Compose
from seal.store import Store
from seal.types import LLAMA_LINEAR, Absorbed, Bounds, Example, Finished, Job, Prompt, Reply, Sampling, Tuning

INNER = Tuning(rank=4, alpha=8, lr=1e-2, epochs=2, batch=2)
POLICY = Tuning(rank=4, alpha=8, targets=LLAMA_LINEAR, lr=3e-3, epochs=2, batch=2, loss="completion")
OUTER = OuterTable(rounds=2, contexts=2, edits=2)
EDIT = EditTable(max_tokens=16)
REWARD = {"accuracy": 1.0, "logprob": 0.1}
NOUNS = ("ferry", "mill", "bridge", "school", "garden", "tower")
CONDITIONS = ("base", "passage", "in_context", "sentences", "untrained", "given", "seal")


def a_domain(folder: Path, **changes: Any) -> Knowledge:
    """Six passages of the official form, four to train on."""
    for split, nouns in (("train", NOUNS[:4]), ("test", NOUNS[4:])):
        passages = [
            {
                "title": f"The {noun}",
                "context": f"Ada built the {noun} in 190{number}.",
                "questions": [
                    {"question": f"Who built the {noun}?", "answer": "Ada"},
                    {"question": "When?", "answer": f"190{number}"},
                ],
            }
            for number, noun in enumerate(nouns)
        ]
        (folder / f"{split}.json").write_text(json.dumps(passages))
    table = KnowledgeTable(data={split: str(folder / f"{split}.json") for split in ("train", "test")}, style="atomic-facts")  # type: ignore[dict-item]
    made = table.build(INNER, Bounds())
    for name, value in changes.items():
        setattr(made, f"_{name}", value)
    return made


def an_engine(path: Path, slots: int = 1) -> Engine:
    return Engine(open_model(str(path), device="cpu", dtype="float32"), slots=slots, memory_gb=0.5)


def best(groups: Any, seed: int) -> Any:
    return best_of_group(groups, ties="seed", seed=seed)


def changed(outer: OuterTable, **changes: Any) -> OuterTable:
    return OuterTable(**{**outer.model_dump(), **changes})


def train(engine: Engine, domain: Knowledge, store: Store, outer: OuterTable = OUTER, **changes: Any) -> None:
    how: dict[str, Any] = {
        "edit": EDIT,
        "reward": Compose(REWARD),
        "select": best,
        "update": lambda engine, kept, groups, seed: update.rest_em(engine, kept, POLICY, seed=seed),
        "seed": 3,
    }
    with mock.patch("seal.policy.write.BATCH", 2):  # one problem at a time, so that a round has several batches
        rest_em(engine, domain, store, outer, **{**how, **changes})


def rows(store: Store) -> dict[str, list[tuple[Any, ...]]]:
    """Everything a run has, but how long it took."""
    connection = sqlite3.connect(store.path / "run.db")
    found = {}
    for table in ("problems", "edits", "trials", "answers", "rewards", "kept", "metrics"):
        cursor = connection.execute(f"SELECT * FROM {table}")
        names = [column[0] for column in cursor.description]
        kept = [place for place, name in enumerate(names) if not name.endswith("_seconds")]
        found[table] = sorted(tuple(row[place] for place in kept) for row in cursor)
    found["metrics"] = [row for row in found["metrics"] if "seconds" not in row]
    connection.close()
    return found


def weights(path: Path) -> dict[str, torch.Tensor]:
    return load_file(path / "adapter_model.safetensors")


class Watched:
    """An engine that counts what it is asked to do."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self.jobs: list[Job] = []
        self.sampled = self.absorbed = 0

    def run(self, jobs: Iterable[Job]) -> Iterator[Finished]:
        jobs = list(jobs)
        self.jobs += jobs
        return self._engine.run(jobs)

    def sample(self, prompts: Sequence[Prompt], how: Sampling, *, seed: int) -> list[list[Reply]]:
        self.sampled += len(prompts)
        return self._engine.sample(prompts, how, seed=seed)

    def absorb(self, examples: Sequence[Example], tuning: Tuning, *, seed: int, **more: Any) -> Absorbed:
        self.absorbed += 1
        return self._engine.absorb(examples, tuning, seed=seed, **more)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._engine, name)


def stop_after(commits: int, stop: Callable[[], None], patch: Callable[[Any, str, Any], None] = setattr) -> None:
    """From now on the so-many-th call that puts something on disk is the last: it is done, and then `stop` is called."""
    left = commits

    def counted(function: Callable[..., Any]) -> Callable[..., Any]:
        def put(*args: Any, **named: Any) -> Any:
            nonlocal left
            found = function(*args, **named)
            left -= 1
            if left == 0:
                stop()
            return found

        return put

    for owner, name in [(Store, name) for name in dir(Store) if name.startswith("put_")] + [(Engine, "export")]:
        patch(owner, name, counted(getattr(owner, name)))


def interrupt() -> None:
    """What Ctrl-C does."""
    raise KeyboardInterrupt


def interrupted_until_done(life: Callable[[], None], commits: int, most: int = 40) -> None:
    """Runs `life()` again and again, each time interrupted when it has put so many things on disk, until it comes to its end;
    interrupted more than once, and fewer than `most` times."""
    for interruptions in range(most):
        with pytest.MonkeyPatch.context() as patch:
            stop_after(commits, interrupt, patch.setattr)
            try:
                life()
            except KeyboardInterrupt:
                continue
        assert interruptions > 1
        return
    raise AssertionError(f"{most} lives were not enough")


def die() -> None:
    """Kills the process it is called in, as the system would."""
    os.kill(os.getpid(), signal.SIGKILL)


WHOLE = knowledge.ANSWER_TOKENS
"""Tokens of an answer where nobody is brief."""


def say_briefly() -> None:
    """Answers of twelve tokens, in this process: random models do not stop by themselves, and their time goes in saying them."""
    knowledge.ANSWER_TOKENS = probes.ANSWER_TOKENS = 12


def _brief(life: Callable[..., None], *arguments: Any) -> None:
    say_briefly()
    life(*arguments)


def killed_until_done(life: Callable[..., None], *arguments: Any, most: int) -> None:
    """Runs `life(*arguments)` in a process of its own, again and again as long as it dies by `die`; more than once, and fewer
    than `most` times. It is a process because a kill must be a kill; torch is imported once for all of them."""
    forks = multiprocessing.get_context("forkserver")
    forks.set_forkserver_preload(["seal.engine", "seal.loops.evaluate", "transformers.models.llama.modeling_llama"])
    for deaths in range(most):
        process = forks.Process(target=_brief, args=(life, *arguments), daemon=True)
        process.start()
        process.join()
        if process.exitcode == 0:
            assert deaths > 1
            return
        assert process.exitcode == -signal.SIGKILL
    raise AssertionError(f"{most} lives were not enough")


def whole_run(engine: Engine, folder: Path) -> Store:
    """A finished training run that was never stopped."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # as the processes that are killed
    with Store.create(folder, "whole", "", {}) as store:
        train(engine, a_domain(folder), store)
    torch.set_num_threads(threads)
    return store
