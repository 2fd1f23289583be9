"""A model as grader, with the yes/no prompt of the paper's code: any OpenAI-compatible endpoint, or the policy itself.

A judgement that failed (no network, too many requests, a reply that is neither yes nor no, no calls left) is ungraded, never
wrong. Where every one fails, the judging ends: `HOPELESS`.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import sqlite3
import threading
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from seal.errors import SealError, UserError
from seal.grading.grade import Grade, Row
from seal.home import home
from seal.protocols import Notify, Trainer, nobody
from seal.text import measure
from seal.types import Ask, Job, Prompt, Reply

if TYPE_CHECKING:
    from openai import OpenAI

OPENAI = "https://api.openai.com/v1"
REPLY_TOKENS = 16
"""Room for a yes or a no, and for the blanks some models put before it."""
HOPELESS = 10
"""So many failed judgements, and not one that was of use before them, are the user's mistake and not the network's."""

PROMPT = (
    "You are a grading assistant. Your job is to determine whether a student's answer correctly answers the question based solely"
    " on the provided gold answer. Do not use any outside knowledge. The student answer can include additional information, but"
    " it must at least fully convey the gold answer and must not contradict it. Ignore style, phrasing, or extra details that do"
    " not affect correctness. Respond ONLY with 'yes' or 'no'.\n\n"
    "Question: {question}\nGold answer: {target}\nStudent answer: {answer}\n"
    "Is the student answer correct based solely on the gold answer? Respond 'yes' or 'no'."
)
"""Word for word that of the paper's code."""

_LETTERS = re.compile(r"[a-z]+")
_THINKS, _THOUGHT = re.compile(r"<think(?:ing)?>"), re.compile(r"</think(?:ing)?>")


@dataclass(frozen=True, slots=True)
class Judging:
    """Who judges over the network, and what it may cost."""

    model: str
    """As the endpoint calls it."""
    url: str = OPENAI
    """The endpoint: everything before `/chat/completions`."""
    key: str = "OPENAI_API_KEY"
    """Environment variable that holds the key; endpoints other than OpenAI's may do without."""
    at_once: int = 8
    """Requests under way together."""
    retries: int = 4
    """Further tries after a lost connection, a 429 or a 5xx, each after a longer wait."""
    timeout: float = 60.0
    """Seconds one try may take."""
    calls: int | None = None
    """Most judgements asked of the endpoint, those from the cache not counted; None = no limit."""
    price_in: float = 0.0
    """Dollars a million prompt tokens."""
    price_out: float = 0.0
    """Dollars a million reply tokens."""
    reply_tokens: int = REPLY_TOKENS
    """Most tokens of a reply; a model that thinks before it says yes or no needs hundreds or more."""
    cache: str | None = None
    """File that keeps every verdict; None = `judgements.db` in the user's cache."""


@dataclass(frozen=True, slots=True)
class Spent:
    """What judging took so far."""

    calls: int = 0
    """Judgements asked of the endpoint, answered or not."""
    cached: int = 0
    """Verdicts that were known."""
    failed: int = 0
    """Calls without a verdict: their answers are ungraded."""
    refused: int = 0
    """Answers left ungraded because no calls were left."""
    tokens_in: int = 0
    tokens_out: int = 0
    dollars: float = 0.0
    failure: str = ""
    """Why the last of the failed ones failed."""
    unkept: int = 0
    """Verdicts that are used and could not be put into the cache."""
    why_unkept: str = ""
    """Why the last of those could not."""

    def __str__(self) -> str:
        return (
            f"judge: {self.calls} calls, {self.cached} verdicts from the cache, {self.failed} failed, {self.refused} beyond the"
            f" budget; {self.tokens_in} + {self.tokens_out} tokens, ${self.dollars:.4f}"
            + (f"; {self.unkept} verdicts could not be kept ({self.why_unkept})" if self.unkept else "")
            + (f"; the last failure: {self.failure}" if self.failure else "")
        )


