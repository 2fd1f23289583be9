"""`seal ask` and `seal chat` on a tiny model with an adapter that changes what it says."""

from __future__ import annotations

import json
import os
import pty
import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tiny import CONTEXT

from seal.cli.talk import _about
from seal.edits.questions import question_prompt
from seal.engine import Engine
from seal.errors import UserError
from seal.loops.talk import Talk
from seal.models import About, open_model
from seal.models.adapter import read_about, write_about, write_trained
from seal.types import Example, Prompt, Sampling, Tuning

TAUGHT = "Marrowtide"
QUESTION = "What is it called?"


@pytest.fixture(scope="session")
def adapter(lively_path: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An adapter that answers one question."""
    engine = Engine(open_model(str(lively_path), device="cpu", dtype="float32"), slots=1, memory_gb=0.5)
    examples = [Example(TAUGHT, question_prompt(QUESTION), loss="completion")]
    engine.absorb(examples, Tuning(rank=8, alpha=16, lr=2e-2, epochs=60), seed=0)
    path = tmp_path_factory.mktemp("adapters") / "mine"
    engine.export(path)
    engine.close()
    return path


@pytest.fixture
def typed(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """What stands in standard input, line by line."""

    def type_in(*lines: str) -> None:
        import io

        monkeypatch.setattr(sys, "stdin", io.StringIO("".join(f"{line}\n" for line in lines)))

    return type_in


# ---- ask


def test_ask_puts_the_question_as_the_adapter_was_tested(adapter, seal):
    code, out, error = seal("ask", str(adapter), QUESTION)
    assert (code, out, error) == (0, f"{TAUGHT}\n", "")


def test_ask_as_json_with_and_without_the_adapter(adapter, seal, lively_path):
    code, out, _ = seal("ask", str(adapter), QUESTION, "--compare", "--json", "--max-tokens", "20")
    document = json.loads(out)
    assert code == 0
    assert (document["adapter"], document["model"], document["question"]) == (str(adapter), str(lively_path), QUESTION)
    answers = document["answers"]
    assert answers["adapter"]["text"] == TAUGHT
    assert answers["adapter"]["ended"] is True
    assert TAUGHT not in answers["base"]["text"]
    assert answers["base"]["tokens"] <= 20
    assert list(json.loads(seal("ask", str(adapter), QUESTION, "--json")[1])["answers"]) == ["adapter"]


def test_ask_compared_stands_side_by_side_and_what_is_cut_says_so(adapter, seal):
    _, out, error = seal("ask", str(adapter), QUESTION, "--compare", "--max-tokens", "10")
    assert re.search(r"with the adapter .* without", out)
    assert TAUGHT in out
    assert error == "... cut: --max-tokens\n"


def test_the_topic_and_plain_change_what_is_asked(adapter, seal, monkeypatch):
    asked: list[str] = []
    sample = Engine.sample

    def seen(self: Engine, prompts: Any, how: Any, *, seed: int) -> Any:
        asked.extend(prompt.text for prompt in prompts)
        return sample(self, prompts, how, seed=seed)

    monkeypatch.setattr(Engine, "sample", seen)
    for flags in (["--topic", "The Oar"], ["--plain"], ["--plain", "--topic", "The Oar"]):
        assert seal("ask", str(adapter), "Who?", "--max-tokens", "1", *flags)[0] == 0
    assert asked == [question_prompt("Who?", "The Oar").text, "Who?", "The Oar\nWho?"]


def test_a_temperature_draws_by_the_seed(adapter, seal):
    said = [seal("ask", str(adapter), "Who?", "--temperature", "1.5", "--seed", seed)[1] for seed in ("1", "1", "2")]
    assert said[0] == said[1] != said[2]


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda path: None, "mine: no such directory; an adapter is one"),
        (lambda path: path.mkdir(), "no PEFT adapter there (no adapter_config.json)"),
        (lambda path: config(path, "{"), "adapter_config.json: not JSON (line 1, column 2"),
        (lambda path: config(path, "[]"), "adapter_config.json: must be a JSON object"),
        (lambda path: config(path, "{}"), "does not say which model it is for"),
        (
            lambda path: config(path, '{"base_model_name_or_path": "/no/model"}'),
            "is for '/no/model', which cannot be opened: no model",
        ),
        (lambda path: about(path, reading="kn0wledge"), "no reading named 'kn0wledge'; did you mean 'knowledge'?"),
        (lambda path: about(path, chat="yes"), "'chat' must be true, false or null"),
    ],
)
def test_what_is_no_adapter_is_refused_in_one_line(tmp_path, seal, make, says):
    make(tmp_path / "mine")
    for verb in (["ask", str(tmp_path / "mine"), "Who?"], ["chat", str(tmp_path / "mine")]):
        code, out, error = seal(*verb)
        assert (code, out) == (2, "")
        assert says in error
        assert error.count("\n") == 1


def config(path: Path, text: str) -> None:
    path.mkdir()
    (path / "adapter_config.json").write_text(text)


def about(path: Path, **said: Any) -> None:
    config(path, "{}")
    (path / "seal.json").write_text(json.dumps({"base": "x", **said}))


def test_an_adapter_of_another_model_is_refused_before_anything_is_typed(adapter, seal, tmp_path, tiny_path):
    from tiny import make_tiny

    other = make_tiny(tmp_path / "other", hidden=64)
    code, _, error = seal("chat", str(adapter), "--base", str(other))
    assert (code, error.count("\n")) == (2, 1)
    assert "another model" in error


def test_a_question_longer_than_the_model_is_refused(adapter, seal):
    code, _, error = seal("ask", str(adapter), "long " * 200)
    assert code == 2
    assert f"the model holds {CONTEXT}; ask a shorter question" in error
    assert seal("ask", str(adapter), " ")[0] == 2


# ---- what an adapter says of itself


def test_what_is_written_is_read_and_what_is_left_out_is_the_default(tmp_path):
    config(tmp_path / "a", '{"base_model_name_or_path": "org/model"}')
    assert read_about(tmp_path / "a") == About("org/model")
    whole = About("smollm2-135m", chat=False, reading="plain", created="2026-11-25T07:00:00+00:00", trained=("a", "b"))
    write_about(tmp_path / "a", whole)
    assert read_about(tmp_path / "a") == whole
    assert set(json.loads((tmp_path / "a" / "seal.json").read_text())) == {"base", "chat", "reading", "created", "trained"}
    assert read_about(tmp_path / "a", "mine").base == "mine"


def test_a_model_in_another_machines_cache_is_found_by_its_name(tmp_path):
    config(tmp_path / "a", '{"base_model_name_or_path": "/elsewhere/.cache/seal/models/smollm2-135m"}')
    assert read_about(tmp_path / "a").base == "smollm2-135m"


def test_an_adapter_in_a_run_is_asked_as_its_recipe_opens_the_model(adapter, seal, tmp_path, lively_path, monkeypatch):
    import shutil

    from seal.store import Store

    recipe = f'[model]\nname = "{lively_path}"\nchat = false\n[domain]\nkind = "knowledge"\n'
    with Store.create(tmp_path, "r", recipe, {}) as store:
        place = store.policy_dir(1)
    shutil.copytree(adapter, place)
    (place / "adapter_config.json").write_text((place / "adapter_config.json").read_text().replace(str(lively_path), "/moved"))
    for _ in range(2):
        code, out, _ = seal("ask", str(place), QUESTION, "--json")
        assert (code, json.loads(out)["model"]) == (0, str(lively_path))
        write_trained(place, ["a"])  # names no model, so that the recipe still counts
    # as a base model it does not know the template that the adapter was taught with
    assert json.loads(out)["answers"]["adapter"]["text"] != TAUGHT
    opened: list[dict[str, Any]] = []
    monkeypatch.setattr("seal.models.open_model", lambda name, **how: opened.append(how) or open_model(name, **how))
    theirs = 'trust_remote_code = true\ndtype = "float64"\ndevice = "cuda:7"\nchat ='
    (store.path / "recipe.toml").write_text(recipe.replace("chat =", theirs))
    assert seal("ask", str(place), QUESTION)[0] == 0
    assert [opened[0][key] for key in ("trust_remote_code", "dtype", "device")] == [True, "float64", "auto"]
    (tmp_path / "other").symlink_to(lively_path)
    assert seal("ask", str(place), QUESTION, "--base", str(tmp_path / "other"))[0] == 0
    assert opened[1]["trust_remote_code"] is False
    # what another version says of anything else changes nothing, what it says of the model is not passed over
    (store.path / "recipe.toml").write_text(f"{recipe}[outer]\nkept_only = true\n")
    again = json.loads(seal("ask", str(place), QUESTION, "--json")[1])
    assert again["answers"]["adapter"]["text"] == json.loads(out)["answers"]["adapter"]["text"]
    (store.path / "recipe.toml").write_text(recipe.replace("chat =", "bits = 4\nchat ="))
    code, _, error = seal("ask", str(place), QUESTION)
    assert (code, "another version of seal" in error, "does not know model.bits" in error) == (2, True, True)
    (store.path / "recipe.toml").write_text("")  # of a run that was made in Python
    assert seal("ask", str(place), QUESTION, "--base", str(lively_path))[1] == f"{TAUGHT}\n"


def test_an_adapter_of_a_streams_step_is_asked_as_its_run_opens_the_model(adapter, tmp_path, lively_path):
    import shutil

    from seal.store import Store

    recipe = f'[model]\nname = "{lively_path}"\nchat = false\n[domain]\nkind = "knowledge"\n'
    with Store.create(tmp_path, "r", recipe, {}) as store:
        place = store.path / "adapters" / "merge" / "stream-0" / "step-1" / "adapter"
    shutil.copytree(adapter, place)
    said, model = _about(place, None)
    assert (said.base, said.chat, model.name, model.chat) == (str(lively_path), False, str(lively_path), False)


# ---- chat


def test_chat_answers_line_by_line_remembers_and_forgets(adapter, seal, typed, monkeypatch):
    heard: list[Prompt] = []
    sample = Engine.sample

    def seen(self: Engine, prompts: Any, how: Any, *, seed: int) -> Any:
        heard.extend(prompts)
        return sample(self, prompts, how, seed=seed)

    monkeypatch.setattr(Engine, "sample", seen)
    typed(QUESTION, "", "And then?", "/rset", "/reset", QUESTION, "/exit", "never heard")
    code, out, _ = seal("chat", str(adapter), "--max-tokens", "16")
    assert code == 0
    assert [len(prompt.turns) for prompt in heard] == [0, 1, 0]
    assert heard[1].turns == ((question_prompt(QUESTION).text, TAUGHT),)
    assert "no command '/rset'; there are /exit and /reset" in out
    assert out.count(TAUGHT) >= 2
    assert "never heard" not in out


def test_chat_compared_each_side_remembers_its_own(adapter, seal, typed):
    typed(QUESTION, QUESTION)  # then the input ends
    code, out, _ = seal("chat", str(adapter), "--compare", "--max-tokens", "16")
    assert code == 0
    assert len(re.findall(r"with the adapter .* without", out)) == 2


def test_a_long_conversation_forgets_its_beginning_and_says_so(tiny):
    engine = Engine(tiny, slots=1, memory_gb=0.5)
    talk = Talk(engine, tiny.context, {"base": None}, Sampling(temperature=0.0, max_tokens=40), "plain")
    forgotten = [talk.say(f"{turn} " + "word " * 20)["base"].forgotten for turn in range(5)]
    assert forgotten[0] == 0
    assert sum(forgotten) > 0
    with pytest.raises(UserError, match="ask a shorter question"):
        talk.say("word " * 200)
    assert talk.say("and now " + "word " * 20)["base"].forgotten == 1  # the refused line cost no turn
    engine.close()


def test_an_interrupted_chat_ends_as_every_verb_does(adapter, seal, monkeypatch):
    def interrupted(prompt: str) -> str:
        raise KeyboardInterrupt

    monkeypatch.setattr("builtins.input", interrupted)
    assert seal("chat", str(adapter))[0] == 130


def test_chat_on_a_terminal_ends_with_ctrl_d(adapter, seal, monkeypatch):
    main, side = pty.openpty()
    os.write(main, f"{QUESTION}\n\x04".encode())
    with os.fdopen(side) as terminal:
        monkeypatch.setattr(sys, "stdin", terminal)
        code, out, _ = seal("chat", str(adapter), "--max-tokens", "16")
    os.close(main)
    assert code == 0
    assert out.startswith("/exit ends it, as Ctrl-D does; /reset forgets what was said\n> ")
    assert TAUGHT in out
    assert out.endswith("> \n")


# ---- turns in a prompt


def test_earlier_turns_come_before_what_is_said_now(tiny, tmp_path):
    from tiny import make_tiny

    prompt = Prompt("C", system="S", turns=(("A", "B"),))
    text = tiny.tokenizer.decode(tiny.encode_prompt(prompt))
    assert re.findall(r"<\|im_start\|>(\w+)\n(\w*)", text) == [
        ("system", "S"),
        ("user", "A"),
        ("assistant", "B"),
        ("user", "C"),
        ("assistant", ""),
    ]
    base = open_model(str(make_tiny(tmp_path / "base", chat=False)), device="cpu")
    assert base.decode(base.encode_prompt(prompt)) == "AB\n\nC"
