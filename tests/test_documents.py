"""Documents of every kind -> passages: real files, written here, and what cannot be read with its reason."""

from __future__ import annotations

import errno
import hashlib
import io
import json
import os
import re
import sys
import zipfile
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from seal.domains.documents import Documents, Refused, read_documents
from seal.domains.documents.blocks import Block, Document
from seal.domains.documents.cut import cut
from seal.domains.documents.readers import READERS
from seal.domains.passages import context_of
from seal.edits.reading import sequence
from seal.errors import UserError
from seal.report.card import grouped


def words(text: str) -> int:
    return len(text.split())


def read(*paths: Path, budget: int = 40) -> Documents:
    return read_documents(paths, count=words, budget=budget)


def pieces(found: Documents) -> list[tuple[str, str]]:
    return [(one.problem.title, context_of(one.problem)) for one in found.passages]


def reasons(found: Documents) -> dict[str, str]:
    return {one.path.name: one.reason for one in found.refused}


# ---- files of every kind


def a_pdf(*pages: str, marks: tuple[tuple[str, int], ...] = (), password: str = "", title: str = "") -> bytes:
    """Lines of text on pages, with bookmarks; `18|The Mill`: in type of 18 points, not 12."""
    from pypdf import PdfWriter
    from pypdf.generic import DecodedStreamObject, DictionaryObject, NameObject

    writer = PdfWriter()
    font = {"/Type": "/Font", "/Subtype": "/Type1", "/BaseFont": "/Helvetica"}
    fonts = DictionaryObject({NameObject(key): NameObject(value) for key, value in font.items()})
    for text in pages:
        page = writer.add_blank_page(width=600, height=800)
        lines = [line.split("|") if "|" in line else ("12", line) for line in text.split("\n")]
        shown = "".join(f"/F1 {size} Tf ({line}) Tj 0 -{float(size) + 8:g} Td\n" for size, line in lines)
        stream = DecodedStreamObject()
        stream.set_data(f"BT 50 750 Td\n{shown}ET".encode())
        page[NameObject("/Contents")] = writer._add_object(stream)
        page[NameObject("/Resources")] = DictionaryObject(
            {NameObject("/Font"): DictionaryObject({NameObject("/F1"): writer._add_object(fonts)})}
        )
    for name, number in marks:
        writer.add_outline_item(name, number)
    if title:
        writer.add_metadata({"/Title": title})
    if password:
        writer.encrypt(password, algorithm="RC4-128")
    file = io.BytesIO()
    writer.write(file)
    return file.getvalue()


def a_docx() -> bytes:
    import docx

    made = docx.Document()
    made.add_heading("The Ferry", 0)
    made.add_paragraph("It crosses the Sele.")
    made.add_heading("Fares", 1)
    made.add_paragraph("A day costs four marks, and a week costs twenty, and a month costs sixty.")
    table = made.add_table(rows=2, cols=2)
    for cell, text in zip([cell for row in table.rows for cell in row.cells], ["who", "fare", "child", "one mark"], strict=True):
        cell.text = text
    made.add_heading("Crew", 1)
    for name in ("Ada", "Bo"):
        made.add_paragraph(name, style="List Bullet")
    file = io.BytesIO()
    made.save(file)
    return file.getvalue()


MARKDOWN = """\
# The Ferry

It crosses
the *Sele*.

## Fares

A day costs four marks.

- child: one mark
- dog: two marks

## Crew
### Captain
Ada
"""

HTML = """\
<html><head><title>The Ferry | Home</title><style>p { color: red }</style></head><body><nav>Menu</nav>
<h1>The Ferry</h1><p>It crosses<br>the <em>Se</em>le.</p><!-- a note -->
<div>Loose <b>text</b><p>and more</p> tail</div>
<h2>Fares</h2>
<table><caption>All fares</caption><tr><th>who</th><th>fare</th></tr><tr><td>child</td><td>one <i>mark</i></td></tr></table>
<ol><li>first</li><li>second<ul><li>inner</li></ul></li></ol><pre>a
  b</pre></body></html>
"""


def test_markdown(tmp_path):
    (tmp_path / "ferry.md").write_text(MARKDOWN)
    lines = ["It crosses the Sele.", "Fares", "A day costs four marks.", "- child: one mark\n- dog: two marks"]
    assert pieces(read(tmp_path / "ferry.md")) == [("The Ferry", "\n\n".join([*lines, "Crew", "Captain", "Ada"]))]
    assert pieces(read(tmp_path / "ferry.md", budget=15)) == [
        ("The Ferry", "It crosses the Sele."),
        ("The Ferry: Fares", "A day costs four marks."),
        ("The Ferry: Fares", "- child: one mark\n- dog: two marks"),
        ("The Ferry: Crew", "Captain\n\nAda"),
    ]


def test_front_matter_says_the_title_and_code_is_no_heading(tmp_path):
    (tmp_path / "a.md").write_text('---\ntitle: "Notes"\ntags: mills\n---\nText.\n\n```\n# no heading\n```\n\n1. one\n2. two\n')
    assert pieces(read(tmp_path)) == [("Notes", "tags: mills\n\nText.\n\n```\n# no heading\n```\n\n1. one\n2. two")]


@pytest.mark.parametrize(
    ("fields", "title"),
    [
        ("title: >-\n  A long\n  title\nby: Ada", "A long title"),
        ("title: |\n  A\n  title\nby: Ada", "A title"),
        ("by: Ada\ntitle: 'A long\n  title'", "A long title"),
        ("title:\n  en: A\nby: Ada", None),
    ],
)
def test_front_matter_may_fold_the_title(fields, title):
    (found,) = READERS[".md"](f"---\n{fields}\n---\nText.".encode())
    assert (found.title, "by: Ada" in found.blocks[0].text) == (title, True)
    assert title is None or found.blocks[0].text == "by: Ada"


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("---\n---\n# A\n\nb\n\n---\n\nc", [("A", 1), ("b", 0), ("c", 0)]),
        ("+++\n+++\n# A\n\nb\n\n+++\n\nc", [("A", 1), ("b", 0), ("+++", 0), ("c", 0)]),
        ("---\n\n# A\n\nb\n\n---\n\nc", [("A", 1), ("b", 0), ("c", 0)]),
        ("---\nby: Ada\n---\n# A", [("by: Ada", 0), ("A", 1)]),
    ],
)
def test_front_matter_may_be_empty_and_a_rule_begins_none(text, found):
    (document,) = READERS[".md"](text.encode())
    assert [(one.text, one.level) for one in document.blocks if one.text] == found


@pytest.mark.parametrize(
    ("written", "title"),
    [
        ("'Ada''s mill'", "Ada's mill"),
        ('"The \\"Mill\\""', 'The "Mill"'),
        ('The "Mill"', 'The "Mill"'),
        ("The Lunds'", "The Lunds'"),
        ("'", "'"),
    ],
)
def test_a_title_in_front_matter_loses_its_own_quotes_alone(written, title):
    (found,) = READERS[".md"](f"---\ntitle: {written}\n---\nText.".encode())
    assert found.title == title