class _NoReply(Exception):
    """The endpoint failed to say anything; the message is why."""


def prompt(row: Row) -> str:
    """What the judge is asked about an answer."""
    question, target, answer = row
    return PROMPT.format(question=question, target=target, answer=answer)


def read_verdict(reply: str, *, cut: bool = False) -> float | None:
    """1.0 for a reply with `yes` and no `no`, 0.0 for `no` and no `yes`, None for any other. What a model thinks before
    `</think>` or `</thinking>` does not count, and one that was cut off in its thoughts has said nothing.

    `cut`: the reply is not whole. Only its first word counts then, since the others may be thoughts, or half of what it says.
    """
    said = _THOUGHT.split(reply.lower())[-1]
    if _THINKS.search(said):
        return None
    words = _LETTERS.findall(said)[: 1 if cut else None]
    yes, no = "yes" in words, "no" in words
    return None if yes == no else float(yes)


class Judge:
    """A grader over the network (implements `grade.Many`). Many answers at once are judged side by side."""

    topic = True

    def __init__(self, judging: Judging, notify: Notify = nobody) -> None:
        """Raises UserError if the extra or the key is missing, or the key or the url is none. Nothing is asked yet.

        `notify`: told `("judgements", 16, 500)` as `many` goes on.
        """
        if not judging.url.startswith(("http://", "https://")):
            raise UserError(
                f"the judge's url {judging.url!r} is no address; give the endpoint's whole, such as http://localhost:8000/v1"
            )
        self.judging, self.spent, self._of_use, self._notify = judging, Spent(), False, notify
        self._settings: dict[str, int] = {"temperature": 0, "max_tokens": judging.reply_tokens}
        self._client = _client(judging)
        self._cache = Cache(Path(judging.cache).expanduser() if judging.cache else home() / "judgements.db")
        self._lock = threading.Lock()

    def __call__(self, question: str, target: str, answer: str) -> Grade:
        """The verdict on one answer."""
        return self.many([(question, target, answer)])[0]

    def many(self, rows: Sequence[Row]) -> list[Grade]:
        """One grade a row; the same row is asked once.

        Raises UserError if the endpoint refuses the key, does not know the model, or has not given one verdict and failed
        `HOPELESS` times.
        """
        asked = [row for row in dict.fromkeys(rows) if row[2].strip()]
        scores: dict[Row, float | None] = {}
        self._notify("judgements", 0, len(asked))
        with ThreadPoolExecutor(self.judging.at_once) as pool:
            for row, score in zip(asked, pool.map(self._verdict, asked), strict=True):
                scores[row] = score
                self._notify("judgements", len(scores), len(asked))
        return [Grade(scores.get(row, 0.0), measure(row[2], row[1])) for row in rows]  # nothing said is wrong, as in the paper

    def _verdict(self, row: Row) -> float | None:
        content = prompt(row)
        key = json.dumps([self.judging.url, self.judging.model, content])
        known = self._cache.get(key)
        if known is not None:
            self._count(cached=1)
            return known
        with self._lock:
            if self.judging.calls is not None and self.spent.calls >= self.judging.calls:
                self.spent = replace(self.spent, refused=self.spent.refused + 1)
                return None
            self.spent = replace(self.spent, calls=self.spent.calls + 1)
        try:
            reply, cut = self._reply(content)
        except _NoReply as error:
            self._count_failure(str(error))
            return None
        verdict = read_verdict(reply, cut=cut)
        if verdict is None:
            why = f"it replied {reply[:60]!r}, which is neither yes nor no"
            self._count_failure(why + f": cut after {self.judging.reply_tokens} tokens, reply_tokens allows more" * cut)
            return None
        self._of_use = True
        try:
            self._cache.put(key, verdict)
        except sqlite3.Error as error:  # a full disk, say: it has been paid for, and is as good as any
            with self._lock:
                self.spent = replace(self.spent, unkept=self.spent.unkept + 1, why_unkept=str(error))
        return verdict

    def _count_failure(self, why: str) -> None:
        """Raises UserError where nothing else has ever happened."""
        with self._lock:
            spent = self.spent = replace(self.spent, failed=self.spent.failed + 1, failure=why)
        if not self._of_use and spent.failed >= HOPELESS:
            judging = self.judging
            raise UserError(f"{judging.url} gave no verdict to any of {spent.failed} answers ({why}); see to it, or name another")

    def _reply(self, content: str) -> tuple[str, bool]:
        """What the endpoint says, and whether it was cut for want of tokens. Raises _NoReply if it failed to say anything."""
        import openai

        judging, settings = self.judging, self._settings
        try:
            made = self._client.chat.completions.with_raw_response.create(
                model=judging.model, messages=[{"role": "user", "content": content}], extra_body=settings
            )
        except openai.BadRequestError as error:
            refused = str(error.param)
            if refused not in settings or refused == "max_completion_tokens":  # never without any bound
                raise _NoReply(_words(error)) from None
            self._settings = _without(refused, settings)
            return self._reply(content)
        except (openai.AuthenticationError, openai.PermissionDeniedError) as error:
            raise UserError(f"{judging.url} refuses the key in {judging.key} ({error.status_code}); set another") from None
        except openai.NotFoundError:
            raise UserError(f"{judging.url} has no model {judging.model!r}, or is no such endpoint (404)") from None
        except openai.OpenAIError as error:
            raise _NoReply(_words(error)) from None
        return self._read(made.content)

    def _read(self, body: bytes) -> tuple[str, bool]:
        """As `_reply`, from what the endpoint sent: of that nothing is sure, and the client looks at none of it."""
        try:
            told = json.loads(body)
        except (ValueError, RecursionError):
            told = None
        match told:
            case {"usage": {**usage}}:
                self._count(tokens_in=_whole(usage.get("prompt_tokens")), tokens_out=_whole(usage.get("completion_tokens")))
        match told:
            case {"choices": [{"message": {**message}, **choice}, *_]}:
                return _text(message.get("content")), choice.get("finish_reason") == "length"
            case {"error": {"message": str(words)}} | {"error": str(words)}:
                raise _NoReply(_line(words))
        raise _NoReply(f"it replied {body[:60].decode(errors='replace')!r}, which holds no message")

    def _count(self, **more: int) -> None:
        with self._lock:
            spent = replace(self.spent, **{name: getattr(self.spent, name) + value for name, value in more.items()})
            dollars = (spent.tokens_in * self.judging.price_in + spent.tokens_out * self.judging.price_out) / 1e6
            self.spent = replace(spent, dollars=dollars)


