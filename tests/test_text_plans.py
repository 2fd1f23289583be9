"""Text edits with plans: how they are asked for and read, what their tools make, and whole runs with them."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import pytest
from small_runs import INNER, OUTER, Watched, a_domain, an_engine, changed, rows, train

from seal.config import dump, load, loads
from seal.domains.knowledge import Knowledge
from seal.domains.passages import to_problems
from seal.edits.plan import find
from seal.edits.questions import question_prompt
from seal.edits.styles import STYLES, Style, style
from seal.edits.text_plan import TextPlans
from seal.edits.text_tools import TEXT_TOOLS, Asking, Source
from seal.edits.tools import as_tool
from seal.errors import EditFault, SealError, UserError
from seal.grading.graders import grader
from seal.loops import build
from seal.loops.evaluate import Evaluation, evaluate
from seal.policy.write import Draft, read, read_batch, write_on
from seal.seeds import derive
from seal.store import Store
from seal.text import sentences
from seal.trials import run, unchanged
from seal.types import Bounds, Example, Fault, Finished, Job, Problem, Prompt, Reply, Sampling, SelfEdit, Trial, Tuning

PASSAGE = "Ada Lund built the mill in 1834. It stands in Tarn, and 12 people work there."
PROBLEM = to_problems([("The Mill", PASSAGE, [("Who built it?", "Ada Lund"), ("When?", "1834")])])[0]
BOUNDS = Bounds(
    examples=8,
    lr=(1e-4, 1e-2),
    epochs=(1, 6),
    loss=("all", "answers", "numbers"),
    tools=("sentences", "cloze", "reverse", "paraphrase"),
    calls=3,
    styles=("atomic-facts", "self-qa"),
)
QA = "Question 1: Who?\nAnswer: Ada.\n\nQuestion 2: When?\nAnswer: In 1834."


def plans(bounds: Bounds = BOUNDS) -> TextPlans:
    styles = {name: STYLES[name] for name in bounds.styles}
    return TextPlans(style("atomic-facts"), styles, TEXT_TOOLS.chosen(bounds.tools), bounds)


def knowledge(**changed: object) -> Knowledge:
    given = {"problems": {"test": [PROBLEM]}, "style": style("atomic-facts"), "tuning": Tuning(rank=4), "bounds": BOUNDS}
    return Knowledge(**{**given, "grader": grader("recall"), "plans": plans(), "train_on_passage": False, **changed})  # type: ignore[arg-type]


def completions(text: str, **changed: object) -> list[str]:
    return [one.completion for one in knowledge(**changed).read_edit(PROBLEM, text).examples]


# ---- tools


def test_every_sentence_of_the_passage_is_learnt() -> None:
    assert TEXT_TOOLS["sentences"].function(Source("T", "One. Two.")) == ["One.", "Two."]


def test_cloze_leaves_out_names_and_numbers_one_at_a_time() -> None:
    first, second, third, *others = TEXT_TOOLS["cloze"].function(Source("The Mill", PASSAGE), gaps=2)
    assert first == Example(
        "Ada Lund", Prompt("What belongs in the gap?\nTopic: The Mill\n_____ built the mill in 1834.\nAnswer:\n"), "completion"
    )
    assert [one.completion for one in (second, third, *others)] == ["1834", "Tarn", "12"]
    assert "and _____ people" in others[0].prompt.text


def test_sentences_and_gaps_are_those_of_lists_too() -> None:
    source = Source("T", "Ada:\n- built it in 1834\n- left")
    assert TEXT_TOOLS["sentences"].function(source) == ["Ada:", "built it in 1834", "left"]
    assert [one.completion for one in TEXT_TOOLS["cloze"].function(source)] == ["Ada", "1834"]


def test_questions_about_names_and_numbers_are_answered_by_their_sentences() -> None:
    asking = TEXT_TOOLS["questions"].function(Source("The Mill", PASSAGE))
    asked = next(asking)
    openings = [one.prefill for one in asked]
    assert openings == [
        "Question: Who",
        "Question: What",
        "Question: In which year",
        "Question: Who",
        "Question: What",
        "Question: How many",
    ]
    replies = [" built the mill?\nSo", "", " was Hollin Weir built?", " stands in?", " stands in?", " people work there? I ask."]
    few = TEXT_TOOLS["questions"].function(Source("The Mill", PASSAGE), most=2)
    assert next(few) == asked[:2]
    with pytest.raises(StopIteration) as end:
        asking.send(replies)
    built, other = sentences(PASSAGE)
    assert end.value.value == [
        Example(sentence, question_prompt(question, "The Mill"), "completion")
        for question, sentence in [
            ("Who built the mill?", built),
            ("Who stands in?", other),
            ("What stands in?", other),
            ("How many people work there?", other),
        ]
    ]


def test_a_question_that_was_asked_of_two_names_of_a_sentence_is_one() -> None:
    asking = TEXT_TOOLS["questions"].function(Source("T", "Ada Lund met Bo Berg."))
    assert len(next(asking)) == 4
    with pytest.raises(StopIteration) as end:
        asking.send([" met?"] * 4)
    asked = [question_prompt(f"{who} met?", "T") for who in ("Who", "What")]
    assert [row.prompt for row in end.value.value] == asked


def test_reverse_puts_the_answer_first() -> None:
    source = Source(
        "T", "", ("Question 1: Who?\nAnswer: Ada.", "It rains.", "Question: Why?\nAnswer: ", "Question: A?\n Answer: B")
    )
    assert TEXT_TOOLS["reverse"].function(source) == ["Answer: Ada.\nQuestion: Who?", "Answer: B\nQuestion: A?"]


@pytest.mark.parametrize(
    "text",
    [
        "Question: Who? Answer: Ada.\nIt rains.",
        "Question: Who?\nAnswer: Ada.\nIt rains.",
        "1. Question: Who? Answer: Ada.\n2. Answer: no.",
        "Question 1: Who? Answer: Ada. Question 2: Why?",
    ],
)
def test_reverse_finds_pairs_as_they_are_written_in_the_shipped_style(text: str) -> None:
    reversed_ = completions(f'{text}\n{{"tools": ["reverse"]}}')[-1]
    assert reversed_ == "The Mill\nAnswer: Ada.\nQuestion: Who?"
    assert sum(one.startswith("The Mill\nAnswer: Ada.\n") for one in completions(f'{text}\n{{"tools": ["reverse"]}}')) == 1


def test_no_question_is_paired_across_other_lines() -> None:
    assert TEXT_TOOLS["reverse"].function(Source("T", "", ("Question: Who?", "It rains.", "Answer: Ada."))) == []


# ---- reading


def test_the_prompt_offers_what_the_bounds_allow() -> None:
    prompt = knowledge().edit_prompt(PROBLEM)
    assert prompt.prefill == "1."
    task, offered = prompt.text.split("\n\n")[:2]
    assert task == STYLES["atomic-facts"].task.strip()
    assert '"learning_rate": a number from 0.0001 to 0.01' in offered
    assert '"loss_on": "all" or "answers" or "numbers"' in offered
    assert '{"tool": "cloze", "gaps": whole number from 1 to 4 (else 1)}: Learn to fill gaps' in offered
    assert prompt.text.endswith(f"Passage:\nThe Mill\n{PASSAGE}\n\n")
    bare = plans(Bounds(loss=())).prompt("T", "C").text
    assert '"epochs"' in bare
    assert not any(f'"{key}"' in bare for key in ("loss_on", "style", "tools"))


def test_text_without_a_plan_is_read_as_ever() -> None:
    text = "1. Ada built it.\n2. It stands in {Tarn}."
    with_plan, without = knowledge(), knowledge(plans=None)
    assert with_plan.read_edit(PROBLEM, text) == without.read_edit(PROBLEM, text)


def test_a_plan_sets_the_tuning_and_never_becomes_an_example() -> None:
    text = 'Ada built it.\n```json\n{"learning_rate": 0.005, "epochs": 3, "loss_on": "numbers"}\n```\nIt stands in Tarn.'
    reading = knowledge().read_edit(PROBLEM, text)
    assert reading.tuning == Tuning(rank=4, lr=0.005, epochs=3, loss="numbers")
    assert [one.completion for one in reading.examples] == ["The Mill\nAda built it.", "The Mill\nIt stands in Tarn."]


def test_a_sentence_that_ends_in_a_colon_is_learnt_also_where_it_speaks_of_a_plan() -> None:
    read = knowledge(plans=replace(plans(), style=STYLES["implications"])).read_edit(
        PROBLEM, 'Ada built it.\nThe council of Tarn published its plan:\n{"epochs": 3}'
    )
    assert "The Mill\nThe council of Tarn published its plan:" in [one.completion for one in read.examples]


@pytest.mark.parametrize("reading", [STYLES["implications"], style("atomic-facts")], ids=["official", "clean"])
@pytest.mark.parametrize(
    "text",
    [
        'Ada built it.\nPlan: ```json\n{"epochs": 3}\n```',
        'Ada built it.\n```json\n{"epochs": 3}\n```',
        'Ada built it.\n<plan>{"epochs": 3}</plan>',
        'Ada built it.\n<plan>\n```json\n{"epochs": 3}\n```\n</plan>',
        'Ada built it. ```{"epochs": 3}```',
        'Ada built it.\n**My plan:**\n{"epochs": 3}',
        'Plan:\n{"epochs": 3}\nAda built it.',
    ],
)
def test_nothing_that_belongs_to_a_plan_becomes_an_example(text: str, reading: Style) -> None:
    read = knowledge(plans=replace(plans(), style=reading)).read_edit(PROBLEM, text)
    assert read.tuning.epochs == 3
    assert [one.completion for one in read.examples] == ["The Mill\nAda built it."]


def test_words_that_only_look_like_a_plans_frame_stay() -> None:
    found = find('The plan was: <b> rest.\nIt had one aim:\n{"epochs": 3}\nAda built it.')
    assert found is not None
    assert found.words == "The plan was: <b> rest.\nIt had one aim:\nAda built it."


def test_a_plan_says_in_which_style_its_text_is() -> None:
    assert completions(f'{QA}\n{{"style": "self-qa"}}') == [
        "The Mill\nQuestion 1: Who?\nAnswer: Ada.\n",
        "The Mill\nQuestion 2: When?\nAnswer: In 1834.",
    ]
    assert len(completions(QA)) == 4  # lines


def test_tools_add_rows_within_the_bounds() -> None:
    text = f'{QA}\n{{"style": "self-qa", "tools": ["reverse", "sentences", {{"tool": "cloze", "gaps": 1}}]}}'
    reading = knowledge().read_edit(PROBLEM, text)
    said = [one.completion for one in reading.examples]
    assert said[2:6] == [
        "The Mill\nAnswer: Ada.\nQuestion: Who?",
        "The Mill\nAnswer: In 1834.\nQuestion: When?",
        "The Mill\nAda Lund built the mill in 1834.",
        "The Mill\nIt stands in Tarn, and 12 people work there.",
    ]
    assert (said[6:], reading.cut) == (["Ada Lund", "Tarn"], 0)
    tight = replace(BOUNDS, examples=3)
    reading = knowledge(bounds=tight, plans=plans(tight)).read_edit(PROBLEM, text)
    assert (len(reading.examples), reading.cut) == (3, 5)


def test_a_plan_of_tools_needs_no_words() -> None:
    assert len(completions('{"tools": ["sentences"]}')) == 2


@pytest.mark.parametrize(
    ("text", "kind", "told"),
    [
        ("{}", "empty", "the model wrote nothing"),
        ('{"epochs": 2}', "empty", "the model wrote nothing"),
        ('{"tools": ["reverse"]}', "empty", "made nothing to learn"),
        ('Ada built it.\n{"epochs": 7}', "out_of_bounds", "epochs: must be a whole number from 1 to 6, not 7"),
        ("Ada built it.\n{'epochs': 2}", "unreadable", "not JSON"),
        ("Ada built it. {epochs: 2}", "unreadable", "not JSON"),
        ("Ada built it. {“epochs”: 2}", "unreadable", "not JSON"),
        ('Plan: {"epochs": 2}', "empty", "the model wrote nothing"),
        ("Ada built it.\n```json\nepochs: 2\n```", "unreadable", "no JSON object in"),
        ('Ada built it.\n{"epochs": 2', "unreadable", "not JSON"),
        ('Ada built it.\n{"epochs": 2}\n{"epochs": 3}', "unreadable", "more than one plan"),
        ('Ada built it.\n{"epochs": 2}\n{"epochs": }', "unreadable", "not JSON"),
        ('Ada built it.\n{"style": "rewrite"}', "out_of_bounds", 'style: must be "atomic-facts" or "self-qa", not "rewrite"'),
        ('Ada built it.\n{"loss_on": "names"}', "out_of_bounds", "loss_on: must be"),
        ('Ada built it.\n{"tools": ["translate"]}', "unknown", "tools[0]: no tool named 'translate'"),
    ],
)
def test_a_malformed_plan_is_a_fault_and_nothing_is_trained_on(text: str, kind: str, told: str) -> None:
    edit = read(knowledge(train_on_passage=True), PROBLEM, Prompt(""), Reply(text), id="train/1/p/0")
    assert edit.fault is not None
    assert edit.fault.kind == kind
    assert told in edit.fault.message
    assert edit.examples == ()


CUT = ['{"learning_rate": 0.002, "epo', "It stands in Tarn. {", "```json", 'Plan: {"epochs": 2, "loss_on": "na']


@pytest.mark.parametrize("last", CUT)
def test_a_plan_that_was_cut_off_is_a_fault_and_no_words_without_one(last: str) -> None:
    cut = Reply(f"Ada built it.\n{last}", 9, ended=False)
    edit = read(knowledge(), PROBLEM, Prompt(""), cut, id="train/1/p/0")
    assert edit.fault is not None
    assert (edit.fault.kind, edit.text, edit.examples) == ("unreadable", cut.text, ())
    words = read(knowledge(plans=None), PROBLEM, Prompt(""), cut, id="train/1/p/0")  # where no plan can be, a brace is text
    assert (words.fault, words.text) == (None, "Ada built it.")
    again = gone_on("Ada built it.", replace(cut, text=f"It stands in Tarn.\n{last}"))
    assert again.fault is not None
    assert again.fault.kind == "unreadable"


def test_a_plan_that_was_whole_before_the_cut_is_read() -> None:
    cut = Reply('Ada built it.\n{"epochs": 2}', 9, ended=False)
    edit = read(knowledge(), PROBLEM, Prompt(""), cut, id="train/1/p/0")
    assert (edit.fault, edit.tuning.epochs, len(edit.examples)) == (None, 2, 1)
    braces = replace(cut, text="Ada built it.\nThe set {1, 2} is fin")
    assert read(knowledge(), PROBLEM, Prompt(""), braces, id="train/1/p/0").text == "Ada built it."


# ---- tools that need the model


class Writes:
    """An engine that writes `In other words <place>.` to every prompt."""

    def __init__(self) -> None:
        self.prompts: list[Prompt] = []

    def sample(self, prompts: Sequence[Prompt], how: Sampling, *, seed: int) -> list[list[Reply]]:
        assert how.n == 1
        self.prompts += prompts
        return [[Reply(f" In other words {place}.\n", tokens=10 + place)] for place, _ in enumerate(prompts)]


def drafts(*texts: str) -> list[Draft]:
    return [Draft(f"train/1/p/{n}", PROBLEM, Prompt(""), Reply(text, tokens=5), 1, n) for n, text in enumerate(texts)]


def test_what_tools_put_to_the_model_is_one_batch_and_becomes_examples() -> None:
    engine = Writes()
    texts = (
        'Ada built it.\n{"tools": [{"tool": "paraphrase", "times": 2}, "sentences"]}',
        "It stands in Tarn.",
        '{"epochs": 99}',
        '{"tools": ["paraphrase", "sentences", "paraphrase"]}',
    )
    edits = read_batch(engine, knowledge(), drafts(*texts), Sampling(n=4), seed=0)  # type: ignore[arg-type]
    assert len(engine.prompts) == 4
    assert all(PASSAGE in prompt.text for prompt in engine.prompts)
    first, second, third, fourth = edits
    assert [one.completion for one in first.examples][:3] == [
        "The Mill\nAda built it.",
        "The Mill\nIn other words 0.",
        "The Mill\nIn other words 1.",
    ]
    assert (first.tokens, second.tokens, third.tokens, fourth.tokens) == (5 + 10 + 11, 5, 5, 5 + 12 + 13)
    assert [one.completion[9:] for one in fourth.examples] == [
        "In other words 2.",
        *sentences(PASSAGE),
        "In other words 3.",
    ]
    assert third.fault is not None
    assert (third.fault.kind, second.fault) == ("out_of_bounds", None)


class Cut(Writes):
    """Every reply is cut at its limit."""

    def __init__(self, *said: str) -> None:
        super().__init__()
        self.said = said

    def sample(self, prompts: Sequence[Prompt], how: Sampling, *, seed: int) -> list[list[Reply]]:
        return [[Reply(said, 9, ended=False)] for said in self.said[: len(prompts)]]


@pytest.mark.parametrize(
    ("reply", "learnt"),
    [
        (" Ada Lund made the mill. It is Dr.  Ho", ["Ada Lund made the mill."]),
        (" Ada Lund made the mill.", ["Ada Lund made the mill."]),
        (" Ada Lund made it.\nIt stands. In Ta", ["Ada Lund made it."]),
        ("\n It stands. In Ta", ["It stands."]),
        (" Ada Lund made the mi", []),
        ("", []),
    ],
)
def test_what_a_tool_was_told_when_it_was_cut_is_no_half_sentence(reply: str, learnt: list[str]) -> None:
    (draft,) = drafts('Ada built it.\n{"tools": ["paraphrase"]}')
    (edit,) = read_batch(Cut(reply), knowledge(), [draft], Sampling(), seed=0)  # type: ignore[arg-type]
    assert [one.completion for one in edit.examples] == [f"The Mill\n{row}" for row in ("Ada built it.", *learnt)]


def test_a_question_that_was_whole_before_the_cut_is_asked() -> None:
    (draft,) = drafts('{"tools": [{"tool": "questions", "most": 2}]}')
    told = Cut(" built the mill? And so on wi", " did Ada Lund bui")
    domain = knowledge(plans=plans(replace(BOUNDS, tools=("questions",))))
    (edit,) = read_batch(told, domain, [draft], Sampling(), seed=0)  # type: ignore[arg-type]
    built, _ = sentences(PASSAGE)
    assert edit.examples == (Example(built, question_prompt("Who built the mill?", "The Mill"), "completion"),)


def test_without_a_model_such_a_tool_is_a_fault() -> None:
    edit = read(knowledge(), PROBLEM, Prompt(""), Reply('{"tools": ["paraphrase"]}'), id="train/1/p/0")
    assert edit.fault == Fault("out_of_bounds", "a tool it calls needs the model, and there is none here")


def test_a_tool_asks_once_and_within_the_bounds() -> None:
    def twice(source: Source, /) -> Asking:
        """Asks twice."""
        yield [Prompt("a")]
        yield [Prompt("b")]
        return []

    def never(source: Source, /) -> Asking:
        """Asks only where there is something to ask."""
        if source.title == "other":
            yield [Prompt("a")]
        return ["said"]

    def much(source: Source, /) -> Asking:
        """Asks too much."""
        return (yield [Prompt("a")] * 99)

    mine = replace(plans(), tools={name: as_tool(tool) for name, tool in (("twice", twice), ("never", never), ("much", much))})
    domain = knowledge(plans=mine)
    assert [one.completion for one in domain.read_edit(PROBLEM, '{"tools": ["never"]}').examples] == ["The Mill\nsaid"]
    with pytest.raises(EditFault, match="99 texts for the model to write; at most 8"):
        domain.read_edit(PROBLEM, '{"tools": ["much"]}')
    assert domain.read_edit(PROBLEM, '{"tools": ["twice"]}').asks == (Prompt("a"),)
    with pytest.raises(SealError, match="'twice' yields twice"):
        domain.finish_edit(PROBLEM, '{"tools": ["twice"]}', ["x"])


def test_a_tool_that_gives_no_list_of_texts_is_named() -> None:
    def one(source: Source, /) -> str:
        """A text instead of a list."""
        return source.title

    def nothing(source: Source, /) -> None:
        """Forgets to return."""

    def numbers(source: Source, /) -> list[object]:
        """Not even texts."""
        return ["a", 3]

    def asks(source: Source, /) -> Iterator[Prompt]:
        """One prompt instead of a list."""
        yield Prompt("a")

    def silent(source: Source, /) -> Iterator[list[Prompt]]:
        """Asks and says nothing."""
        yield [Prompt("a")]

    mine = replace(plans(), tools={tool.__name__: as_tool(tool) for tool in (one, nothing, numbers, asks, silent)})
    for name, told in (
        ("one", r"tool 'one' gave 'The Mill'; it must give a list of str or Example"),
        ("nothing", "tool 'nothing' gave None; it must"),
        ("numbers", r"tool 'numbers' gave \['a', 3\]; it must"),
        ("asks", r"tool 'asks' gave Prompt.*; it must give a list of Prompt"),
        ("silent", "tool 'silent' gave None"),
    ):
        with pytest.raises(SealError, match=told):
            knowledge(plans=mine).finish_edit(PROBLEM, f'{{"tools": ["{name}"]}}', ["x"])


def test_a_blank_text_of_a_tool_is_not_learnt_as_the_title_alone() -> None:
    def blanks(source: Source, /, some: bool = True) -> list[str]:
        """Blank lines."""
        return ["", " \n", *(["said"] if some else [])]

    domain = knowledge(plans=replace(plans(), tools={"blanks": as_tool(blanks)}))
    assert domain.read_edit(PROBLEM, '{"tools": ["blanks"]}').examples == (Example("The Mill\nsaid"),)
    with pytest.raises(EditFault, match="made nothing to learn"):
        domain.read_edit(PROBLEM, '{"tools": [{"tool": "blanks", "some": false}]}')


# ---- written on


class WritesOn(Writes):
    """The model adapted to an edit goes on with what the test says."""

    def __init__(self, *said: Reply) -> None:
        super().__init__()
        self.said = said

    def run(self, jobs: Iterable[Job]) -> Iterator[Finished]:
        for job, reply in zip(jobs, self.said, strict=True):
            yield Finished(job.id, (reply,))


def gone_on(first: str, reply: Reply, engine: Writes | None = None, **changed: object) -> SelfEdit:
    domain = knowledge(**changed)
    (edit,) = read_batch(Writes(), domain, drafts(first), Sampling(), seed=0)  # type: ignore[arg-type]
    engine = engine or WritesOn(reply)
    (second,) = write_on(engine, domain, [PROBLEM], [edit], Sampling(n=4), phase="train", seed=0)  # type: ignore[arg-type]
    return second


def test_a_second_pass_may_plan_anew() -> None:
    said = Reply('It stands in Tarn.\n{"epochs": 4, "tools": []}', tokens=9)
    edit = gone_on('Ada built it.\n{"epochs": 2, "learning_rate": 0.002, "tools": ["sentences"]}', said)
    assert edit.fault is None
    assert edit.text == 'Ada built it.\nIt stands in Tarn.\n{"epochs": 4, "learning_rate": 0.002, "tools": []}'
    assert (edit.tuning.epochs, edit.tuning.lr, edit.tokens) == (4, 0.002, 5 + 9)
    assert [one.completion for one in edit.examples] == ["The Mill\nAda built it.", "The Mill\nIt stands in Tarn."]
    # it is read as a first pass would be: the policy learns nothing that would be a fault
    assert knowledge().read_edit(PROBLEM, edit.text).examples == edit.examples


def test_where_plans_are_words_a_second_pass_is_words() -> None:
    edit = gone_on('Ada built it.\n{"epochs": 2}', Reply('{"epochs": 3}', tokens=9), plans=None)
    assert edit.text == 'Ada built it.\n{"epochs": 2}\n{"epochs": 3}'


@pytest.mark.parametrize("more", ['{"epochs": }', '{"epochs": 2}\n{"epochs": 3}', '{"epochs": 2, "epochs": 2}', '{"epochs": 99}'])
def test_a_second_plan_that_is_none_is_a_fault(more: str) -> None:
    edit = gone_on('Ada built it.\n{"epochs": 2}', Reply(more, tokens=9))
    assert edit.fault is not None
    assert edit.examples == ()


def test_tools_ask_the_model_in_a_second_pass_too() -> None:
    engine = WritesOn(Reply("It stands in Tarn.", tokens=9))
    edit = gone_on('Ada built it.\n{"tools": ["paraphrase"]}', engine.said[0], engine)
    assert edit.fault is None
    assert [one.completion[9:] for one in edit.examples] == ["Ada built it.", "It stands in Tarn.", "In other words 0."]
    assert (len(engine.prompts), edit.tokens, edit.id) == (1, 5 + 10 + 9 + 10, "train/1/" + PROBLEM.id + "/0")


@pytest.mark.parametrize(
    ("reply", "text"),
    [
        (Reply("It stands in Tarn.\nIt bur", 9, ended=False), 'Ada built it.\n{"epochs": 2}\nIt stands in Tarn.'),
        (Reply("It bur", 9, ended=False), 'Ada built it.\n{"epochs": 2}'),
        (Reply("", 0, ended=False), 'Ada built it.\n{"epochs": 2}'),
        (Reply('{"epochs": 3}\nIt bur', 9, ended=False), 'Ada built it.\n{"epochs": 3}'),
    ],
)
def test_what_was_cut_in_a_second_pass_loses_its_last_line(reply: Reply, text: str) -> None:
    assert gone_on('Ada built it.\n{"epochs": 2}', reply).text == text


# ---- whole runs


class Scripted(Watched):
    """An engine whose policy writes what the test says; tools' prompts are answered by the real one."""

    texts = (
        'Ada built it.\n{"epochs": 1, "tools": [{"tool": "paraphrase", "times": 2}]}',
        'Ada built it.\n{"epochs": 4, "tools": ["sentences"]}',
        '{"epochs": 400}',
    )

    def sample(self, prompts: Sequence[Prompt], how: Sampling, *, seed: int) -> list[list[Reply]]:
        replies = super().sample(prompts, how, seed=seed)
        if all(prompt.text.startswith("Rewrite the following passage in") for prompt in prompts):
            return replies
        return [[Reply(text, tokens=7) for text in self.texts[: how.n]] for _ in prompts]