def test_front_matter_in_toml_says_the_title_and_broken_it_is_text():
    (found,) = READERS[".md"](b'+++\ntitle = "The\\nmill"\ndraft = false\n[extra]\nby = "Ada"\n+++\n# Wheels\n')
    assert (found.title, found.blocks) == ("The mill", (Block('draft = false\n\n[extra]\nby = "Ada"'), Block("Wheels", 1)))
    for fields in ("title = mill", "title = 1"):
        (found,) = READERS[".md"](f"+++\n{fields}\n+++\nText.".encode())
        assert (found.title, fields in found.text, found.text[-5:]) == (None, True, "Text.")


# what a mark may take with it is in capitals
LINES = [
    *("# a b", "b", "c  ", "- d", "  e", "| f | g |", "|---|---|", "```"),
    *("===", "---", "> h", "", "    i", "## j `k`", "1. l", "<P>m"),
    *("*n* __o__", "[p](/X)", "[q][X] ![r](X)", "[X]: /X", "<!-- X -->", "s \\*", "<B>t</B>", "[^u]: v"),
]


@settings(max_examples=400, deadline=None)
@given(st.lists(st.sampled_from(LINES), max_size=12))
def test_of_markdown_all_words_are_kept_in_order(lines):
    text = "Top\n\n" + "\n".join(lines)  # so that no --- begins front matter
    (document,) = READERS[".md"](text.encode())
    assert re.findall("[a-z]+", " ".join(block.text for block in document.blocks)) == re.findall("[a-z]+", text)  # type: ignore[union-attr]


def test_a_markdown_table_keeps_its_rows(tmp_path):
    table = "| who | fare |\n|:---|--:|\n| [child](c) | **one**<br>mark |"
    (tmp_path / "a.md").write_text(f"Fares\nof all\n\n{table}\n\nhard  \nbreak")
    shown = "| who | fare |\n|---|---|\n| child | one mark |"
    assert pieces(read(tmp_path)) == [("a", f"Fares of all\n\n{shown}\n\nhard\nbreak")]


@pytest.mark.parametrize(
    ("source", "text"),
    [
        (
            '**[Mara Voss](https://v.org "Her")** built the [*old* mill][m].\n\n[m]: https://m.org',
            "Mara Voss built the old mill.",
        ),
        ("See <https://v.org>, https://w.org and [x].", "See https://v.org, https://w.org and [x]."),
        ("[![Build](b.svg)](https://ci) [![](c.svg)][m]\n\n[m]: /m\n\nText.", "Text."),
        ("![The *mill*](m.png) turns.", "The mill turns."),
        ("<p align=center><img src=l.png></p>\n\nText. <!-- TODO\nmore -->\n\n<!-- TODO\n\nmore -->", "Text."),
        ("One<br>two<a name=x></a> <b>three</b>\\\nfour.", "One\ntwo three\nfour."),
        ("3 \\* 4 &lt; 13, `a  *b*`", "3 * 4 < 13, a *b*"),
        ("```py\nx = '[a](b)'\n\n# c\n```\n\n    <!-- d -->", "```py\nx = '[a](b)'\n\n# c\n```\n\n```\n<!-- d -->\n```"),
        ("**10**<sup>6</sup>, 10<SUP>−3</SUP>, 19<sup>th</sup>, a<sup>2</sup> 5<b></b>6", "10^6, 10^−3, 19th, a2 56"),
        ("3) a\n   - *b*\n     c\n\n     d\n4) e", "3) a\n  - b c\n    d\n4) e"),
        ("* [ ] a\n* ![](b)\n+ > c\n  >\n  > d", "- [ ] a\n\n- c\n\n  d"),
        ("> # A\n> b\n>\n> c", "A\n\nb\n\nc"),
        ("Ada[^1] and Bo[^2].\n\n[^1]: Ibid.\n[^2]: A cook.", "Ada[^1] and Bo[^2].\n\n[^1]: Ibid.\n\n[^2]: A cook."),
        (
            "".join(f"{'  ' * level}- {level}\n" for level in range(12)),
            "\n".join(f"{'  ' * level}- {level}" for level in range(12)),
        ),
    ],
)
def test_markdown_is_read_as_it_is_shown(source, text):
    (found,) = READERS[".md"](source.encode())
    assert "\n\n".join(block.text for block in found.blocks if block.text) == text


MIXED = """\
<h1 align="center">The <b>Mill</b></h1>

<header>Of Verrin</header>
<details>
<summary>Its wheels</summary>

Both are **oak**.

</details>
<table><tr><td>who</td>

<td>Ada &amp; Bo</td></tr></table>
"""


def test_html_in_markdown_is_read_as_html(tmp_path, monkeypatch):
    (found,) = READERS[".md"](MIXED.encode())
    assert [(one.text, one.level) for one in found.blocks if one.text] == [
        ("The Mill", 1),
        ("Of Verrin", 0),
        ("Its wheels", 0),
        ("Both are oak.", 0),
        ("who | Ada & Bo", 0),
    ]
    monkeypatch.delitem(sys.modules, "seal.domains.documents.html")
    monkeypatch.setitem(sys.modules, "bs4", None)
    (found,) = READERS[".md"](MIXED.encode())
    assert [one.text for one in found.blocks] == ["", "The Mill Of Verrin Its wheels", "Both are oak.", "who Ada & Bo"]


def test_html(tmp_path):
    (tmp_path / "ferry.html").write_text(HTML)
    assert pieces(read(tmp_path, budget=24)) == [
        ("The Ferry", "It crosses\nthe Sele.\n\nLoose text\n\nand more\n\ntail"),
        ("The Ferry: Fares", "All fares\nwho | fare\nchild | one mark\n\n1. first\n2. second\n  - inner\n\na\n  b"),
    ]


PAGES = [
    "<!doctype html><html><head><title>Handbook</title>[</head>]<body><h1>Keys</h1><p>Ada keeps the keys.[</p></body></html>]",
    "[<html><head>]<title>Handbook</title><link rel=x>[</head><body>]<p>Ada.[</p>]<h2>Keys</h2>It is hers.[</body></html>]",
    "<table><caption>All[</caption>]<colgroup><col>[</colgroup>]<thead><tr><th>a<th>b[</tr></thead>]<tbody><tr><td>c</table>",
    "<table><tr><td>a[</td>]<td>b[</td></tr>]<tr><td>c<p>d[</p></td>]<td>e[</td></tr>]</table>",
    "<table><tr><td><table><tr><td>a[</td>]<td>b[</td></tr>]</table>[</td>]<td>c[</td></tr>]</table>",
    "<ul><li>a[</li>]<li>b<ol><li>c[</li>]<li>d[</li>]</ol>[</li>]<li>e[</li>]</ul>",
    "<dl><dt>a[</dt>]<dt>b[</dt>]<dd>c[</dd>]<dt>d[</dt>]<dd>e[</dd>]</dl>",
    "<p>a[</p>]<ul><li><p>b[</p>]<p>c[</p></li>]<li>d[</li>]</ul><p>e[</p>]",
]


