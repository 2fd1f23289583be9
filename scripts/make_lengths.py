"""Writes the lengths of the official round, in tokens and without a word of its text, for `seal bench`.

python scripts/make_lengths.py rank_iter0.json src/seal/data/bench/lengths.json
"""

from __future__ import annotations

import itertools
import json
import sys
from pathlib import Path

from seal.edits.official import sequences
from seal.edits.questions import question_prompt
from seal.models import LanguageModel, open_model


def main(results: Path, out: Path) -> None:
    """`results`: a released `rank_*.json`; every edit becomes the lengths of its training rows, every article its questions'."""
    language = open_model("smollm2-135m", chat=False)
    articles = json.loads(results.read_text())["articles"]
    edits = [[_length(language, text) for text in edit] for article in sequences(results) for edit in article]
    questions = [_questions(language, article) for article in articles]
    alike = [_alike(language, article) for article in articles]
    content = {"tokenizer": "smollm2-135m", "edits": edits, "questions": questions, "alike": alike}
    out.write_text(json.dumps(content, separators=(",", ":")) + "\n")


def _length(language: LanguageModel, text: str) -> int:
    return len(language.tokenizer(text)["input_ids"])


def _questions(language: LanguageModel, article: dict) -> list[list[int]]:
    """[tokens of the prompt, of the target, of the first edit's answer] of each question."""
    return [
        [_length(language, _prompt(one, article)), _length(language, one["answer"]), _length(language, one["adapter_answer"])]
        for one in _asked(article)
    ]


def _alike(language: LanguageModel, article: dict) -> int:
    """Tokens with which the prompts of all its questions begin alike."""
    prompts = [language.tokenizer(_prompt(one, article))["input_ids"] for one in _asked(article)]
    ranks = zip(*prompts, strict=False)
    return sum(1 for _ in itertools.takewhile(lambda tokens: len(set(tokens)) == 1, ranks))


def _asked(article: dict) -> list[dict]:
    return [one for one in article["completions"][0]["questions"] if one["rep"] == 0]


def _prompt(one: dict, article: dict) -> str:
    return question_prompt(one["question"], article["title"]).text


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