def a_plan_domain(folder: Path) -> Knowledge:
    return a_domain(folder, plans=plans())


def test_a_run_with_plans_resumes_without_writing_anything_twice(lively_path: Path, tmp_path: Path) -> None:
    outer = changed(OUTER, rounds=1, edits=3)
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    with Store.create(tmp_path / "a", "whole", "", {}) as store:
        train(Scripted(an_engine(lively_path)), a_plan_domain(tmp_path), store, outer)
        whole = rows(store)
        edits = store.edits("train", 1)
        outcomes = {one.trial.edit.id: one for one in store.outcomes("train", 1) if one.trial.edit}
    assert [edit.fault.kind if edit.fault else None for edit in edits] == [None, None, "out_of_bounds"] * 2
    paraphrased, planned, faulty = edits[:3]
    assert (paraphrased.tuning, planned.tuning) == (replace(INNER, epochs=1), replace(INNER, epochs=4))
    assert paraphrased.tokens > 7
    assert len(paraphrased.examples) >= 2
    # what a plan asks for is seen in what its trial cost
    assert outcomes[planned.id].cost.train_steps == 4 * 2
    assert outcomes[planned.id].cost.train_tokens == 4 * sum(len(one.completion) for one in planned.examples)  # a token a byte
    assert (outcomes[faulty.id].fault, outcomes[faulty.id].cost.train_tokens) == (faulty.fault, 0)
    assert faulty.id not in {edit for row in whole["kept"] for edit in row}

    class Killed(Exception): ...

    class Dies(Scripted):
        def sample(self, prompts: Sequence[Prompt], how: Sampling, *, seed: int) -> list[list[Reply]]:
            if how.n == 1 and self.sampled >= 3:  # the tools' batch of the second problem
                raise Killed
            return super().sample(prompts, how, seed=seed)

    with Store.create(tmp_path / "b", "killed", "", {}) as store:
        with pytest.raises(Killed):
            train(Dies(an_engine(lively_path)), a_plan_domain(tmp_path), store, outer)
        assert len(store.edits("train", 1)) == 3
        watched = Scripted(an_engine(lively_path))
        train(watched, a_plan_domain(tmp_path), store, outer)
        assert watched.sampled == 1 + 2  # one problem's prompt, and its two paraphrases
        assert rows(store) == whole


