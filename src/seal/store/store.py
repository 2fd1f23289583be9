"""The Store: what a run has done so far. Everything that is put is on disk when the call returns, whole or not at all."""

from __future__ import annotations

import datetime
import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

from filelock import BaseFileLock

from seal.disk import put_in_place
from seal.errors import SealError, UserError
from seal.ids import AGAIN, base_id
from seal.store import directory, keys, rows
from seal.store.database import Database, guarded
from seal.store.directory import RunInfo, Status
from seal.types import Answer, Cost, Outcome, Problem, SelfEdit, Trial


class Store:
    """One run. `Store.create` begins it, `Store.open` goes on with it or reads it while another process writes.

    Putting the same id twice with the same content is nothing new, so a resumed run may simply do so; with other content
    it is a SealError. Lists come back in the order of the problems, the edits' indexes and the repeats, whatever the
    order they were put in. A full disk is a SealError, a directory in use by another process a UserError.
    """

    def __init__(self, path: Path, database: Database, lock: BaseFileLock | None) -> None:
        self.path = path
        self._db = database
        self._lock = lock

    @classmethod
    def create(cls, root: Path, name: str, recipe_toml: str, environment: Mapping[str, Any]) -> Store:
        """A new run `<root>/<date>-<name>`, open for writing."""
        with guarded(root):
            path = directory.make(root, name)
            lock = directory.acquire(path)
            (path / directory.RECIPE).write_text(recipe_toml, encoding="utf-8")
            (path / directory.ENVIRONMENT).write_text(json.dumps(environment, indent=2) + "\n", encoding="utf-8")
        store = cls(path, Database(path / directory.DATABASE, write=True), lock)
        store.set_state(keys.CREATED, datetime.datetime.now().astimezone().isoformat(timespec="milliseconds"))
        return store

    @classmethod
    def open(cls, path: Path, *, write: bool) -> Store:
        """An existing run. A reader sees what was put before each call; a writer keeps other writers out until `close`."""
        file = path / directory.DATABASE
        if not file.is_file():
            raise UserError(f"{path} is not a run: it has no {directory.DATABASE}; `seal runs` lists them")
        if not write:
            return cls(path, Database(file, write=False), None)
        with guarded(path):
            lock = directory.acquire(path)
        try:
            return cls(path, Database(file, write=True), lock)
        except BaseException:
            lock.release()
            raise

    @classmethod
    def look(cls, path: Path) -> Store:
        """An existing run for a moment's look, of which the directory keeps no trace, not even SQLite's own files."""
        file = path / directory.DATABASE
        if not file.is_file():
            raise UserError(f"{path} is not a run: it has no {directory.DATABASE}; `seal runs` lists them")
        return cls(path, Database(file, write=False, still=True), None)

    def close(self) -> None:
        """Lets go of the file and of the lock; what was put stays."""
        self._db.close()
        if self._lock:
            self._lock.release()

    def __enter__(self) -> Store:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    # ---- files

    @property
    def recipe_toml(self) -> str:
        """The resolved recipe, as text."""
        return (self.path / directory.RECIPE).read_text(encoding="utf-8")

    def put_recipe(self, recipe_toml: str) -> None:
        """The recipe from now on. It is the caller's part that all that was put still is what it says."""
        self._replace(directory.RECIPE, recipe_toml)

    @property
    def environment(self) -> dict[str, Any]:
        """What `create` was given, and what was noted since."""
        environment: dict[str, Any] = json.loads((self.path / directory.ENVIRONMENT).read_text(encoding="utf-8"))
        return environment

    def put_environment(self, name: str, value: Any) -> None:
        """Notes something the machine decided while the run was going."""
        self._replace(directory.ENVIRONMENT, json.dumps({**self.environment, name: value}, indent=2) + "\n")

    def _replace(self, name: str, text: str) -> None:
        """The old file or the new one, never a part."""
        with guarded(self.path):
            fresh = self.path / f"{name}.new"
            fresh.write_text(text, encoding="utf-8")
            put_in_place(fresh, self.path / name)

    @property
    def report_path(self) -> Path:
        """Where the HTML report goes."""
        return self.path / directory.REPORT

    @property
    def export_path(self) -> Path:
        """The folder for what other programs read."""
        return self.path / directory.EXPORT

    @property
    def record_path(self) -> Path:
        """Where the record of a grid of plans goes."""
        return self.path / directory.RECORD

    def policy_dir(self, round: int, form: str = "") -> Path:
        """Where the policy as it is after this round goes, as a PEFT adapter; not made here. `form`: another than the one that
        counts."""
        return self.path / directory.POLICY / f"round-{round}{form and '-'}{form}"

    def policy(self, round: int) -> Path | None:
        """The policy as it is after this round, if it is there. Round 0: what the run was told to begin with."""
        policy = self.policy_dir(round)
        return policy if policy.exists() else None

    def adapter_dir(self, strategy: str, stream: str, step: int) -> Path:
        """Where the adapters of a stream's step go; not made here."""
        return self.path / directory.ADAPTERS / strategy / f"stream-{stream}" / f"step-{step}"

    # ---- problems and edits

    def put_problems(self, problems: Iterable[Problem]) -> None:
        """All of them or none. Their order is the order of every list."""
        with self._db.transaction():
            for problem in problems:
                self._db.put("problems", rows.problem_row(problem), ["id"])

    def problems(self) -> dict[str, Problem]:
        """Every problem by its id, in the order they were put."""
        return {row["id"]: rows.read_problem(row) for row in self._db.all("SELECT * FROM problems ORDER BY rowid")}

    def put_edits(self, edits: Iterable[SelfEdit]) -> None:
        """A batch, all of it or none. An edit's phase is in its id; its problem must have been put."""
        batch = list(edits)  # sampled before the transaction begins, should this be a generator
        with self._db.transaction():
            for edit in batch:
                self._db.put("edits", rows.edit_row(edit), ["id"])

    def edits(self, phase: str, round: int) -> list[SelfEdit]:
        """The self-edits of a round."""
        found = self._db.all(
            "SELECT e.* FROM edits e JOIN problems p ON p.id = e.problem"
            ' WHERE e.phase = ? AND e.round = ? ORDER BY p.rowid, e."index"',
            phase,
            round,
        )
        return [rows.read_edit(row) for row in found]

    def written_for(self, phase: str) -> set[str]:
        """Ids of the problems that have self-edits in any round of a phase."""
        return {row["problem"] for row in self._db.all("SELECT DISTINCT problem FROM edits WHERE phase = ?", phase)}

    # ---- trials

    def put_base(self, phase: str, round: int, problem_id: str, answers: Sequence[Answer], cost: Cost = Cost()) -> None:
        """The unchanged model's answers to a problem: the `before` of its outcomes in this phase and round."""
        problem = Problem(problem_id, "", "", ())
        trial = Trial(base_id(phase, round, problem_id), problem, None)
        with self._db.transaction():
            self._put_trial(phase, round, Outcome(trial, (), tuple(answers), cost))

    def base(self, phase: str, round: int) -> dict[str, tuple[Answer, ...]]:
        """The unchanged model's answers by problem id."""
        with self._db.snapshot():
            answers = self._answers(phase, round, "t.edit IS NULL")
            found = self._db.all(
                "SELECT t.id, t.problem FROM trials t JOIN problems p ON p.id = t.problem"
                " WHERE t.phase = ? AND t.round = ? AND t.edit IS NULL ORDER BY p.rowid",
                phase,
                round,
            )
        return {row["problem"]: tuple(answers.get(row["id"], ())) for row in found}

    def base_costs(self, phase: str, round: int) -> dict[str, Cost]:
        """What the unchanged model's answers took, by problem id."""
        found = self._db.all("SELECT * FROM trials WHERE phase = ? AND round = ? AND edit IS NULL", phase, round)
        return {row["problem"]: rows.read_cost(row) for row in found}

    def put_outcome(self, phase: str, round: int, outcome: Outcome) -> None:
        """One trial of a self-edit with its answers. Its edit and its base answers must have been put.

        Raises ValueError for a trial of the unchanged model (that is `put_base`) and for other base answers than the stored.
        """
        self.put_outcomes(phase, round, [outcome])

    def put_outcomes(self, phase: str, round: int, outcomes: Iterable[Outcome]) -> None:
        """Several, all of them or none."""
        with self._db.transaction():
            for outcome in outcomes:
                trial = outcome.trial
                if trial.edit is None:
                    raise ValueError(f"trial {trial.id!r} has no self-edit; put the unchanged model's answers with put_base")
                base = self._answers_of(base_id(phase, round, trial.problem.id))
                if rows.answer_rows("", base) != rows.answer_rows("", outcome.before):
                    raise ValueError(f"trial {trial.id!r} has other answers of the unchanged model than put_base was given")
                self._put_trial(phase, round, outcome)

    def outcomes(self, phase: str, round: int) -> list[Outcome]:
        """The finished trials of a round's self-edits, equal to what was put."""
        with self._db.snapshot():
            problems = self.problems()
            edits = {edit.id: edit for edit in self.edits(phase, round)}
            answers = self._answers(phase, round)
            found = self._db.all(
                "SELECT t.* FROM trials t JOIN problems p ON p.id = t.problem JOIN edits e ON e.id = t.edit"
                ' WHERE t.phase = ? AND t.round = ? ORDER BY p.rowid, e."index", t.repeat',
                phase,
                round,
            )
        return [
            rows.read_outcome(
                row,
                problems[row["problem"]],
                edits[row["edit"]],
                before=tuple(answers.get(base_id(phase, round, row["problem"]), ())),
                after=tuple(answers.get(row["id"], ())),
            )
            for row in found
        ]

    # ---- what the loop made of them

    def put_rewards(self, rewards: Mapping[str, Mapping[str, float | None]]) -> None:
        """Rewards by edit id and name; None: not to be learnt from. All or none."""
        with self._db.transaction():
            for edit, named in rewards.items():
                for name, value in named.items():
                    self._db.put("rewards", {"edit": edit, "name": name, "value": value}, ["edit", "name"])

    def rewards(self, phase: str, round: int) -> dict[str, dict[str, float | None]]:
        """Rewards of a round's edits, by edit id and name."""
        found = self._db.all(
            "SELECT r.* FROM rewards r JOIN edits e ON e.id = r.edit JOIN problems p ON p.id = e.problem"
            ' WHERE e.phase = ? AND e.round = ? ORDER BY p.rowid, e."index", r.name',
            phase,
            round,
        )
        rewards: dict[str, dict[str, float | None]] = {}
        for row in found:
            rewards.setdefault(row["edit"], {})[row["name"]] = row["value"]
        return rewards

    def put_kept(self, phase: str, round: int, edit_ids: Iterable[str]) -> None:
        """The self-edits a round's selection kept, all in one call."""
        chosen = sorted(set(edit_ids))
        with self._db.transaction():
            present = sorted(self.kept(phase, round))
            if present and present != chosen:
                raise SealError(f"{self.path}: {phase} round {round} kept {present} before and {chosen} now")
            for edit in chosen:
                self._db.put("kept", {"phase": phase, "round": round, "edit": edit}, ["phase", "round", "edit"])

    def kept(self, phase: str, round: int) -> list[str]:
        """Ids of the kept self-edits."""
        found = self._db.all(
            "SELECT k.edit FROM kept k JOIN edits e ON e.id = k.edit JOIN problems p ON p.id = e.problem"
            ' WHERE k.phase = ? AND k.round = ? ORDER BY p.rowid, e."index"',
            phase,
            round,
        )
        return [row["edit"] for row in found]

    def put_metrics(self, round: int, values: Mapping[str, float]) -> None:
        """Numbers about a round, by name. The latest stand: an unfinished update is done again and takes other seconds."""
        with self._db.transaction():
            for name, value in values.items():
                self._db.replace("metrics", {"round": round, "name": name, "value": value})

    def metrics(self) -> dict[int, dict[str, float]]:
        """Every round's numbers by name."""
        metrics: dict[int, dict[str, float]] = {}
        for row in self._db.all("SELECT * FROM metrics ORDER BY round, name"):
            metrics.setdefault(row["round"], {})[row["name"]] = row["value"]
        return metrics

    # ---- where the run stands

    @property
    def created(self) -> str:
        """When the run was begun, as an ISO time; empty if it does not say."""
        created: str = self.get_state(keys.CREATED, "")
        return created

    @property
    def status(self) -> Status:
        """Whether a process is writing to the run; if none is, whether all is done."""
        return "running" if directory.is_locked(self.path) else "done" if self.get_state(keys.FINISHED, False) else "stopped"

    def latest(self) -> tuple[str, int, str] | None:
        """Phase, round and id of the self-edit that was tried last, or written last if none of its round was tried yet."""
        written, tried = (
            self._db.all(
                f"SELECT phase, round, {id} AS edit FROM {table} WHERE {id} IS NOT NULL AND phase NOT LIKE ?"
                " ORDER BY rowid DESC LIMIT 1",
                f"%{AGAIN}",  # those are of edits tried before
            )
            for table, id in (("edits", "id"), ("trials", "edit"))
        )
        if tried and (tried[0]["phase"], tried[0]["round"]) == (written[0]["phase"], written[0]["round"]):
            written = tried
        return (written[0]["phase"], written[0]["round"], written[0]["edit"]) if written else None

    def set_state(self, key: str, value: object) -> None:
        """Anything JSON can hold; the latest stands."""
        with self._db.transaction():
            self._db.replace("state", {"key": key, "value": json.dumps(value)})

    def get_state(self, key: str, default: Any = None) -> Any:
        """What `set_state` was given last."""
        found = self._db.all("SELECT value FROM state WHERE key = ?", key)
        return json.loads(found[0]["value"]) if found else default

    def states(self, prefix: str) -> dict[str, Any]:
        """Everything that was set under keys that begin so, by key."""
        found = self._db.all("SELECT key, value FROM state WHERE substr(key, 1, ?) = ? ORDER BY key", len(prefix), prefix)
        return {row["key"]: json.loads(row["value"]) for row in found}

    def finish(self) -> None:
        """The command has done all it set out to do."""
        self.set_state(keys.FINISHED, True)

    def rounds(self) -> list[tuple[str, int]]:
        """Every (phase, round) that has edits or trials."""
        found = self._db.all("SELECT phase, round FROM edits UNION SELECT phase, round FROM trials ORDER BY phase, round")
        return [(row["phase"], row["round"]) for row in found]

    def _put_trial(self, phase: str, round: int, outcome: Outcome) -> None:
        trial = outcome.trial.id
        new = rows.answer_rows(trial, outcome.after)
        if self._db.put("trials", rows.outcome_row(phase, round, outcome), ["id"]):
            for row in new:
                self._db.put("answers", row, ["trial", "place"])
        elif rows.answer_rows(trial, self._answers_of(trial)) != new:
            raise SealError(f"{self.path}: trials already has {trial!r} with other answers")

    def _answers_of(self, trial: str) -> tuple[Answer, ...]:
        return tuple(rows.read_answer(row) for row in self._db.all("SELECT * FROM answers WHERE trial = ? ORDER BY place", trial))

    def _answers(self, phase: str, round: int, which: str = "TRUE") -> dict[str, list[Answer]]:
        """Every answer of a round, by trial; `which`: of those trials alone, as SQL has it."""
        answers: dict[str, list[Answer]] = {}
        found = self._db.all(
            "SELECT a.* FROM answers a JOIN trials t ON t.id = a.trial"
            f" WHERE t.phase = ? AND t.round = ? AND {which} ORDER BY a.trial, a.place",
            phase,
            round,
        )
        for row in found:
            answers.setdefault(row["trial"], []).append(rows.read_answer(row))
        return answers


def runs(root: Path) -> list[RunInfo]:
    """The runs under `root`, oldest first. A run of another schema, or a damaged one, is listed as unreadable."""
    return sorted((_info(root / name) for name in names(root)), key=_begun)


def names(root: Path) -> list[str]:
    """What the runs under `root` are called, none of them being opened."""
    return sorted(path.name for path in root.iterdir() if is_run(path)) if root.is_dir() else []


def is_run(path: Path) -> bool:
    """Whether a run is there, readable or not."""
    return (path / directory.DATABASE).is_file()


def _begun(info: RunInfo) -> tuple[float, str]:
    """When it was made, whatever the time zone it was made in; what tells no time comes first."""
    return (datetime.datetime.fromisoformat(info.created).timestamp() if info.created else 0.0, info.name)


def _info(path: Path) -> RunInfo:
    try:
        with Store.look(path) as store:
            return RunInfo(path, path.name, store.status, store.created)
    except SealError:
        return RunInfo(path, path.name, "unreadable", "")
