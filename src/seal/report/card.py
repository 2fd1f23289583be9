"""The document of `adapted` for people: tables on a terminal, the model card beside the adapter, how to load it."""

from __future__ import annotations

import json
import shlex
import tomllib
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import tomli_w
from rich.console import Group
from rich.table import Table
from rich.text import Text

from seal.domains.documents.folder import UNSUPPORTED
from seal.domains.documents.readers import READERS
from seal.edits.questions import question_prompt
from seal.loops.adapt import goes_by
from seal.report import render
from seal.report.render import ABSENT, as_range, too_few
from seal.report.tables import Row

NAMES = {**render.NAMES, "retrieval": "retrieval (BM25, top 3 in the prompt)", "whole": "whole passage in the prompt"}
"""Of the conditions, where there is room to say more."""
VLLM_RANKS = (1, 8, 16, 32, 64, 128, 256, 320, 512)
"""What vLLM's --max-lora-rank may be."""


@dataclass(frozen=True, slots=True)
class Loading:
    """What is needed to load the result elsewhere."""

    adapter: Path
    base: str
    """A hub id or a path."""
    chat: bool
    rank: int
    merged: Path | None = None
    """The whole model, if it was saved; then it is what is loaded."""

    @property
    def by_itself(self) -> Loading:
        """The adapter, whether or not the whole model is there too."""
        return replace(self, merged=None)

    @property
    def here(self) -> Loading:
        """By whole paths, for what is shown and holds in any folder of this machine. A card keeps those that were typed: it goes
        to other machines."""
        return replace(self, adapter=self.adapter.resolve(), merged=self.merged and self.merged.resolve())


def uses(how: Loading) -> list[tuple[str, str, str]]:
    """Every way to load it elsewhere: with what, the language of the code, the code."""
    found = [("With transformers and PEFT", "python", transformers_snippet(how.by_itself))]
    commands = [vllm_command(how.by_itself)] if not how.merged or _vllm_rank(how) else []
    if how.merged:
        found.append((f"The whole model, which is in {how.merged}, with transformers alone", "python", transformers_snippet(how)))
        commands.append(vllm_command(how))
    return [*found, ("With vLLM", "", "\n".join(commands))]


def transformers_snippet(how: Loading, question: str = "...", title: str = "") -> str:
    """Python that loads the adapter (or the whole model) and asks it as it was tested."""
    base, option = str(how.merged or how.base), ""
    if not how.merged and base.endswith(".gguf"):
        base, option = str(Path(base).parent), f", gguf_file={Path(base).name!r}"
    model = f"AutoModelForCausalLM.from_pretrained(base{option})"
    lines = ["from transformers import AutoModelForCausalLM, AutoTokenizer", "", f"base = {base!r}"]
    if how.merged:
        lines += [f"model = {model}"]
    else:
        lines = ["from peft import PeftModel", *lines, f"model = PeftModel.from_pretrained({model}, {str(how.adapter)!r})"]
    lines += [
        f"tokenizer = AutoTokenizer.from_pretrained(base{option})",
        f"prompt = {question_prompt(question, title).text!r}",
    ]
    if how.chat:
        # without thinking, as every prompt here is rendered; templates that know no thinking pass it over
        options = "add_generation_prompt=True, enable_thinking=False, return_dict=True, return_tensors='pt'"
        lines += [
            "messages = [{'role': 'user', 'content': prompt}]",
            f"given = tokenizer.apply_chat_template(messages, {options})",
        ]
    else:
        lines += ["given = tokenizer(prompt, return_tensors='pt')"]
    lines += [
        "reply = model.generate(**given, max_new_tokens=64, do_sample=False)[0, given['input_ids'].shape[1] :]",
        "print(tokenizer.decode(reply, skip_special_tokens=True))",
    ]
    return "\n".join(lines)


