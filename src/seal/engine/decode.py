"""Answers of many rows in one batch: one packed prefill, then a token a step for all of them; finished rows leave.

Scoring rides on the prefill: the target's tokens follow the prompt there, and the cache then counts them as unwritten.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

import torch
from torch import Tensor

from seal.engine.attention import Cache
from seal.engine.head import Head
from seal.engine.host import Host
from seal.engine.layouts import ANSWERING, AS_THEY_LIE
from seal.engine.pack import Step, Tree, pack, spans_of
from seal.engine.place import placed
from seal.engine.rectangle import OwnCache
from seal.engine.routing import Routes
from seal.engine.sampling import Pick, greedy

PREFILL = 1024, 4096
"""Tokens that are read at once on a CPU, where the widest tensors of more would be mapped afresh in every layer, and places of
the rectangle that they are in attention, pads and shared beginnings counted for every row."""
PREFILL_ELSEWHERE = 16384, 16384
"""The same elsewhere: one long row makes a rectangle as wide as itself for all."""
Whole = tuple[int | None, tuple[int, ...]]
"""A row as it is read: whose adapter, and the tokens of prompt and target."""


@dataclass(slots=True)
class Request:
    """A row to be continued."""

    prompt: list[int]
    slot: int | None = None
    """Whose adapter answers; None: the base model. Rows come sorted by slot, those of the base model alone."""
    limit: int = 64
    """Most new tokens; 0 = score the target only."""
    target: list[int] | None = None
    scored: bool = False
    """Whether the log-probability of the new tokens is wanted."""


@dataclass(slots=True)
class Continued:
    """What became of a request."""

    ids: list[int] = field(default_factory=list)
    """New tokens, without the stop token."""
    ended: bool = False
    target_logprob: float | None = None
    logprob: float | None = None


@contextmanager
def prepacked(host: Host, head: Head, wanted: bool = True) -> Iterator[None]:
    """Within, on a CPU: `complete` reads a second copy of the weights, in a layout that few rows are quicker with.

    Made once, however often it is called, or not at all where further out there are copies already. Weights must not change.
    """
    with host.laid(ANSWERING if wanted else AS_THEY_LIE), head.prepacked(wanted):
        yield


@torch.no_grad()
def complete(
    host: Host,
    head: Head,
    routes: Routes | None,
    requests: Sequence[Request],
    *,
    pick: Pick = greedy,
    stops: Sequence[int] = (),
) -> list[Continued]:
    """Continues every request until a stop token or its limit, and scores its target if it has one.

    On a CPU what decodes is called within `prepacked`, where there is memory for that.
    """
    if not requests:
        return []
    if not host.packs:
        return _complete_beside(host, head, routes, requests, pick, frozenset(stops))
    device = host.device
    whole: list[Whole] = [(request.slot, (*request.prompt, *(request.target or ()))) for request in requests]
    first = {row: place for place, row in enumerate(dict.fromkeys(whole))}
    rows = [first[row] for row in whole]  # what is asked several times is read once
    prompts = placed([len(request.prompt) for request in requests], device)
    size = max(*(len(ids) for _, ids in first), *(len(r.prompt) + r.limit for r in requests))
    cache = Cache(size=size, lengths=prompts, longest=max(len(request.prompt) for request in requests), unread=len(first))
    results = [Continued() for _ in requests]
    read: list[Tensor] = []
    places: list[list[int]] = []  # of every row's tokens among all that are read
    for tree in _trees(first, *(PREFILL if device.type == "cpu" else PREFILL_ELSEWHERE)):
        before = sum(map(len, read))
        read.append(_read(host, routes, tree, cache))
        places += [[before + place for place in row] for row in tree.places]
    hidden = torch.cat(read)
    if len(first) < len(whole):
        cache.spread(placed(rows, device))
    own = [places[row][len(request.prompt) - 1 :] for row, request in zip(rows, requests, strict=True)]
    _score(head, hidden, own, requests, results)
    last = hidden.index_select(0, placed([at[0] for at in own], device))
    _decode(host, head, routes, requests, range(len(requests)), results, cache, last, pick, frozenset(stops))
    return results


def _complete_beside(
    host: Host, head: Head, routes: Routes | None, requests: Sequence[Request], pick: Pick, stops: frozenset[int]
) -> list[Continued]:
    """The same where a model sees rows side by side: what it read of a target could not be taken back from its own cache, so
    targets are scored without one."""
    results, device = [Continued() for _ in requests], host.device
    limit, _ = PREFILL if device.type == "cpu" else PREFILL_ELSEWHERE
    whole = [[*request.prompt, *(request.target or ())] for request in requests]
    for part in _runs([i for i, request in enumerate(requests) if request.target], lambda i: len(whole[i]), limit):
        some = [requests[i] for i in part]
        step = pack([whole[i] for i in part], [request.slot for request in some], device=device)
        with host.using(step, routes):
            hidden = host.hidden()
        ends = itertools.accumulate(step.lengths)
        own = [range(end - len(request.target or ()) - 1, end) for end, request in zip(ends, some, strict=True)]
        _score(head, hidden, own, some, [results[i] for i in part])
    limit, _ = PREFILL_ELSEWHERE  # a step takes as long for many rows as for few
    for part in _runs([i for i, request in enumerate(requests) if request.limit], lambda i: len(requests[i].prompt), limit):
        asked = [(requests[i].slot, tuple(requests[i].prompt)) for i in part]
        first = {row: place for place, row in enumerate(dict.fromkeys(asked))}
        cache, step = OwnCache.of(list(first), device)
        with host.using(step, routes, cache):
            last = host.hidden().view(len(first), -1, head.weight.shape[1])[:, -1]
        if len(first) < len(asked):  # what is asked several times is read once
            rows = placed([first[row] for row in asked], device)
            cache.keep(rows)
            last = last.index_select(0, rows)
        _decode(host, head, routes, requests, part, results, cache, last, pick, stops)
    return results


def _runs(rows: Sequence[int], size: Callable[[int], int], limit: int) -> Iterator[list[int]]:
    """Rows, in order, as rectangles of at most `limit` places, or of one row."""
    run: list[int] = []
    for row in rows:
        if run and (len(run) + 1) * max(map(size, (*run, row))) > limit:
            yield run
            run = []
        run.append(row)
    if run:
        yield run


def _trees(rows: Iterable[Whole], limit: int, rectangle: int) -> Iterator[Tree]:
    """Rows, in order, in parts of at most `limit` tokens and `rectangle` places in attention, or of one row."""
    tree = Tree()
    for slot, ids in rows:
        tokens = len(tree) + len(ids) - len(tree.begun(ids, slot))
        places = (len(tree.places) + 1) * max(tree.longest, len(ids))
        if tree.places and (tokens > limit or places > rectangle):
            yield tree
            tree = Tree()
        tree.add(ids, slot)
    yield tree


def _read(host: Host, routes: Routes | None, tree: Tree, cache: Cache) -> Tensor:
    """Last hidden states of a part, packed (N, h); its rows' keys and values go to the cache."""
    with host.using(tree.step(host.device), routes, cache):
        hidden = host.hidden()
    cache.unread -= len(tree.places)
    return hidden


