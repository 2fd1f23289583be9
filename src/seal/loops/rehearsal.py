"""What the model says about other things, in the words the documents are asked in: learnt beside them, so that it stays known.

Self-synthesised rehearsal (arXiv 2403.01244): the model as it is writes questions about everyday subjects and answers them.
"""

from __future__ import annotations

from seal import text
from seal.domains.knowledge import question_prompt
from seal.domains.self_questions import SAME
from seal.loops.stages import Notify, nobody
from seal.protocols import Engine
from seal.seeds import derive
from seal.store import Store
from seal.strategies.rehearsal import SUBJECTS
from seal.types import Example, Problem, Prompt, Sampling

STATE = "adapt.rehearsal"
"""Where the questions with their replies are in the store."""
OPENINGS = ("What", "Which", "Who", "In which")
TOKENS = 64


def rehearsal(
    engine: Engine, store: Store, most: int, probes: Problem, *, seed: int, notify: Notify = nobody
) -> tuple[Example, ...]:
    """At most `most` questions with the plain model's own replies, as training rows; written once, then taken from the store.

    No question that is one of the probes, which are to measure what was not rehearsed; no reply that did not come to an end.
    """
    known = store.get_state(STATE)
    if known is None and most:
        notify("rehearsal", 0, 1)
        engine.load(None)
        known = _written(engine, most, probes, derive(seed, STATE))
        store.set_state(STATE, known)
        notify("rehearsal", 1, 1)
    return tuple(Example(reply, question_prompt(question), "completion") for question, reply in known or ())


def _written(engine: Engine, most: int, probes: Problem, seed: int) -> list[tuple[str, str]]:
    prompts = [Prompt(f"Write a short question about {subject}.\n", prefill=one) for one in OPENINGS for subject in SUBJECTS][
        :most
    ]
    drawn = engine.sample(prompts, Sampling(1, 0.7, 0.95, 24), seed=seed)
    questions = []
    for prompt, (reply,) in zip(prompts, drawn, strict=True):
        question, mark, _ = reply.text.split("\n")[0].partition("?")
        if mark:
            questions.append(" ".join(f"{prompt.prefill}{question}?".split()))
    unlike = [
        one for one in dict.fromkeys(questions) if not any(text.f1(one, query.question) >= SAME for query in probes.queries)
    ]
    if not unlike:
        return []
    said = engine.sample([question_prompt(one) for one in unlike], Sampling(1, temperature=0.0, max_tokens=TOKENS), seed=seed)
    return [(one, reply.text.strip()) for one, (reply,) in zip(unlike, said, strict=True) if reply.ended and reply.text.strip()]
