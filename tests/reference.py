"""Adapters trained by a bank, and the same by PEFT and torch, one after another."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from peft import LoraConfig, get_peft_model
from torch import Tensor
from transformers import PreTrainedModel, get_scheduler

from seal.engine import Bank, Row
from seal.engine.layouts import AS_THEY_LIE, Layout
from seal.types import Tuning

VOCABULARY = 97
RANK = 8
"""Of the bank; adapters may be smaller."""
Batches = Sequence[Sequence[Row]]
Products = dict[str, Tensor]
"""Scaled B @ A by site."""


def some_rows(seed: int, count: int = 9, prompt: int = 0) -> list[Row]:
    """Rows of 3 to 30 tokens, the first `prompt` of which carry no loss."""
    generator = torch.Generator().manual_seed(seed)
    found = []
    for length in torch.randint(max(3, prompt + 1), 31, (count,), generator=generator).tolist():
        ids = tuple(torch.randint(0, VOCABULARY, (length,), generator=generator).tolist())
        found.append(Row(ids, (-100,) * prompt + ids[prompt:]))
    return found


def batches_of(rows: Sequence[Row], tuning: Tuning) -> Batches:
    return [rows[at : at + tuning.batch] for _ in range(tuning.epochs) for at in range(0, len(rows), tuning.batch)]


def by_bank(
    model: PreTrainedModel,
    tunings: Sequence[Tuning],
    data: Sequence[Batches],
    step_tokens: int = 4096,
    layout: Layout = AS_THEY_LIE,
) -> tuple[list[dict[str, Tensor]], list[list[float]], list[Products]]:
    """Every slot's A before, losses, and products after. `layout`: how frozen weights are read."""
    targets = tuple(dict.fromkeys(target for tuning in tunings for target in tuning.targets))
    bank = Bank(model, slots=len(tunings), rank=RANK, targets=targets, step_tokens=step_tokens)
    for slot, tuning in enumerate(tunings):
        bank.start(slot, tuning, steps=len(data[slot]), seed=slot)
    started = [{name: a[slot].clone() for name, a in bank.stack.a.items()} for slot in range(len(tunings))]
    losses: list[list[float]] = [[] for _ in tunings]
    with bank.host.laid(layout):
        for step in range(max(map(len, data))):
            found = bank.step({slot: batches[step] for slot, batches in enumerate(data) if step < len(batches)})
            for slot, batches in enumerate(data):
                if step < len(batches):
                    losses[slot].append(float(found[slot]))
    products = [
        {name: bank.stack.scale[slot] * bank.stack.b[name][slot] @ a[slot] for name, a in bank.stack.a.items()}
        for slot in range(len(tunings))
    ]
    bank.close()
    return started, losses, products


def by_peft(model: PreTrainedModel, tuning: Tuning, started: dict[str, Tensor], batches: Batches) -> tuple[list[float], Products]:
    """The same with PEFT, torch's AdamW, transformers' schedule and padded rectangles."""
    layers = model.config.num_hidden_layers
    config = LoraConfig(
        r=tuning.rank,
        lora_alpha=tuning.alpha,
        target_modules=list(tuning.targets),
        layers_to_transform=None if tuning.layers is None else list(range(layers - tuning.layers, layers)),
        task_type="CAUSAL_LM",
    )
    adapted = get_peft_model(model, config, autocast_adapter_dtype=False)
    parameters = dict(adapted.named_parameters())
    prefix, end = "base_model.model.", ".lora_A.default.weight"
    names = [name.removeprefix(prefix).removesuffix(end) for name in parameters if name.endswith(end)]
    for name in names:
        parameters[prefix + name + end].data.copy_(started[name][: tuning.rank])
    trained = [parameter for parameter in parameters.values() if parameter.requires_grad]
    optimiser = torch.optim.AdamW(trained, lr=tuning.lr, weight_decay=tuning.weight_decay)
    kind = "constant_with_warmup" if tuning.schedule == "constant" else tuning.schedule
    schedule = get_scheduler(kind, optimiser, num_warmup_steps=tuning.warmup, num_training_steps=len(batches))
    losses = []
    for rows in batches:
        loss = padded_loss(adapted, rows)
        loss.backward()
        if tuning.clip:
            torch.nn.utils.clip_grad_norm_(trained, tuning.clip)
        optimiser.step()
        schedule.step()
        optimiser.zero_grad()
        losses.append(loss.item())
    scale = tuning.alpha / tuning.rank
    other = end.replace("lora_A", "lora_B")
    return losses, {
        name: scale * (parameters[prefix + name + other] @ parameters[prefix + name + end]).detach() for name in names
    }


def padded_loss(model: torch.nn.Module, rows: Sequence[Row]) -> Tensor:
    width = max(len(row.ids) for row in rows)

    def rectangle(values: Sequence[Sequence[int]], pad: int) -> Tensor:
        return torch.tensor([[*value, *[pad] * (width - len(value))] for value in values])

    ids, labels = rectangle([row.ids for row in rows], 0), rectangle([row.labels for row in rows], -100)
    mask = rectangle([[1] * len(row.ids) for row in rows], 0)
    logits = model(input_ids=ids, attention_mask=mask).logits
    each = torch.nn.functional.cross_entropy(
        logits[:, :-1].flatten(0, 1), labels[:, 1:].flatten(), ignore_index=-100, reduction="none"
    )
    weights = torch.tensor([row.weight for row in rows], dtype=each.dtype)
    return (each.view(len(rows), -1) * weights[:, None]).sum() / (labels[:, 1:] != -100).sum()


def apart(ours: Products, theirs: Products) -> float:
    """The largest relative difference; sites that PEFT does not adapt must be exactly zero here."""
    assert theirs
    assert all(not product.any() for name, product in ours.items() if name not in theirs)
    assert all(product.norm() > 0 for product in theirs.values())
    return max(float((ours[name] - product).norm() / product.norm()) for name, product in theirs.items())