def test_given_edits_may_have_plans_and_are_not_written_twice(lively_path: Path, tmp_path: Path) -> None:
    domain, engine = a_plan_domain(tmp_path), Watched(an_engine(lively_path))
    problems = tuple(domain.problems("test"))
    given = {problem.id: ('{"tools": ["paraphrase"]}', "It stands there.") for problem in problems}
    plan = Evaluation(("given",), problems, Sampling(n=4, max_tokens=8), given=given)
    with Store.create(tmp_path, "given", "", {}) as store:
        evaluate(engine, domain, store, plan, seed=1)  # type: ignore[arg-type]
        edits = store.edits("given", 0)
        evaluate(engine, domain, store, plan, seed=1)  # type: ignore[arg-type]
        assert store.edits("given", 0) == edits
    assert engine.sampled == len(problems)  # one paraphrase each, once
    assert [edit.source for edit in edits] == ["given"] * 4
    assert edits[0].tokens > edits[1].tokens == 0


def test_plans_train_the_model_differently(lively_path: Path, tmp_path: Path) -> None:
    """Epochs and loss reach the engine: same words, other answers."""
    domain, engine = a_plan_domain(tmp_path), an_engine(lively_path)
    problem: Problem = domain.problems("test")[0]
    texts = ("It was in 1904.", 'It was in 1904.\n{"epochs": 6}', 'It was in 1904.\n{"loss_on": "numbers"}')
    edits = [read(domain, problem, Prompt(""), Reply(text), id=f"train/1/{problem.id}/{n}") for n, text in enumerate(texts)]
    before = {problem.id: answers for problem, answers, _ in unchanged(engine, domain, [problem])}
    trials = [Trial(f"{edit.id}/0", problem, edit, 0, derive("one seed")) for edit in edits]
    found = {one.trial.id: one for one in run(engine, domain, trials, before)}
    plain, longer, numbers = (found[trial.id] for trial in trials)
    assert longer.cost.train_tokens == 3 * plain.cost.train_tokens
    scores = {one.after[0].metrics["logprob"] for one in (plain, longer, numbers)}
    assert len(scores) == 3
    engine.close()