@pytest.mark.parametrize("page", PAGES)
def test_html_without_the_tags_that_may_be_left_out_is_the_same(page):
    whole, short = page.replace("[", "").replace("]", ""), re.sub(r"\[.*?\]", "", page)
    (one,), (other,) = READERS[".html"](whole.encode()), READERS[".html"](short.encode())
    assert one == other
    said = [one.title or "", *(block.text for block in one.blocks)]
    assert re.findall("[A-Za-z]+", " ".join(said)) == re.findall("[A-Za-z]+", re.sub("<.*?>", " ", whole))


def test_a_long_html_page_without_end_tags_is_read():
    for line in ("<p>One.\n", "<li>One.\n", "<dt>One<dd>two.\n", "<tr><td>One<td>two.\n"):
        (found,) = READERS[".html"](line.encode() * 2000)
        assert len(" ".join(block.text for block in found.blocks).split()) >= 2000


def test_a_pictures_title_is_not_the_pages():
    for page in ("<svg><title>Logo</title></svg><h1>Keys</h1>", "<svg><title>Logo</title></svg><title>Keys</title><p>Ada."):
        (found,) = READERS[".html"](page.encode())
        assert "Logo" not in f"{found}"
    assert found.title == "Keys"


# as Sphinx's classic theme writes a page
SPHINX = """\
<!DOCTYPE html><html><head><title>Wheels &#8212; Mill 2.0 documentation</title></head><body>
<div class="related" role="navigation"><h3>Navigation</h3><ul><li><a href="genindex.html">index</a></li><li>next |</li></ul></div>
<div class="document"><div class="documentwrapper"><div class="bodywrapper">
<a class="skip-link" href="#main">Skip to content</a><div class="body" role="main">
<section id="wheels"><h1>Wheels<a class="headerlink" href="#wheels" title="Link to this heading">¶</a></h1>
<nav class="contents"><p>Contents</p></nav><p>The mill has two wheels.</p>
<dl><dt>mill.turn(<em>times</em>)<a class="reference" href="src.html"><span class="viewcode-link">[source]</span></a>
<a class="headerlink" href="#mill.turn">¶</a></dt><dd><p>Turns both.</p></dd></dl>
<header><p>A header in the text.</p></header><footer>And a footer.</footer></section>
</div></div></div>
<div class="sphinxsidebar" role="navigation"><h3>This Page</h3><a href="_sources/wheels.txt">Show Source</a>
<search id="searchbox" role="search"><form><input name="q"><input type="submit" value="Go"></form></search></div></div>
<div class="footer" role="contentinfo">&#169; Copyright 2031, Ada Brandt.</div></body></html>
"""

# as MediaWiki's skin Vector writes a page
MEDIAWIKI = """\
<!DOCTYPE html><html><head><title>Kellin - Lakewiki</title></head><body>
<a class="mw-jump-link" href="#bodyContent">Jump to content</a>
<header class="vector-header"><form>Search <select><option>All</option><option>Talk</option></select><button>Go</button></form>
<div>Log in</div></header><div class="mw-page-container"><h3>Personal tools</h3>
<main id="content" class="mw-body"><header><h1 id="firstHeading">Kellin</h1><div>5 languages</div></header>
<div id="siteSub">From Lakewiki</div><div id="mw-content-text"><div class="mw-parser-output">
<p><b>Kellin</b> is a town on Lake Ombra.<sup id="cite_ref-1" class="reference"><a href="#cite_note-1">&#91;1&#93;</a></sup></p>
<div id="toc" class="toc"><h2>Contents</h2><ul><li>1 History</li></ul></div>
<div class="mw-heading"><h2>History</h2><span class="mw-editsection">[<a href="?edit">edit</a>]</span></div>
<p>It had 412 people in 1801.<span style="display: none">sortkey</span> Its area is
<span style="display: none;"><math><semantics><mrow><mi>a</mi><mi>b</mi></mrow>
<annotation encoding="application/x-tex">ab</annotation></semantics></math></span>.</p><noscript>Turn on scripts</noscript>
<ol><li><span class="mw-cite-backlink">^ </span>Brandt, Lakes.</li></ol><table class="navbox"><tr><td>Towns</td></tr></table>
</div><div class="printfooter">Retrieved from "https://lakewiki.example"</div></div>
<div id="catlinks">Categories: Towns</div></main>
</div><footer><ul><li>Privacy policy</li></ul></footer></body></html>
"""


def test_a_page_that_sphinx_wrote_is_its_text_alone(tmp_path):
    (tmp_path / "wheels.html").write_text(SPHINX)
    text = "The mill has two wheels.\n\nmill.turn(times)\n\nTurns both.\n\nA header in the text.\n\nAnd a footer."
    assert pieces(read(tmp_path)) == [("Wheels", text)]


def test_a_page_that_mediawiki_wrote_is_its_text_alone(tmp_path):
    (tmp_path / "kellin.html").write_text(MEDIAWIKI)
    history = "It had 412 people in 1801. Its area is ab."
    assert pieces(read(tmp_path)) == [("Kellin", f"Kellin is a town on Lake Ombra.\n\nHistory\n\n{history}\n\n1. Brandt, Lakes.")]


@pytest.mark.parametrize(
    ("body", "text"),
    [
        ("<header>Log in</header><article><header>By Ada</header><p>a</p></article><footer>Imprint</footer>", "By Ada a"),
        ("<header><h1>Mill</h1><p>By Ada</p></header><p>a</p>", "Mill By Ada a"),  # as pandoc writes it
        ("<header><h1>Site</h1>Log in</header><h1>Mill</h1><p>a</p>", "Mill a"),
        ("<p>a</p><main> <nav>b</nav></main><p>c</p>", "a c"),
        ("<main>a</main>b<main>c</main>", "a b c"),
        ("b<main>a<div role=main>c</div></main>", "a c"),
        ("<h2><button>Who?</button></h2><p>Ada.</p><textarea>x</textarea><button>Go</button>", "Who? Ada."),
        ("<p hidden>x</p><p style='DISPLAY:none'>x</p><p aria-hidden=true>a</p><div role=tabpanel hidden>b</div>", "a b"),
        ("<div class=toc>x</div><p class=toc>a</p><p>b<sup class=reference>1</sup><sup>2</sup></p>", "a b2"),
        ("<div class=katex><i class=katex-mathml>a</i><i class=katex-html>x</i></div><i class=katex-html>b</i>", "a b"),
        ("<body style='display:none'><p>a</p>", "a"),
    ],
)
def test_of_a_page_what_stands_beside_its_text_is_left_out(body, text):
    (found,) = READERS[".html"](f"<title>T</title>{body}".encode())
    assert (found.title, " ".join(block.text for block in found.blocks)) == ("T", text)


