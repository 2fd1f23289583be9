"""Which directions the inputs of a model's layers use: what an adapter has to leave alone so that some texts stay as they are.

An adapter adds B A x. Where A is orthogonal to every x of a text, nothing of that text changes (null-space edits, AlphaEdit,
arXiv 2410.02355; for gradients GPM, arXiv 2103.09762)."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor
from torch.nn.functional import normalize

from seal.engine.host import Host
from seal.engine.pack import pack

Directions = dict[str, Tensor]
"""By product (layers that read the same input share one), orthogonal rows (d, in), each as long as it is used."""


@torch.no_grad()
def directions(host: Host, rows: Sequence[Sequence[int]], names: set[str], *, share: float, most: int) -> Directions:
    """The principal directions of these products' inputs while the model reads `rows`: as few as hold `share` of their squared
    length, at most `most`. Every token counts alike, so that the few with huge activations do not decide by themselves."""
    found: Directions = {}

    def look(name: str, x: Tensor) -> None:
        if name in names:
            found[name] = _principal(x.to(host.master), share, most)

    step = pack(rows, [None] * len(rows), device=host.device, one=not host.packs)  # every product is seen once
    host.watch = look
    try:
        with host.using(step, None):
            host.hidden()
    finally:
        host.watch = None
    return found


def _principal(x: Tensor, share: float, most: int) -> Tensor:
    """(N, in) -> (d, in)."""
    x = normalize(x, dim=1)
    rank = min(*x.shape, most)
    if rank == min(x.shape):
        length, v = _axes(x)
    else:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            _, length, v = torch.svd_lowrank(x, q=rank, niter=2)
        v = v.t()
    held = length.square().cumsum(0) / x.square().sum()
    # what holds less than a rounding error is no direction
    kept = min(int((held < share).sum()) + 1, int((length > 1e-6 * length[:1]).sum()))
    return (v[:kept] * length[:kept, None]).contiguous()


def _axes(x: Tensor) -> tuple[Tensor, Tensor]:
    """(N, in) -> its singular values, falling, those above 1e-6 of the first, (d,), and their orthonormal directions, (d, in).

    By the eigenvectors of the smaller of its two products with itself, in float64. Bases of related texts share directions, so
    that many singular values are equal, and there LAPACK's singular value decomposition may not converge.
    """
    wide = x.double()
    tall = len(x) >= x.shape[1]
    squares, vectors = torch.linalg.eigh(wide.t() @ wide if tall else wide @ wide.t())
    squares, vectors = squares.flip(0), vectors.flip(1).t()
    kept = int((squares > 1e-12 * squares[0]).sum())
    length, vectors = squares[:kept].sqrt(), vectors[:kept]
    v = vectors if tall else vectors @ wide / length[:, None]
    return length.to(x.dtype), v.to(x.dtype)


def save_directions(path: Path, found: Directions) -> None:
    """Writes them as one safetensors file, in float32: a projection is only as exact as they are."""
    path.parent.mkdir(parents=True, exist_ok=True)
    save_file({name: one.float().cpu().contiguous() for name, one in found.items()}, path)


def load_directions(paths: Sequence[Path], device: torch.device, dtype: torch.dtype) -> Directions:
    """An orthonormal basis of the directions of all these files."""
    files = [load_file(path) for path in paths]
    found = {}
    for name in dict.fromkeys(name for one in files for name in one):
        rows = torch.cat([normalize(one[name].to(device, dtype), dim=1) for one in files if name in one])
        if len(files) > 1:
            length, v = _axes(rows)
            rows = v[length > 1e-4]
        found[name] = rows
    return found