# ---- recipes


def test_a_recipe_opens_its_edits_to_plans() -> None:
    table = (
        '[domain]\nstyle = "atomic-facts"\nreading = "clean"\nplan = true\n[bounds]\ntools = ["cloze"]\nstyles = ["self-qa"]\n'
    )
    domain = build.domain(loads(table, source="x.toml"))
    prompt = domain.edit_prompt(domain.problems("test")[0]).text
    assert '"style": "self-qa"' in prompt
    assert '{"tool": "cloze"' in prompt
    reading = domain.read_edit(domain.problems("test")[0], '- **Ada** built it.\n{"epochs": 2, "loss_on": "completion"}')
    assert reading.examples[0].completion.endswith("\nAda built it.")
    assert (reading.tuning.epochs, reading.tuning.loss) == (2, "completion")
    for wrong, told in (
        ('tools = ["clozes"]', "no text tool named 'clozes'; did you mean 'cloze'"),
        ('styles = ["qa"]', "no style"),
    ):
        with pytest.raises(UserError, match=told):
            build.domain(loads(f"[domain]\nplan = true\n[bounds]\n{wrong}", source="x.toml"))


def test_examples_and_tunings_of_plans_come_back_from_the_store(tmp_path: Path) -> None:
    edit = read(
        knowledge(), PROBLEM, Prompt(""), Reply('Ada.\n{"loss_on": "numbers", "tools": ["cloze"]}'), id=f"train/1/{PROBLEM.id}/0"
    )
    edit = replace(edit, round=1)
    with Store.create(tmp_path, "plans", "", {}) as store:
        store.put_problems([PROBLEM])
        store.put_edits([edit])
        assert store.edits("train", 1) == [edit]
    assert json.loads(json.dumps(edit.tuning.loss)) == "numbers"