def test_html_in_the_encoding_it_states(tmp_path):
    (tmp_path / "a.html").write_bytes('<meta charset="windows-1252"><title>T</title><p>Zoë’s'.encode("windows-1252"))
    (tmp_path / "b.html").write_bytes("<p>Zoë".encode("latin-1"))
    (tmp_path / "c.html").write_bytes(b'<meta charset="klingon"><p>x')
    found = read(tmp_path)
    assert pieces(found) == [("T", "Zoë’s")]
    assert reasons(found) == {
        "b.html": "not UTF-8 text (byte 5); save it as UTF-8",
        "c.html": "states an encoding nobody knows, 'klingon'",
    }


@pytest.mark.parametrize("label", ["iso-8859-1", "ISO_8859-1", "latin1", "l1", "us-ascii", "ascii", "cp1252"])
def test_html_that_says_latin_1_means_what_windows_makes_of_it(label):
    (found,) = READERS[".html"](f'<meta charset="{label}"><p>'.encode() + b"It\x92s \x93open\x94 \x96 \x805")
    assert [block.text for block in found.blocks] == ["It’s “open” – €5"]
    for byte in range(0x80, 0x100):
        (found,) = READERS[".html"](f'<meta charset="{label}"><p>a'.encode() + bytes([byte]) + b"b")
        as_windows = bytes([byte]).decode("cp1252", "ignore")
        assert "".join(found.blocks[0].text.split()) == "".join(f"a{as_windows or chr(byte)}b".split())


def test_html_that_says_latin_5_means_what_windows_makes_of_it_and_utf_16_means_utf_8():
    (found,) = READERS[".html"](b'<meta charset="iso-8859-9"><p>' + b"\x93\xdd\xfdl\x94 \x8e")
    assert [block.text for block in found.blocks] == ["“İıl” \x8e"]
    (found,) = READERS[".html"]('<meta charset="utf-16le"><p>Zoë'.encode())
    assert [block.text for block in found.blocks] == ["Zoë"]


@pytest.mark.parametrize(
    ("page", "text"),
    [
        ("<ul>The <b>staff</b> are:<li>Ada</li><li>Ada</li>\n</ul>", "The staff are:\n- Ada\n- Ada"),
        ("<ol><b>Intro</b><li>Ada</li>and more<ul><li>Bo</li></ul></ol>", "Intro\n1. Ada\nand more\n- Bo"),
        ("<table>Stray\n<tr><td>a</td><td>b</td></tr>\n<tr>row <td>c</td></tr></table>", "Stray\nrow\na | b\nc"),
        ("<table><tr><td><table>In<tr><td>a</td></tr></table></td></tr></table>", "In\na"),
        ("<pre>one<br>two</pre>", "one\ntwo"),
        ("<table><tr><th>Year</th></tr><td>1990<td>12 t</tr><tr><td>1991</table>", "Year\n1990 | 12 t\n1991"),
        ("<table><caption>C<td>a<td>b</table>", "C\na | b"),
        ("<center>a</center>b<dialog>c</dialog>d<menu><li>e<li>f</menu>", "a\nb\nc\nd\n- e\n- f"),
        ("<fieldset><legend>a</legend>b</fieldset><hgroup>c</hgroup><search>d</search>", "a\nb\nc\nd"),
        ("<pre><div>a</div><div>  b\n</div><div>c</div></pre>", "a\n  b\nc"),
        ("<table><caption>a<br>b</caption><tr><td>c</table>", "a b\nc"),
        ("<ol start=5><li>a<li>b</ol><ol start=x><li>c</ol>", "5. a\n6. b\n1. c"),
    ],
)
def test_of_html_that_is_not_as_it_should_be_no_text_is_lost(page, text):
    (found,) = READERS[".html"](page.encode())
    assert "\n".join(block.text for block in found.blocks) == text


@pytest.mark.parametrize(
    ("page", "text"),
    [
        ("10<sup>6</sup> and <b>10</b><sup><i>-3</i></sup>, 1990<sup>3</sup>", "10^6 and 10^-3, 1990^3"),
        ("19<sup>th</sup>, H<sub>2</sub>O, m<sup>2</sup>, 5<sup>[1]</sup>, <sup>14</sup>C", "19th, H2O, m2, 5[1], 14C"),
        ("<p>5</p><sup>14</sup>C", "5 14C"),
    ],
)
def test_a_number_raised_after_a_number_is_not_part_of_it(page, text):
    (found,) = READERS[".html"](page.encode())
    assert " ".join(block.text for block in found.blocks) == text


def test_line_ends_in_one_element_take_time_by_their_number():
    (found,) = READERS[".html"](b"<p><b>" + b"one<br>" * 30_000 + b"</b>")
    assert found.text == "one\n" * 29_999 + "one"


def test_docx(tmp_path):
    (tmp_path / "ferry.docx").write_bytes(a_docx())
    assert pieces(read(tmp_path, budget=30)) == [
        ("The Ferry", "It crosses the Sele."),
        (
            "The Ferry: Fares",
            "A day costs four marks, and a week costs twenty, and a month costs sixty.\n\nwho | fare\nchild | one mark",
        ),
        ("The Ferry: Crew", "- Ada\n- Bo"),
    ]


def w(inner: str) -> str:
    """A run of Word's, as XML."""
    return f"<w:r><w:t xml:space='preserve'>{inner}</w:t></w:r>"


def m(name: str, *inner: str) -> str:
    """An element of an equation; a text is a run in it."""
    return f"<m:{name}>{''.join(one if one[0] == '<' else f'<m:r><m:t>{one}</m:t></m:r>' for one in inner)}</m:{name}>"


HALF = m("f", m("fPr"), m("num", "1+x"), m("den", "2"))


@pytest.mark.parametrize(
    ("body", "text", "reason"),
    [
        (f"<w:fldSimple w:instr='a > b'>{w('Ada')}</w:fldSimple><w:bdo>{w(' and Bo')}</w:bdo>", "Ada and Bo", None),
        (w("The force is ") + m("oMath", "F=ma") + w(" newtons."), "The force is F=ma newtons.", None),
        (m("oMathPara", m("oMath", HALF, "+", m("sSup", m("e", "y"), m("sup", "10")))), "(1+x)/2+y^10", None),
        (
            w("It is ") + m("oMath", m("rad", m("deg", "3"), m("e", "8"))) + w("."),
            "It is .",
            "equations of more than a line left out: 1, the first with '38'",
        ),
        (w("10") + f"<w:r><w:rPr><w:vertAlign w:val='superscript'/></w:rPr>{w('6')[5:]}", "10^6", None),
        ("<w:r><w:t>one</w:t><w:cr/><w:t>two</w:t></w:r>", "one\ntwo", None),
        (f"<mc:AlternateContent><mc:Choice>{w('one')}</mc:Choice></mc:AlternateContent>", "one", None),
        (
            f"<mc:AlternateContent><mc:Choice>{w('one')}</mc:Choice><mc:Fallback>{w('two')}</mc:Fallback></mc:AlternateContent>",
            "two",
            None,
        ),
        (w("It is.") + f"<w:odd>{w('lost')}</w:odd><w:odder/>", "It is.", "elements 'w:odd' left out: 1, the first with 'lost'"),
    ],
)
def test_what_word_wraps_is_read_and_what_is_left_out_is_said(tmp_path, body, text, reason):
    office, made = "http://schemas.openxmlformats.org", tmp_path / "a.docx"
    spaces = f"xmlns:w='{office}/wordprocessingml/2006/main' xmlns:m='{office}/officeDocument/2006/math'"
    spaces += f" xmlns:mc='{office}/markup-compatibility/2006'"
    with zipfile.ZipFile(io.BytesIO(a_docx())) as old, zipfile.ZipFile(made, "w") as new:
        for entry in old.infolist():
            document = f"<w:document {spaces}><w:body><w:p>{body}</w:p></w:body></w:document>"
            new.writestr(entry, document if entry.filename == "word/document.xml" else old.read(entry))
    found = read(made)
    assert (pieces(found), reasons(found).get("a.docx")) == ([("a", text)], reason)


