"""The model that is measured: the embedded one, any other, or random weights in a known model's shape."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from transformers import AutoConfig, AutoModelForCausalLM, LlamaConfig, PreTrainedConfig, PreTrainedModel, Qwen2Config

from seal.errors import UserError
from seal.models.open import device_named, dtype_named, open_model
from seal.types import ALL_LINEAR, Tuning


@dataclass(frozen=True, slots=True)
class Subject:
    """A model, freshly made as often as it is needed, and what of it is trained."""

    name: str
    make: Callable[[], PreTrainedModel]
    """Each measured way gets its own copy where it patches one; weights are the same."""
    rank: int = 32
    targets: tuple[str, ...] = ("q_proj", "v_proj")
    layers: int | None = None

    def tuning(self) -> Tuning:
        """The inner loop's settings, as the paper has them."""
        return Tuning(rank=self.rank, alpha=2.0 * self.rank, targets=self.targets, layers=self.layers)


def _llama_1b() -> LlamaConfig:
    return LlamaConfig(
        vocab_size=128256,
        hidden_size=2048,
        intermediate_size=8192,
        num_hidden_layers=16,
        num_attention_heads=32,
        num_key_value_heads=8,
        head_dim=64,
        tie_word_embeddings=True,
        max_position_embeddings=8192,
    )


def _qwen_7b() -> Qwen2Config:
    return Qwen2Config(
        vocab_size=152064,
        hidden_size=3584,
        intermediate_size=18944,
        num_hidden_layers=28,
        num_attention_heads=28,
        num_key_value_heads=4,
        tie_word_embeddings=False,
        max_position_embeddings=8192,
    )


def _tiny() -> LlamaConfig:
    return LlamaConfig(
        vocab_size=512,
        hidden_size=64,
        intermediate_size=128,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        tie_word_embeddings=True,
        max_position_embeddings=2048,
    )


def _mixed(family: str, **layers: Any) -> PreTrainedConfig:
    """About the embedded model's size, with layers whose tokens meet outside attention."""
    return AutoConfig.for_model(
        family,
        vocab_size=32000,
        hidden_size=576,
        intermediate_size=1536,
        num_hidden_layers=24,
        max_position_embeddings=4096,
        tie_word_embeddings=True,
        bos_token_id=1,
        eos_token_id=2,
        pad_token_id=0,
        **layers,
    )


def _qwen35() -> PreTrainedConfig:
    linear = {"linear_num_value_heads": 8, "linear_num_key_heads": 8, "linear_key_head_dim": 64, "linear_value_head_dim": 64}
    return _mixed("qwen3_5_text", num_attention_heads=8, num_key_value_heads=2, head_dim=128, **linear)


def _lfm2() -> PreTrainedConfig:
    kinds = ["conv", "conv", "full_attention"] * 8
    return _mixed("lfm2", num_attention_heads=9, num_key_value_heads=3, layer_types=kinds, block_auto_adjust_ff_dim=False)


SHAPES: dict[str, Callable[[], PreTrainedConfig]] = {
    "tiny": _tiny,
    "llama-1b-shape": _llama_1b,
    "qwen-7b-shape": _qwen_7b,
    "qwen3.5-100m-shape": _qwen35,
    "lfm2-100m-shape": _lfm2,
}


def open_subject(
    name: str = "smollm2-135m",
    *,
    device: str = "auto",
    dtype: str = "auto",
    rank: int = 32,
    targets: str = "q_proj,v_proj",
) -> Subject:
    """`name`: one of SHAPES (random weights), else anything `open_model` takes. `targets`: names, or `all-linear`.

    `dtype`: of the frozen weights; auto: see `dtype_named`. Raises UserError for a device that is not here; `make` does for
    targets the model does not have.
    """
    chosen = tuple(targets.split(","))
    place = device_named(device)
    number = dtype_named(dtype, place)

    def made() -> PreTrainedModel:
        model = shaped() if name in SHAPES else open_model(name, device=device, dtype=dtype).model
        _refuse_absent(chosen, model)
        return model

    def shaped() -> PreTrainedModel:
        torch.manual_seed(0)
        with torch.device(place), torch.no_grad():
            # drawn in this precision, not cast: half the memory, and rotary frequencies stay float32 as in a checkpoint
            model: PreTrainedModel = AutoModelForCausalLM.from_config(SHAPES[name](), dtype=number)
        return model.eval()

    return Subject(name, made, rank, chosen)


def parameters(model: PreTrainedModel) -> int:
    """Weights that take part in a matrix product for every token: all linear layers, and the head even where it is tied."""
    head = model.get_output_embeddings()
    return int(head.weight.numel()) + sum(linear.weight.numel() for linear in _linears(model).values())


def _linears(model: PreTrainedModel) -> dict[str, nn.Linear]:
    """Every linear layer but the head, by its path."""
    head = model.get_output_embeddings()
    return {path: one for path, one in model.named_modules() if isinstance(one, nn.Linear) and one is not head}


def _refuse_absent(targets: tuple[str, ...], model: PreTrainedModel) -> None:
    """Raises UserError, before PEFT does in its own words, for a target the model does not have."""
    known = dict.fromkeys(path.rpartition(".")[2] for path in _linears(model))
    missing = [one for one in targets if one not in (*known, ALL_LINEAR)]
    if missing:
        raise UserError(f"--targets: the model has no linear layer named {', '.join(missing)}; it has {', '.join(known)}")