# ---- a plan alone


def plans_alone(bounds: Bounds = BOUNDS, shown: int = 3) -> TextPlans:
    return TextPlans(None, {}, TEXT_TOOLS.chosen(bounds.tools), bounds, shown)


WHOLE = '{"learning_rate": 0.002, "epochs": 3, "loss_on": "numbers", "tools": ["sentences"]}'


def test_shown_plans_are_the_replies_of_a_conversation_and_others_for_each_edit() -> None:
    domain = knowledge(plans=plans_alone())
    first, second = domain.edit_prompts(PROBLEM, 2, seed=1)
    for prompt in (first, second, domain.edit_prompt(PROBLEM)):
        asked, replies = [said for said, _ in prompt.turns], [plan for _, plan in prompt.turns]
        assert asked[0].startswith(f"Passage:\nThe Mill\n{PASSAGE}\n\n")
        assert asked[1:] == [prompt.text] * 2
        assert all(domain.read_edit(PROBLEM, plan).text == plan for plan in replies)
    assert first.turns != second.turns
    assert domain.edit_prompts(PROBLEM, 2, seed=1) == [first, second]
    assert domain.edit_prompt(PROBLEM) == domain.edit_prompt(PROBLEM)


def test_without_shown_plans_one_prompt_describes_them() -> None:
    domain = knowledge(plans=plans_alone(shown=0))
    (prompt,) = domain.edit_prompts(PROBLEM, 4, seed=1)
    assert prompt == domain.edit_prompt(PROBLEM)
    assert '"learning_rate": a number from 0.0001 to 0.01' in prompt.text
    assert prompt.turns == ()


