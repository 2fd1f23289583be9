"""The judge against a real HTTP server on this machine, and the policy as its own judge."""

from __future__ import annotations

import json
import random
import sqlite3
import sys
import threading
import time
from collections.abc import Iterable, Iterator, Sequence
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from small_runs import INNER, a_domain, an_engine

from seal.config import loads
from seal.errors import SealError, UserError
from seal.grading.grade import Grade, Row, grade_all
from seal.grading.judge import PROMPT, Cache, Judge, Judging, SelfJudge, read_verdict
from seal.loops import build
from seal.policy.write import read
from seal.store import Store
from seal.trials import run as run_trials
from seal.types import Ask, Example, Finished, Job, Prompt, Reply, Trial

pytest.importorskip("openai")

ROWS = [("Who?", "Ada", f"Ada {number}") for number in range(6)]


class Server:
    """An OpenAI-compatible endpoint whose replies a test chooses: text, or a status, or bytes that are no JSON.

    `refuses`: settings that it does not take, as OpenAI's does not for models that think.
    """

    def __init__(self) -> None:
        self.replies: list[Any] = []
        self.default: Any = "yes"
        self.refuses: tuple[str, ...] = ()
        self.asked: list[dict[str, Any]] = []
        self.keys: set[str | None] = set()
        self.slow = 0.0
        self.under_way = self.most = 0
        lock = threading.Lock()
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                with lock:
                    outer.asked.append(body)
                    outer.keys.add(self.headers.get("Authorization"))
                    refused = next((name for name in outer.refuses if name in body), None)
                    ready = outer.replies and not refused
                    reply = {"param": refused} if refused else outer.replies.pop(0) if ready else outer.default
                    outer.under_way += 1
                    outer.most = max(outer.most, outer.under_way)
                time.sleep(outer.slow)
                with lock:
                    outer.under_way -= 1
                self._answer(reply)

            def _answer(self, reply: Any) -> None:
                status = reply if isinstance(reply, int) else 400 if isinstance(reply, dict) else 200
                error = {"message": f"trouble {status}", **(reply if isinstance(reply, dict) else {})}
                told = {"error": error} if status != 200 else completion(reply)
                content = reply if isinstance(reply, bytes) else json.dumps(told).encode()
                try:
                    self.send_response(status)
                    self.send_header("Content-Type", "application/json")
                    self.send_header("Content-Length", str(len(content)))
                    if status == 429:
                        self.send_header("Retry-After", "0.01")
                    self.end_headers()
                    self.wfile.write(content)
                except BrokenPipeError:  # whoever asked did not wait
                    pass

            def log_message(self, *args: Any) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}/v1"
        threading.Thread(target=self._server.serve_forever, args=(0.01,), daemon=True).start()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()


def completion(text: Any) -> dict[str, Any]:
    end = "length" if str(text).startswith("<think>") and "</think>" not in str(text) else "stop"
    return {
        "id": "1",
        "object": "chat.completion",
        "created": 0,
        "model": "m",
        "choices": [{"index": 0, "finish_reason": end, "message": {"role": "assistant", "content": str(text)}}],
        "usage": {"prompt_tokens": 100, "completion_tokens": 1, "total_tokens": 101},
    }


def said(content: Any, end: str = "stop", **more: Any) -> bytes:
    """A reply's body, of which nothing needs to be as it should."""
    return json.dumps({"choices": [{"message": {"content": content}, "finish_reason": end}], **more}).encode()


@pytest.fixture
def server() -> Iterator[Server]:
    made = Server()
    yield made
    made.close()


def judge(server: Server, tmp_path: Path, **changes: Any) -> Judge:
    told = {"model": "m", "url": server.url, "retries": 2, "timeout": 5.0, "cache": str(tmp_path / "verdicts.db")}
    return Judge(Judging(**{**told, **changes}))


