"""The command that `seal adapt` prints for vLLM, run where there is a vLLM: what it serves answers as PEFT does."""

from __future__ import annotations

import json
import os
import shlex
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.error import URLError
from urllib.request import Request, urlopen

import pytest
import torch
from peft import PeftModel
from transformers import AutoModelForCausalLM, AutoTokenizer, PreTrainedModel, PreTrainedTokenizerBase

from seal.engine import Bank, Row
from seal.models import open_model
from seal.models.adapter import save_merged
from seal.report.card import Loading, vllm_command
from seal.types import Tuning

pytestmark = [
    pytest.mark.embedded,
    pytest.mark.skipif(shutil.which("vllm") is None, reason="no vllm on the path"),
]
BEGUN = "Ferry number 7 leaves at"
WAIT = 600
"""Seconds a server may take to begin."""
FAST = "--dtype float32 --max-model-len 256 --max-num-seqs 2 --enforce-eager"
"""What makes it exact, and quick to begin; `seal adapt` says none of it."""


@pytest.fixture(scope="module")
def learnt(embedded_path: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An adapter that knows when a ferry leaves."""
    folder = tmp_path_factory.mktemp("vllm") / "learnt"
    model, tokenizer = AutoModelForCausalLM.from_pretrained(embedded_path), AutoTokenizer.from_pretrained(embedded_path)
    bank = Bank(model, slots=1, rank=4, targets=("q_proj", "v_proj", "down_proj"))
    bank.start(0, Tuning(rank=4, alpha=8, lr=2e-3), steps=20, seed=0)
    for _ in range(20):
        bank.step({0: [Row.of(tokenizer(f"{BEGUN} half past noon.").input_ids)]})
    bank.save(0, folder)
    bank.close()
    return folder


def continued(model: PreTrainedModel | PeftModel, tokenizer: PreTrainedTokenizerBase, text: str) -> str:
    """What a model adds to a text, in transformers."""
    given = tokenizer(text, return_tensors="pt")
    with torch.no_grad():
        whole = model.generate(**given, max_new_tokens=8, do_sample=False)
    return str(tokenizer.decode(whole[0, given["input_ids"].shape[1] :], skip_special_tokens=True))


@contextmanager
def served(command: str, folder: Path) -> Iterator[str]:
    """A server's address, while it runs."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with (folder / "vllm.log").open("w") as log:
        server = subprocess.Popen(
            [*shlex.split(command), *FAST.split(), "--host", "127.0.0.1", "--port", str(port)],
            stdout=log,
            stderr=log,
            env={"VLLM_CPU_KVCACHE_SPACE": "1", **os.environ},
        )
    try:
        address, until = f"http://127.0.0.1:{port}", time.monotonic() + WAIT
        while not up(address):
            if server.poll() is not None or time.monotonic() > until:
                pytest.fail((folder / "vllm.log").read_text()[-3000:])
            time.sleep(1)
        yield address
    finally:
        server.terminate()
        server.wait(60)


def up(address: str) -> bool:
    """Whether it answers by now."""
    try:
        return bool(urlopen(f"{address}/health", timeout=5).status == 200)
    except (URLError, OSError):
        return False


def completion(address: str, model: str, text: str) -> str:
    """What a served model adds to a text."""
    body = {"model": model, "prompt": text, "max_tokens": 8, "temperature": 0}
    request = Request(f"{address}/v1/completions", json.dumps(body).encode(), {"Content-Type": "application/json"})
    return str(json.load(urlopen(request, timeout=120))["choices"][0]["text"])


def test_the_adapter_is_served_beside_its_base(embedded_path: Path, learnt: Path, tmp_path: Path) -> None:
    tokenizer, base = AutoTokenizer.from_pretrained(embedded_path), AutoModelForCausalLM.from_pretrained(embedded_path)
    plain = continued(base, tokenizer, BEGUN)
    adapted = continued(PeftModel.from_pretrained(base, str(learnt)), tokenizer, BEGUN)
    assert adapted.startswith(" half past noon")
    assert not plain.startswith(" half past noon")
    with served(vllm_command(Loading(learnt, str(embedded_path), True, 4)), tmp_path) as address:
        assert completion(address, learnt.name, BEGUN) == adapted
        assert completion(address, str(embedded_path), BEGUN) == plain


def test_the_whole_model_is_served_by_itself(embedded_path: Path, learnt: Path, tmp_path: Path) -> None:
    whole = tmp_path / "model"
    save_merged(open_model(str(embedded_path), device="cpu"), learnt, whole)
    expected = continued(AutoModelForCausalLM.from_pretrained(whole), AutoTokenizer.from_pretrained(whole), BEGUN)
    assert expected.startswith(" half past noon")
    with served(vllm_command(Loading(learnt, str(embedded_path), True, 4, whole)), tmp_path) as address:
        assert completion(address, str(whole), BEGUN) == expected