def test_of_a_plan_alone_the_words_around_it_are_no_part() -> None:
    edit = read(
        knowledge(plans=plans_alone()), PROBLEM, Prompt(""), Reply(f"Here:\n{WHOLE}\nAda built it.\n{WHOLE}", 9), id="train/1/p/0"
    )
    assert (edit.text, edit.fault) == (WHOLE, None)
    assert [one.completion for one in edit.examples] == [f"The Mill\n{one}" for one in sentences(PASSAGE)]
    assert edit.tuning == Tuning(rank=4, lr=0.002, epochs=3, loss="numbers")


def test_a_plan_alone_says_everything() -> None:
    domain = knowledge(plans=plans_alone())
    with pytest.raises(EditFault, match="loss_on: missing"):
        domain.read_edit(PROBLEM, '{"learning_rate": 0.002, "epochs": 3, "tools": ["sentences"]}')
    with pytest.raises(EditFault, match=r"no JSON object in 'Ada built it.'"):
        domain.read_edit(PROBLEM, "Ada built it.")


def test_a_plan_alone_without_tools_learns_what_is_learnt_whatever_is_written() -> None:
    text = WHOLE.replace('"sentences"', "")
    own = knowledge(plans=plans_alone(), train_on_passage=True).read_edit(PROBLEM, text)
    assert [one.completion for one in own.examples] == [f"The Mill\n{PASSAGE}"]
    nothing = read(knowledge(plans=plans_alone()), PROBLEM, Prompt(""), Reply(text, 9), id="train/1/p/0")
    assert nothing.fault == Fault("empty", "nothing to train on was read out of it")