def vllm_command(how: Loading) -> str:
    """The command that serves it."""
    if how.merged:
        return f"vllm serve {shlex.quote(str(how.merged))}"
    rank = _vllm_rank(how)
    if rank is None:
        return f"vllm serve {shlex.quote(str(how.adapter / 'model'))}   # after `seal adapt ... --merge`"
    lora = shlex.quote(f"{how.adapter.resolve().name}={how.adapter}")
    return f"vllm serve {shlex.quote(how.base)} --enable-lora --lora-modules {lora} --max-lora-rank {rank}"


def _vllm_rank(how: Loading) -> int | None:
    """What --max-lora-rank has to be; None: vLLM takes no adapter of that rank, or of such a base model."""
    return None if how.base.endswith(".gguf") else next((one for one in VLLM_RANKS if one >= how.rank), None)


# ---- on a terminal


def passages(rows: Sequence[Row], unread: Sequence[Row]) -> Group:
    """What was read and how it was cut; what could not be read, with its reason."""
    table = Table(title="Passages", title_justify="left")
    for name in ("document", "passage"):
        table.add_column(name)
    table.add_column("tokens", justify="right")
    table.add_column("begins")
    for row in rows:
        table.add_row(Text(row["source"]), Text(row["title"]), str(row["tokens"]), Text(row["begins"]))
    return Group(table, *(Text(f"not read: {one['path']}: {one['reason']}") for one in grouped(unread)))


def grouped(unread: Sequence[Row]) -> list[Row]:
    """What could not be read; of files of one unsupported kind only the first, and how many more. What is read is said once."""
    alike = Counter(one["reason"] for one in unread if one["reason"].startswith(UNSUPPORTED))
    rows, kinds = [], f"; read are {' '.join(READERS)}"
    for one in unread:
        if one["reason"] not in alike:
            rows.append(one)
        elif count := alike[one["reason"]]:
            more = f", and {count - 1} more like it" if count > 1 else ""
            rows.append({**one, "reason": f"{one['reason']}{more}{kinds}"})
            alike[one["reason"]], kinds = 0, ""
    return rows


def outcome(document: Row) -> Group:
    """What was refused, the table, and how to take it."""
    table = Table(title=_title(document), title_justify="left")
    table.add_column("condition")
    for name in ("score", "F1", "minus plain", "F1 minus plain", "tokens a question", "s a question"):
        table.add_column(name, justify="right")
    for row in document["table"]:
        table.add_row(
            NAMES[row["condition"]],
            as_range(row),
            as_range(row["f1"]),
            as_range(row["minus_plain"], "+.3f"),
            as_range(row["f1_minus_plain"], "+.3f"),
            f"{row['tokens']:.0f}",
            f"{row['seconds']:.2f}",
        )
    return Group(*(Text(line) for line in _refusals(document)), table, *(Text(line) for line in notes(document)))


def _title(document: Row) -> str:
    count = document["questions"]
    chose = f"{'the one' if count == 1 else 'those'} the edits were chosen by, so too good to be believed"
    which = "held out from choosing edits" if document["held_out"] else chose
    return f"{count} question{'s' if count != 1 else ''}, {which}; means over passages, 95% intervals over documents"


def _refusals(document: Row) -> list[str]:
    lines = [f"not read: {one['path']}: {one['reason']}" for one in grouped(document["unread"])]
    lines += [f"not absorbed: {one['title']}: {one['verdict']}" for one in document["passages"] if not one["accepted"]]
    return lines


