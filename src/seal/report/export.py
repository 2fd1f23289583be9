"""What a run wrote and found out, as files other programs read: JSON lines, and the form of the released result files."""

from __future__ import annotations

import json
import tomllib
from collections.abc import Iterable
from dataclasses import asdict
from pathlib import Path
from typing import Any

from seal.domains.passages import context_of, is_passage
from seal.errors import UserError
from seal.ids import AGAIN
from seal.loops.continual import steps
from seal.loops.stages import TRAIN
from seal.report.tables import Row, problems_table
from seal.rewards import TOTAL
from seal.store import Store, keys

KEPT = "kept"
"""The folder of the kept edits."""
MANIFEST = "export.json"
"""What the folder is the export of, and its files."""
CARD = """\
---
pretty_name: {quoted}
task_categories:
- text-generation
tags:
- seal
- self-edits
configs:
- config_name: default
  data_files:
  - split: train
    path: train.jsonl
---

# Kept self-edits of {run}

{rows} self-edits that {model} wrote and that were kept by what a model trained on them then knew; the policy learnt from them.
Written by `seal export`. In Python: `datasets.load_dataset(FOLDER, split="train")`.

- `system`, `turns`, `prompt`: what the model was asked, and after which turns of a conversation
- `completion`: the self-edit, as it wrote it
- `id`, `round`, `problem`, `reward`: which it is, when it was written, what about, and what it earned (null: not known)
"""


def export_files(store: Store) -> dict[str, str]:
    """File name to content.

    `edits.jsonl`: every self-edit with its prompt, examples, tuning, fault and rewards; `harmed`, where a stream was given it
    made harmful: what that was. `outcomes.jsonl`: every trial with its answers before and after, cost, losses and fault.
    `steps.jsonl`, instead, of a run of streams: every step of every strategy with the answers after it; step 0 is the model
    before the stream, the scores of a stream's steps are its forgetting matrix.
    `kept/`: what the model wrote and learnt from (`system`, `turns`, `prompt`, `completion`), as a folder that
    `datasets.load_dataset` takes, with its card; none if nothing was kept.
    `official-PHASE-round-N.json`: passages with their edits' scores, as `seal official select` reads them; none where no
    problem is a passage.
    """
    edits: list[Row] = []
    harmed = {id.removeprefix(keys.HARMED): found for id, found in store.states(keys.HARMED).items()}
    outcomes: list[Row] = []
    kept: list[Row] = []
    files = {}
    for phase, round in store.rounds():
        own, chosen, rewards = store.edits(phase, round), set(store.kept(phase, round)), store.rewards(phase, round)
        edits += [  # those of a phase that tries others' again are there already
            {
                **asdict(edit),
                "phase": phase,
                "rewards": rewards.get(edit.id, {}),
                "kept": edit.id in chosen,
                **({"harmed": harmed[edit.id]} if edit.id in harmed else {}),
            }
            for edit in own
            if not phase.endswith(AGAIN)
        ]
        kept += [
            {
                "id": edit.id,
                "round": round,
                "problem": edit.problem_id,
                "reward": rewards.get(edit.id, {}).get(TOTAL),
                "system": edit.prompt.system,
                "turns": [{"user": said, "reply": reply} for said, reply in edit.prompt.turns],
                "prompt": edit.prompt.text,
                "completion": edit.text,
            }
            for edit in own
            if edit.id in chosen and edit.source == "policy"
        ]
        for outcome in store.outcomes(phase, round):
            trial = outcome.trial
            of = {
                "trial": trial.id,
                "problem": trial.problem.id,
                "edit": trial.edit and _tried(trial.edit.id, phase),
                "seed": trial.seed,
            }
            found = {name: value for name, value in asdict(outcome).items() if name != "trial"}
            outcomes.append({"phase": phase, "round": round, **of, **found})
        articles = [] if phase.endswith(AGAIN) else _articles(store, phase, round)
        if articles:
            name = f"official-{phase.replace('/', '-')}-round-{round}.json"
            files[name] = json.dumps({"articles": articles}, ensure_ascii=False, indent=1) + "\n"
    folder = {f"{KEPT}/README.md": _card(store, len(kept)), f"{KEPT}/train.jsonl": _lines(kept)} if kept else {}
    steps = _steps(store)
    found = {"steps.jsonl": _lines(steps)} if steps and not outcomes else {"outcomes.jsonl": _lines(outcomes)}
    return {"edits.jsonl": _lines(edits), **found, **folder, **files}