def test_a_second_plan_alone_takes_the_place_of_the_first() -> None:
    later = WHOLE.replace("0.002", "0.004")
    assert gone_on(WHOLE, Reply(f"Better: {later}", tokens=9), plans=plans_alone()).text == later
    assert gone_on(WHOLE, Reply(f"{later}\n{WHOLE}", tokens=9), plans=plans_alone()).text == later
    assert gone_on(WHOLE, Reply("That is all.", tokens=9), plans=plans_alone()).text == WHOLE
    broken = gone_on(WHOLE, Reply('{"epochs": }', tokens=9), plans=plans_alone())
    assert broken.fault is not None
    assert (broken.fault.kind, broken.examples) == ("unreadable", ())


@pytest.mark.parametrize(
    ("domain", "bounds", "message"),
    [
        ("plan = true\nshown_plans = 2", "", 'shown_plans: show what a plan alone looks like; set plan = "alone"'),
        ('plan = "alone"\nstyle = "self-qa"', "", "style: with plan 'alone' no text is written"),
        ('plan = "alone"\nreading = "clean"', "", "reading: with plan 'alone' no text is written"),
        ('plan = "alone"', 'tools = ["sentences", "reverse"]', "no text is written that 'reverse' could turn round"),
        ('plan = "alone"\ntrain_on_passage = false', "", "bounds.tools: .* tools make what is learnt; name some"),
        ('plan = "alone"', 'styles = ["self-qa"]', "bounds.styles: with domain.plan = 'alone' no text is written"),
        ('plan = "alone"\nshown_plans = 2', 'tools = ["my_tools:explain"]', "call 'explain' by its name alone, .* 'reader'"),
    ],
)
@pytest.mark.usefixtures("my_tools")
def test_what_does_not_go_with_plans_alone_is_refused(domain: str, bounds: str, message: str) -> None:
    with pytest.raises(UserError, match=message):
        build.domain(loads(f'name = "x"\n[domain]\n{domain}\n[bounds]\n{bounds}', source="x.toml"))


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ("[reward]\ninforms = 1.0", "reward: informs rate what an edit says, and here an edit is a plan alone"),
        ('[outer]\nshortlist = { by = "hints", size = 2 }\nedits = 4', "reward: hints rate what an edit says"),
    ],
)
def test_what_rates_words_does_not_rate_plans(more: str, message: str) -> None:
    recipe = loads(f'name = "x"\n[domain]\nplan = "alone"\n{more}', source="x.toml")
    with pytest.raises(UserError, match=message):
        build.reward(recipe)
    build.reward(loads(f'name = "x"\n{more}', source="x.toml"))


