"""GGUF files: transformers reads them tensor by tensor and slowly, and then refuses to save what it read."""

from __future__ import annotations

from pathlib import Path

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, PreTrainedModel, PreTrainedTokenizerBase

from seal.models.quiet import quiet


def read_gguf(source: Path, dtype: torch.dtype) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    """Model (dequantised) and tokenizer of a GGUF file, on the CPU."""
    with quiet():
        model = AutoModelForCausalLM.from_pretrained(source.parent, gguf_file=source.name, dtype=dtype)
    tokenizer = read_gguf_tokenizer(source)
    # the weights are plain numbers now; with these left in place transformers takes them for quantised
    del model.config.quantization_config
    model.hf_quantizer = None
    return model, tokenizer


def read_gguf_tokenizer(source: Path) -> PreTrainedTokenizerBase:
    """The tokenizer alone, which no weight is read for."""
    with quiet():
        return AutoTokenizer.from_pretrained(source.parent, gguf_file=source.name)


def dequantise(source: Path, directory: Path) -> None:
    """Write a GGUF file as float32 safetensors with its tokenizer, which opens in a second instead of twenty."""
    model, tokenizer = read_gguf(source, torch.float32)
    with quiet():
        model.save_pretrained(directory)
        tokenizer.save_pretrained(directory)