def notes(document: Row) -> list[str]:
    """What has to be said beside the table, a line each."""
    edits, probes, bound = document["edits"], document["probes"], document["bound"]
    absorbed, refused = sum(one["accepted"] for one in document["passages"]), sum(edit["refused"] is not None for edit in edits)
    own = sum(edit["kept"] and edit["source"] == "sentences" for edit in edits)
    by = f", {own} of them by their own sentences" if own else ""
    count = f"{absorbed} of {len(document['passages'])} passages absorbed{by}"
    lines = [f"{count}: of {len(edits)} edits tried {refused} were refused."]
    if any(one["choosing"] and not one["questions"] for one in document["passages"]):
        lines.append(
            "Where a file brings no questions they are the model's own, kept because it answers them with the passage and not"
            " without: there the plain model's 0 and the whole passage's 1 say nothing."
        )
    if probes["known"]:
        still = f"Of {probes['known']} probes that the plain model answers right, the adapter still does {probes['kept']}"
        lines.append(f"{still}; {bound:.0%} must be left.")
    weight, whole, taken = (document["finished"][name] for name in ("weight", "whole", "taken"))
    if taken["gain"] is not None:
        more = f"the adapter's score minus the plain model's is {taken['gain']:+.3f}"
        lines.append(f"On the questions that chose the edits, {more}.")
    if document["made"]["lessons"]:
        lines.append(
            "It was taught to answer questions about the passages, those that chose among them: none that was held out, and none"
            " with the same answer as one. A sentence that it was taught may hold that answer all the same, as the passage does."
        )
    policy = document["made"]["policy"]
    if policy and document["made"]["learner"] == "policy":
        lines.append(f"The policy {policy} is part of the adapter, with all that it learnt before, be it asked here or not.")
    if weight < 1:
        left = f"at its full weight {_share(whole['retained'])} of the probes were left"
        lines.append(f"The adapter is taken at {weight:g} of its weight: {left}.")
    return lines + _comparison({row["condition"]: row for row in document["table"]})


def _comparison(rows: Row) -> list[str]:
    """What the table says to somebody who wants to know whether to use the adapter."""
    gained, lines = rows["adapter"]["minus_plain"], too_few(min(row["clusters"] for row in rows.values()), "document")
    if lines or gained["low"] is None or gained["low"] <= 0:
        lines.append("That the adapter knows more than the plain model is not shown: its difference may be 0.")
    means = [rows[name]["mean"] for name in ("retrieval", "adapter")]
    if None not in means and means[0] > means[1]:
        lines.append(
            "Retrieval answers more of these questions than the adapter: where the longer prompt can be afforded, take it."
        )
    return lines


# ---- the model card


