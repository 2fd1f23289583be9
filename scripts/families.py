"""Which families of transformers' causal models the engine runs: a random model of two layers of each, opened as any model is.

    python scripts/families.py
    python scripts/families.py qwen3_5_text lfm2 gpt_oss --json

Prints how each runs: packed (with fused blocks or by its own modules), side by side, or not at all. A family that the settings
below do not make small, or not so that it runs in transformers, is not made.
"""

from __future__ import annotations

import argparse
import json
import warnings
from collections import defaultdict
from collections.abc import Mapping
from typing import Any

import torch
import transformers
from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedConfig, PreTrainedModel
from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES

from seal.engine.host import Host
from seal.errors import UserError

MOST = 30_000_000
"""Weights; a family that is larger even so is left out."""
EVERYWHERE = {
    2: "num_hidden_layers num_key_value_heads eos_token_id",
    4: "num_attention_heads",
    8: "head_dim",
    32: "hidden_size",
    48: "intermediate_size",
    64: "max_position_embeddings",
    97: "vocab_size",
}
"""Settings of all families, by their value."""
WHERE_KNOWN = {
    1: "mamba_n_groups n_groups",
    2: "n_layer n_layers decoder_layers num_experts_per_tok top_k moe_top_k linear_num_value_heads linear_num_key_heads"
    " mamba_expand",
    4: "n_head n_heads attention_heads decoder_attention_heads num_experts num_local_experts n_routed_experts",
    8: "linear_key_head_dim linear_value_head_dim qk_rope_head_dim qk_nope_head_dim v_head_dim mamba_d_state mamba_d_head"
    " mamba_n_heads state_size num_heads mamba_num_heads mamba_head_dim ssm_state_size hidden_size_per_layer_input",
    16: "moe_intermediate_size q_lora_rank kv_lora_rank sliding_window",
    32: "d_model n_embd",
    48: "ffn_dim",
    64: "mamba_d_ssm",
    97: "vocab_size_per_layer_input",
}
"""Settings that a family is given if it has them."""
MIXED = {"layer_types": ["linear_attention", "full_attention"]}
CONV = {"layer_types": ["conv", "full_attention"]}
LATENT = {"num_key_value_heads": 4}
OWN: dict[str, dict[str, Any]] = {
    **dict.fromkeys(("qwen3_5_text", "qwen3_5_moe_text", "qwen3_next", "minimax", "olmo_hybrid"), MIXED),
    **dict.fromkeys(("lfm2", "lfm2_moe", "lfm3"), CONV),
    **dict.fromkeys(
        ("axk2", "deepseek_v2", "deepseek_v3", "deepseek_v32", "glm4_moe_lite", "glm_moe_dsa", "minicpm3", "youtu"), LATENT
    ),
    "kimi_linear": MIXED | LATENT | {"num_experts_per_token": 2, "n_group": 1, "topk_group": 1},
    "bamba": {"attn_layer_indices": [1]},
    "granitemoehybrid": {"layer_types": ["mamba", "attention"]},
    "jamba": {"attn_layer_offset": 1, "attn_layer_period": 2},
    "nemotron_h": {"layers_block_type": ["mamba", "attention"]},
    "recurrent_gemma": {"block_types": ["recurrent", "attention"]},
    "gptj": {"rotary_dim": 4},
}
"""Both kinds of layers where a family has two, and what must fit together."""


def small(family: str) -> PreTrainedConfig:
    """Its configuration with two layers; two kinds of them where it has two."""
    known = AutoConfig.for_model(family).to_dict()
    settings = {"pad_token_id": 0, "bos_token_id": 1} | _named(EVERYWHERE)
    settings |= {name: value for name, value in _named(WHERE_KNOWN).items() if name in known} | OWN.get(family, {})
    config = AutoConfig.for_model(family, **settings)
    kinds = list(dict.fromkeys(getattr(config, "layer_types", None) or ()))
    if family in OWN or not kinds or len(config.layer_types) == 2:
        return config
    return AutoConfig.for_model(family, **settings, layer_types=(kinds * 2)[:2])


def _named(values: Mapping[int, str]) -> dict[str, Any]:
    return {name: value for value, names in values.items() for name in names.split()}


def made(family: str) -> PreTrainedModel | None:
    """Random weights, large enough that a wrong token shows; None if the family cannot be made so small."""
    try:
        config = small(family)
        with torch.device("meta"):
            if sum(one.numel() for one in AutoModelForCausalLM.from_config(config).parameters()) > MOST:
                return None
        torch.manual_seed(0)
        model: PreTrainedModel = AutoModelForCausalLM.from_config(config, attn_implementation="eager").float().eval()
        with torch.no_grad():
            for parameter in model.parameters():
                parameter += 0.2 * torch.randn(parameter.shape)
            model(input_ids=torch.tensor([[5, 6, 7]]))
    except Exception:  # each family has its own reasons
        return None
    return model


def how(model: PreTrainedModel) -> str:
    """How the engine runs it."""
    try:
        host = Host(model)
    except UserError:
        return "refused"
    fused = host.quicker["fused"]
    host.close()
    return "side by side" if not host.packs else "packed, fused blocks" if fused else "packed, its own modules"


def main(given: argparse.Namespace) -> None:
    warnings.filterwarnings("ignore")
    transformers.logging.set_verbosity_error()
    found: dict[str, list[str]] = defaultdict(list)
    for family in given.families or sorted(MODEL_FOR_CAUSAL_LM_MAPPING_NAMES):
        model = made(family)
        found["not made" if model is None else how(model)].append(family)
    if given.json:
        print(json.dumps(found, indent=1))
        return
    for kind, families in found.items():
        print(f"{kind} ({len(families)}): {', '.join(families)}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("families", nargs="*", help="as transformers names them; all if none is given")
    parser.add_argument("--json", action="store_true")
    main(parser.parse_args())
