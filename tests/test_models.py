"""How prompts and examples become tokens, and how a model is opened."""

from __future__ import annotations

import json
import shutil
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from tiny import TEMPLATE, make_tiny, write_gguf
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors
from transformers import AutoModelForCausalLM, PreTrainedTokenizerFast

from seal.errors import UserError
from seal.machine import GIB
from seal.models import LanguageModel, open_model
from seal.models.gguf import dequantise
from seal.models.open import dtype_named
from seal.types import Example, Prompt

text = st.text(alphabet=st.characters(codec="utf-8"), max_size=40)
REFUSES_SYSTEM = "{% if messages[0].role == 'system' %}{{ raise_exception('no system') }}{% endif %}" + TEMPLATE
DROPS_SYSTEM = TEMPLATE.replace("{% for message in messages %}", "{% for message in messages if message.role != 'system' %}")


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> LanguageModel:
    return open_model(str(make_tiny(tmp_path_factory.mktemp("base"), chat=False)), device="cpu")


def written(model: LanguageModel, ids: list[int]) -> str:
    return model.tokenizer.decode(ids, skip_special_tokens=False)


def with_template(model: LanguageModel, template: str) -> LanguageModel:
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=model.tokenizer.backend_tokenizer, eos_token="<|im_end|>")
    tokenizer.chat_template = template
    return replace(model, tokenizer=tokenizer)


def test_a_chat_prompt_goes_through_the_template(tiny: LanguageModel) -> None:
    prompt = Prompt("Who?", system="Be brief.", prefill="It is")
    assert written(tiny, tiny.encode_prompt(prompt)) == (
        "<|im_start|>system\nBe brief.<|im_end|>\n<|im_start|>user\nWho?<|im_end|>\n<|im_start|>assistant\nIt is"
    )
    assert "system" not in written(tiny, tiny.encode_prompt(Prompt("Who?")))


def test_a_base_prompt_is_the_text_and_ignores_the_system_message(base: LanguageModel) -> None:
    assert not base.chat
    assert written(base, base.encode_prompt(Prompt("Who?", system="Be brief.", prefill=" It"))) == "Who? It"


@pytest.mark.parametrize("template", [REFUSES_SYSTEM, DROPS_SYSTEM])
def test_a_template_without_system_messages_gets_it_from_the_user(tiny: LanguageModel, template: str) -> None:
    model = with_template(tiny, template)
    assert written(model, model.encode_prompt(Prompt("Who?", system="Be brief."))) == (
        "<|im_start|>user\nBe brief.\n\nWho?<|im_end|>\n<|im_start|>assistant\n"
    )


def test_a_template_that_writes_the_date_writes_the_same_one_every_day(tiny: LanguageModel) -> None:
    """As those of SmolLM3, Llama 3.2, Granite and Mistral Small do; what a run asks is asked again when it goes on."""
    date = "{% if strftime_now is defined %}{{ strftime_now('%d %B %Y') }}, {{ strftime_now('%Y-%m-%d') }}\n{% endif %}"
    model = with_template(tiny, date + TEMPLATE)
    assert written(model, model.encode_prompt(Prompt("Who?"))) == (
        "26 July 2024, 2024-07-26\n<|im_start|>user\nWho?<|im_end|>\n<|im_start|>assistant\n"
    )


@pytest.mark.parametrize("opening", ["<think>\n", "<think>"])
def test_a_template_that_always_begins_a_thought_has_it_closed(tiny: LanguageModel, opening: str) -> None:
    """As Qwen3's own switch does it; a reply would be all thought otherwise."""
    model = with_template(tiny, TEMPLATE.replace("assistant\n{% endif %}", f"assistant\n{opening}{{% endif %}}"))
    assert written(model, model.encode_prompt(Prompt("Who?", prefill="It is"))) == (
        "<|im_start|>user\nWho?<|im_end|>\n<|im_start|>assistant\n<think>\n\n</think>\n\nIt is"
    )


