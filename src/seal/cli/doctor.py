"""`seal doctor`: what this machine can run, and what is missing."""

from __future__ import annotations

import importlib.util
import platform
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from seal.cli.options import RUNS, Json, Runs

if TYPE_CHECKING:
    import torch

    from seal.config import Recipe
    from seal.engine.memory import Plan
    from seal.types import Tuning

GB = 1e9
EXTRAS = {
    "hub": ("datasets", "SQuAD by name"),
    "documents": ("pypdf", "PDF, Word and HTML in `seal adapt`"),
    "judge": ("openai", "answers graded by a judge"),
    "track": ("tensorboard", "metrics in tensorboard or trackio"),
    "trl": ("trl", "TRL's trainers with a trial as their reward"),
}
"""Extra -> a module it brings, and what for."""


@dataclass(frozen=True, slots=True)
class Shape:
    """The sizes of a well-known model, as its configuration names them."""

    name: str
    hidden: int
    inner: int
    layers: int
    keys: int
    """Width of the keys, and of the values: heads times their size."""
    parameters: float
    """In billions."""


SHAPES = (
    Shape("smollm2-135m", 576, 1536, 30, 192, 0.135),
    Shape("HuggingFaceTB/SmolLM2-360M-Instruct", 960, 2560, 32, 320, 0.362),
    Shape("Qwen/Qwen2.5-0.5B-Instruct", 896, 4864, 24, 128, 0.494),
    Shape("Qwen/Qwen2.5-1.5B-Instruct", 1536, 8960, 28, 256, 1.544),
    Shape("Qwen/Qwen2.5-3B-Instruct", 2048, 11008, 36, 256, 3.086),
    Shape("Qwen/Qwen2.5-7B", 3584, 18944, 28, 512, 7.616),
    Shape("Qwen/Qwen2.5-14B", 5120, 13824, 48, 1024, 14.77),
)


def doctor(runs: Runs = RUNS, json: Json = False) -> None:
    """What this machine can run, and what is missing.

    Examples:
      seal doctor
      seal doctor --json
    """
    from seal.cli.output import print_json

    found = examine(runs)
    if json:
        print_json(found)
    else:
        _print(found)


def examine(runs: Path) -> dict[str, Any]:
    """All that `seal doctor` says, as JSON can hold it; sizes in GB (10^9 bytes)."""
    import torch

    from seal.config import load
    from seal.machine import available, cores, threads
    from seal.models import EMBEDDED, describe
    from seal.models.open import dtype_named

    recipe = load("bundled")
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    embedded = next(one for one in describe() if one.name == EMBEDDED)
    dtype = dtype_named("auto", device)
    models = [_fit(shape, recipe, device, dtype.itemsize, available(device)) for shape in SHAPES]
    extras = {name: importlib.util.find_spec(module) is not None for name, (module, _) in EXTRAS.items()}
    found = {
        "python": platform.python_version(),
        "cores": cores(),
        "threads": threads(),
        "gpu": torch.cuda.get_device_name() if device.type == "cuda" else None,
        "dtype": str(dtype).removeprefix("torch."),
        "amx": _has_amx(),
        "memory_free_gb": available(device) / GB,
        "disk_free_gb": {"models": _free(embedded.path), "runs": _free(runs)},
        "embedded": {"name": embedded.name, "pulled": embedded.pulled, "path": str(embedded.path)},
        "extras": extras,
        "bundled_fits": models[0]["fits"],
        "models": models,
    }
    return {**found, "missing": _missing(found)}


