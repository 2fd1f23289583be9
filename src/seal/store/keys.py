"""What a run has in its state: under each key, who puts it there and what it is.

The strings are in every run on disk, so they stay. A run that was begun before there was a key has none of it.
"""

from __future__ import annotations

# ---- of every run

CREATED = "created"
"""`Store.create`: when that was, as an ISO time to the millisecond."""
FINISHED = "finished"
"""`Store.finish`, and false again while a command works: whether all is done that the command set out to do."""
KIND = "kind"
"""The verb that made the run: `cli.resume.Kind`."""
PROBLEMS = "problems."
"""Before a split, or a use and a split (`eval.test`). `loops.refuse`: the digest of its problems as the run first used them."""
PROGRESS = "progress"
"""`cli.progress`, all the time: what a command is doing: `where`, `stage`, `done`, `total`, `began` (`done` when the stage began
here), and the times `since` (it began) and `at` (this was written), in seconds since 1970."""
TRACKED = "tracked."
"""Before a tracker. `cli.track`: what it was sent: `rounds`, `phases`, and the `id` it has for the run."""

# ---- of training, evaluations and grids of plans

REPLAYS = "replays"
"""`loops.takeover`: the path of the run that this one began with."""
TAKING_OVER = "taking over"
"""`loops.takeover`: `outcomes` or `rounds`, while those of that run are being copied; None once all are there."""
QUESTIONS = "questions/"
"""Before a problem's id. `loops.questions`: every question about it that the model asked itself, with its verdict."""
QUESTIONS_TOGETHER = "questions"
"""The same of all problems by their ids, in runs of before each had its own."""
CUT_TOKENS = "cut tokens/"
"""Before an edit's id. `loops.stages`: the tokens of its examples beyond `tuning.pad_length`, which no training sees; of an edit
that loses none, and in runs of before it was counted, there is nothing."""
EVALUATION = "evaluation"
"""`seal eval`: `policy`, the whole path of the one it measures, or None."""
RECORD = "known record"
"""`loops.solvable`: the record that a grid began with, whole."""

# ---- of streams

CONTINUAL = "continual"
"""`seal continual`: `policy`, the whole path of the one that writes the edits, or None; `start`, that of the one that every
stream starts from, or None."""
STEPS = "continual/"
"""Before strategy, stream and number. `loops.continual`: a step, with all answers after it; step 0 is the base row."""
HARMED = "harmed/"
"""Before an edit's id. `loops.continual`: what was put to the strategies in its place: the `kind` of harm, and the `examples`. Of
an edit that was left as it is, and in runs of before it was kept, there is nothing."""

# ---- of `seal adapt`

ADAPT_POLICY = "adapt.policy"
"""`seal adapt`: the whole path of the policy that writes the edits; None: the plain model does."""
ADAPT_DOCUMENTS = "adapt.documents"
"""`seal adapt`: what was read: `documents`, `unread`, `passages`."""
ADAPT_ROUNDS = "adapt.rounds"
"""`loops.adapt`: each round's `passages`, those `new` in it, and whether it is over (`learnt`)."""
ADAPT_VERDICTS = "adapt.verdicts"
"""`loops.adapt`: the gate's verdict by edit id."""
ADAPT_REHEARSAL = "adapt.rehearsal"
"""`loops.rehearsal`: the questions about other things, with the plain model's replies."""
ADAPT_FINISHED = "adapt.finished"
"""`loops.adapter_gate`: by round what was decided of the adapter: its `weight`, the verdicts `whole` (at full weight) and `taken`
(at that weight; where it is 0, at the smallest that was tried)."""
ADAPT_PROMPTS = "adapt.prompts"
"""`loops.adapt`: by round and condition, the tokens of the table's prompts."""
CARD, MODEL_CARD = "card", "card.model"
"""`seal adapt`: the digest of the model card that it wrote last, beside the adapter and beside the whole model."""