def _tried(edit: str, phase: str) -> str:
    """The id of the edit that was tried, for one that is tried again that which was written."""
    return phase.removesuffix(AGAIN) + edit.removeprefix(phase)


def _steps(store: Store) -> list[Row]:
    """The steps of a run of streams, in the order of strategies, streams and steps."""
    found = []
    for strategy, stream, step, record in steps(store):
        answers = [{"problem": id, **cell} for id, cell in record["row"].items()]
        told = {name: value for name, value in record.items() if name != "row"}
        found.append({"strategy": strategy, "stream": stream, "step": step, **told, "asked": answers})
    return sorted(found, key=lambda row: (row["strategy"], row["stream"], row["step"]))


def write_export(store: Store, out: Path) -> list[str]:
    """Puts the files into a folder, in place of an earlier export of the same run, and gives their names. Nothing else there is
    written over or deleted: raises UserError for a folder with the export of another run, or with a file of one of the names."""
    files, before = export_files(store), _earlier(store, out)
    taken = [name for name in (*files, MANIFEST) if name not in before and (out / name).exists()]
    if taken:
        raise UserError(f"--out {out} has what would be overwritten: {', '.join(taken)}; name another folder, or move that away")
    known = {"run": store.path.name, "created": store.created}
    _put(out / MANIFEST, _manifest(known, dict.fromkeys([*before, *files])))  # first: else what a kill leaves is nobody's
    for name, content in files.items():
        _put(out / name, content)
    for name in before:
        if name not in files and name != MANIFEST:
            (out / name).unlink(missing_ok=True)
    _put(out / MANIFEST, _manifest(known, files))
    return [*files, MANIFEST]


def _manifest(known: dict[str, str], files: Iterable[str]) -> str:
    return json.dumps({**known, "files": [name for name in files if name != MANIFEST]}, indent=2) + "\n"


def _put(path: Path, content: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content, encoding="utf-8")


def _earlier(store: Store, out: Path) -> list[str]:
    """Names of the files of an earlier export of the run to this folder. Raises UserError if it is one of another run."""
    try:
        said: Any = json.loads((out / MANIFEST).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return []
    if not isinstance(said, dict) or not {"run", "created", "files"} <= said.keys():
        return []
    if (said["run"], said["created"]) != (store.path.name, store.created):
        raise UserError(f"--out {out} is the export of another run, {said['run']}; name another folder")
    return [MANIFEST, *said["files"]]


def _card(store: Store, rows: int) -> str:
    """The dataset card: YAML that says which files are data, then what they are, for people."""
    model = tomllib.loads(store.recipe_toml).get("model", {}).get("name", "a model")
    return CARD.format(quoted=json.dumps(store.path.name), run=store.path.name, rows=rows, model=model)


def _articles(store: Store, phase: str, round: int) -> list[Row]:
    """Those passages of a round of which every edit has a measured score."""
    problems, prompts = store.problems(), {edit.id: edit.prompt.plain for edit in store.edits(phase, round)}
    rows = {row["id"]: row for row in problems_table(store, phase) if row["round"] == round}
    articles = []
    for id, problem in problems.items():
        found = rows[id]["edits"] if id in rows else []
        if phase == TRAIN:  # an adaptation tries a passage's own sentences beside what the model writes
            found = [edit for edit in found if edit["source"] == "policy"]
        tried = [edit for edit in found if edit["fault"] or edit["answers"]]
        edits = sorted(tried, key=lambda edit: int(edit["id"].rpartition("/")[2]))
        measured = all(edit["after"] is not None and edit["before"] is not None for edit in edits)
        if edits and measured and is_passage(problem):
            completions = [{"text": edit["text"], "stats": _stats(edit), "questions": edit["answers"]} for edit in edits]
            head = {"title": problem.title, "context": context_of(problem), "prompt": prompts[edits[0]["id"]]}
            articles.append({**head, "completions": completions})
    return articles


def _stats(edit: Row) -> Row:
    return {"baseline_mean": edit["before"], "adapter_mean": edit["after"], "gain_mean": edit["after"] - edit["before"]}


def _lines(rows: Iterable[Row]) -> str:
    """A number that is none (a loss that is NaN) is null: it is no JSON."""
    return "".join(json.dumps(_finite(row), ensure_ascii=False, allow_nan=False) + "\n" for row in rows)


def _finite(value: object) -> object:
    match value:
        case dict():
            return {key: _finite(one) for key, one in value.items()}
        case list() | tuple():
            return [_finite(one) for one in value]
        case float() if value != value or value in (float("inf"), float("-inf")):
            return None
    return value
