"""What the model says about other things, in the words the documents are asked in: learnt beside them, so that it stays known.

Self-synthesised rehearsal (arXiv 2403.01244): the replies are those of the model as it is. The questions are written here: a
small model's own are vague, it evades them ("that is not a place, but rather ..."), and learns to evade.
"""

from __future__ import annotations

from seal.edits.questions import question_prompt
from seal.protocols import Engine, Notify, nobody
from seal.seeds import derive
from seal.store import Store, keys
from seal.types import Example, Sampling

QUESTIONS = (
    *("What is a volcano?", "Who was Cleopatra?", "What is cheese made from?", "How do birds fly?", "What is Brazil known for?"),
    *("What is a violin?", "Why do leaves fall in autumn?", "Who was Mozart?", "What is 7 + 8?", "What does a carpenter do?"),
    *("What is the Great Wall of China?", "What is electricity?", "What do bees make?", "Where is the Amazon?"),
    *("What is a hospital?", "Who was Napoleon?", "What is gravity?", "What does a spider eat?", "What is Berlin?"),
    *("How many legs does a horse have?", "What is a desert?", "Who was William Shakespeare?", "What is coal used for?"),
    *("What is a democracy?", "Where do penguins live?", "What is a triangle?", "What is snow?", "Who was Charles Darwin?"),
    *("What is the Pacific?", "What is a passport for?", "When do people eat breakfast?", "What is chocolate made from?"),
    *("What is a dictionary?", "Who was Julius Caesar?", "What is Tokyo?", "What do teachers do?", "What is a guitar?"),
    *("How do plants grow?", "What is half of 12?", "What is silk?", "Who was Marie Curie?", "What is the Sun made of?"),
    *("What is an island?", "What is tea?", "What do firefighters do?", "Where is Kenya?", "What is a whale?", "What is glass?"),
)
"""None is a probe, nor of the form of many probes: those are to measure what was not rehearsed."""
TOKENS = 64


def rehearsal(engine: Engine, store: Store, most: int, *, seed: int, notify: Notify = nobody) -> tuple[Example, ...]:
    """The first `most` questions with the plain model's own replies, as training rows; said once, then taken from the store.

    A reply that did not come to an end is left out.
    """
    known = store.get_state(keys.ADAPT_REHEARSAL)
    if known is None and most:
        notify("rehearsal", 0, 1)
        engine.load(None)
        prompts = [question_prompt(one) for one in QUESTIONS[:most]]
        said = engine.sample(prompts, Sampling(1, temperature=0.0, max_tokens=TOKENS), seed=derive(seed, "adapt.rehearsal"))
        replies = zip(QUESTIONS, (one for (one,) in said), strict=False)
        known = [(question, one.text.strip()) for question, one in replies if one.ended and one.text.strip()]
        store.set_state(keys.ADAPT_REHEARSAL, known)
        notify("rehearsal", 1, 1)
    return tuple(Example(reply, question_prompt(question), "completion") for question, reply in known or ())