def test_an_endpoint_is_a_whole_address() -> None:
    with pytest.raises(UserError, match="the judge's url 'localhost:8000' is no address"):
        Judge(Judging("m", url="localhost:8000", key="NONE"))


def test_where_nothing_was_judged_there_is_no_mean(
    server: Server, tmp_path: Path, seal: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SEAL_HOME", str(tmp_path))
    rows = [{"question": "Who?", "target": "Ada", "answer": answer} for answer in ("Ada", "Bo", "")]
    (tmp_path / "rows.jsonl").write_text("\n".join(map(json.dumps, rows)))
    asked = ("grade", str(tmp_path / "rows.jsonl"), "--grader", "judge", "--model", "m", "--url", server.url)
    server.default = 400
    for more in ((), ("--json",)):
        code, out, error = seal(*asked, *more)
        assert (code, out, "not one of 2 judgements was given; the last failure: " in error) == (1, "", True), error
    server.replies = ["yes"]
    code, out, _ = seal(*asked)
    assert (code, "1 correct, 1 wrong, 1 ungraded" in out) == (0, True), out


def test_it_asks_the_papers_question_greedily_and_reads_yes_and_no(server: Server, tmp_path: Path) -> None:
    server.replies = ["Yes.", "no"]
    made = judge(server, tmp_path, at_once=1)
    assert [one.score for one in made.many(ROWS[:2])] == [1.0, 0.0]
    assert server.asked[0]["temperature"] == 0
    assert server.asked[0]["messages"] == [
        {"role": "user", "content": PROMPT.format(question="Who?", target="Ada", answer="Ada 0")}
    ]
    assert made("Who?", "Ada", "  ").score == 0.0  # nothing said is wrong, and nobody is asked
    assert len(server.asked) == 2


@pytest.mark.parametrize(
    ("reply", "why"), [(400, "400: trouble 400"), ("maybe", "it replied 'maybe', which is neither yes nor no")]
)
def test_a_failure_is_said_and_ten_without_a_verdict_end_it(server: Server, tmp_path: Path, reply: Any, why: str) -> None:
    server.default = reply
    made, rows = judge(server, tmp_path, retries=0, at_once=1), [("Who?", "Ada", f"A {number}") for number in range(30)]
    made.many(rows[:4])
    assert str(made.spent).endswith(f"the last failure: {why}")
    with pytest.raises(UserError, match=rf"{server.url} gave no verdict to any of 10 answers \({why}\)"):
        made.many(rows)
    assert len(server.asked) < 20  # what had not been asked by then is not asked any more
    server.replies = ["yes"]
    made = judge(server, tmp_path, retries=0, at_once=1)
    assert [one.score for one in made.many(rows)] == [1.0] + [None] * 29  # it does work: the others are ungraded


def test_a_judge_that_thinks_gets_the_room_for_it(server: Server, tmp_path: Path) -> None:
    server.replies = ["<think>Ada is", "<think>Ada is Ada.</think>yes"]
    made = judge(server, tmp_path, at_once=1)
    assert made(*ROWS[0]).score is None
    assert made.spent.failure.endswith("which is neither yes nor no: cut after 16 tokens, reply_tokens allows more")
    assert judge(server, tmp_path, reply_tokens=500)(*ROWS[0]).score == 1.0
    assert [asked["max_tokens"] for asked in server.asked] == [16, 500]
    with pytest.raises(UserError, match=r"domain\.judge\.reply_tokens: must be 1 or more, not 0$"):
        loads('[domain]\ngrader = "judge"\njudge = { model = "m", reply_tokens = 0 }', source="mine.toml")


def test_a_model_that_refuses_a_setting_is_asked_without_it(server: Server, tmp_path: Path) -> None:
    server.refuses, server.slow = ("max_tokens", "temperature"), 0.05
    made = judge(server, tmp_path, reply_tokens=500)
    assert [one.score for one in made.many(ROWS)] == [1.0] * 6
    assert (made.spent.calls, made.spent.failed) == (6, 0)
    asked = [{name: one.get(name) for name in ("temperature", "max_tokens", "max_completion_tokens")} for one in server.asked]
    assert asked[-1] == {"temperature": None, "max_tokens": None, "max_completion_tokens": 500}
    before = len(server.asked)
    assert made("Who?", "Ada", "Ada, later").score == 1.0
    assert len(server.asked) == before + 1  # it is known by now
    server.refuses = ("max_tokens", "max_completion_tokens", "temperature")  # never without any bound, which would cost
    assert judge(server, tmp_path)("Who?", "Ada", "Ada, unbounded").score is None
    assert all("max_tokens" in one or "max_completion_tokens" in one for one in server.asked)
    server.refuses = ("messages",)  # what cannot be left out is a failure
    assert made("Who?", "Ada", "Ada, at last").score is None
    assert made.spent.failure == "400: trouble 400"


def test_where_nothing_listens_the_connections_words_are_said(server: Server, tmp_path: Path) -> None:
    server.close()
    made = judge(server, tmp_path, retries=0)
    assert made(*ROWS[0]).score is None
    assert "refused" in made.spent.failure


@pytest.mark.parametrize(
    "garbage",
    [
        *("maybe", "yes and no", "", 500, 400, {"param": ["no name"]}),
        *(b"<html>busy</html>", b"\xff\xfe\xfa", b"[]", b"null", b'{"error": "busy"}'),
        *(b'{"choices": []}', b'{"choices": [null]}', b'{"choices": [{"message": "yes"}]}', b'{"choices": {"0": "yes"}}'),
        *(said(None), said({"yes": 1})),
        said([None, "yes", {"type": "thinking", "thinking": "yes"}, {"type": "text", "text": 1}]),
        said("There is no", "length"),
        pytest.param(b"[" * 100_000, id="nested"),
    ],
)
def test_a_failed_judgement_is_ungraded_and_never_wrong(server: Server, tmp_path: Path, garbage: Any) -> None:
    server.default = garbage
    made = judge(server, tmp_path, retries=0)
    assert [one.score for one in grade_all(made, ROWS[:2])] == [None, None]
    assert (made.spent.calls, made.spent.failed) == (2, 2)
    server.default = "yes"
    assert [one.score for one in made.many(ROWS[:2])] == [1.0, 1.0]  # nothing of it was kept


@pytest.mark.parametrize(
    ("reply", "verdict"),
    [
        (said("yes", usage="n/a"), 1.0),
        (said("no", usage={"prompt_tokens": None, "completion_tokens": "1"}), 0.0),
        (said([{"type": "thinking", "thinking": "no?"}, {"type": "text", "text": "y"}, {"type": "text", "text": "es"}]), 1.0),
        (said("Yes, as there is no", "length"), 1.0),  # of what was cut the first word counts
    ],
)
def test_what_an_endpoint_makes_its_own_way_is_read(server: Server, tmp_path: Path, reply: bytes, verdict: float) -> None:
    server.default = reply
    made = judge(server, tmp_path, retries=0)
    assert made(*ROWS[0]).score == verdict
    assert (made.spent.tokens_in, made.spent.tokens_out) == (0, 0)


def test_an_error_in_a_good_reply_is_said_in_the_endpoints_words(server: Server, tmp_path: Path) -> None:
    server.replies = [b'{"error": {"message": "upstream\\nrate limited", "code": 429}}', b'{"choices": [null]}']
    made = judge(server, tmp_path, at_once=1)
    made.many(ROWS[:1])
    assert made.spent.failure == "upstream rate limited"
    made.many(ROWS[:1])
    assert made.spent.failure == """it replied '{"choices": [null]}', which holds no message"""


def test_how_far_it_is_is_told(server: Server, tmp_path: Path) -> None:
    told: list[tuple[str, int, int]] = []
    made = Judge(judge(server, tmp_path).judging, lambda *one: told.append(one))
    made.many([*ROWS, *ROWS, ("Who?", "Ada", "")])
    assert told == [("judgements", done, 6) for done in range(7)]


def test_it_tries_again_after_429_and_500(server: Server, tmp_path: Path) -> None:
    server.replies = [429, 500, "no"]
    assert judge(server, tmp_path)(*ROWS[0]).score == 0.0
    assert len(server.asked) == 3


def test_a_slow_endpoint_is_not_waited_for_for_ever(server: Server, tmp_path: Path) -> None:
    server.slow = 30.0
    began = time.monotonic()
    assert judge(server, tmp_path, timeout=0.1, retries=0)(*ROWS[0]).score is None
    assert time.monotonic() - began < 15


def test_many_are_judged_side_by_side_and_the_same_one_once(server: Server, tmp_path: Path) -> None:
    server.slow = 0.3
    made = judge(server, tmp_path, at_once=3)
    assert [one.score for one in made.many([*ROWS, *ROWS])] == [1.0] * 12
    assert server.most == 3
    assert len(server.asked) == 6


def test_verdicts_are_kept_on_disk_by_content(server: Server, tmp_path: Path) -> None:
    judge(server, tmp_path).many(ROWS)
    again = judge(server, tmp_path)
    assert [one.score for one in again.many(ROWS)] == [1.0] * 6
    assert (len(server.asked), again.spent.calls, again.spent.cached) == (6, 0, 6)
    judge(server, tmp_path, model="other")(*ROWS[0])  # another judge's verdict is another's
    assert len(server.asked) == 7


def test_the_budget_leaves_the_rest_ungraded_and_the_cost_is_counted(server: Server, tmp_path: Path) -> None:
    made = judge(server, tmp_path, calls=4, price_in=2.0, price_out=8.0)
    assert sorted(str(one.score) for one in made.many(ROWS)) == ["1.0"] * 4 + ["None"] * 2
    assert len(server.asked) == 4
    assert made.spent.dollars == pytest.approx(4 * (100 * 2.0 + 1 * 8.0) / 1e6)
    assert "4 calls, 0 verdicts from the cache, 0 failed, 2 beyond the budget" in str(made.spent)


@pytest.mark.parametrize(("status", "says"), [(401, "refuses the key in MY_KEY"), (404, "has no model 'm'")])
def test_a_wrong_key_or_model_is_the_users_mistake(server: Server, tmp_path: Path, status: int, says: str) -> None:
    server.default = status
    with pytest.raises(UserError, match=says):
        judge(server, tmp_path, key="MY_KEY").many(ROWS)


def test_the_key_comes_from_the_environment(server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MY_KEY", "hush")
    judge(server, tmp_path, key="MY_KEY")(*ROWS[0])
    assert server.keys == {"Bearer hush"}
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    with pytest.raises(UserError, match="OPENAI_API_KEY"):
        Judge(Judging("gpt-4.1"))
    for bad in ("“", "\n", " "):
        monkeypatch.setenv("MY_KEY", f"hu{bad}sh")
        with pytest.raises(UserError, match=r"the key in MY_KEY holds .*, which no key does"):
            judge(server, tmp_path, key="MY_KEY")


def test_a_cache_that_cannot_be_used_is_said(server: Server, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    with pytest.raises(UserError, match="verdicts cannot be kept"):
        judge(server, tmp_path, cache=str(tmp_path / "file" / "verdicts.db"))


def test_a_cache_needs_no_memory_in_common(tmp_path: Path) -> None:
    """Nodes of a cluster share a home, and a file in WAL mode would be damaged by two of them."""
    old = sqlite3.connect(tmp_path / "verdicts.db")
    old.execute("PRAGMA journal_mode = WAL")
    old.execute("CREATE TABLE verdicts (key BLOB PRIMARY KEY, score REAL NOT NULL)")
    beside = Cache(tmp_path / "verdicts.db")
    beside.put("while another process has it in WAL mode", 1.0)
    beside._database.close()
    old.close()
    for name in ("verdicts.db", "fresh.db"):
        cache = Cache(tmp_path / name)
        assert cache._database.execute("PRAGMA journal_mode").fetchone() == ("delete",)
        cache.put("a question", 0.0)
        assert cache.get("a question") == 0.0
    assert Cache(tmp_path / "verdicts.db").get("while another process has it in WAL mode") == 1.0


def test_a_cache_that_breaks_on_the_way_is_said(tmp_path: Path) -> None:
    cache = Cache(tmp_path / "verdicts.db")
    cache._database.execute("DROP TABLE verdicts")
    with pytest.raises(UserError, match=r"verdicts cannot be kept in .*verdicts.db"):
        cache.get("a question")


def test_a_verdict_that_cannot_be_kept_is_used_all_the_same(server: Server, tmp_path: Path) -> None:
    made = judge(server, tmp_path)
    full = sqlite3.connect(tmp_path / "verdicts.db", isolation_level=None)
    made._cache._database.execute("PRAGMA busy_timeout = 0")
    full.execute("BEGIN IMMEDIATE")  # whoever writes now is told that it cannot be done
    server.default = "no"
    assert [one.score for one in made.many(ROWS)] == [0.0] * 6
    assert (made.spent.calls, made.spent.failed) == (6, 0)
    assert "6 verdicts could not be kept (database is locked)" in str(made.spent)
    full.execute("ROLLBACK")
    assert made(*ROWS[0]).score == 0.0
    assert (made.spent.calls, made.spent.cached) == (7, 0)  # it had not been kept, and is from now on
    assert judge(server, tmp_path)(*ROWS[0]).score == 0.0
    assert len(server.asked) == 7


def test_seal_grade_judges(
    server: Server, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from seal.cli.app import run

    file = tmp_path / "answers.jsonl"
    file.write_text("".join(json.dumps(dict(zip(("question", "target", "answer"), row, strict=True))) + "\n" for row in ROWS[:2]))
    server.replies = ["no", "yes"]
    told = ["--grader", "judge", "--model", "m", "--url", server.url, "--at-once", "1", "--cache", str(tmp_path / "v.db")]
    assert run(["grade", str(file), *told, "--json"]) == 0
    out, error = capsys.readouterr()
    assert json.loads(out) == [{"score": 0.0, "correct": False}, {"score": 1.0, "correct": True}]
    assert "judge: 2 calls" in error
    server.replies = ["yes"]
    server.default = 401
    assert run(["grade", str(file), *told[:-1], str(tmp_path / "other.db")]) == 2
    error = capsys.readouterr().err
    assert "judge: 2 calls, 0 verdicts from the cache, 0 failed" in error  # the first was paid for
    assert "refuses the key" in error
    assert run(["grade", str(file), "--grader", "judge"]) == 2
    assert "--model" in capsys.readouterr().err
    assert run(["grade", str(file), "--at-once", "2"]) == 2
    assert "--at-once: for --grader judge only" in capsys.readouterr().err
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    assert run(["grade", str(file), *told]) == 0
    assert "m · judgements 2/2 in 0:0" in capsys.readouterr().err


# -- the policy as judge --------------------------------------------------------------------------------------------------


class Said:
    """A trainer that says what it is told to."""

    def __init__(self, *replies: str | Reply | None) -> None:
        self.replies, self.prompts = list(replies), []

    def run(self, jobs: Any) -> Iterator[Finished]:
        for job, reply in reversed(list(zip(jobs, self.replies, strict=True))):
            self.prompts.append(job.asks[0].prompt.text)
            yield Finished(job.id, () if reply is None else (Reply(reply) if isinstance(reply, str) else reply,))


def test_the_policy_judges_with_the_same_prompt_and_reader() -> None:
    said = Said("Yes", "No, it is not.", "perhaps", None)
    made = SelfJudge(said)
    assert [one.score for one in made.many([*ROWS[:4], ROWS[0]])] == [1.0, 0.0, None, None, 1.0]
    assert PROMPT.format(question="Who?", target="Ada", answer="Ada 0") in said.prompts
    cut = SelfJudge(Said(Reply("There is no mention", ended=False), Reply("No, there is", ended=False)))
    assert [one.score for one in cut.many(ROWS[:2])] == [None, 0.0]
    with pytest.raises(SealError, match="no model"):
        SelfJudge()(*ROWS[0])


def test_a_judge_is_put_the_question_that_the_model_was(server: Server, tmp_path: Path) -> None:
    said = Said("yes", "no")
    domains = [a_domain(tmp_path, grader=one) for one in (SelfJudge(said), judge(server, tmp_path, at_once=1))]
    problem = domains[0].problems("train")[0]
    for domain in domains:
        domain.grade(problem, [Reply("Ada did.", query_id=query.id) for query in problem.queries])
    asked = [
        PROMPT.format(question=f"Topic: The ferry\n{query.question}", target=query.answer, answer="Ada did.")
        for query in problem.queries
    ]
    assert sorted(said.prompts) == sorted(asked)
    assert [one["messages"][0]["content"] for one in server.asked] == asked


def test_a_recipe_names_its_judge_and_a_run_uses_it(lively_path: Path, tmp_path: Path) -> None:
    recipe = loads('name = "x"\n[domain]\ngrader = "judge"\njudge = "self"\n', source="x")
    domain, engine = build.domain(recipe), an_engine(lively_path)
    build.seat_judge(domain, engine)
    assert domain.graded_by().trainer is engine
    assert build.spent(domain) is None
    # asking in the middle of other jobs changes nothing of theirs
    problem = a_domain(tmp_path).problems("train")[0]
    learnt = (Example("Ada built the ferry."),)
    jobs = [Job(str(n), learnt, (Ask("q", Prompt("Who?"), max_tokens=8),), INNER, seed=n) for n in range(3)]
    plain = [finished.replies[0].text for finished in engine.run(jobs)]
    asked = []
    for finished in engine.run(jobs):
        asked.append(finished.replies[0].text)
        domain.graded_by()("Who?", problem.queries[0].answer, "Ada")
    assert asked == plain


def test_a_recipes_endpoint_is_read_and_written_back(tmp_path: Path) -> None:
    from seal.config import dump

    toml = (
        f'name = "x"\n[domain]\ngrader = "judge"\n[domain.judge]\nmodel = "m"\nurl = "http://x/v1"\ncache = "{tmp_path}/v.db"\n'
    )
    recipe = loads(toml, source="x")
    assert loads(dump(recipe), source="x") == recipe
    assert "0 calls" in str(build.spent(build.domain(recipe)))


def test_what_the_judge_took_is_said_where_the_work_is_interrupted(tmp_path: Path) -> None:
    from seal.cli.work import Work

    said: list[str] = []
    table = f'judge = {{ model = "m", url = "http://x/v1", cache = "{tmp_path}/v.db" }}'
    recipe = loads(f'name = "x"\n[domain]\ngrader = "judge"\n{table}', source="x")
    work = Work(recipe, SimpleNamespace(note=said.append))  # type: ignore[arg-type]
    work.engine = SimpleNamespace(  # type: ignore[assignment]
        language=SimpleNamespace(dtype="float32"), remember_routing=lambda known, keep: None
    )
    with Store.create(tmp_path, "x", "", {}) as store, pytest.raises(KeyboardInterrupt), work.working(store):
        raise KeyboardInterrupt
    assert said[-1].startswith("judge: 0 calls")


@pytest.mark.parametrize(
    ("lines", "says"),
    [
        ('grader = "judge"', "judge: goes with grader 'judge'"),
        ('judge = "self"', "judge: goes with grader 'judge'"),
        ('grader = "judge"\njudge = {model = "m", at_once = 0}', "at_once"),
        ('grader = "judg"', "did you mean 'judge'"),
    ],
)
def test_a_recipe_that_cannot_be_judged_is_refused(lines: str, says: str) -> None:
    with pytest.raises(UserError, match=says):
        loads(f'name = "x"\n[domain]\n{lines}\n', source="x")


# -- the reader -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("reply", "verdict"),
    [
        ("yes", 1.0),
        (" YES.\n", 1.0),
        ("'no'", 0.0),
        ("yes, no", None),
        ("nobody knows", None),
        ("<think>no... yes?</think>\nno", 0.0),
        ("<think>\nOkay, there is no mention", None),
        ("<thinking>no?</thinking> Yes", 1.0),
        ("<Thinking>Okay, there is no", None),
        ("no <think> or", None),
        ("", None),
    ],
)
def test_replies_are_read(reply: str, verdict: float | None) -> None:
    assert read_verdict(reply) == verdict


@pytest.mark.parametrize(
    ("reply", "verdict"),
    [("Okay, there is no", None), ("**No**, the", 0.0), ("Yes, and no", 1.0), ("<think>a</think>\nno, as", 0.0), ("", None)],
)
def test_of_a_reply_that_was_cut_the_first_word_counts(reply: str, verdict: float | None) -> None:
    assert read_verdict(reply, cut=True) == verdict


PIECES = ["yes", "no", "Yes", "NO", "</think>", "<thinking>", " ", "\n", "'", "ſ", "\0", "\ud800", "نعم", "x" * 300, "no" * 100]


def test_a_hundred_thousand_replies_do_not_break_the_reader() -> None:
    draw = random.Random(0)
    found = {
        read_verdict("".join(draw.choice(PIECES) if draw.random() < 0.8 else chr(draw.randrange(0x3000)) for _ in range(length)))
        for length in (draw.randrange(12) for _ in range(100_000))
    }
    assert found == {None, 0.0, 1.0}
    began = time.monotonic()
    read_verdict("<think>" * 200_000 + "yes " * 200_000)
    assert time.monotonic() - began < 2


class Slow(Judge):
    """A judge that says nothing before the third trial is in training."""

    def __init__(self) -> None:
        self.third, self.broken = threading.Event(), False

    def many(self, rows: Sequence[Row]) -> list[Grade]:
        if self.broken:
            raise UserError("the key is refused")
        return [Grade(float(self.third.wait(5)), {}) for _ in rows]


@pytest.mark.parametrize("broken", [False, True])
def test_a_judge_is_asked_while_others_train_and_in_their_order(tmp_path: Path, broken: bool) -> None:
    slow = Slow()
    slow.broken = broken
    domain = a_domain(tmp_path, grader=slow)
    problems = domain.problems("train")[:3]
    edits = [read(domain, one, Prompt(""), Reply("It is old."), id=f"train/1/{one.id}/0") for one in problems]
    trials = [Trial(f"{edit.id}/0", one, edit) for one, edit in zip(problems, edits, strict=True)]

    class Trains:
        def run(self, jobs: Iterable[Job]) -> Iterator[Finished]:
            for number, job in enumerate(jobs):
                if number == 2:
                    slow.third.set()
                yield Finished(job.id, tuple(Reply("Ada", query_id=ask.query_id) for ask in job.asks))

    outcomes = run_trials(Trains(), domain, trials, {one.id: () for one in problems})
    if broken:
        with pytest.raises(UserError, match="the key is refused"):
            list(outcomes)
        return
    found = list(outcomes)
    assert [one.trial.id for one in found] == [trial.id for trial in trials]
    assert {answer.score for one in found for answer in one.after} == {1.0}  # nobody waited for the first verdict