def test_pdf(tmp_path):
    pages = ("Crossing\nThe ferry crosses\nthe Sele and", "then the Ishk.\nFares\nA day costs four marks.")
    (tmp_path / "ferry.pdf").write_bytes(a_pdf(*pages, marks=(("Crossing", 0), ("Fares", 1)), title="The Ferry"))
    assert pieces(read(tmp_path, budget=14)) == [
        ("The Ferry: Crossing", "The ferry crosses the Sele and then the Ishk."),
        ("The Ferry: Fares", "A day costs four marks."),
    ]


def test_a_word_that_a_pdf_parts_at_a_lines_end_is_one_again(tmp_path):
    pages = ("The parliamentary infor-\nmation office of Ver-", "rin has a North-\nSouth line, 3-\nfold.")
    (tmp_path / "a.pdf").write_bytes(a_pdf(*pages))
    assert pieces(read(tmp_path)) == [("a", "The parliamentary information office of Verrin has a North- South line, 3- fold.")]


def test_a_pdfs_ligatures_are_letters():
    assert blocks(a_pdf("18|The \\257ag\nThe of\\256ce \\257ies the \\257ag.")) == [
        (1, "The flag"),
        (0, "The office flies the flag."),
    ]


def blocks(data: bytes) -> list[tuple[int, str]]:
    (found,) = READERS[".pdf"](data)
    assert isinstance(found, Document)
    return [(block.level, block.text) for block in found.blocks]


def test_headers_footers_and_page_numbers_of_a_pdf_are_left_out_even_in_a_sentence():
    text = ["The ferry carried two", "hundred to the mill. It was", "built in 1902 by", "the smith."]
    pages = [f"Annual Report 2023\nPage {at} of 4\n{line}\nKellin\n- {at} -" for at, line in enumerate(text, 1)]
    whole = [(0, "The ferry carried two hundred to the mill. It was built in 1902 by the smith.")]
    assert blocks(a_pdf(*pages)) == whole
    assert blocks(a_pdf("The Ferry Company\n" + text[0], *pages[1:])) == [(0, "The Ferry Company " + whole[0][1])]  # stands once


def test_odd_and_even_pages_may_have_headers_of_their_own():
    text = ["one", "two", "three", "four", "five", "six", "seven"]
    pages = [f"{at} The Mill\n{line}" if at % 2 else f"by Ada Voss {at}\n{line}" for at, line in enumerate(text, 1)]
    assert blocks(a_pdf(*pages)) == [(0, "one two three four five six seven")]


@pytest.mark.parametrize(
    "pages",
    [
        ("Page 1\nOne.", "Page 2\nTwo."),  # of too few pages
        ("Kellin\nOne.", "Two.", "Kellin\nThree.", "Four.", "Kellin\nFive.", *"ABCDEFGH"),  # on too few
        ("Table 4\nOne.", "Table 11\nTwo.", "Table 13\nThree.", "Table 29\nFour."),  # numbers that count no pages
        ("1902-03-01\nOne.", "1902-05-17\nTwo.", "1903-01-30\nThree."),
        ("24|Lesson 1\nOne and more of it.", "24|Lesson 2\nTwo and more of it.", "24|Lesson 3\nThree and more of it."),
    ],
)
def test_what_only_looks_like_a_header_stays(pages):
    said = " ".join(text for _, text in blocks(a_pdf(*pages))).split()
    assert said == " ".join(page.replace("24|", "") for page in pages).split()


def test_a_title_in_large_type_or_with_a_bookmark_is_no_header_of_the_same_words(tmp_path):
    pages = [f"Annual Report\nThe ferry crosses in year {at}." for at in range(4)]
    (tmp_path / "a.pdf").write_bytes(a_pdf("24|Annual Report\nThe ferry crosses.", *pages))
    (tmp_path / "b.pdf").write_bytes(a_pdf("Annual Report\nThe mill grinds.", *pages, marks=(("Annual Report", 0),)))
    found = read(tmp_path)
    assert [title for title, _ in pieces(found)] == ["Annual Report"] * 2
    assert not any("Annual" in text for _, text in pieces(found))


@pytest.mark.parametrize(
    ("stated", "title"),
    [
        *((name, None) for name in ("(anonymous)", "untitled", "Untitled-1", "Untitled document", "(unspecified)", "unknown")),
        *((name, None) for name in ("Microsoft Word - report.docx", "a b.DOC", "book.indd", "main.tex", "x.qxd", "scan 3.pdf")),
        ("Microsoft Word - The Ferry", "The Ferry"),
        *((name, name) for name in ("The Unknown Ferry", "Untitled: a novel", "About Node.js", "Vol. 2")),
    ],
)
def test_a_pdfs_stated_title_that_no_person_put_there_is_none(stated, title):
    (found,) = READERS[".pdf"](a_pdf("The ferry.", title=stated))
    assert isinstance(found, Document)
    assert found.title == title


BODY = "The ferry crosses the lake at noon and\ncomes back at four in the evening. The mill grinds\nall day and is shut at night."
TEXT_OF_IT = " ".join(BODY.split("\n"))


def test_headings_of_a_pdf_without_bookmarks_are_short_lines_in_larger_type(tmp_path):
    pages = (f"24|The Kellin Ferry\n24|and Its Mill\n18|1. Fares\n{BODY}\n14|Children\n{BODY}", f"18|2. Crew\n{BODY}")
    assert blocks(a_pdf(*pages)) == [
        (1, "The Kellin Ferry and Its Mill"),
        *((2, "1. Fares"), (0, TEXT_OF_IT), (3, "Children"), (0, TEXT_OF_IT)),
        *((2, "2. Crew"), (0, TEXT_OF_IT)),
    ]
    (tmp_path / "a.pdf").write_bytes(a_pdf(*pages))
    assert [title for title, _ in pieces(read(tmp_path))] == [
        "The Kellin Ferry and Its Mill: 1. Fares",
        "The Kellin Ferry and Its Mill: 1. Fares: Children",
        "The Kellin Ferry and Its Mill: 2. Crew",
    ]
    assert [level for level, _ in blocks(a_pdf(*pages, marks=(("Children", 0),)))] == [0, 1, 0, 0]  # bookmarks come first


