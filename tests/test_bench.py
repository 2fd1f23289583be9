"""The benchmarks: the workload is the official round's, both sides do the same work, and the document has its figures."""

from __future__ import annotations

import contextlib
import json
import math
import os
import statistics
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from small_models import BYTES, a_model, written
from transformers import AutoModelForCausalLM, LlamaConfig, LlamaForCausalLM, Trainer, TrainingArguments

from seal.bench import bench_eval, bench_inner, open_subject, trainer
from seal.bench.answers import TOGETHER, Answers
from seal.bench.clock import laps
from seal.bench.floor import rate
from seal.bench.ours import Ours
from seal.bench.peft_loop import PeftLoop
from seal.bench.subject import SHAPES
from seal.bench.train import _round
from seal.bench.workload import efficiency, lengths, questions, rows
from seal.cli.app import run
from seal.engine.decode import Continued, complete
from seal.engine.host import Host
from seal.engine.layouts import ANSWERING, Layout
from seal.report.bench import bench

ROOT = Path(__file__).parents[1]


def test_the_lengths_are_those_of_the_official_round() -> None:
    edits = lengths().edits
    assert len(edits) == 250
    assert statistics.mean(map(len, edits)) == pytest.approx(8.73, abs=0.01)
    assert statistics.mean(map(sum, edits)) == pytest.approx(427.3, abs=0.1)
    assert max(map(len, edits)) == 67
    assert len(lengths().questions) == 50
    assert sum(map(len, lengths().questions)) == 225
    assert all(13 <= alike < min(q[0] for q in asked) for alike, asked in zip(lengths().alike, lengths().questions, strict=True))


def test_rows_are_drawn_by_the_seed() -> None:
    assert rows(40, 512, 1) == rows(40, 512, 1) != rows(40, 512, 2)
    assert max(token for row in rows(40, 512, 1) for token in row) < 512
    asked = questions(5, 512, 0)
    assert len(asked) == 5
    for passage in asked:
        beginnings = [prompt[:13] for prompt, _ in passage]
        assert beginnings == beginnings[:1] * len(passage)
        assert len({tuple(prompt) for prompt, _ in passage}) == len(passage)


def test_a_bank_that_is_refilled_is_busy_until_it_is_too_wide() -> None:
    assert efficiency(1) == 1.0
    assert efficiency(16) > 0.98
    assert efficiency(64) > 0.95 > efficiency(128) > efficiency(250)


def test_the_fair_loop_and_ours_learn_the_same() -> None:
    subject = open_subject("tiny", device="cpu", rank=4)
    drawn = rows(12, 512, 0)
    loop = PeftLoop(subject.make(), subject.tuning(), len(drawn))
    ours = Ours(Host(subject.make()), subject.tuning(), 1, len(drawn), {})
    for (_, a), parameter in zip(
        ((n, p) for n, p in sorted(_adapters(loop)) if "lora_A" in n),
        (ours.bank.stack.a[site.name][0] for site in sorted(ours.bank.stack.sites, key=lambda site: site.name)),
        strict=True,
    ):
        a.data.copy_(parameter)
    theirs = loop.train(drawn)
    own = torch.tensor(ours.train(drawn))[:, 0]
    assert torch.allclose(theirs, own.float(), atol=1e-4)


def _adapters(loop: PeftLoop) -> list[tuple[str, torch.nn.Parameter]]:
    return [(name, p) for name, p in loop.model.named_parameters() if p.requires_grad]