def _score(
    head: Head, hidden: Tensor, own: Sequence[Sequence[int]], requests: Sequence[Request], results: list[Continued]
) -> None:
    """`own`: of every request, where the last token of its prompt and those of its target lie in `hidden`."""
    at = [place for places, request in zip(own, requests, strict=True) if request.target for place in places[:-1]]
    labels = [token for request in requests for token in request.target or ()]
    if not labels:
        return
    device = hidden.device
    scores = head.logprobs(hidden.index_select(0, placed(at, device)), placed(labels, device)).tolist()
    done = 0
    for request, result in zip(requests, results, strict=True):
        if request.target:
            result.target_logprob = sum(scores[done : done + len(request.target)])
            done += len(request.target)


def _decode(
    host: Host,
    head: Head,
    routes: Routes | None,
    requests: Sequence[Request],
    standing: Sequence[int],
    results: list[Continued],
    cache: Cache | OwnCache,
    last: Tensor,
    pick: Pick,
    stops: frozenset[int],
) -> None:
    """`standing`: the requests that the cache's rows are; `last`: (R, h), the hidden state that predicts each row's first new
    token."""
    alive = [i for i in standing if requests[i].limit]
    if not alive:
        return
    if len(alive) < len(standing):
        keep = placed([place for place, i in enumerate(standing) if requests[i].limit], host.device)
        cache.keep(keep)
        last = last.index_select(0, keep)
    open_rows, rows = set(alive), placed(alive, host.device)
    scored = any(request.scored for request in requests)
    number = 0
    while open_rows:
        logits = head.logits(last)
        tokens = pick(logits, rows, number)
        if scored:
            found = (logits.gather(1, tokens[:, None]).squeeze(1) - logits.logsumexp(1)).tolist()
            for i, logprob in zip(alive, found, strict=True):
                if i in open_rows and requests[i].scored:
                    results[i].logprob = (results[i].logprob or 0.0) + logprob
        for i, token in zip(alive, tokens.tolist(), strict=True):
            if i not in open_rows:
                continue
            if token in stops:
                results[i].ended = True
            else:
                results[i].ids.append(token)
            if results[i].ended or len(results[i].ids) >= requests[i].limit:
                open_rows.discard(i)
        if not open_rows:
            return
        if len(open_rows) <= 0.9 * len(alive):  # a copy of the cache costs less than carrying the dead along
            stay = [place for place, i in enumerate(alive) if i in open_rows]
            alive = [alive[place] for place in stay]
            rows, index = placed(alive, host.device), placed(stay, host.device)
            cache.keep(index)
            tokens = tokens.index_select(0, index)
        step = Step(tokens, cache.lengths, spans_of([requests[i].slot for i in alive], [1] * len(alive)), (), (1,))
        with host.using(step, routes, cache):
            last = host.hidden()
        cache.advance()
        number += 1
