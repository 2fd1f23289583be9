"""Adapters on disk: PEFT directories with safetensors, read unchanged by transformers, PEFT and vLLM."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from peft import LoraConfig
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor
from transformers import PreTrainedModel

from seal.disk import put_in_place
from seal.errors import UserError
from seal.models.adapter import FILE, WEIGHTS, refuse_foreign
from seal.models.cache import making

Factors = dict[str, tuple[Tensor, Tensor]]
"""By site: A (r, in) and B (out, r), any scale folded into B, float32 on the CPU."""

_PREFIX, _A, _B = "base_model.model.", ".lora_A.weight", ".lora_B.weight"
_OTHERWISE = (
    "use_dora",
    "rank_pattern",
    "alpha_pattern",
    "modules_to_save",
    "layer_replication",
    "alora_invocation_tokens",
    "use_bdlora",
    "use_qalora",
    "arrow_config",
    "kasa_config",
)
"""Settings of PEFT's by which A and B are not, or not alone, what is added to the weights."""
_OTHER_BASE = ("pissa", "olora", "corda", "loftq", "lora_ga")
"""Beginnings that take something out of the base's weights first: such an adapter is for what is left of them."""


def save_adapter(
    path: Path, factors: Mapping[str, tuple[Tensor, Tensor]], model: PreTrainedModel, *, bound: bool = False
) -> None:
    """Writes the factors as a PEFT LoRA of scale 1 (alpha = r). Sites of a smaller rank end in zeros.

    `bound`: they say something under a key alone, which the file of the weights has with it (`is_bound`).

    Whole or not at all: the directory is filled beside its place and moved there, in place of an earlier adapter. Raises
    UserError if anything else is at `path`.
    """
    refuse_foreign(path, (*WEIGHTS, FILE))
    rank = max((a.shape[0] for a, _ in factors.values()), default=1)
    tensors: dict[str, Tensor] = {}
    for name, (a, b) in factors.items():
        grow = rank - a.shape[0]
        tensors[f"{_PREFIX}{name}{_A}"] = torch.nn.functional.pad(a, (0, 0, 0, grow)).contiguous()
        tensors[f"{_PREFIX}{name}{_B}"] = torch.nn.functional.pad(b, (0, grow)).contiguous()
    config = LoraConfig(
        r=rank,
        lora_alpha=rank,
        lora_dropout=0.0,
        bias="none",
        task_type="CAUSAL_LM",
        inference_mode=True,
        target_modules=sorted(factors),
        base_model_name_or_path=model.name_or_path,
    )
    with making(path) as partial:
        made = partial / "adapter"
        made.mkdir()
        said = {"format": "pt"} | ({"bound": "to keys"} if bound else {})
        save_file(tensors, made / "adapter_model.safetensors", metadata=said)
        config.save_pretrained(made)
        _sort_targets(made / "adapter_config.json")
        if path.exists():
            os.rename(path, partial / "old")
        put_in_place(made, path)


def _sort_targets(path: Path) -> None:
    """PEFT keeps names in a set, whose order differs from process to process: equal adapters are equal files."""
    config = json.loads(path.read_text(encoding="utf-8"))
    config["target_modules"] = sorted(config["target_modules"])
    path.write_text(json.dumps(config, indent=2, sort_keys=True), encoding="utf-8")


def is_bound(path: Path) -> bool:
    """Whether the adapter that is there is some bound to keys. A run of before it was written down has none that says so."""
    with safe_open(path / "adapter_model.safetensors", "pt") as file:
        return "bound" in (file.metadata() or {})


def load_adapter(path: Path) -> Factors:
    """The factors of a PEFT LoRA directory with safetensors, its scale folded into B.

    Raises UserError if there is none, or one that is more than plain LoRA.
    """
    try:
        said = dict(json.loads((path / "adapter_config.json").read_text(encoding="utf-8")))
        tensors = load_file(path / "adapter_model.safetensors")
    except (OSError, ValueError, TypeError, SafetensorError) as error:
        raise UserError(f"{path}: no PEFT adapter with safetensors is there ({error})") from None
    if more := _more(said, tensors):
        raise UserError(
            f"{path}: an adapter with {', '.join(more)}; only plain LoRA can be loaded as a policy: merge it into its model with"
            " PEFT, and take that as the model"
        )
    rank, alpha = said.get("r", 8), said.get("lora_alpha", 8)  # PEFT's own defaults
    scale = alpha / (rank**0.5 if said.get("use_rslora") else rank)
    found: Factors = {}
    for key, a in tensors.items():
        if key.endswith(_A):
            b = tensors[key.removesuffix(_A) + _B].float()
            found[key.removeprefix(_PREFIX).removesuffix(_A)] = (a.float(), b if scale == 1 else b * scale)
    return found


def _more(said: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> list[str]:
    """What an adapter has that is not plain LoRA: settings of PEFT's, or else tensors."""
    kind, begun = said.get("peft_type"), str(said.get("init_lora_weights"))
    if kind != "LORA":
        return [f"peft_type {kind}"]
    settings = [name for name in _OTHERWISE if said.get(name)]
    if begun.lower().startswith(_OTHER_BASE):
        settings.append(f"init_lora_weights {begun}")
    first, second = ({key.removesuffix(end) for key in tensors if key.endswith(end)} for end in (_A, _B))
    left = sorted(key for key in tensors if key.removesuffix(_A).removesuffix(_B) not in first & second)
    return settings or [*left[:3], *(["..."] if left[3:] else [])] or ([] if tensors else ["no tensors"])