def _fit(shape: Shape, recipe: Recipe, device: torch.device, size: int, free: int) -> dict[str, Any]:
    """Whether a model of this shape, of `size` bytes a weight, goes through inner loop and policy update as the recipe `bundled`
    has them, and how many adapters at once."""
    from transformers import LlamaConfig

    from seal.engine.memory import plan

    weights = int(shape.parameters * 1e9) * size
    # on a CPU, the policy keeps the base weights beside its own
    left = free - weights * (2 if device.type == "cpu" else 1)
    config = LlamaConfig(hidden_size=shape.hidden, intermediate_size=shape.inner, num_hidden_layers=shape.layers)
    row_tokens = recipe.edit.max_tokens + 256  # the longest: a prompt with its passage, and the self-edit
    row = {"name": shape.name, "weights_gb": weights / GB}

    def planned(tuning: Tuning, slots: int | None = None) -> Plan:
        sites, memory = _sites(shape, tuning.targets), int(0.8 * left)
        return plan(
            config, sites, tuning.rank, device=device, itemsize=size, master=4, slots=slots, memory=memory, longest=row_tokens
        )

    try:
        planned(recipe.update.tuning, slots=1)
        slots = planned(recipe.tuning).slots
    except MemoryError:
        return {**row, "fits": False, "slots": None}
    return {**row, "fits": True, "slots": slots}


def _sites(shape: Shape, targets: tuple[str, ...]) -> list[Any]:
    from seal.engine.stack import Site
    from seal.types import ALL_LINEAR

    hidden, inner, keys = shape.hidden, shape.inner, shape.keys
    sizes = {
        "q_proj": (hidden, hidden),
        "k_proj": (hidden, keys),
        "v_proj": (hidden, keys),
        "o_proj": (hidden, hidden),
        "gate_proj": (hidden, inner),
        "up_proj": (hidden, inner),
        "down_proj": (inner, hidden),
    }
    names = sizes if ALL_LINEAR in targets else targets
    return [Site(target, *sizes[target], layer, target) for layer in range(shape.layers) for target in names]


def _has_amx() -> bool:
    """Whether the processor multiplies bfloat16 by itself, as far as this torch can say."""
    import torch

    return hasattr(torch.cpu, "get_capabilities") and bool(torch.cpu.get_capabilities().get("amx_bf16"))


def _free(path: Path) -> float:
    """GB free on the disk that holds a path, or will."""
    there = next(parent for parent in (path.absolute(), *path.absolute().parents) if parent.exists())
    return shutil.disk_usage(there).free / GB


def _missing(found: dict[str, Any]) -> list[str]:
    """A line for each thing that is not here, with the way to get it."""
    missing = []
    if not found["embedded"]["pulled"]:
        missing.append(f"the embedded model is not here yet: seal models pull {found['embedded']['name']}")
        if found["disk_free_gb"]["models"] < 1:
            missing.append("less than 1 GB is free for it: make room, or set SEAL_HOME to a directory on another disk")
    if not found["bundled_fits"]:
        missing.append("memory: the recipe `bundled` does not fit; close other programs")
    for name, here in found["extras"].items():
        if not here:
            missing.append(f"extra {name!r} ({EXTRAS[name][1]}): pip install 'seal[{name}]'")
    return missing


def _print(found: dict[str, Any]) -> None:
    from rich.table import Table

    from seal.cli.output import print_whole

    disk = found["disk_free_gb"]
    print(f"python    {found['python']}, {found['cores']} cores, torch uses {found['threads']} threads")
    print(f"GPU       {found['gpu'] or 'none'}{', where a model is ' + found['dtype'] if found['gpu'] else ''}")
    if found["amx"] and not found["gpu"]:
        print("bfloat16  the processor multiplies it (AMX): model.dtype=bfloat16 trains quicker than float32")
    print(f"memory    {found['memory_free_gb']:.1f} GB free{' on the GPU' if found['gpu'] else ''}")
    print(f"disk      {disk['models']:.0f} GB free for models, {disk['runs']:.0f} GB for runs")
    print(f"embedded  {found['embedded']['name']}: {'here' if found['embedded']['pulled'] else 'not here yet'}")
    table = Table(
        "model",
        "weights",
        "trains here",
        "adapters at once",
        title="As the recipe bundled trains, with the memory free now",
        title_justify="left",
    )
    for row in found["models"]:
        fits = "yes" if row["fits"] else "no"
        table.add_row(row["name"], f"{row['weights_gb']:.1f} GB", fits, str(row["slots"] or "–"))
    print_whole(table)
    print(*(["missing:"] + [f"  {line}" for line in found["missing"]] if found["missing"] else ["nothing is missing"]), sep="\n")