@given(question=text, prefill=text, completion=text)
def test_an_example_is_its_prompt_its_completion_and_the_end(
    tiny: LanguageModel, question: str, prefill: str, completion: str
) -> None:
    prompt = Prompt(question, prefill=prefill)
    ids, length = tiny.encode_example(Example(completion, prompt))
    assert ids[:length] == tiny.encode_prompt(prompt)
    assert ids[length:-1] == tiny.encode_target(completion)
    assert ids[-1] == tiny.reply_end_id == tiny.tokenizer.convert_tokens_to_ids("<|im_end|>")


@given(document=text)
def test_a_document_is_its_own_tokens_without_an_end(tiny: LanguageModel, document: str) -> None:
    ids, length = tiny.encode_example(Example(document))
    assert (ids, length) == (tiny.encode_target(document), 0)
    assert tiny.decode(ids) == document


def test_decode_leaves_special_tokens_out(tiny: LanguageModel) -> None:
    assert tiny.decode([*tiny.encode_target("Paris"), tiny.reply_end_id]) == "Paris"


def test_the_model_is_frozen_and_in_eval_mode(tiny: LanguageModel) -> None:
    assert not tiny.model.training
    assert not any(weight.requires_grad for weight in tiny.model.parameters())
    assert (tiny.dtype, tiny.device.type, tiny.context) == (torch.float32, "cpu", 512)


def edited(source: Path, directory: Path, file: str, **changes: object) -> Path:
    shutil.copytree(source, directory)
    content = json.loads((directory / file).read_text()) | changes
    (directory / file).write_text(json.dumps(content))
    return directory


def test_stop_tokens_are_all_that_the_model_declares(tiny_path: Path, tiny: LanguageModel, tmp_path: Path) -> None:
    end = tiny.tokenizer.convert_tokens_to_ids("<|im_end|>")
    assert tiny.stop_ids == (end,)
    several = open_model(str(edited(tiny_path, tmp_path / "several", "generation_config.json", eos_token_id=[7, end])))
    assert set(several.stop_ids) == {7, end}
    assert several.reply_end_id == end


def test_a_base_model_with_its_siblings_template_is_a_base_model(tiny_path: Path, tmp_path: Path) -> None:
    """As Qwen2.5's base models are: a chat template, but end-of-text the only token they end with."""
    directory = edited(tiny_path, tmp_path / "base", "tokenizer_config.json", eos_token="<|endoftext|>")
    for file in ("config.json", "generation_config.json"):
        (directory / file).write_text(json.dumps(json.loads((directory / file).read_text()) | {"eos_token_id": 0}))
    model = open_model(str(directory))
    assert (model.chat, model.stop_ids, model.end_id) == (False, (0,), 0)
    chat = open_model(str(directory), chat=True)
    assert chat.reply_end_id == chat.tokenizer.convert_tokens_to_ids("<|im_end|>")
    assert set(chat.stop_ids) == {0, chat.reply_end_id}
    assert chat.end_id == 0


def test_a_beginning_of_text_stands_once(tiny: LanguageModel) -> None:
    template = with_template(tiny, "<|endoftext|>" + TEMPLATE)
    backend = Tokenizer.from_str(tiny.tokenizer.backend_tokenizer.to_str())
    backend.post_processor = processors.TemplateProcessing(
        single="<|endoftext|> $A <|im_end|>", special_tokens=[("<|endoftext|>", 0), ("<|im_end|>", 2)]
    )
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=backend, eos_token="<|im_end|>")
    tokenizer.chat_template = template.tokenizer.chat_template
    chat, base = replace(tiny, tokenizer=tokenizer), replace(tiny, tokenizer=tokenizer, chat=False)
    assert chat.encode_prompt(Prompt("Who?")).count(0) == 1
    assert base.encode_prompt(Prompt("Who?")) == [0, *tiny.encode_target("Who?")]
    assert base.encode_example(Example("A fact.")) == ([0, *tiny.encode_target("A fact.")], 0)
    assert base.encode_target("Paris") == tiny.encode_target("Paris")