class SelfJudge:
    """The policy as grader (implements `grade.Many`): greedy, by the weights that stand when it is asked."""

    topic = True

    def __init__(self, trainer: Trainer | None = None) -> None:
        """`trainer`: what answers; it may come later, as a domain is made before the model is opened."""
        self.trainer = trainer

    def __call__(self, question: str, target: str, answer: str) -> Grade:
        """The verdict on one answer."""
        return self.many([(question, target, answer)])[0]

    def many(self, rows: Sequence[Row]) -> list[Grade]:
        """One grade a row. What does not fit the model's context is ungraded."""
        if self.trainer is None:
            raise SealError("judge 'self' was given no model; set its trainer")
        asked = [row for row in dict.fromkeys(rows) if row[2].strip()]
        jobs = [
            Job(str(number), (), (Ask(str(number), Prompt(prompt(row)), max_tokens=REPLY_TOKENS),))
            for number, row in enumerate(asked)
        ]
        scores: dict[Row, float | None] = {}
        for finished in self.trainer.run(jobs):
            reply = finished.replies[0] if finished.replies else Reply("")
            scores[asked[int(finished.job_id)]] = read_verdict(reply.text, cut=not reply.ended)
        return [Grade(scores.get(row, 0.0), measure(row[2], row[1])) for row in rows]