def card(document: Row, how: Loading) -> str:
    """README.md of the adapter's directory."""
    parts = [
        _head(how, "peft", "lora, seal"),
        f"# {how.adapter.resolve().name}",
        _about(document, how),
        "## Use",
        f'With SEAL: `seal ask {how.adapter} "..." --compare`.',
        *(_code(*one) for one in uses(how)),
        *_before_and_after(document),
        "## Documents",
        "\n".join(
            f"- `{one['path']}`, passages: {len(one['passages'])}, sha256 `{one['sha256']}`" for one in document["documents"]
        ),
        _unread(document),
        "## Refused",
        _refused(document),
        "## Settings",
        f"```toml\n{_settings(document['recipe'])}```",
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def model_card(document: Row, how: Loading) -> str:
    """README.md of the whole model's directory: what it is, and what it knows; the rest is on the adapter's card."""
    name = how.adapter.resolve().name
    parts = [
        _head(how, "transformers", "seal"),
        f"# {name}, the whole model",
        f"`{how.base}` with the adapter `{name}` in its weights. Of the adapter: {_about(document, how)}",
        "Its documents, what of them was refused, and its settings are on the adapter's card, `README.md` in the folder above.",
        "## Use",
        _code("With transformers", "python", transformers_snippet(how)),
        _code("With vLLM", "", vllm_command(how)),
        *_before_and_after(document),
    ]
    return "\n\n".join(parts) + "\n"


def _head(how: Loading, library: str, tags: str) -> str:
    lines = [
        f"base_model: {json.dumps(how.base)}",
        f"library_name: {library}",
        "pipeline_tag: text-generation",
        f"tags: [{tags}]",
    ]
    return "\n".join(["---", *lines, "---"])


def _code(what: str, language: str, code: str) -> str:
    return f"{what}:\n\n```{language}\n{code}\n```"


def _before_and_after(document: Row) -> list[str]:
    said = "\n".join(f"- {line}" for line in notes(document))
    return ["## Before and after", _title(document) + ".", _markdown_table(document["table"]), said]


_TABLES = ("name", "seed", "model", "domain", "edit", "tuning", "bounds", "outer", "questions", "reward", "adapt")


def _settings(recipe: str) -> str:
    """What an adaptation goes by in a recipe."""
    whole = tomllib.loads(recipe)
    return tomli_w.dumps({name: _gone_by(name, whole[name]) for name in _TABLES})


def _gone_by(name: str, value: Any) -> Any:
    return {key: one for key, one in value.items() if goes_by(f"{name}.{key}")} if isinstance(value, dict) else value


def _about(document: Row, how: Loading) -> str:
    weights, made = document["trained_on"], document["made"]
    chosen, writer = made["shortlist"], f"The policy `{made['policy']}`" if made["policy"] else "The model"
    tried = f"the {chosen['size']} that `{chosen['by']}` rates highest were tried" if chosen else "every one was tried"
    if made["sentences"]:
        tried += ", and beside them the passage's own sentences"
    learnt = ["on the best accepted one of each passage"]
    if made["lessons"]:
        learnt.append("on sentences of the passages as answers to questions about them")
    if made["rehearsal"]:
        learnt.append("on the model's own replies about other things, so that those are not forgotten")
    return (
        f"A LoRA adapter for `{how.base}` that absorbed the documents below by SEAL (`seal adapt`), {document['created']}."
        f" {writer} wrote training data about each passage (self-edits: {made['edits']}), of which {tried}."
        f" The adapter was trained {', '.join(learnt)}."
        + (f" It was trained on the weights of {weights}, which differ a little from the base's." if weights else "")
    )


def _markdown_table(rows: Sequence[Row]) -> str:
    lines = [
        "| condition | score | F1 | minus plain | tokens a question | seconds a question |",
        "|---|---|---|---|---|---|",
    ]
    for row in rows:
        ranges = [as_range(row[key], form) for key, form in (("f1", ".3f"), ("minus_plain", "+.3f"))]
        cells = [NAMES[row["condition"]], as_range(row), *ranges, f"{row['tokens']:.0f}", f"{row['seconds']:.2f}"]
        lines.append(f"| {' | '.join(cells)} |".replace("\\[", "["))
    return "\n".join(lines)


def _unread(document: Row) -> str:
    lines = [f"- `{one['path']}`: {one['reason']}" for one in grouped(document["unread"])]
    return "Not read:\n\n" + "\n".join(lines) if lines else ""


def _refused(document: Row) -> str:
    titles = {one["id"]: one["title"] for one in document["passages"]}
    lines = [f"- {one['title']}: {one['verdict']}" for one in document["passages"] if not one["accepted"]]
    whole = f"Passages not absorbed:\n\n{chr(10).join(lines)}" if lines else "Every passage was absorbed."
    refused = [edit for edit in document["edits"] if edit["refused"]]
    rows = [
        f"| {_in_cell(titles[edit['passage']])} | {_signed(edit['gain'])} | {_signed(edit['logprob'])} |"
        f" {_share(edit['retained'])} | {_in_cell(edit['refused'])} |"
        for edit in refused
    ]
    table = ["| passage | score gained | nats a question | probes kept | why |", "|---|---|---|---|---|", *rows]
    return whole + (f"\n\n{len(refused)} of {len(document['edits'])} edits:\n\n" + "\n".join(table) if refused else "")


def _in_cell(text: str) -> str:
    return text.replace("|", "\\|")


def _signed(value: float | None) -> str:
    return ABSENT if value is None else f"{value:+.3f}"


def _share(value: float | None) -> str:
    return ABSENT if value is None else f"{value:.0%}"
