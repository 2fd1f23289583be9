"""A random model of a few thousand weights with a byte tokenizer, written to a directory in milliseconds, offline."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import gguf
import torch
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast, Qwen2Config, Qwen2ForCausalLM

SPECIALS = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
CONTEXT = 512
TEMPLATE = (
    "{% for message in messages %}<|im_start|>{{ message.role }}\n{{ message.content }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


def make_tiny(
    directory: Path,
    *,
    chat: bool = True,
    hidden: int = 32,
    layers: int = 2,
    seed: int = 0,
    family: Literal["llama", "qwen2"] = "llama",
) -> Path:
    """Write model and tokenizer: 4 query heads and 2 key heads, tied embeddings, 512 positions, one token a byte.

    `chat`: with a ChatML template, and `<|im_end|>` as the end. `qwen2` has biases on q, k and v.
    """
    tokenizer = byte_tokenizer(chat=chat)
    config_class, model_class = (LlamaConfig, LlamaForCausalLM) if family == "llama" else (Qwen2Config, Qwen2ForCausalLM)
    config = config_class(
        vocab_size=len(tokenizer),
        hidden_size=hidden,
        intermediate_size=2 * hidden,
        num_hidden_layers=layers,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=CONTEXT,
        tie_word_embeddings=True,
        bos_token_id=None,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = model_class(config).float()
        for name, bias in model.named_parameters():
            if name.endswith("bias"):
                torch.nn.init.normal_(bias, std=0.1)  # zeros would hide a forgotten bias
    model.save_pretrained(directory)
    tokenizer.save_pretrained(directory)
    return directory


def make_lively(directory: Path, *, hidden: int = 32) -> Path:
    """The tiny model with larger weights: what it says varies from token to token, so that a wrong one shows."""
    make_tiny(directory, hidden=hidden)
    weights = load_file(directory / "model.safetensors")
    for name, weight in weights.items():
        if weight.dim() == 2:
            weight *= 3 if "embed" in name else 10
    save_file(weights, directory / "model.safetensors", metadata={"format": "pt"})
    return directory


def byte_tokenizer(*, chat: bool) -> PreTrainedTokenizerFast:
    """256 byte tokens after the three specials; adds no beginning-of-text."""
    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocab = {token: index for index, token in enumerate([*SPECIALS, *letters])}
    tokenizer = Tokenizer(models.BPE(vocab=vocab, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens(SPECIALS)
    end = "<|im_end|>" if chat else "<|endoftext|>"
    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        eos_token=end,
        pad_token="<|endoftext|>",
        additional_special_tokens=["<|im_start|>"],
        model_max_length=CONTEXT,
        clean_up_tokenization_spaces=False,
    )
    fast.chat_template = TEMPLATE if chat else None
    return fast


def write_gguf(path: Path) -> None:
    """One random layer of 32 numbers a token, and the byte tokenizer."""
    writer = gguf.GGUFWriter(path, "llama")
    for key, value in {"context_length": 64, "embedding_length": 32, "block_count": 1, "feed_forward_length": 32}.items():
        writer.add_uint32(f"llama.{key}", value)
    writer.add_head_count(4)
    writer.add_head_count_kv(2)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_rope_dimension_count(8)
    writer.add_tokenizer_model("gpt2")
    vocab = byte_tokenizer(chat=True).get_vocab()
    tokens = [*sorted(vocab, key=vocab.__getitem__), "Pa"]
    writer.add_token_list(tokens)
    writer.add_token_types([3] * 3 + [1] * (len(tokens) - 3))
    writer.add_token_merges(["P a"])
    writer.add_eos_token_id(2)
    writer.add_chat_template(TEMPLATE)
    shapes = {"token_embd": (len(tokens), 32), "output_norm": (32,)}
    shapes |= {f"blk.0.{name}": (32, 32) for name in ("attn_q", "attn_output", "ffn_gate", "ffn_up", "ffn_down")}
    shapes |= {"blk.0.attn_k": (16, 32), "blk.0.attn_v": (16, 32), "blk.0.attn_norm": (32,), "blk.0.ffn_norm": (32,)}
    for name, shape in shapes.items():
        writer.add_tensor(f"{name}.weight", torch.randn(shape).numpy())
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