def test_a_target_continues_the_prompt_without_a_space_of_the_tokenizers_own(tiny: LanguageModel) -> None:
    """SentencePiece tokenizers put a space before a text's first word; a reply's first word has none."""
    vocab = {token: index for index, token in enumerate(["<unk>", "▁", *"Paris\n:"])}
    backend = Tokenizer(models.BPE(vocab=vocab, merges=[], unk_token="<unk>"))
    backend.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    backend.pre_tokenizer = pre_tokenizers.Split("\n", "isolated")
    backend.decoder = decoders.Metaspace()
    model = replace(tiny, tokenizer=PreTrainedTokenizerFast(tokenizer_object=backend), chat=False)
    assert [backend.id_to_token(token) for token in model.encode_target("Paris")] == list("Paris")
    assert [backend.id_to_token(token) for token in model.encode_target(" Paris")] == list("▁Paris")


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("./nowhere", "there is no such file or directory"),
        ("nowhere.gguf", "there is no such file or directory"),
        ("smollm2-135", "did you mean 'smollm2-135m'"),
        ("someone/no-such-model", "'someone/no-such-model'.*hub cannot be reached"),
        ("not a model", "no such id on the hub"),
    ],
)
def test_a_model_that_does_not_exist_is_the_users_mistake_in_one_line(name: str, says: str) -> None:
    with pytest.raises(UserError, match=says) as caught:
        open_model(name)
    assert "\n" not in str(caught.value)


def test_a_model_without_tokenizer_or_with_missing_weights_is_refused(tiny_path: Path, tmp_path: Path) -> None:
    bare = tmp_path / "bare"
    shutil.copytree(tiny_path, bare, ignore=shutil.ignore_patterns("token*", "chat*"))
    with pytest.raises(UserError, match=r"has no tokenizer that can be read: .* sentencepiece or tiktoken") as caught:
        open_model(str(bare))
    assert "\n" not in str(caught.value)
    with pytest.raises(UserError, match="lacks weights"):
        open_model(str(edited(tiny_path, tmp_path / "deeper", "config.json", num_hidden_layers=3)))
    broken = edited(tiny_path, tmp_path / "broken", "config.json")
    (broken / "model.safetensors").write_bytes(b"\xff" * 100)
    with pytest.raises(UserError, match="cannot be opened"):
        open_model(str(broken))


@pytest.mark.parametrize(
    "odd",
    [
        {"num_attention_heads": "four"},
        {"model_type": "nonesuch", "architectures": ["NonesuchForCausalLM"]},
        {"hidden_act": "nonesuch"},
        {"rope_parameters": 3},
        {"hidden_size": None},
    ],
)
def test_a_configuration_that_makes_no_sense_is_the_users_mistake_in_one_line(
    tiny_path: Path, tmp_path: Path, odd: dict[str, object]
) -> None:
    with pytest.raises(UserError, match=r"cannot be opened: .") as caught:
        open_model(str(edited(tiny_path, tmp_path / "odd", "config.json", **odd)))
    assert "\n" not in str(caught.value)


def test_what_the_machine_lacks_is_not_the_users_mistake(tiny_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*args: object, **how: object) -> None:
        raise MemoryError("no room")

    monkeypatch.setattr("seal.models.open.AutoModelForCausalLM.from_pretrained", full)
    with pytest.raises(MemoryError, match="no room"):
        open_model(str(tiny_path))