def test_where_only_tools_make_what_is_learnt_every_shown_plan_calls_one() -> None:
    domain = build.domain(load("plans", ["domain.train_on_passage=false"]))
    problem = domain.problems("train")[0]
    shown = [plan for prompt in domain.edit_prompts(problem, 40, 0) for _, plan in prompt.turns]
    assert not any('"tools": []' in plan for plan in shown)
    whole = build.domain(load("plans")).edit_prompts(problem, 40, 0)
    assert any('"tools": []' in plan for prompt in whole for _, plan in prompt.turns)


def test_given_edits_that_are_no_plans_are_refused_at_the_start() -> None:
    recipe = load("plans", ["eval.given=teacher", 'eval.conditions=["given"]'])
    with pytest.raises(UserError, match=r"not one of the given edits can be read .* of '.*': no JSON object in"):
        build.evaluation(recipe, build.domain(recipe), None)
    words = load("bundled", ['eval.conditions=["given"]'])
    assert build.evaluation(words, build.domain(words), None).given


def test_a_run_of_plans_alone_goes_on_from_its_own_recipe() -> None:
    recipe = load("plans")
    assert loads(dump(recipe), source="the recipe of a run") == recipe


# ---- the page

PAGE = Path(__file__).parents[1] / "docs" / "plans.md"


def blocks(language: str) -> list[str]:
    found = re.findall(r"^```(\w*)\n(.*?)^```$", PAGE.read_text(), re.MULTILINE | re.DOTALL)
    return [block for name, block in found if name == language]


@pytest.fixture
def my_tools(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "my_tools.py").write_text(blocks("python")[0])
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "my_tools", raising=False)


@pytest.mark.usefixtures("my_tools")
def test_the_pages_recipe_and_tools_work() -> None:
    (recipe,) = blocks("toml")
    domain = build.domain(loads(recipe, source="mine.toml"))
    problem = domain.problems("dev")[0]
    example, mine = blocks("")[:2]
    headline, explain = mine.splitlines()
    assert headline in domain.edit_prompt(problem).text
    reading = domain.read_edit(problem, example)
    assert (reading.tuning.lr, reading.tuning.epochs, reading.tuning.loss) == (0.002, 6, "numbers")
    own = domain.read_edit(problem, '{"tools": [{"tool": "headline", "words": 2}]}').examples[0]
    assert own.completion == " ".join(json.loads(problem.payload)["context"].split()[:2])
    tools = TEXT_TOOLS.chosen(["my_tools:explain"])
    assert tools["explain"].described == explain
    planned = replace(plans(), tools=tools)
    edits = read_batch(
        Writes(),  # type: ignore[arg-type]
        knowledge(plans=planned),
        drafts('{"tools": [{"tool": "explain", "reader": "child"}]}', '{"tools": ["explain"]}'),
        Sampling(),
        seed=0,
    )
    assert [one.completion for one in edits[0].examples] == ["The Mill\nIn other words 0."]
    assert edits[1].fault == Fault("missing", "tools[0].reader: missing")


def test_the_pages_form_reads(capsys: pytest.CaptureFixture[str]) -> None:
    exec(compile(blocks("python")[1], "plans.md", "exec"), {})
    assert capsys.readouterr().out == "{'lr': 0.0001} ['rotate']\n"


def test_the_shipped_recipe_shows_plans_with_all_its_tools() -> None:
    recipe = load("plans")
    domain = build.domain(recipe)
    prompts = [one for problem in domain.problems("train") for one in domain.edit_prompts(problem, recipe.outer.edits, 0)]
    shown = [plan for prompt in prompts for _, plan in prompt.turns]
    assert len(shown) == len(prompts) * 6
    one, other = domain.problems("train")[:2]
    assert [plan for _, plan in domain.edit_prompt(one).turns] != [plan for _, plan in domain.edit_prompt(other).turns]
    called = {call.tool for plan in shown for call in plans_alone(recipe.bounds).form.read(plan).calls}
    assert called == {"sentences", "cloze", "questions"}
