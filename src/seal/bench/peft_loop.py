"""The fair baseline: one adapter at a time, as well as PEFT and PyTorch can do it without anything of ours.

No padding, no Trainer, no key-value cache, SDPA, the fused AdamW, and nothing in the loop that waits for the device (transformers
does once a step, when it looks for packed sequences before it makes a mask).
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from peft import LoraConfig, get_peft_model
from torch import Tensor
from transformers import PreTrainedModel, get_linear_schedule_with_warmup

from seal.engine.place import placed
from seal.types import ALL_LINEAR, Tuning


def peft_targets(tuning: Tuning) -> list[str] | str:
    """Its layers as PEFT takes them."""
    return ALL_LINEAR if ALL_LINEAR in tuning.targets else list(tuning.targets)


class PeftLoop:
    """A LoRA adapter on `model` and its optimiser; every call of `train` goes on with them."""

    def __init__(self, model: PreTrainedModel, tuning: Tuning, steps: int, *, fused: bool = True) -> None:
        """`steps`: of the whole fine-tune, over which the learning rate falls to 0. `fused` False: torch's default AdamW."""
        config = LoraConfig(r=tuning.rank, lora_alpha=int(tuning.alpha), target_modules=peft_targets(tuning), lora_dropout=0.0)
        self.model = get_peft_model(model, config).train()
        self.parameters = [p for p in self.model.parameters() if p.requires_grad]
        self.optimiser = torch.optim.AdamW(self.parameters, lr=tuning.lr, weight_decay=tuning.weight_decay, fused=fused or None)
        self.schedule = get_linear_schedule_with_warmup(self.optimiser, 0, steps)
        self.clip = tuning.clip

    def train(self, rows: Sequence[Sequence[int]]) -> Tensor:
        """One optimiser step a row. Returns the losses, (steps,)."""
        device = self.parameters[0].device
        losses = []
        for row in rows:
            ids = placed(row, device)[None]
            loss = self.model(input_ids=ids, labels=ids, use_cache=False).loss
            loss.backward()
            torch.nn.utils.clip_grad_norm_(self.parameters, self.clip)
            self.optimiser.step()
            self.schedule.step()
            self.optimiser.zero_grad(set_to_none=True)
            losses.append(loss.detach())
        return torch.stack(losses)
