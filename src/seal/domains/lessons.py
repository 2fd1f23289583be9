"""A passage taught as answers: the model's own questions about it, each answered by the passage's own sentence.

A model that has learnt a text as running text recites it and still does not answer from it. Here every reply is a sentence as it
stands in the passage, so nothing untrue is learnt, however poor the question to it may be.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence
from dataclasses import replace

from seal.domains.material import TextDomain, material
from seal.domains.passages import Asked
from seal.domains.self_questions import asking
from seal.edits.sentences import sentences
from seal.text import normalise, recall
from seal.types import Example, Problem


def lessons(
    domain: TextDomain, problem: Problem, questions: Sequence[Asked], *, each: int, without: Collection[str] = ()
) -> tuple[Example, ...]:
    """The questions, in the words the domain asks in, each with a sentence that holds the answer as the reply: of several the one
    that has most of the question's words, since the same name may stand elsewhere in the text.

    `each`: most questions to one sentence, the first ones; `without`: no question with one of these answers. What no sentence
    answers is left out.
    """
    body = material(domain, problem).removeprefix(f"{problem.title}\n")
    known, unwanted = sentences(body), {normalise(one) for one in without}
    used: dict[str, int] = {}
    found = []
    for question, answer in dict.fromkeys(questions):
        whole = re.compile(rf"(?<!\w)(?<!\d[.,]){re.escape(answer)}(?!\w)(?![.,]\d)")  # 4 stands neither in 1840 nor in 4.5
        holding = [one for one in known if whole.search(one)]
        reply = max(holding, key=lambda one: recall(one, question), default=None)
        if reply is None or normalise(answer) in unwanted or used.get(reply, 0) == each:
            continue
        used[reply] = used.get(reply, 0) + 1
        (ask,) = domain.ask(asking(replace(problem, queries=()), [(question, answer)]))
        found.append(Example(reply, ask.prompt, "completion"))
    return tuple(found)
