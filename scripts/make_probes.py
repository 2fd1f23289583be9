"""Makes src/seal/data/probes.json: of hand-written general questions, 100 that the embedded model answers right, and held texts.

    python scripts/make_probes.py CANDIDATES.json src/seal/data/probes.json

CANDIDATES.json: {"questions": [{"question", "answer"}, ...], "texts": ["...", ...]}. Questions answered right are drawn with a
fixed seed; a text gets the sum of its tokens' log-probabilities as the model gives it as a reply to an empty prompt.
"""

from __future__ import annotations

import json
import sys
import tempfile
from pathlib import Path
from random import Random

from seal.domains.probes import ask_probes, probes
from seal.engine import Engine
from seal.grading.graders import grader
from seal.models import EMBEDDED, open_model
from seal.types import Job

WANTED = 100


def main(source: Path, target: Path) -> None:
    content = json.loads(source.read_text(encoding="utf-8"))
    texts = [{"text": text, "logprob": 0.0} for text in content["texts"]]
    with tempfile.NamedTemporaryFile("w", suffix=".json") as file:
        json.dump({"questions": content["questions"], "texts": texts}, file)
        file.flush()
        problem = probes(Path(file.name))
    (finished,) = Engine(open_model(EMBEDDED)).run([Job("probes", (), tuple(ask_probes(problem)))])
    grade = grader("recall")
    replies = {reply.query_id: reply for reply in finished.replies}
    right = [q for q in problem.queries if grade(q.question, q.answer, replies[q.id].text).score == 1.0]
    print(f"{len(right)} of {len(problem.queries)} answered right")
    if len(right) < WANTED:
        sys.exit(f"{WANTED} are wanted")
    chosen = sorted(Random(0).sample(right, WANTED), key=problem.queries.index)
    for number, text in enumerate(texts):
        text["logprob"] = round(replies[f"probes/t{number}"].target_logprob or 0.0, 4)
    made = {"questions": [{"question": q.question, "answer": q.answer} for q in chosen], "texts": texts}
    target.write_text(json.dumps(made, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