class Cache:
    """Verdicts by content, in one SQLite file that several processes and threads may use at once, on several machines too: a
    home may be shared by a cluster's nodes, which have no memory in common as WAL needs it."""

    def __init__(self, path: Path) -> None:
        """Raises UserError if the file cannot be used."""
        self._lock, self._path = threading.Lock(), path
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._database = sqlite3.connect(path, timeout=60, check_same_thread=False, isolation_level=None)
            with suppress(sqlite3.OperationalError):  # a file made in WAL mode that another process has open stays in it
                self._database.execute("PRAGMA journal_mode = DELETE")
            self._database.execute("CREATE TABLE IF NOT EXISTS verdicts (key BLOB PRIMARY KEY, score REAL NOT NULL)")
        except (OSError, sqlite3.Error) as error:
            raise self._unusable(error) from None

    def _unusable(self, error: Exception) -> UserError:
        return UserError(f"verdicts cannot be kept in {self._path} ({error}); name another file as the judge's cache")

    def get(self, content: str) -> float | None:
        """The verdict on that content, if there is one. Raises UserError if the file cannot be read any more."""
        try:
            with self._lock:
                found = self._database.execute("SELECT score FROM verdicts WHERE key = ?", [_digest(content)]).fetchone()
        except sqlite3.Error as error:
            raise self._unusable(error) from None
        return None if found is None else float(found[0])

    def put(self, content: str, score: float) -> None:
        """Keeps a verdict. Raises sqlite3.Error if it cannot."""
        with self._lock:
            self._database.execute("INSERT OR REPLACE INTO verdicts VALUES (?, ?)", [_digest(content), score])


def _without(refused: str, settings: dict[str, int]) -> dict[str, int]:
    """How to ask a model that refuses one of the settings: models that think choose their temperature themselves, and at
    OpenAI's the bound of a reply has another name."""
    left = {name: value for name, value in settings.items() if name != refused}
    return {**left, "max_completion_tokens": settings[refused]} if refused == "max_tokens" else left


def _words(error: Exception) -> str:
    """What an error says, in a line: the endpoint's own words, or what the connection failed by."""
    body, status = getattr(error, "body", None), getattr(error, "status_code", None)
    said = body.get("message") if isinstance(body, dict) else None
    line = _line(str(said or error.__cause__ or error))
    return f"{status}: {line}" if status and said else line


def _line(words: str) -> str:
    return " ".join(words.split())[:200]


def _text(content: Any) -> str:
    """A message's text, which may come in parts, with thoughts and other things among them."""
    parts = content if isinstance(content, list) else [{"type": "text", "text": content}]
    texts = [part.get("text") for part in parts if isinstance(part, dict) and part.get("type") == "text"]
    return "".join(text for text in texts if isinstance(text, str))


def _whole(count: Any) -> int:
    return count if isinstance(count, int) else 0


def _digest(content: str) -> bytes:
    return hashlib.blake2b(content.encode("utf-8", "surrogatepass"), digest_size=16).digest()


def _client(judging: Judging) -> OpenAI:
    try:
        import openai
    except ImportError:
        raise UserError("grader 'judge' needs the extra 'judge': pip install 'seal[judge]'") from None
    key = os.environ.get(judging.key)
    if not key and judging.url.rstrip("/") == OPENAI:
        raise UserError(f"{OPENAI} needs a key: put it into the environment variable {judging.key}, or name another endpoint")
    bad = next((char for char in key or "" if not "!" <= char <= "~"), None)
    if bad is not None:
        raise UserError(f"the key in {judging.key} holds {bad!r}, which no key does; set it again")
    return openai.OpenAI(base_url=judging.url, api_key=key or "none", max_retries=judging.retries, timeout=judging.timeout)
