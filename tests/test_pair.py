"""`seal compare --html`: its numbers are those of `--json`, and a real browser opens it in peace."""

from __future__ import annotations

import io
import json
import re
from pathlib import Path

import pytest
from chromium import Chromium, Tables, needs_chromium
from hand_made import HOSTILE, a_run
from rich.console import Console

from seal.cli.app import run
from seal.report import render
from seal.report.compare import of_run, only
from seal.report.pair import pair_data, pair_page


@pytest.fixture(scope="module")
def two(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    root = tmp_path_factory.mktemp("runs")
    return a_run(root, "early"), a_run(root, "late", late=1)


@pytest.fixture(scope="module")
def file(two: tuple[Path, Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("page") / "both.html"
    path.write_text(pair_page(pair_data(*map(of_run, two))), encoding="utf-8")
    return path


def test_the_numbers_are_those_of_the_document(two, tmp_path, capsys):
    out = tmp_path / "both.html"
    names = [str(one) for one in two]
    assert run(["compare", *names, "--html", str(out), "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert run(["compare", *names, "--json"]) == 0
    plain = json.loads(capsys.readouterr().out)
    assert {key: document[key] for key in plain} == plain
    assert document["html"] == str(out)
    html = out.read_text()
    tables = Tables(html).found
    _, *rows = tables["table-difference"]
    assert [row[0] for row in rows] == ["base model", "SEAL", "untrained edits"]
    for row, found in zip(rows, document["table"], strict=True):
        assert row[1:4] == [
            f"{found['a']:.3f}",
            f"{found['b']:.3f}",
            f"{found['mean']:+.3f}",  # of one passage, so without an interval
        ]
    assert html.count('<p class="note">1 passage is too few for an interval to say anything; 6 are the least.</p>') == 2
    assert rows[1][3] == "+0.167"  # one of three edits gains half of its answers, in A alone
    for side in "ab":
        _, *rows = tables[f"table-rounds-{side}"]
        assert [row[4][:5] for row in rows] == [f"{row['reward']:.3f}" for row in document["runs"][side]["training"]]
        _, *rows = tables[f"table-evaluation-{side}"]
        assert [row[1][:5] for row in rows] == [f"{row['mean']:.3f}" for row in document["runs"][side]["table"]]
    after = [f"{side.upper()} after an edit, round {row['round']}: {row['after']:.4g}"
             for side in "ab" for row in document["runs"][side]["costs"]]  # fmt: skip
    assert re.findall(r"<title>([AB] after an edit[^<]*)</title>", html) == after
    earned = re.findall(r'<span class="earned">([^<]*)</span>', html)
    assert sorted(earned) == sorted(
        f"A {row['a']['earned']:.3f} · B {row['b']['earned']:.3f}" for rows in document["problems"].values() for row in rows
    )
    assert tables["table-recipe"][1:] == [["name", "early", "late"], ["seed", "0", "1"]]


def test_where_a_is_ahead_comes_first_and_the_diff_is_against_it(two):
    data = pair_data(*map(of_run, two))
    assert sorted(data["problems"]) == ["seal", "train", "untrained"]
    (row,) = data["problems"]["seal"]
    assert (row["a"]["earned"], row["b"]["earned"]) == (0.5, 0.0)
    ahead = [one["a"]["earned"] - one["b"]["earned"] for one in data["problems"]["train"]]
    assert ahead == sorted(ahead, reverse=True)
    html = pair_page(data)
    assert "Against A&#39;s best one" in html
    assert HOSTILE not in html


def test_two_conditions_of_a_run_stand_side_by_side(two):
    late = of_run(two[1])
    data = pair_data(only(late, "seal"), only(late, "untrained"))
    assert [row["condition"] for row in data["table"]] == list(data["problems"]) == ["seal - untrained"]
    ((row,),) = data["problems"].values()
    assert [edit["id"] for edit in row["a"]["edits"]] != [edit["id"] for edit in row["b"]["edits"]]
    html = pair_page(data)
    assert f"A {two[1].name}:seal<br>B {two[1].name}:untrained" in html
    assert "<h3>SEAL - untrained edits</h3>" in html
    assert Tables(html).found["table-difference"][1][0] == "SEAL - untrained edits"


def test_a_large_pair_shows_what_fits(two):
    data = pair_data(*map(of_run, two))
    whole = pair_page(data)
    assert "furthest ahead" not in whole
    assert pair_page(data, limit=len(whole.encode()) + 3_000) == whole  # to say that nothing is shown takes words too
    limit = len(pair_page(data, limit=0)) + 30_000
    small = pair_page(data, limit)
    assert len(small.encode()) <= limit
    assert re.search(r"[1-8] of 9 problems, those where A and where B is furthest ahead", small)


def test_why_it_is_unknown_whether_they_differ_is_said(two, capsys):
    assert run(["compare", *map(str, two)]) == 0
    why = "1 passage is too few to say whether they differ; 6 are the least"
    assert capsys.readouterr().out.count(why) == 1
    html = pair_page(pair_data(*map(of_run, two)))
    assert html.count(why) == 1
    assert "one without 0 shows nothing either" in html


def test_where_no_condition_is_common_there_is_no_empty_table_and_the_notes_stay(two):
    data = {**pair_data(*map(of_run, two)), "table": [], "notes": ["a note"]}
    html = pair_page(data)
    assert 'id="table-difference"' not in html
    assert render.NOTHING_IN_COMMON in html
    assert '<p class="note">a note</p>' in html
    assert 'id="table-evaluation-a"' in html
    console = Console(width=100, file=io.StringIO())
    console.print(render.comparison(data))
    assert render.NOTHING_IN_COMMON in console.file.getvalue()
    assert "condition " not in console.file.getvalue().replace("No condition ", "")


def test_what_is_no_run_is_refused(two, tmp_path, capsys):
    first = str(two[0])
    file = tmp_path / "cpt.json"
    file.write_text(json.dumps({"server_reply": {"baseline_correct": [False], "adapter_correct": [True]}}))
    for other in (",".join(map(str, two)), str(file)):
        assert run(["compare", first, other, "--html", str(tmp_path / "x.html")]) == 2
        assert "takes two runs" in capsys.readouterr().err
    assert run(["compare", *map(str, two), "--html", str(tmp_path / "none" / "x.html")]) == 2
    assert "--html" in capsys.readouterr().err


def test_the_text_says_where_the_page_is(two, tmp_path, capsys):
    assert run(["compare", *map(str, two), "--html", str(tmp_path / "x.html")]) == 0
    out = capsys.readouterr().out
    assert "Difference A - B" in out
    assert f"side by side in {tmp_path / 'x.html'}" in out
    assert render.NAMES["seal"] in out


@pytest.fixture(scope="module")
def browser(file: Path, tmp_path_factory: pytest.TempPathFactory):
    tab = Chromium(tmp_path_factory.mktemp("profile"))
    tab.look(1100, 900)
    tab.open(file)
    yield tab
    tab.close()


SHOWN = "[...document.querySelectorAll('.phase:not([hidden]) .problem:not([hidden]) b')].map(one => one.textContent)"


@needs_chromium
def test_a_browser_opens_it_searches_it_and_asks_for_nothing_else(browser, file):
    assert browser.js("document.title").endswith(" · SEAL")
    browser.press("/")
    browser.type("mill")
    assert browser.js(SHOWN) == ["The mill"] * 3
    browser.press("Escape")
    assert len(browser.js(SHOWN)) == 9
    assert browser.requests == [file.as_uri()]
    assert browser.complaints == []
    heads = "[...document.querySelectorAll('#table-recipe th, #table-recipe td')].map(one => getComputedStyle(one).textAlign)"
    assert set(browser.js(heads)) == {"left"}


@needs_chromium
@pytest.mark.parametrize("width", [360, 1100])
def test_sides_stand_beside_each_other_where_there_is_room_for_both(browser, width):
    papers = set()
    for scheme in ("light", "dark"):
        browser.look(width, 800, scheme)
        assert browser.js("document.documentElement.scrollWidth") <= width
        papers.add(browser.js("getComputedStyle(document.body).backgroundColor"))
    assert len(papers) == 2
    browser.js("document.querySelector('.problem').open = true")
    tops = browser.js("[...document.querySelector('.sides').children].map(one => one.getBoundingClientRect().top)")
    assert (tops[0] == tops[1]) == (width == 1100)