def test_a_title_in_the_size_of_the_chapters_stands_above_them_and_a_later_heading_is_no_title():
    found = blocks(a_pdf(f"18|Annual Report\n\n18|1 Fares\n{BODY}\n18|2 Crew\n{BODY}"))
    assert [one for one in found if one[0]] == [(1, "Annual Report"), (2, "1 Fares"), (2, "2 Crew")]
    assert [level for level, _ in blocks(a_pdf(f"{BODY}\n24|Appendix\n{BODY}"))] == [0, 2, 0]


@pytest.mark.parametrize(
    "page",
    [
        f"48|T\n{BODY}",  # a drop cap
        f"24|1,284\nferries a year\n24|42 %\nof all ferries\n{BODY}",  # figures
        f"18|It crosses the lake, and nobody has ever\n18|seen it come back in time.\n{BODY}",  # what is quoted
        f"18|- by night\n\n18|- by day\n{BODY}",
        "40|Come One\n34|Come All\n28|To The Fair\n22|At Kellin",  # a poster
        "40|Come One Come All\n40|To The Fair At Kellin",
        f"13|Fares\n{BODY}",  # hardly larger
        "\n".join(f"18|{' '.join(BODY.split()[:8])}" for _ in range(4)) + f"\n{BODY}\n{BODY}",
    ],
)
def test_what_is_only_large_in_a_pdf_is_no_heading(page):
    found = blocks(a_pdf(page))
    assert [level for level, _ in found if level] == []
    shown = re.sub(r"(?m)^\d+\|", "", page)
    assert " ".join(text for _, text in found).split() == shown.split()


def test_sizes_that_do_not_match_the_text_of_a_pdf_are_not_used(monkeypatch):
    from pypdf import PageObject

    page, extract = f"24|The Ferry\n{BODY}", PageObject.extract_text
    assert [level for level, _ in blocks(a_pdf(page))] == [1, 0]
    monkeypatch.setattr(PageObject, "extract_text", lambda *args, **named: extract(*args, **named) + "!")
    assert blocks(a_pdf(page)) == [(0, f"The Ferry {TEXT_OF_IT} !")]


def test_half_a_character_in_a_pdf_is_a_sign_for_it(tmp_path, monkeypatch):
    from pypdf import PageObject

    extract = PageObject.extract_text
    monkeypatch.setattr(PageObject, "extract_text", lambda *args, **named: extract(*args, **named).replace("Sele", "\ud83dSele"))
    (tmp_path / "a.pdf").write_bytes(a_pdf("It crosses the Sele."))
    assert pieces(read(tmp_path)) == [("a", "It crosses the \ufffdSele.")]


@settings(max_examples=60, deadline=None)
@given(
    st.lists(
        st.lists(st.tuples(st.sampled_from([8, 12, 18, 24]), st.sampled_from(["Ab", "cd e", "1", "F."])), max_size=6), max_size=4
    )
)
def test_of_a_pdf_nothing_is_lost_but_what_recurs(drawn):
    pages = ["\n".join(f"{size}|{text} {at}.{row}" for row, (size, text) in enumerate(page)) for at, page in enumerate(drawn)]
    if any(pages):
        found = blocks(a_pdf(*(f"x{'y' * at}\n{page}\nz{'y' * at}" for at, page in enumerate(pages))))
        whole = "".join(f"x{'y' * at}{page}z{'y' * at}" for at, page in enumerate(pages))
        assert letters("".join(text for _, text in found)) == letters(re.sub(r"\d+\|", "", whole))


# ---- plain text


def sections(text: str) -> list[tuple[int, str]]:
    (found,) = READERS[".txt"](text.encode())
    assert isinstance(found, Document)
    return [(block.level, block.text) for block in found.blocks if block.text]


def test_plain_text_has_a_title_and_sections(tmp_path):
    text = "The Kellin Ferry\n\nIt crosses\nthe Sele.\n\nThe Tower\n=========\nIt is old.\n\nThe Bell\n---\n\nIt rings.\n"
    assert sections(text) == [
        *((1, "The Kellin Ferry"), (0, "It crosses\nthe Sele."), (2, "The Tower"), (0, "It is old."), (3, "The Bell")),
        (0, "It rings."),
    ]
    assert [level for level, _ in sections(text.partition("\n\n")[2])] == [0, 1, 0, 2, 0]
    assert sections("The Tower\n====\nKeys\n----\nAda has them.") == [(1, "The Tower"), (2, "Keys"), (0, "Ada has them.")]
    (tmp_path / "ferry.txt").write_text(text)
    assert [title for title, _ in pieces(read(tmp_path, budget=10))] == [
        "The Kellin Ferry",
        *["The Kellin Ferry: The Tower"] * 2,
    ]


@pytest.mark.parametrize(
    "text",
    [
        "Dear Ms Voss,\n\nthe ferry is late.",
        "The ferry is late.\n\nThe mill is not.",
        "The Kellin Ferry",
        "The Kellin Ferry\nIt crosses the Sele.\n\nAnd more.",
        "The Kellin Ferry\n\n",
        f"{'The Kellin Ferry ' * 5}\n\nIt crosses.",
        "- apples\n\n- pears",
        "1. apples\n\n2. pears",
        "* * *\n\nIt crosses.",
        "It crosses.\n\n---\n\nIt rings.",
        "It crosses.\n---\nIt rings.",
        "It crosses the lake\nat noon\n---\nIt rings.",
        "It is.\n\nName    Fare\n------------\nchild   one",
        "It is.\n\nName | Fare\n------------\nchild | one",
        "It is.\n\nBest\n--\nAda",
        "---\ntitle: x\n---\nIt is.",
    ],
)
def test_what_only_looks_like_a_heading_of_plain_text_stays_text(text):
    assert sections(text) == [(0, text.strip("\n"))]


@settings(max_examples=300, deadline=None)
@given(st.lists(st.sampled_from([*LINES, "a", "B c", " ", "====", "-----", "x."]), max_size=12))
def test_of_plain_text_nothing_is_lost_but_underlines(lines):
    def bare(text: str) -> str:
        return letters(text).translate({ord(mark): None for mark in "=-"})

    found = sections("\n".join(lines))
    assert bare("".join(text for _, text in found)) == bare("".join(lines))
    marks = [sum(line.count(mark) for mark in "=-") for line in lines]
    assert sum(text.count(mark) for _, text in found for mark in "=-") >= sum(
        count for line, count in zip(lines, marks, strict=True) if line.strip("=- ")
    )


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "utf-32", "utf-32-be"])
@pytest.mark.parametrize("ending", [".txt", ".md", ".jsonl"])
def test_a_byte_order_mark_says_the_encoding(ending, encoding):
    text = '{"text": "Zoë keeps the keys."}' if ending == ".jsonl" else "Zoë keeps\r\nthe keys."
    mark = "\ufeff" if encoding[-2:] in ("le", "be") else ""
    (found,) = READERS[ending]((mark + text).encode(encoding))
    assert isinstance(found, Document)
    assert found.text.split() == ["Zoë", "keeps", "the", "keys."]