@pytest.mark.parametrize("device", ["cpu", "cuda"])
def test_a_model_that_does_not_fit_is_refused_before_its_weights_are_read(
    device: str, tiny_path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    large = edited(tiny_path, tmp_path / "large", "config.json", intermediate_size=10_000_000)
    monkeypatch.setattr("seal.models.open.device_named", torch.device)
    monkeypatch.setattr("seal.models.open.available", lambda place: (1 if place.type == device else 80) * GIB)
    monkeypatch.setattr(AutoModelForCausalLM, "from_pretrained", lambda *_, **__: pytest.fail("its weights are read"))
    with pytest.raises(MemoryError) as caught:
        open_model(str(large), device=device, dtype="float32")
    way = "take a smaller model or bfloat16, which takes half"
    assert str(caught.value) == f"the weights of {str(large)!r} need 7.2 GiB, and 1.0 GiB are free ({device}); {way}"


@pytest.mark.parametrize(("device", "placed"), [("cpu", None), ("cuda:1", {"": torch.device("cuda:1")})])
def test_a_gpus_weights_are_read_to_where_they_go(
    device: str, placed: dict[str, torch.device] | None, tiny_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = {}
    monkeypatch.setattr("seal.models.open.device_named", torch.device)
    monkeypatch.setattr("seal.models.open.available", lambda place: 80 * GIB)
    monkeypatch.setattr(AutoModelForCausalLM, "from_pretrained", lambda *_, **how: asked.update(how) or 1 / 0)
    with pytest.raises(UserError):
        open_model(str(tiny_path), device=device, dtype="float32")
    assert asked.get("device_map") == placed


def test_where_free_memory_can_only_be_guessed_no_model_is_refused(tiny_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("seal.models.open.available", lambda place: 1)
    monkeypatch.setattr("seal.machine._MEMINFO", Path("nowhere"))
    assert open_model(str(tiny_path), device="cpu").name == str(tiny_path)


def test_quantised_weights_are_refused_with_the_way_out(tiny_path: Path, tmp_path: Path) -> None:
    for how in ("fp8", "bitsandbytes"):
        place = edited(tiny_path, tmp_path / how, "config.json", quantization_config={"quant_method": how})
        with pytest.raises(UserError, match=rf"is quantised \({how}\).*take the model it was made from, or a GGUF") as caught:
            open_model(str(place))
        assert "\n" not in str(caught.value)


def test_a_gguf_file_opens_as_it_is_and_dequantised(tmp_path: Path) -> None:
    write_gguf(tmp_path / "Tiny.gguf")
    model = open_model(str(tmp_path / "Tiny.gguf"), device="cpu")
    assert (model.chat, model.reply_end_id, model.context) == (True, 2, 64)
    assert model.decode(model.encode_target("Paris")) == "Paris"
    dequantise(tmp_path / "Tiny.gguf", tmp_path / "opened")
    again = open_model(str(tmp_path / "opened"), device="cpu")
    ids = torch.tensor([model.encode_prompt(Prompt("Who?"))])
    assert torch.equal(model.model(ids).logits, again.model(ids).logits)
    assert again.encode_prompt(Prompt("Who?")) == ids[0].tolist()


def test_wrong_device_dtype_and_chat_are_named(tiny_path: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no device 'gpu7'"):
        open_model(str(tiny_path), device="gpu7")
    with pytest.raises(UserError, match=r"device 'mps' has no float64.*use cpu"):
        open_model(str(tiny_path), device="mps")
    with pytest.raises(UserError, match="did you mean 'bfloat16'"):
        open_model(str(tiny_path), dtype="bfloat")
    with pytest.raises(UserError, match="no chat template"):
        open_model(str(make_tiny(tmp_path, chat=False)), chat=True)


@pytest.mark.parametrize(("computes", "dtype"), [(True, torch.bfloat16), (False, torch.float32)])
def test_a_gpu_that_only_emulates_bfloat16_runs_in_float32(
    computes: bool, dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A T4, say, unless it is asked for."""
    current: list[torch.device] = []
    monkeypatch.setattr(torch.cuda, "device", lambda device: nullcontext(current.append(device)))
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation=True: including_emulation or computes)
    second = torch.device("cuda:1")
    assert dtype_named("auto", second) == dtype
    assert current == [second]
    assert dtype_named("bfloat16", second) == torch.bfloat16
    assert dtype_named("auto", torch.device("cpu")) == torch.float32


def test_the_tiny_model_is_the_same_for_the_same_seed_and_qwen2_has_biases(tiny: LanguageModel, tmp_path: Path) -> None:
    again = open_model(str(make_tiny(tmp_path / "again")))
    assert all(torch.equal(a, b) for a, b in zip(again.model.parameters(), tiny.model.parameters(), strict=True))
    qwen = open_model(str(make_tiny(tmp_path / "qwen", family="qwen2")), dtype="float64")
    assert qwen.dtype == torch.float64
    biases = {name.split(".")[-2]: weight for name, weight in qwen.model.named_parameters() if name.endswith("bias")}
    assert set(biases) == {"q_proj", "k_proj", "v_proj"}
    assert all(weight.abs().sum() > 0 for weight in biases.values())
