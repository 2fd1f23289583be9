"""Small random models of many families, and what they say to each row alone and to several at once."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from tiny import byte_tokenizer
from torch import Tensor
from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedModel

from seal.engine.decode import Request, complete, prepacked
from seal.engine.head import Head
from seal.engine.host import Host
from seal.engine.pack import pack
from seal.models import LanguageModel, open_model

ROWS = ([5, 6, 7, 8, 9, 10, 11], [20, 21, 22], [30, 31, 32, 33, 34])
SMALL = {
    "vocab_size": 97,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 8,
    "max_position_embeddings": 64,
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": 2,
}


BYTES = {"vocab_size": 300}
"""Room for the byte tokenizer."""


def written(model: PreTrainedModel, folder: Path) -> LanguageModel:
    """The same with a byte tokenizer, opened from a directory; it continues texts."""
    model.save_pretrained(folder / "model")
    byte_tokenizer(chat=False).save_pretrained(folder / "model")
    return open_model(str(folder / "model"), device="cpu", dtype="float32")


def a_model(family: str, dtype: torch.dtype = torch.float32, **settings: Any) -> PreTrainedModel:
    """Two layers of random weights, large enough that a wrong token shows."""
    config = AutoConfig.for_model(family, **(SMALL | settings))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model: PreTrainedModel = AutoModelForCausalLM.from_config(config, attn_implementation="eager").float().eval()
        for parameter in model.parameters():
            parameter.data += 0.2 * torch.randn(parameter.shape)
    return model.to(dtype)


@torch.no_grad()
def alone(model: PreTrainedModel, row: list[int]) -> Tensor:
    """What the model says after every token, (n, V)."""
    logits: Tensor = model(input_ids=torch.tensor([row])).logits[0]
    return logits


def continued(model: PreTrainedModel, row: list[int], limit: int) -> list[int]:
    """The likeliest tokens, every one by all that stands before it."""
    for _ in range(limit):
        row = [*row, int(alone(model, row)[-1].argmax())]
    return row[-limit:]


def held(host: Host, rows: list[list[int]]) -> Tensor:
    """What the engine says after every token of the packed rows."""
    with torch.no_grad(), host.using(pack(rows, [None] * len(rows), device=host.device), None):
        return Head(host.model).logits(host.hidden())


def says_the_same(model: PreTrainedModel) -> Host:
    """Packed and decoded as alone. Returns the host, closed."""
    wanted, answers = torch.cat([alone(model, row) for row in ROWS]), [continued(model, row, 4) for row in ROWS]
    host = Host(model)
    try:
        torch.testing.assert_close(held(host, list(ROWS)), wanted, rtol=1e-3, atol=1e-3)
        head = Head(model)
        with prepacked(host, head):
            assert [one.ids for one in complete(host, head, None, [Request(row, limit=4) for row in ROWS])] == answers
    finally:
        host.close()
    return host
