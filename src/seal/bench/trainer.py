"""What people run today: PEFT under transformers' Trainer, padded to 2,048 as in the paper's code (pads in the loss) or not."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Sequence

from peft import LoraConfig, get_peft_model
from torch.utils.data import Dataset
from transformers import PreTrainedModel, Trainer, TrainingArguments

from seal.bench.peft_loop import peft_targets
from seal.types import Tuning

PAD_TO = 2048


class _Rows(Dataset[dict[str, list[int]]]):
    def __init__(self, rows: Sequence[Sequence[int]], padded: bool) -> None:
        self.rows, self.padded = rows, padded

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, at: int) -> dict[str, list[int]]:
        ids = list(self.rows[at])
        pads = PAD_TO - len(ids) if self.padded else 0
        # the paper's code copies the ids into the labels after padding, so the pads carry loss
        return {"input_ids": ids + [0] * pads, "attention_mask": [1] * len(ids) + [0] * pads, "labels": ids + [0] * pads}


def train(model: PreTrainedModel, tuning: Tuning, rows: Sequence[Sequence[int]], *, padded: bool) -> None:
    """One optimiser step a row, a Trainer built anew for it as the paper's code does. The model is left as it was."""
    config = LoraConfig(r=tuning.rank, lora_alpha=int(tuning.alpha), target_modules=peft_targets(tuning), lora_dropout=0.0)
    adapted = get_peft_model(model, config)
    bars = os.environ.get("TQDM_DISABLE")
    os.environ["TQDM_DISABLE"] = "1"
    try:
        with tempfile.TemporaryDirectory() as directory:
            arguments = TrainingArguments(
                output_dir=directory,
                per_device_train_batch_size=1,
                max_steps=len(rows),
                learning_rate=tuning.lr,
                optim="adamw_torch",  # torch's default; transformers' own is fused, which is a cause of its own
                logging_steps=1,
                save_strategy="no",
                report_to=[],
                disable_tqdm=True,
                use_cpu=next(model.parameters()).device.type == "cpu",
                dataloader_pin_memory=False,
            )
            arguments._n_gpu = 1  # of several GPUs it would take all, a replica of the model on each for one row
            trainer = Trainer(model=adapted, args=arguments, train_dataset=_Rows(rows, padded))
            trainer.pop_callback(next((c for c in trainer.callback_handler.callbacks if "Print" in type(c).__name__), None))
            trainer.train()
    finally:
        if bars is None:
            del os.environ["TQDM_DISABLE"]
        else:
            os.environ["TQDM_DISABLE"] = bars
        adapted.unload()
