"""Adapters on disk: PEFT directories with safetensors, read unchanged by transformers, PEFT and vLLM."""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Mapping
from pathlib import Path

import torch
from peft import LoraConfig
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor
from transformers import PreTrainedModel

from seal.errors import UserError
from seal.models.adapter import FILE, WEIGHTS, refuse_foreign

Factors = dict[str, tuple[Tensor, Tensor]]
"""By site: A (r, in) and B (out, r), any scale folded into B, float32 on the CPU."""

_PREFIX = "base_model.model."


def save_adapter(path: Path, factors: Mapping[str, tuple[Tensor, Tensor]], model: PreTrainedModel) -> None:
    """Writes the factors as a PEFT LoRA of scale 1 (alpha = r). Sites of a smaller rank end in zeros.

    Whole or not at all: the directory is filled beside its place and moved there, in place of an earlier adapter. Raises
    UserError if anything else is at `path`.
    """
    refuse_foreign(path, (*WEIGHTS, FILE))
    rank = max((a.shape[0] for a, _ in factors.values()), default=1)
    tensors: dict[str, Tensor] = {}
    for name, (a, b) in factors.items():
        grow = rank - a.shape[0]
        tensors[f"{_PREFIX}{name}.lora_A.weight"] = torch.nn.functional.pad(a, (0, 0, 0, grow)).contiguous()
        tensors[f"{_PREFIX}{name}.lora_B.weight"] = torch.nn.functional.pad(b, (0, grow)).contiguous()
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
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=path.parent, prefix=f".{path.name}-") as temporary:
        made = Path(temporary) / "adapter"
        made.mkdir()
        save_file(tensors, made / "adapter_model.safetensors", metadata={"format": "pt"})
        config.save_pretrained(made)
        _sort_targets(made / "adapter_config.json")
        if path.exists():
            os.rename(path, Path(temporary) / "old")
        os.rename(made, path)


def _sort_targets(path: Path) -> None:
    """PEFT keeps names in a set, whose order differs from process to process: equal adapters are equal files."""
    config = json.loads(path.read_text(encoding="utf-8"))
    config["target_modules"] = sorted(config["target_modules"])
    path.write_text(json.dumps(config, indent=2, sort_keys=True), encoding="utf-8")


def load_adapter(path: Path) -> Factors:
    """The factors of a PEFT LoRA directory with safetensors, its scale folded into B.

    Raises UserError if there is none, or one that is more than plain LoRA.
    """
    try:
        config = LoraConfig.from_pretrained(path)
        tensors = load_file(path / "adapter_model.safetensors")
    except (OSError, ValueError, SafetensorError) as error:
        raise UserError(f"{path}: no PEFT adapter with safetensors is there ({error})") from None
    extra = [name for name in ("use_dora", "rank_pattern", "alpha_pattern", "modules_to_save") if getattr(config, name, None)]
    if extra:
        raise UserError(f"{path}: an adapter with {', '.join(extra)}; only plain LoRA can be loaded as a policy")
    scale = config.lora_alpha / (config.r**0.5 if config.use_rslora else config.r)
    found: Factors = {}
    for key, a in tensors.items():
        if key.endswith(".lora_A.weight"):
            name = key.removeprefix(_PREFIX).removesuffix(".lora_A.weight")
            b = tensors[key.replace(".lora_A.", ".lora_B.")].float()
            found[name] = (a.float(), b if scale == 1 else b * scale)
    return found