def test_inner_has_its_figures(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every way is taken, and each is told to be twice as quick as the one before: what the figures are made of is no clock's."""

    def laps(
        ways: Mapping[str, Callable[[], object]], n: int, within: float | None = None, *, device: torch.device
    ) -> dict[str, list[float]]:
        assert not torch.backends.cuda.cudnn_sdp_enabled()
        assert bool(asked) == (TOGETHER in ways)  # whose backends are chosen before they are timed
        for way in ways.values():
            way()
        return {name: [0.5**at] * n for at, name in enumerate(ways)}

    def watched(*given: Any) -> list[Continued]:
        asked.append(given)
        return complete(*given)

    asked: list[tuple[Any, ...]] = []
    monkeypatch.setattr("seal.bench.answers.complete", watched)
    monkeypatch.setattr("seal.bench.train.laps", laps)
    first: list[dict[str, Any]] = []
    subject = open_subject("tiny", device="cpu", rank=4)
    found = bench_inner(subject, slots=(1, 4), upper=1, quick=True, trained=first.append)
    train = found["train"]
    unanswered = {"causes": train["causes"] | {"decode": None}, "seconds_per_edit": None, "answered": None}
    assert [one["train"] for one in first] == [train | unanswered]
    assert (train["vs_peft_loop"], train["vs_official"], train["vs_peft_loop_k1"]) == (4.0, 16 * 32.0, 2.0)
    assert train["fraction_of_floor"] > 0
    causes = train["causes"]
    product = causes["padding"] * causes["trainer"] * causes["optimiser"] * causes["engine"] * causes["batching"]
    assert product == pytest.approx(train["vs_official"])
    assert causes["decode"] == 0.5
    assert train["answered"] == {"adapters": 4, "one_at_a_time": 4}
    assert [way["name"] for way in train["ways"]][3:] == ["PEFT loop", "K = 1", "K = 4", "K = 4, upper 1 layers"]
    (four,) = (way for way in train["ways"] if way["name"] == "K = 4")
    upper = train["ways"][-1]["ms_per_token"]["median"] * found["tokens"] / 1e3
    assert upper == pytest.approx((0.5**6 + 9 * 0.5**7) / 10)  # of ten epochs the first also runs what lies below
    assert train["seconds_per_edit"] == pytest.approx(3600 / four["edits_per_hour"] + 1 / 4 + 0.5 / 4)
    assert found["quicker"] == {"fused": True, "compact": True}
    assert f"asked among 4: {train['seconds_per_edit']:.2f} s" in " ".join(map(str, bench(found)))
    json.dumps(found, allow_nan=False)


def test_the_layers_below_the_adapters_are_worked_out_in_every_first_epoch_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever lap it is in: what a lap takes does not depend on how many there are."""
    subject = open_subject("tiny", device="cpu", rank=4)
    host, drawn = Host(subject.make()), rows(4, 512, 0)
    ours = Ours(host, replace(subject, layers=1).tuning(), 2, 99, {})
    ours.train(drawn[:2])
    whole, ran = host.lower, []
    monkeypatch.setattr(host, "lower", lambda depth: ran.append(depth) or whole(depth))
    for _ in range(2):
        ours.train_first(drawn)
        assert ran == [1, 1]
        ours.train(drawn)
        assert ran == [1, 1]
        ran.clear()
    host.close()


@pytest.mark.parametrize(("seconds", "taken"), [(3.0, 4), (5.0, 4), (5.5, 3), (7.0, 2), (20.0, 1), (100.0, 1)])
def test_no_lap_begins_that_would_end_too_late(
    seconds: float, taken: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A lap takes so many seconds and twenty are there, the first lap whatever it takes."""
    now = 0.0

    def way() -> None:
        nonlocal now
        now += seconds

    monkeypatch.setattr("seal.bench.clock.time.perf_counter", lambda: now)
    cpu = torch.device("cpu")
    assert laps({"a way": way}, 4, within=20.0, device=cpu) == {"a way": [seconds] * taken}
    assert (f"no lap {taken + 1}: one takes {seconds:.0f} s here" in capsys.readouterr().err) == (taken < 4)
    assert len(laps({"a way": way}, 4, device=cpu)["a way"]) == 4


def test_eval_has_its_figures(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each way is taken and told to be twice as quick as the one before."""

    def laps(ways: Mapping[str, Callable[[], object]], n: int, *, device: torch.device) -> dict[str, list[float]]:
        for way in ways.values():
            way()
        return {name: [0.5**at] * n for at, name in enumerate(ways)}

    monkeypatch.setattr("seal.bench.answers.laps", laps)
    found = bench_eval(open_subject("tiny", device="cpu", rank=4), slots=3, quick=True)
    assert (found["answer"]["vs_one_at_a_time"], found["sample"]["vs_generate"]) == (0.125, 2.0)
    assert [way["tokens_per_second"] for way in found["sample"]["ways"]] == [16 * 160 / 0.5, 16 * 160 / 0.25]
    one, together = (way["tokens_per_second"] for way in found["answer"]["ways"])
    assert one == 8 * together > 0
    assert found["answer"]["one_at_a_time"] == 3
    json.dumps(found, allow_nan=False)


@pytest.fixture
def answers() -> Iterator[Answers]:
    """Of four adapters."""
    subject = open_subject("tiny", device="cpu", rank=4)
    made = Answers(subject, Host(subject.make()), slots=4, seed=0, until=math.inf)
    yield made
    made.host.close()


def test_the_frozen_weights_are_laid_out_once_for_all_adapters(answers: Answers, monkeypatch: pytest.MonkeyPatch) -> None:
    laid: list[Layout] = []
    copied = answers.host.copied
    monkeypatch.setattr(answers, "questions", [[([1, 2], 2)]] * 4)
    monkeypatch.setattr(answers.host, "copied", lambda layout: laid.append(layout) or copied(layout))
    answers.together()
    assert laid == [ANSWERING]
    answers.one_at_a_time()
    assert [layout for layout in laid if layout.copies] == [ANSWERING] * 2


@pytest.mark.parametrize(("seconds", "asked"), [(44.0, 4), (43.9, 3), (24.0, 2), (23.9, 1), (0.0, 1)])
def test_no_adapter_is_asked_that_would_end_too_late(
    seconds: float, asked: int, answers: Answers, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """An adapter takes ten seconds, laying the weights out four."""
    now = 0.0

    def later(by: float) -> Any:
        nonlocal now
        now += by
        return contextlib.nullcontext()

    monkeypatch.setattr("seal.bench.answers.time.perf_counter", lambda: now)
    monkeypatch.setattr("seal.bench.answers.prepacked", lambda *_: later(4.0))
    monkeypatch.setattr("seal.bench.answers.complete", lambda *_: later(10.0))
    monkeypatch.setattr(answers, "questions", [[([1], tokens)] for tokens in (6, 2, 4, 8)])
    answers.until = seconds
    answers.one_at_a_time()
    assert (answers.asked, now) == (asked, 4.0 + 10 * asked)
    assert (f"time for {asked} of 4 adapters one after the other" in capsys.readouterr().err) == (asked < 4)
    assert answers.whole([now]) == [4.0 + 10 * asked * 20 / sum((6, 2, 4, 8)[:asked])]


def test_the_verb(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """Without time for more than the least."""
    monkeypatch.setattr("seal.bench.answers.QUICK", 0.0)
    monkeypatch.setattr("seal.bench.train.QUICK", 0.0)
    assert run(["bench", "inner", "--model", "tiny", "--device", "cpu", "--slots", "2", "--rank", "4", "--quick", "--json"]) == 0
    out, err = capsys.readouterr()
    found = json.loads(out)
    assert (found["dtype"], found["laps"]) == ("float32", 1)
    assert "no lap 2: " in err
    assert "time for 1 of 2 adapters one after the other" in err
    train = found["train"]
    assert train["answered"] == {"adapters": 2, "one_at_a_time": 1}
    said = " ".join(map(str, bench(found)))
    assert "2 adapters were asked, 1 of them one after the other, from which the rest is worked out" in said
    assert train["best_slots"] == 2
    assert train["vs_official"] > train["vs_peft_loop"]  # a row padded to 2,048 costs many times more on any machine
    assert run(["bench", "eval", "--model", "tiny", "--device", "cpu", "--slots", "2", "--rank", "4", "--quick"]) == 0
    said = " ".join(capsys.readouterr().out.split())
    assert "times as fast; 2 adapters were asked, 1 of them one after the other" in said
    assert "times as fast; 16 rows of 1 tokens" in said
    assert run(["bench", "inner", "--slots", "1,x"]) == 2
    assert "--slots '1,x'" in capsys.readouterr().err


@pytest.mark.parametrize("verb", ["inner", "eval"])
@pytest.mark.parametrize("device", ["foo", "cuda:99"])
def test_a_device_that_is_not_here_is_the_users_mistake(verb: str, device: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["bench", verb, "--model", "tiny", "--device", device, "--quick"]) == 2
    assert f"no device '{device}' on this machine" in capsys.readouterr().err


@pytest.mark.parametrize("verb", ["inner", "eval"])
def test_a_target_the_model_does_not_have_is_the_users_mistake(verb: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["bench", verb, "--model", "tiny", "--device", "cpu", "--targets", "q_proj,foo", "--quick"]) == 2
    assert "--targets: the model has no linear layer named foo; it has q_proj, k_proj" in capsys.readouterr().err


def test_the_gpu_script_in_its_tiny_setting(tmp_path: Path) -> None:
    settings = {**os.environ, "SEAL_BENCH_TINY": "1", "OUT": str(tmp_path), "PYTHON": sys.executable, "OMP_NUM_THREADS": "1"}
    subprocess.run(["bash", "benchmarks/gpu.sh"], cwd=ROOT, env=settings, check=True, capture_output=True, timeout=240)
    agrees = json.loads((tmp_path / "agrees.json").read_text())
    assert agrees["tokens_agree"] == 1.0
    assert agrees["backends_apart"].keys() == {"split", "padded", "grouped"}
    assert agrees["backends_apart"]["padded"] > 0  # not the reference itself, which takes its place where slots are uneven
    assert agrees["peft_apart"] < 1e-4 < agrees["peft_learnt"]
    assert json.loads((tmp_path / "inner-tiny.json").read_text())["train"]["vs_peft_loop"] > 0


def test_what_fails_on_a_gpu_does_not_keep_the_rest_from_its_turn(tmp_path: Path) -> None:
    """A python that fails at the first part, and writes down what it was asked."""
    python = tmp_path / "python"
    python.write_text(f'#!/bin/sh\necho "$@" >> {tmp_path}/asked\ncase "$1" in *agrees.py) exit 3 ;; esac\n')
    python.chmod(0o755)
    for tiny, parts in (("1", 3), ("", 5)):
        (tmp_path / "asked").unlink(missing_ok=True)
        settings = {**os.environ, "SEAL_BENCH_TINY": tiny, "OUT": str(tmp_path), "PYTHON": str(python)}
        done = subprocess.run(["bash", "benchmarks/gpu.sh"], cwd=ROOT, env=settings, capture_output=True, text=True)
        assert done.returncode == 1
        assert done.stderr.startswith("failed: benchmarks/agrees.py")
        first, *asked = (tmp_path / "asked").read_text().splitlines()
        assert first == "-c import torch, transformers, peft"
        assert len(asked) == parts


def test_parts_on_a_gpu_have_what_is_left_of_nine_minutes(tmp_path: Path) -> None:
    """400 seconds after the script began, and 540; `timeout` writes down its limit."""
    timeout = tmp_path / "timeout"
    timeout.write_text(f'#!/bin/sh\necho "$1" >> {tmp_path}/limits\n')
    timeout.chmod(0o755)
    settings = {**os.environ, "SEAL_BENCH_TINY": "", "OUT": str(tmp_path), "PYTHON": "true"}
    settings["PATH"] = f"{tmp_path}:{settings['PATH']}"
    for began, failures in ((400, 0), (540, 5)):
        (tmp_path / "limits").write_text("")
        done = subprocess.run(
            ["bash", "benchmarks/gpu.sh"], cwd=ROOT, env=settings | {"SECONDS": str(began)}, capture_output=True, text=True
        )
        limits = [int(line) for line in (tmp_path / "limits").read_text().split()]
        assert (done.returncode, done.stderr.count("failed: ")) == (min(1, failures), failures)
        assert len(limits) == 5 - failures
        assert all(limit <= most for limit, most in zip(limits, (60, 90, 60, 140, 120), strict=False))


@pytest.mark.parametrize(
    ("named", "parts"),
    [("inner-qwen", ["inner-qwen-7b"]), ("eval agrees", ["agrees", "eval-llama-1b", "eval-qwen-7b"]), ("innner", [])],
)
def test_the_gpu_script_runs_the_parts_that_are_named(named: str, parts: list[str], tmp_path: Path) -> None:
    python = tmp_path / "python"
    python.write_text(f'#!/bin/sh\necho "$@" >> {tmp_path}/asked\n')
    python.chmod(0o755)
    settings = {**os.environ, "SEAL_BENCH_TINY": "", "OUT": str(tmp_path), "PYTHON": str(python), "PARTS": named}
    done = subprocess.run(["bash", "benchmarks/gpu.sh"], cwd=ROOT, env=settings, capture_output=True, text=True)
    asked = (tmp_path / "asked").read_text().splitlines()[1:]
    assert [line.partition("--out ")[2] for line in asked] == [f"{tmp_path}/{part}.json" for part in parts]
    assert (done.returncode, done.stderr) == ((0, "") if parts else (1, "no part is named innner\n"))


def test_a_round_of_padded_rows_counts_once_what_is_built_once() -> None:
    """2 seconds to build, 0.5 a row."""
    assert _round([2.5], [3.5], 64) == [34.0]
    assert _round([2.5], None, 64) == [160.0]


def test_the_frozen_weights_are_what_they_are_told() -> None:
    """And rotary frequencies float32, as in a checkpoint."""
    for name in ("float32", "bfloat16"):
        model = open_subject("tiny", device="cpu", dtype=name).make()
        assert {weight.dtype for weight in model.parameters()} == {getattr(torch, name)}
        assert {buffer.dtype for buffer in model.buffers()} == {torch.float32}


def test_the_floor_cuts_the_heads_product_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of a model whose gate and up are as wide as Qwen2.5-7B's."""
    seen: set[tuple[int, ...]] = set()

    def best(_: float, left: torch.Tensor, right: torch.Tensor) -> float:
        seen.add(tuple(left.shape))
        return 1.0

    monkeypatch.setattr("seal.bench.floor._best", best)
    config = LlamaConfig(
        vocab_size=20000,
        hidden_size=8,
        intermediate_size=18944,
        num_hidden_layers=1,
        num_attention_heads=1,
        tie_word_embeddings=True,
    )
    rate(LlamaForCausalLM(config), 600)
    assert {(600, 8), (600, 18944), (512, 8), (512, 20000)} <= seen
    assert not seen & {(512, 18944), (600, 20000)}


def test_the_trainer_has_torchs_default_adamw(monkeypatch: pytest.MonkeyPatch) -> None:
    """The fused one is a cause of its own."""
    fused: list[bool | None] = []
    monkeypatch.setattr(torch.optim.AdamW, "step", lambda self, *_: fused.append(self.defaults["fused"]))
    subject = open_subject("tiny", device="cpu", rank=4)
    trainer.train(subject.make(), subject.tuning(), rows(2, 512, 0), padded=False)
    assert not any(fused)
    assert len(fused) == 2


def test_the_trainer_takes_one_gpu_of_several(monkeypatch: pytest.MonkeyPatch) -> None:
    """The model itself, as the engine and the loop do; its argument is told here that there are four."""
    trained: list[bool] = []
    setup = TrainingArguments.__post_init__

    def four(self: TrainingArguments) -> None:
        setup(self)
        self._n_gpu = 4

    def step(self: Trainer, model: torch.nn.Module, *_: Any) -> torch.Tensor:
        trained.append(isinstance(model, torch.nn.DataParallel) or self.args.n_gpu > 1)
        return torch.zeros(())

    monkeypatch.setattr(TrainingArguments, "__post_init__", four)
    monkeypatch.setattr(Trainer, "training_step", step)
    subject = open_subject("tiny", device="cpu", rank=4)
    trainer.train(subject.make(), subject.tuning(), rows(2, 512, 0), padded=False)
    assert trained == [False, False]


def test_all_linear_is_every_layer_of_whichever_family(tmp_path: Path) -> None:
    """LFM2 calls its layers otherwise than Llama; PEFT's loop and ours adapt the same ones."""
    written(a_model("lfm2", layer_types=["conv", "full_attention"], **BYTES), tmp_path)
    subject = open_subject(str(tmp_path / "model"), device="cpu", targets="all-linear")
    loop = PeftLoop(subject.make(), subject.tuning(), 1)
    host = Host(subject.make())
    ours = {site.name for site in host.sites(subject.targets)}
    host.close()
    assert {name.rpartition(".")[2] for name in ours} >= {"in_proj", "w1", "q_proj"}
    theirs = {name.partition(".lora_A")[0] for name, _ in loop.model.named_parameters() if ".lora_A" in name}
    assert theirs == {f"base_model.model.{name}" for name in ours}
    assert loop.train([[5, 6, 7]]).isfinite().all()


@pytest.mark.parametrize("name", ["qwen3.5-100m-shape", "lfm2-100m-shape"])
def test_the_mixed_shapes_are_of_the_embedded_models_size_and_have_both_kinds_of_layers(name: str) -> None:
    config = SHAPES[name]()
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(config)
    assert 100e6 < sum(one.numel() for one in model.parameters()) < 140e6
    assert len(set(config.layer_types)) == 2