def test_json_lines(tmp_path):
    rows = [
        {"text": "The mill has two wheels."},
        {"title": "Ada", "context": "Ada built it.", "questions": [{"question": "Who built it?", "answer": "Ada"}]},
        {"title": "Bo"},
        {"title": "Long", "text": "word " * 50, "questions": [{"question": "q", "answer": "a"}]},
    ]
    (tmp_path / "rows.jsonl").write_text("\n".join([*map(json.dumps, rows), "{", ""]))
    found = read(tmp_path)
    assert pieces(found) == [("rows", "The mill has two wheels."), ("Ada", "Ada built it.")]
    assert [(one.question, one.answer) for one in found.problems[1].queries] == [("Who built it?", "Ada")]
    assert [one.problem.cluster for one in found.passages] == ["rows", "Ada"]
    assert [one.reason for one in found.refused] == [
        "line 3: field 'text' is missing",
        "line 4: has questions, so it is not cut, and is longer than 40 tokens",
        "line 5: not JSON (column 2: Expecting property name enclosed in double quotes)",
    ]


def test_a_number_too_long_to_be_read_loses_its_line_alone(tmp_path):
    (tmp_path / "a.jsonl").write_text(f'{{"text": {"9" * 5000}}}\n{{"text": "Ada."}}\n')
    found = read(tmp_path)
    assert pieces(found) == [("a", "Ada.")]
    assert reasons(found) == {"a.jsonl": "line 1: holds a number of too many digits to be read"}


def test_a_file_of_quite_other_rows_is_refused_in_a_few_lines(tmp_path):
    (tmp_path / "rows.jsonl").write_text('{"a": 1}\n' * 50)
    assert [one.reason for one in read(tmp_path).refused] == [
        *(f"line {number}: field 'text' is missing" for number in (1, 2, 3)),
        "and 47 more like these",
    ]


# ---- what cannot be read


def test_a_path_that_is_no_text_is_refused_under_a_name_that_is(tmp_path):
    folder = os.fsencode(tmp_path) + b"/caf\xe9"
    try:
        os.mkdir(folder)
    except OSError:
        pytest.skip("this file system takes only UTF-8 names")
    for name in (folder + b"/mill.txt", os.fsencode(tmp_path) + b"/\xe9.png"):
        with open(name, "wb") as file:
            file.write(b"The mill has two wheels.")
    (tmp_path / "ferry.txt").write_text("The ferry crosses at noon.")
    found = read(tmp_path)
    assert [one.problem.title for one in found.passages] == ["ferry"]
    assert [one.reason for one in found.refused] == ["its path is not UTF-8, so no report could name it; rename it"] * 2
    assert "\ufffd" in "".join(str(one.path).encode().decode() for one in found.refused)


def test_what_is_no_document_is_not_opened(tmp_path, monkeypatch):
    (tmp_path / "film.mp4").write_bytes(b"huge")
    os.mkfifo(tmp_path / "pipe.txt")
    monkeypatch.setattr(Path, "read_bytes", lambda path: pytest.fail(f"{path} was read"))
    assert reasons(read(tmp_path)) == {"film.mp4": "unsupported kind '.mp4'", "pipe.txt": "no regular file"}


