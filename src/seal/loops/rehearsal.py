"""What the model says about other things, in the words the documents are asked in: learnt beside them, so that it stays known.

Self-synthesised rehearsal (arXiv 2403.01244): the model as it is writes questions of general knowledge and answers them. What it
is surest of comes first: asked vaguely it evades ("that is not a place, but rather ..."), and learnt, that is how it answers.
"""

from __future__ import annotations

from seal import text
from seal.domains.knowledge import question_prompt
from seal.domains.self_questions import SAME
from seal.loops.stages import Notify, nobody
from seal.protocols import Engine
from seal.seeds import derive
from seal.store import Store
from seal.types import Ask, Example, Job, Problem, Prompt, Reply, Sampling

STATE = "adapt.rehearsal"
"""Where the questions with their replies are in the store."""
SUBJECTS = (
    *(
        "Europe",
        "Africa",
        "the oceans",
        "mountains",
        "the stars",
        "metals",
        "gases",
        "plants",
        "birds",
        "farm animals",
        "insects",
    ),
    *(
        "the body",
        "medicine",
        "food",
        "clothes",
        "colours",
        "shapes",
        "numbers",
        "the calendar",
        "money",
        "famous painters",
        "wars",
    ),
    *(
        "famous writers",
        "famous scientists",
        "kings and queens",
        "inventions",
        "sports",
        "music",
        "languages",
        "ships",
        "the law",
    ),
    "school",
)
EACH = 2
"""Questions drawn about each subject."""
TOKENS = 64
_SHOWN = """Write a short question with a short answer that everybody knows.

Subject: cars
Question: How many wheels does a car have?

Subject: rain
Question: What do people hold over their heads in the rain?

Subject: {subject}"""


def rehearsal(
    engine: Engine, store: Store, most: int, probes: Problem, *, seed: int, notify: Notify = nobody
) -> tuple[Example, ...]:
    """At most `most` questions with the plain model's own replies, as training rows; written once, then taken from the store.

    No question that is one of the probes, which are to measure what was not rehearsed; no reply that did not come to an end, or
    that says what another does.
    """
    known = store.get_state(STATE)
    if known is None and most:
        notify("rehearsal", 0, 1)
        engine.load(None)
        known = _written(engine, probes, derive(seed, STATE))[:most]
        store.set_state(STATE, known)
        notify("rehearsal", 1, 1)
    return tuple(Example(reply, question_prompt(question), "completion") for question, reply in known or ())


def _written(engine: Engine, probes: Problem, seed: int) -> list[tuple[str, str]]:
    """Questions with their replies, the surest first."""
    prompts = [Prompt(_SHOWN.format(subject=subject), prefill="Question:") for subject in SUBJECTS]
    drawn = engine.sample(prompts, Sampling(EACH, 0.7, 0.95, 24), seed=seed)
    begun = [reply.text.split("\n")[0].partition("?") for replies in drawn for reply in replies]
    questions = [" ".join(f"{question}?".split()) for question, mark, _ in begun if mark]
    asked: list[str] = []
    for question in questions:
        if not any(text.f1(question, other) >= SAME for other in [*asked, *(query.question for query in probes.queries)]):
            asked.append(question)
    asks = tuple(Ask(str(at), question_prompt(one), None, TOKENS, logprob=True) for at, one in enumerate(asked))
    found = next(iter(engine.run([Job(STATE, (), asks)]))).replies if asks else ()
    said: list[tuple[str, str]] = []
    for reply in sorted(found, key=_surely, reverse=True):
        plain = reply.text.strip()
        if reply.ended and plain and not any(text.f1(plain, other) >= SAME for _, other in said):
            said.append((asked[int(reply.query_id)], plain))
    return said


def _surely(reply: Reply) -> float:
    """The reply's own log-probability, nats a token."""
    return (reply.logprob or 0.0) / max(1, reply.tokens)
