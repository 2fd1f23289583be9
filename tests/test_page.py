"""The HTML report: its numbers are those of `--json`, nothing in a run can break it, and a real browser opens it in peace."""

from __future__ import annotations

import json
import re
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from chromium import Chromium, Tables, needs_chromium
from hand_made import HOSTILE, NOUNS, a_group, a_record, a_run, a_stream, an_adaptation

from seal.cli.app import run
from seal.loops.continual import step_key
from seal.report.costs import costs_table, edits_table
from seal.report.figures import COLOURS, Dot, heat, intervals, lines, strip
from seal.report.html import diff, fitting
from seal.report.page import page, report_data
from seal.report.pictures import pictures
from seal.store import Store


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return a_run(tmp_path_factory.mktemp("runs"))


@pytest.fixture(scope="module")
def data(made: Path) -> dict:
    with Store.open(made, write=False) as store:
        return report_data(store)


@pytest.fixture(scope="module")
def file(data: dict, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("page") / "report.html"
    path.write_text(page(data), encoding="utf-8")
    return path


def test_the_verb_writes_it_and_its_json_is_what_other_verbs_give(made, tmp_path, capsys):
    out = tmp_path / "a.html"
    assert run(["report", str(made), "--out", str(out), "--json"]) == 0
    given = json.loads(capsys.readouterr().out)
    assert given["report"] == str(out)
    assert run(["show", str(made), "--json", "--n", "100", "--edits", "100"]) == 0
    shown = json.loads(capsys.readouterr().out)
    assert given["problems"]["train"] == shown["problems"]
    assert given["rewards"] == shown["rewards"]
    assert run(["runs", "--runs", str(made.parent), "--json"]) == 0
    (line,) = json.loads(capsys.readouterr().out)["runs"]
    assert {row["condition"]: row["mean"] for row in given["table"]} == line["means"]
    assert run(["report", str(made)]) == 0
    assert (made / "report.html").read_text() == out.read_text()
    assert "report.html" in capsys.readouterr().out


def test_a_curve_has_its_chart_and_its_table(tmp_path):
    path = a_run(tmp_path)
    with Store.open(path, write=True) as store:
        for most in (128, 64):
            a_group(store, f"tokens-{most}/untrained", 0, store.problems()["school"], most // 64)
        html = page(report_data(store))
    _, *rows = Tables(html).found["table-curve"]
    assert [row[:2] for row in rows] == [["base model", "0"], ["untrained edits", "64"], ["untrained edits", "128"]]
    points = re.findall(r"<title>untrained edits, tokens (\d+): ([^<]*)</title>", html)
    assert [(most, f"{float(score):.3f}") for most, score in points] == [(row[1], row[3]) for row in rows[1:]]
    assert 'class="level' in html.partition('id="table-curve"')[0]  # the unchanged model
    options = re.findall(r"<option value=.\d+.>([^<]*)", html)
    assert options[-2:] == ["untrained edits, 64 tokens", "untrained edits, 128 tokens"]


def test_a_place_that_cannot_be_written_is_said(made, tmp_path, capsys):
    assert run(["report", str(made), "--out", str(tmp_path / "none" / "a.html")]) == 2
    assert "--out" in capsys.readouterr().err


def interval(row: dict[str, Any], name: str) -> str:
    found = row["intervals"][name]
    return f"{row[name]:.3f} [{found['low']:.3f},\N{NO-BREAK SPACE}{found['high']:.3f}]"


def test_the_numbers_are_those_of_the_rows(data, file):
    tables = Tables(file.read_text()).found
    head, *rows = tables["table-evaluation"]
    assert head[:2] == ["condition", "score"]
    assert [row[1] for row in rows] == [f"{row['mean']:.3f}" for row in data["table"]]  # of one passage, so without an interval
    assert '<p class="note">1 passage is too few for an interval to say anything; 6 are the least.</p>' in file.read_text()
    _, *rows = tables["table-training"]
    assert [row[4] for row in rows] == [interval(row, "reward") for row in data["training"]]
    assert [row[4].split()[0] for row in rows] == ["0.125", "0.250", "0.375"]
    _, *rows = tables["table-costs"]
    before, after, best = (interval(data["costs"][0], name) for name in ("before", "after", "best"))
    assert rows[0] == ["1", before, after, best, *rows[0][4:6], "0.75", "3 empty"]
    assert [one.split()[0] for one in (before, after, best)] == ["0.000", "0.111", "0.333"]
    dots = re.findall(r'<circle class="(kept|left)"[^>]*><title>(train[^<]*)</title>', file.read_text())
    rewarded = [row for row in data["edits"] if row["reward"] is not None]
    assert sorted(dots) == sorted(
        ("kept" if row["kept"] else "left", f"{row['id']}: {row['reward']:.3f}{', kept' if row['kept'] else ''}")
        for row in rewarded
    )
    earned = re.findall(r'<span class="earned">([^<]*)</span>', file.read_text())
    assert sorted(earned) == sorted(f"{row['earned']:.3f}" for rows in data["problems"].values() for row in rows)


def test_what_edits_took_by_hand(made):
    with Store.open(made, write=False) as store:
        edits = edits_table(store)
    assert len(edits) == 27
    best = next(row for row in edits if row["id"] == "train/2/ferry/1")
    length = len("Ada built the ferry. It was round 2.")
    assert best == {
        "id": "train/2/ferry/1", "problem": "ferry", "cluster": "ferry", "round": 2, "reward": 0.5, "kept": True,
        "before": 0.0, "after": 0.5, "tokens": length, "trials": 1, "train_tokens": 10 * length, "seconds": 0.75, "fault": None,
    }  # fmt: skip
    first, second, _ = costs_table(edits)
    assert (first["round"], first["faults"], first["seconds"]) == (1, {"empty": 3}, 0.75)
    assert second["best"] == 0.5
    assert costs_table([]) == []


def test_every_edit_is_compared_with_the_best_one_before(data, file):
    assert diff("a b c", "a x c") == "a <del>b</del><ins>x</ins> c"
    assert diff("<b>", "<i>") == "<del>&lt;b&gt;</del><ins>&lt;i&gt;</ins>"
    html = file.read_text()
    assert "It was round <del>2.</del><ins>3.</ins>" in html
    assert "the best one of round 2" in html
    assert "the untrained model&#39;s best one" in html
    assert "the best one of round 0" not in html


def test_a_large_run_shows_the_best_and_the_worst(data):
    whole = page(data)
    limit = len(page(data, limit=0)) + 30_000  # beside all that is no list
    small = page(data, limit)
    assert len(small.encode()) <= limit < len(whole.encode())
    assert re.search(r"\d of 9 problems, the best and the worst", small)
    kept = re.findall(r'<span class="earned">([^<]*)</span>', small.partition('data-phase="2"')[0])
    assert 0 < len(kept) < 9
    assert kept[0] == "0.750"
    assert kept[-1] == "0.250"


def test_what_a_short_list_leaves_of_its_share_passes_on_to_the_longer_ones():
    lists = {"long": ["x" * 100] * 9, "short": ["x" * 10], "none": []}
    assert {name: len(part.shown) for name, part in fitting(lists, 910).items()} == {"long": 9, "short": 1, "none": 0}
    parts = fitting(lists, 510)
    assert {name: (len(part.shown), part.of) for name, part in parts.items()} == {"long": (5, 9), "short": (1, 1), "none": (0, 0)}


def test_nothing_is_left_out_of_a_page_that_fits(data):
    whole = page(data)
    assert "problems, the best and the worst" not in whole
    assert page(data, limit=len(whole.encode()) + 3_000) == whole  # to say that nothing is shown takes words too


def test_a_page_is_never_too_large_to_open_and_says_what_it_leaves_out(data):
    long = "word " * 20_000
    (problem, *_) = data["problems"]["train"]
    edits = [{**edit, "text": long} for edit in problem["edits"]]
    length = 150
    stream = {"streams": 1, "drawn": 1, "length": length, "strategy": "merge", "refused": 0.0}
    stream["matrix"] = [[0.5] * length] * (length + 1)
    spreads = ("base", "diagonal", "last", "backward", "forward", "forgetting", "probe_loss", "text_loss")
    stream |= {name: {"mean": 0.5, "low": None} for name in spreads}
    stream |= dict.fromkeys(("of_merge", "routing", "refused_harmful", "alone", "facts"))
    stream |= dict.fromkeys(("learning_seconds", "train_tokens", "asking_seconds"), 1.0)
    stream["not_whole"] = [{"stream": "0", "step": step, "why": long} for step in range(30)]
    adapted = an_adaptation()
    adapted["passages"] *= 30_000
    html = page(
        {
            **data,
            "problems": {"train": [*data["problems"]["train"], *({**problem, "id": f"p{k}", "edits": edits} for k in range(30))]},
            "edits": data["edits"] * 3_000,
            "continual": [stream],
            "adapted": adapted,
            "recipe": "seed = 1\n" * 500_000,
            "environment": {f"fact {number}": long for number in range(30)},
        }
    )  # fmt: skip
    assert len(html.encode()) < 5_000_000
    for left in (
        r"\d+ of 39 problems, the best and the worst",
        r"\d of 3 rounds are drawn",
        r"\d+ of 30001 passages and files",
        r"0 of 1 matrix of merge",
        r"\d+ of 30 steps",
        r"\d+ of 500000 lines",
        r"\d+ of 30 facts",
    ):
        assert re.search(left, html), left


def test_a_run_in_which_nothing_happened_has_a_page(tmp_path):
    with Store.create(tmp_path, "empty", "", {}) as store:
        html = page(report_data(store))
    assert "No self-edit was written yet" in html


def test_charts_place_what_they_are_given():
    chart = lines({"a": [(1, 0.0), (2, 1.0), (3, None)]}, {"b": 0.5}, "score")
    heights = [float(y) for y in re.findall(r'cy="([\d.]+)"', chart)]
    level = float(re.search(r'class="level c1"[^>]* y1="([\d.]+)"', chart)[1])
    assert len(heights) == 2
    assert heights[0] > level > heights[1]
    assert level == pytest.approx(sum(heights) / 2, abs=0.1)
    assert lines({"a": [(1, None)]}, {}, "score") == ""
    assert strip([], [], "x") == "" == intervals([("a", {"mean": None, "low": None, "high": None})], "x")
    same = strip([("<g>", [Dot(-0.2, True, "one"), Dot(-0.2, False, "other")])], [-0.2], "x")
    assert len(set(re.findall(r'cx="([\d.]+)"', same))) == 2
    assert "&lt;g&gt;" in same
    assert 'class="range"' not in intervals([("a", {"mean": 0.5, "low": None, "high": None})], "x")
    ranged = intervals([("a", {"mean": 0.5, "low": 0.25, "high": 0.75})], "x")
    low, high = map(float, re.search(r'class="range" x1="([\d.]+)" x2="([\d.]+)"', ranged).groups())
    assert float(re.search(r'cx="([\d.]+)"', ranged)[1]) == pytest.approx((low + high) / 2, abs=0.1)


def test_a_stream_goes_by_steps_and_training_by_rounds(tmp_path):
    with Store.create(tmp_path, "stream", "", {}) as store:
        for step, scores in enumerate(({"a": 0.0, "b": 0.0}, {"a": 0.5}, {"a": 0.25, "b": 0.75})):
            store.set_state(step_key("merge", "0", step), a_record(step, scores, order=["a", "b"]))
        html = page(report_data(store))
    chart = re.search(r'id="sequence".*?(<svg.*?</svg>)', html, re.DOTALL)[1]
    assert "round" not in chart
    for said in ("score by step", ">step 1</text>", ">step 2</text>", "merge, step 2: 0.5<"):
        assert said in chart
    assert "round 2" in lines({"a": [(1, 0.0), (2, 1.0)]}, {}, "score")


def test_a_problem_of_a_stream_shows_what_was_answered_before_just_after_and_at_the_end(tmp_path):
    with Store.open(a_stream(tmp_path), write=False) as store:
        data = report_data(store)
    assert data["table"] == []  # where the edits come from nothing is measured
    (ferry, mill) = data["problems"]["given"]
    assert [(row["id"], row["earned"]) for row in (ferry, mill)] == [("ferry", 0.75), ("mill", 0.5)]
    assert [(one["strategy"], one["base"], one["learnt"], one["end"]) for one in mill["streams"]] == [
        ("gate", 0.0, 1.0, 0.5), ("merge", 0.0, 1.0, 0.5),
    ]  # fmt: skip
    html = page(data)
    assert "– → –" not in html
    assert 'id="result"' not in html
    assert "gate · stream 0, step 1 · score 0.000 → 1.000 → 0.500" in html
    own = html.partition("<b>The mill</b>")[2].partition("</table>")[0]
    heads = re.findall(r"<th scope[^>]*>([^<]*)", own)
    assert heads == ["question", "target", "before the stream", "just learnt", "at the end"]
    cells = [re.sub(r"<[^>]*>", "", cell).split() for cell in re.findall(r"<td[^>]*>(.*?)</td>", own, re.DOTALL)]
    assert cells[2:5] == [["0", "(empty)"], ["1", "mill", "after", "1"], ["0.5", "mill", "after", "2"]]


@pytest.mark.parametrize("length", [1, 8, 36, 69, 70, 100])
def test_a_long_stream_is_drawn_whole_and_its_labels_lie_apart(length):
    matrix = [[0.5 if column <= step else None for column in range(length)] for step in range(length + 1)]
    chart = heat(matrix, "scores")
    width = float(re.search(r'viewBox="0 0 (\d+) ', chart)[1])
    cells = [(float(x), float(wide)) for x, wide in re.findall(r'<rect [^>]*x="([\d.]+)"[^>]* width="([\d.]+)"', chart)]
    assert len(cells) == length * (length + 1)
    assert max(x + wide for x, wide in cells) <= width
    rows = [float(y) for y in re.findall(r'<text class="axis"[^>]* y="([\d.]+)"', chart)]
    assert all(after - before >= 12 for before, after in pairwise(rows))  # the height of the text
    assert ">base</text>" in chart

    chart = lines({"a": [(step, 0.5) for step in range(1, length + 1)], "b": [(1, 0.5)]}, {}, "score", unit="step")
    steps = re.findall(r'<text class="axis" x="([\d.]+)" y="306.0"[^>]*>(?:step )?(\d+)<', chart)
    ends = sorted((float(x) - 3.4 * len(said), float(x) + 3.4 * len(said)) for x, said in steps)  # a digit is 6.7 wide
    assert all(after > before for (_, before), (after, _) in pairwise(ends))
    assert str(length) in {said for _, said in steps}
    assert len(steps) > min(length, 7) - 1


def test_every_line_of_a_chart_is_told_from_the_others():
    curves = {f"curve {number}": [(1, 0.1 * number)] for number in range(3)}
    for levels in (6, 20):
        chart = lines(curves, {f"level {number}": 0.01 * number for number in range(levels)}, "score")
        names = re.findall(r'<text class="name ([^"]*)"[^>]*>(?:curve|level)', chart)
        assert len(set(names)) == len(names) == 3 + levels
        assert names[:3] == ["c0", "c1", "c2"]
    assert COLOURS == 3 + 6  # a run of passages has so many


def test_noise_is_a_band_about_each_groups_mean_and_only_where_it_is_known(tmp_path):
    groups = [("a", [Dot(0.2, True, "one"), Dot(0.4, False, "other")]), ("b", [Dot(0.6, False, "third")])]
    chart = strip(groups, [0.2, 0.6], "x", noise=0.1)
    bands = [tuple(map(float, found)) for found in re.findall(r'class="noise" [^>]* y="([\d.]+)" [^>]*height="([\d.]+)"', chart)]
    dots = {title: float(y) for y, title in re.findall(r'cy="([\d.]+)"[^>]*><title>(\w+)', chart)}
    unit = (dots["one"] - dots["other"]) / 0.2  # pixels
    for (top, height), middle in zip(bands, ((dots["one"] + dots["other"]) / 2, dots["third"]), strict=True):
        assert height == pytest.approx(2 * 0.1 * unit, abs=0.3)
        assert top + height / 2 == pytest.approx(middle, abs=0.3)
    assert 'class="noise"' not in strip(groups, [0.2, 0.6], "x")
    with Store.open(a_run(tmp_path), write=True) as store:
        assert "standard deviation of retraining noise" not in page(report_data(store))
        store.put_metrics(2, {"noise": 0.5, "noise_deviation": 0.125})
        html = page(report_data(store))
    assert "one standard deviation of retraining noise (0.125)" in html
    assert html.count('class="noise"') == 3  # a problem, in round 2 alone


def test_problems_of_one_title_have_a_column_each(data):
    rows = [{**row, "title": "Normans"} for row in data["problems"]["train"]]
    html = page({**data, "problems": {**data["problems"], "train": rows}})
    assert html.count(">Normans</text>") == 3 * 3  # problems, rounds


def test_grids_are_pictures_and_words_are_not():
    one, other = pictures("01\n10\n\n5")
    assert 'viewBox="0 0 2 2"' in one
    assert one.count("<path") == 2
    assert "M1 0h1v1h-1zM0 1h1v1h-1z" in one
    assert "1 by 1" in other
    assert pictures("Ada") == []


@pytest.fixture(scope="module")
def browser(file: Path, tmp_path_factory: pytest.TempPathFactory):
    tab = Chromium(tmp_path_factory.mktemp("profile"))
    tab.look(1100, 900)
    tab.open(file)
    yield tab
    tab.close()


SHOWN = "[...document.querySelectorAll('.phase:not([hidden]) .problem:not([hidden]) b')].map(one => one.textContent)"


@needs_chromium
def test_a_browser_opens_it_and_asks_for_nothing_else(browser, file):
    assert (
        browser.js("document.title") == f"{browser.js('document.querySelector(`h1`).textContent')} · SEAL"
    )  # no script of a model ran
    assert browser.js(f"document.body.textContent.includes({json.dumps(HOSTILE)})")
    browser.look(1100, 900, "dark")
    assert len(browser.picture()) > 10_000
    assert browser.pdf().startswith(b"%PDF")
    assert browser.requests == [file.as_uri()]
    assert browser.complaints == []


def luminance(colour: str) -> float:
    red, green, blue = (float(one) / 255 for one in re.findall(r"[\d.]+", colour)[:3])
    parts = [one / 12.92 if one <= 0.04045 else ((one + 0.055) / 1.055) ** 2.4 for one in (red, green, blue)]
    return 0.2126 * parts[0] + 0.7152 * parts[1] + 0.0722 * parts[2]


def contrast(one: str, other: str) -> float:
    """As WCAG 2 has it; 4.5 is the least for small text."""
    high, low = sorted(map(luminance, (one, other)), reverse=True)
    return (high + 0.05) / (low + 0.05)


def mixed(over: str, under: str, share: float) -> str:
    pairs = zip(*(map(float, re.findall(r"[\d.]+", colour)[:3]) for colour in (over, under)), strict=True)
    return " ".join(str(share * one + (1 - share) * other) for one, other in pairs)


@needs_chromium
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_every_number_and_name_can_be_read_on_what_is_behind_it(browser, data, tmp_path, scheme):
    with Store.open(a_stream(tmp_path), write=False) as store:
        html = page({**data, "continual": report_data(store)["continual"]})
    (tmp_path / "x.html").write_text(html)
    browser.look(1100, 900, scheme)
    browser.open(tmp_path / "x.html")
    style = "getComputedStyle(document.querySelector({}){}).{}".format
    paper = browser.js(style("'body'", "", "backgroundColor"))
    cells = browser.js(
        "[...document.querySelectorAll('svg .number')].map(one => { const box = one.previousElementSibling;"
        " return [getComputedStyle(one).fill, getComputedStyle(box).fill, +box.getAttribute('fill-opacity')] })"
    )
    assert {shade for _, _, shade in cells} == {0.0, 0.5, 0.75, 1.0}
    for ink, fill, shade in cells:
        assert contrast(ink, mixed(fill, paper, shade)) >= 4.5
    names = browser.js("[...document.querySelectorAll('svg .name')].map(one => getComputedStyle(one).fill)")
    classes = [f"c{number}" for number in range(COLOURS)]
    browser.js(f"document.querySelector('svg .name').classList.remove(...{classes})")
    for one in classes:
        browser.js(f"document.querySelector('svg .name').classList.add('{one}')")
        names.append(browser.js(style("'svg .name'", "", "fill")))
        browser.js(f"document.querySelector('svg .name').classList.remove('{one}')")
    assert len(set(names)) >= COLOURS
    for name in names:
        assert contrast(name, paper) >= 4.5, name
    soft = browser.js(style("'#search'", "", "backgroundColor"))
    assert contrast(browser.js(style("'#search'", ", '::placeholder'", "color")), soft) >= 4.5


@needs_chromium
def test_a_keyboard_goes_from_the_skip_link_to_an_opened_problem(browser, file):
    focus = "(one => [one.className, one.tagName, getComputedStyle(one).outlineStyle, !!one.closest('.problem > summary')])"
    browser.look(1100, 900)
    browser.open(file)
    browser.press("Tab")
    assert browser.js(f"{focus}(document.activeElement)")[:2] == ["skip", "A"]
    browser.press("Enter")
    assert browser.js("location.hash") == "#problems"
    walk = []
    while not (walk and walk[-1][3]):
        browser.press("Tab")
        walk.append(browser.js(f"{focus}(document.activeElement)"))
        assert len(walk) < 10, walk
    assert all(style not in ("none", "") for _, _, style, _ in walk), walk
    assert not browser.js("document.activeElement.parentElement.open")
    browser.press("Enter")
    assert browser.js("document.activeElement.parentElement.open")


@needs_chromium
def test_only_what_scrolls_is_a_stop_and_it_has_a_name(browser, file):
    boxes = "[...document.querySelectorAll('.wide')].filter(one => one.clientWidth)"
    stops = f"{boxes}.map(one => [one.scrollWidth > one.clientWidth, one.tabIndex === 0])"
    for width in (1100, 390):
        browser.look(width, 900)
        browser.open(file)
        found = browser.js(stops)
        assert {scrolls for scrolls, _ in found} == ({False} if width == 1100 else {False, True})
        assert all(scrolls == stop for scrolls, stop in found)
    assert browser.js("[...document.querySelectorAll('.wide')].every(one => one.role === 'region' && one.ariaLabel.trim())")


@needs_chromium
def test_on_a_phone_an_answer_is_on_the_screen_and_the_search_is_not_in_the_way(browser, file):
    bar = "document.querySelector('.controls')"
    padding = "parseFloat(getComputedStyle(document.documentElement).scrollPaddingTop)"
    browser.look(1100, 900)
    browser.open(file)
    assert browser.js(f"{bar}.getBoundingClientRect().height") <= browser.js(padding)
    browser.look(390, 844)
    browser.js("document.querySelector('.problem').open = true")
    cells = browser.js(
        "[...document.querySelectorAll('.problem[open] .edit[open] .answers td')]"
        ".map(one => [one.getBoundingClientRect().right, getComputedStyle(one, '::before').content])"
    )
    assert cells
    assert all(right <= 390 for right, _ in cells)
    assert [label for _, label in cells[:4]] == ['"question"', '"target"', '"before"', '"after"']
    assert browser.js(f"getComputedStyle({bar}).position") == "static"


@needs_chromium
def test_on_paper_every_problem_is_open_and_of_it_the_edits_that_were(browser, file):
    problems = len(browser.js("[...document.querySelectorAll('.problem')].map(one => one.id)"))
    browser.look(1100, 900, media="print")
    browser.open(file)
    hidden = "[...document.querySelectorAll('nav, .controls, .skip, .hint')].map(one => getComputedStyle(one).display)"
    assert set(browser.js(hidden)) == {"none"}
    assert browser.js("document.querySelectorAll('.hint').length") == 3
    for kept in ("h2", "h3", "summary"):
        assert browser.js(f"getComputedStyle(document.querySelector('{kept}')).breakAfter") == "avoid"
    assert browser.js("getComputedStyle(document.querySelector('.pair-of-charts')).gridTemplateColumns.split(' ').length") == 2
    opened = "['.problem', '.edit'].map(one => document.querySelectorAll(`${one}[open]`).length)"
    assert browser.js(opened) == [0, problems]
    browser.js("dispatchEvent(new Event('beforeprint'))")
    assert browser.js(opened) == [problems, problems]
    browser.js("dispatchEvent(new Event('afterprint'))")
    assert browser.js(opened) == [0, problems]
    pages = len(re.findall(rb"/Type\s*/Page\b", browser.pdf()))
    browser.js("document.querySelectorAll('.problem').forEach(one => one.remove())")
    without = len(re.findall(rb"/Type\s*/Page\b", browser.pdf()))
    print("pages", pages, without)
    assert without < pages <= without + 3
    browser.look(1100, 900)


@needs_chromium
def test_the_table_of_an_adaptation_is_seen_whole(browser, data, tmp_path):
    (tmp_path / "x.html").write_text(page({**data, "adapted": an_adaptation()}))
    browser.look(1100, 900)
    browser.open(tmp_path / "x.html")
    assert browser.js("(one => one.scrollWidth - one.clientWidth)(document.getElementById('table-absorbed').parentElement)") == 0
    html = (tmp_path / "x.html").read_text()
    assert "0.533 [0.133,\N{NO-BREAK SPACE}0.933]" in html
    assert "1 question, held out" in html


@needs_chromium
def test_a_puzzle_is_drawn_cell_by_cell(browser, data, tmp_path):
    (row, *_) = data["problems"]["train"]
    answer = {"question": "00\n00", "target": "1", "before": " ", "before_score": 0.0, "after": "1\n\n2", "after_score": 1.0}
    edits = [{**row["edits"][0], "answers": [answer]}]
    html = page({**data, "training": [], "problems": {"train": [{**row, "pairs": [("01\n10", "5")], "edits": edits}]}})
    assert html.count('<svg class="cells"') == 2 + 1 + 1 + 2
    assert "(empty)" in html
    (tmp_path / "x.html").write_text(html)
    browser.open(tmp_path / "x.html")
    lines = browser.js("[...document.querySelectorAll('svg.cells path')].map(one => getComputedStyle(one).stroke)")
    assert "none" not in lines


@needs_chromium
def test_the_search_filters_by_keyboard_alone(browser, file):
    browser.look(1100, 900)
    browser.open(file)
    assert len(browser.js(SHOWN)) == 9
    browser.press("/")
    browser.type("MILL who")
    assert browser.js(SHOWN) == ["The mill"] * 3
    assert browser.js("document.getElementById('found').textContent") == "3 of 9"
    browser.press("Escape")
    assert len(browser.js(SHOWN)) == 9
    earned = "[...document.querySelectorAll('.phase:not([hidden]) .earned')].map(one => one.textContent)"
    best = browser.js(earned)
    assert best == sorted(best, reverse=True)
    browser.js("order.value = 'worst'; order.dispatchEvent(new Event('change'))")
    assert browser.js(earned) == best[::-1]
    browser.js("phase.selectedIndex = 2; phase.dispatchEvent(new Event('change'))")
    assert browser.js(SHOWN) == [f"The {NOUNS[3]}"]
    assert browser.complaints == []


@needs_chromium
@pytest.mark.parametrize("width", [360, 1100])
def test_it_fits_a_phone_and_both_schemes(browser, file, width):
    browser.open(file)
    papers = set()
    for scheme in ("light", "dark"):
        browser.look(width, 800, scheme)
        assert browser.js("document.documentElement.scrollWidth") <= width
        papers.add(browser.js("getComputedStyle(document.body).backgroundColor"))
    assert len(papers) == 2