def test_files_of_one_unsupported_kind_are_shown_as_one_and_what_is_read_is_said_once(tmp_path):
    for name in ("a.png", "sub/b.PNG", "sub/c.png", "d.rst", "e", "f.txt"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    found = [{"path": one.path.name, "reason": one.reason} for one in read(tmp_path).refused]
    assert len(found) == 6
    kinds = ".md .markdown .txt .text .html .htm .xhtml .pdf .docx .jsonl"
    assert [(one["path"], one["reason"]) for one in grouped(found)] == [
        ("a.png", f"unsupported kind '.png', and 2 more like it; read are {kinds}"),
        ("d.rst", "unsupported kind '.rst'"),
        ("e", "unsupported kind: its name has no ending"),
        ("f.txt", "empty"),
    ]


def test_a_folder_that_is_not_looked_into_is_refused_by_its_name(tmp_path, monkeypatch):
    for name in ("docs/a.md", "docs/closed/b.md", "other/c.md"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(f"This is {name}")
    (tmp_path / "docs" / "linked").symlink_to(tmp_path / "other")
    scan = os.scandir

    def closed(path: str) -> Any:  # a superuser may read them all
        if Path(path).name == "closed":
            raise PermissionError(errno.EACCES, "Permission denied", path)
        return scan(path)

    monkeypatch.setattr(os, "scandir", closed)
    found = read(tmp_path / "docs")
    assert [one.source.name for one in found.passages] == ["a.md"]
    assert reasons(found) == {
        "closed": "cannot be read (Permission denied)",
        "linked": "a link to a folder, which is not followed; name that folder too",
    }
    assert [one.source.name for one in read(tmp_path / "docs", tmp_path / "docs" / "linked").passages] == ["a.md", "c.md"]


def test_the_rest_goes_on_and_each_refusal_says_why(tmp_path):
    files = {
        "a.txt": b"The mill has two wheels.",
        "again.txt": b"The mill has two wheels.",
        "bad.docx": b"PK no zip",
        "bad.pdf": b"%PDF-1.4 and no more",
        "empty.md": b" \n",
        "half.txt": "Z".encode("utf-16") + b"o",
        "latin.txt": "Zoë".encode("latin-1"),
        "locked.pdf": a_pdf("secret", password="x"),
        "old.docx": b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1 and more",
        "NOTES": b"text",
        "picture.png": b"\x89PNG",
        "scan.pdf": a_pdf("  "),
        "zero.txt": b"a\0b",
    }
    for name, data in files.items():
        (tmp_path / name).write_bytes(data)
    found = read(tmp_path)
    assert [one.problem.title for one in found.passages] == ["a"]
    said = reasons(found)
    assert said.pop("bad.pdf").startswith("broken (PdfStreamError")
    assert said.pop("bad.docx").startswith("broken (BadZipFile")
    assert said == {
        "again.txt": f"the same as {tmp_path / 'a.txt'}",
        "empty.md": "empty",
        "half.txt": "not UTF-16 text (byte 4); save it as UTF-8",
        "latin.txt": "not UTF-8 text (byte 2); save it as UTF-8",
        "locked.pdf": "encrypted; save it without a password",
        "NOTES": "unsupported kind: its name has no ending",
        "old.docx": "encrypted, or of a Word older than 2007; save it as .docx without a password",
        "picture.png": "unsupported kind '.png'",
        "scan.pdf": "no text in it; pages that are pictures need text recognition first",
        "zero.txt": "not text (it has a zero byte); if it is UTF-16, save it as UTF-8",
    }


def test_a_pdf_that_needs_another_package_to_be_decrypted_says_which(tmp_path, monkeypatch):
    from pypdf import PdfReader
    from pypdf.errors import DependencyError

    def decrypt(self: PdfReader, password: str) -> None:
        raise DependencyError("cryptography>=3.1 is required for AES algorithm")

    monkeypatch.setattr(PdfReader, "decrypt", decrypt)
    (tmp_path / "a.pdf").write_bytes(a_pdf("The mill", password="x"))
    assert "pip install 'pypdf[crypto]'" in reasons(read(tmp_path))["a.pdf"]


@pytest.mark.parametrize(
    ("package", "file", "data"), [("pypdf", "a.pdf", a_pdf("x")), ("mammoth", "a.docx", a_docx()), ("bs4", "a.html", b"<p>x")]
)
def test_without_the_extra_the_line_to_install_it_is_the_reason(tmp_path, monkeypatch, package, file, data):
    for name in [name for name in sys.modules if name.split(".")[0] == package]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, package, None)
    (tmp_path / file).write_bytes(data)
    (tmp_path / "b.md").write_text("Text.")
    found = read(tmp_path)
    assert len(found.passages) == 1
    assert "which is not installed: pip install 'seal[documents]'" in reasons(found)[file]


def test_a_path_that_is_not_there_is_the_users_mistake(tmp_path):
    with pytest.raises(UserError, match=r"nowhere: no such file or folder"):
        read(tmp_path / "nowhere")


# ---- folders, hashes, ids


def test_a_folder_in_order_without_hidden_files(tmp_path):
    for name in ("b.md", "a.txt", "sub/c.md", "sub/.hidden/d.md", ".e.md", "~$f.docx"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(f"This is {name}")
    found = read(tmp_path / "sub", tmp_path, tmp_path / "b.md")
    assert [one.source.name for one in found.passages] == ["c.md", "a.txt", "b.md"]
    assert found.refused == ()
    assert len(read(tmp_path / ".e.md").passages) == 1  # named, it is read


def test_a_folder_may_be_passed_over_with_all_below_it(tmp_path):
    for name in ("a.md", "mine/b.md", "mine/deep/c.md", "other/d.md"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(f"This is {name}")
    found = read_documents([tmp_path], count=words, budget=40, passed_over=lambda folder: folder.name == "mine")
    assert [one.source.name for one in found.passages] == ["a.md", "d.md"]


def test_sources_have_hashes_and_ids_stay_when_documents_are_added(tmp_path):
    (tmp_path / "m.md").write_text(MARKDOWN)
    before = read(tmp_path, budget=15)
    (source,) = before.sources
    assert source.sha256 == hashlib.sha256(MARKDOWN.encode()).hexdigest()
    assert source.passages == tuple(one.id for one in before.problems)
    (tmp_path / "a.md").write_text("# The Ferry\n\nIt crosses the *Sele*.\n\n## Other\n\n" + "Some more words here. " * 5)
    after = read(tmp_path, budget=15)
    assert set(before.problems) <= set(after.problems)  # the same in every field
    shared = next(one for one in after.passages if one.problem == before.problems[0])
    assert (shared.source.name, len(after.sources)) == ("a.md", 2)
    assert len({one.id for one in after.problems}) == len(after.problems)


# ---- cutting

TEXT = st.text(st.sampled_from("ab .!?\n-1é。"), min_size=1, max_size=60)
BLOCKS = st.lists(st.tuples(TEXT, st.sampled_from([0, 0, 0, 1, 2, 3, 6])), max_size=8)


def letters(text: str) -> str:
    return "".join(text.split())


@settings(max_examples=300, deadline=None)
@given(BLOCKS, st.integers(12, 60))
def test_nothing_is_lost_nothing_comes_twice_and_the_budget_is_kept(drawn, budget):
    blocks = [Block(f"h{at} {' '.join(text.split())}" if level else text, level) for at, (text, level) in enumerate(drawn)]
    title, found = cut(Document(None, tuple(blocks)), "n", len, budget)
    seen = "" if title == "n" else letters(title)
    above: list[str] = [title]
    for own, text in found:
        path = own.split(": ")
        shared = next((at for at in range(len(above), 0, -1) if above[:at] == path[:at]), 0)
        seen += letters("".join(path[shared:])) + letters(text)
        above = path
        assert len(sequence(own, text)) <= budget
    first = next((at for at, block in enumerate(blocks) if letters(block.text) == letters(title)), 0)
    order = [blocks[first], *blocks[:first], *blocks[first + 1 :]] if blocks and title != "n" else blocks
    assert seen == letters("".join(block.text for block in order))


@pytest.mark.parametrize(
    ("text", "budget", "parts"),
    [
        ("One two.\n\nThree four. Five six.", 7, ["One two.\n\nThree four. Five six."]),
        ("One two.\n\nThree four. Five six.", 5, ["One two.", "Three four. Five six."]),
        ("One two.\n\nThree four. Five six.", 4, ["One two.", "Three four.", "Five six."]),
        ("- a b\n- c d\n- e f", 7, ["- a b\n- c d", "- e f"]),
        ("one two three four five", 3, ["one two", "three four", "five"]),
        ("It cost.\nIt is\n3.5 or\n-5 or\n*six* now.", 5, ["It cost.", "It is\n3.5 or", "-5 or\n*six* now."]),
        ("a b\n| c |\n| d e |\n1. f", 7, ["a b\n| c |", "| d e |\n1. f"]),
        ("sub\xadmar\u200bine", 5, ["submarine"]),
    ],
)
def test_where_it_is_cut(text, budget, parts):
    assert [piece for _, piece in cut(Document(None, (Block(text),)), "n", words, budget)[1]] == parts


def test_a_chinese_sentence_keeps_the_marks_that_close_it():
    text = "他说：“好。”她也说：“好！！”完"
    assert [piece for _, piece in cut(Document(None, (Block(text),)), "n", len, 11)[1]] == [
        "他说：“好。”",
        "她也说：“好！！”",
        "完",
    ]


def test_one_endless_word_is_cut_between_characters_in_good_time():
    found = cut(Document(None, (Block("x" * 20_000),)), "n", len, 102)[1]
    assert [len(text) for _, text in found] == [100] * 200


@pytest.mark.parametrize(
    ("blocks", "title"),
    [
        ((Block("Top", 1), Block("a"), Block("Below", 2), Block("b")), "Top"),
        ((Block("menu"), Block("Top", 1), Block("a")), "Top"),
        ((Block("One", 1), Block("a"), Block("Two", 1), Block("b")), "given"),
        ((Block("a"), Block("Appendix", 2), Block("b")), "given"),
    ],
)
def test_the_title_is_the_heading_above_all_others(blocks, title):
    assert cut(Document("given", blocks), "name", words, 100)[0] == title


@settings(max_examples=60, deadline=None)
@given(st.sampled_from(sorted(READERS)), st.binary(max_size=200))
def test_any_bytes_are_read_or_refused(tmp_path_factory, ending, data):
    path = tmp_path_factory.mktemp("any") / f"file{ending}"
    path.write_bytes(data)
    found = read(path)
    assert found.passages or isinstance(found.refused[0], Refused)
