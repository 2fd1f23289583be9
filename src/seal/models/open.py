"""Open any causal language model: embedded, a GGUF file, a directory, or one of the hub."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from difflib import get_close_matches
from pathlib import Path
from typing import Any, TypeVar

import torch
from huggingface_hub import snapshot_download
from huggingface_hub.errors import GatedRepoError, HFValidationError, RepositoryNotFoundError, RevisionNotFoundError
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer, PreTrainedModel, PreTrainedTokenizerBase

from seal.errors import UserError, unknown
from seal.machine import GIB, available, is_measured
from seal.models.catalog import CATALOG, Say, pull
from seal.models.gguf import read_gguf, read_gguf_tokenizer
from seal.models.language import LanguageModel, end_of_turn, start_ids
from seal.models.quiet import quiet

Opened = TypeVar("Opened")
_LONGEST = 400
"""Characters of what transformers says that are shown."""
_FILES = ["*.json", "*.safetensors", "*.model", "*.tiktoken", "*.txt", "*.jinja", "*.py"]
"""Of a hub model: its configuration, its weights, its tokenizer, its own code."""
DTYPES = {"float32": torch.float32, "float64": torch.float64, "bfloat16": torch.bfloat16, "float16": torch.float16}


def open_model(
    name: str,
    *,
    device: str = "auto",
    dtype: str = "auto",
    trust_remote_code: bool = False,
    chat: bool | None = None,
    say: Say | None = None,
) -> LanguageModel:
    """The model called `name`: a catalog name (pulled when needed), a GGUF file, a directory, or a hub id, `id@revision`.

    `device`: any torch device; auto: the GPU if there is one. `dtype`: auto: see `dtype_named`.
    `chat`: whether prompts go through the chat template. None decides: yes if there is a template and the token that
    closes its turns is one the model declares as its end. Base models often ship the template of their chat sibling (Qwen2.5
    does) but end with end-of-text alone, so they are opened as what they are.
    Raises UserError if there is no such model, it is no causal language model, or something it needs is missing, and MemoryError
    if its weights do not fit.
    """
    place = device_named(device)
    number = dtype_named(dtype, place)
    model, tokenizer = _load(
        name,
        trust_remote_code,
        say,
        lambda file: read_gguf(file, number),
        lambda source, how: _from_pretrained(source, number, place, how),
    )
    model = model.to(place).eval().requires_grad_(False)
    return _language_model(name, model, tokenizer, chat)


def open_counter(name: str, *, trust_remote_code: bool = False, say: Say | None = None) -> Callable[[str], int]:
    """How many tokens the model called `name` takes for a document. Its tokenizer alone is opened, so that a large model need not
    be here (one that comes with seal is pulled). Raises UserError as `open_model` does."""

    def pretrained(source: str, how: dict[str, Any]) -> PreTrainedTokenizerBase:
        with quiet():
            return _tokenizer(source, AutoConfig.from_pretrained(source, **how), how)

    tokenizer = _load(name, trust_remote_code, say, read_gguf_tokenizer, pretrained)
    start = len(start_ids(tokenizer))
    return lambda text: start + len(tokenizer(text, add_special_tokens=False)["input_ids"])


def pull_hub(name: str) -> Path:
    """Fetches a model of the hub, `id` or `id@revision`, into the hub's own cache, which opens without a network ever after. The
    hub shows its own bars. Raises UserError as `open_model` does."""
    source, _, revision = name.partition("@")

    def fetch(*more: str) -> Path:  # not what Mistral's repositories hold of the same weights in another form
        wanted = [*_FILES, *more]
        return Path(snapshot_download(source, revision=revision or None, allow_patterns=wanted, ignore_patterns="consolidated*"))

    try:
        found = fetch()
        return found if any(found.glob("*.safetensors")) else fetch("pytorch_model*.bin")
    except Exception as error:
        raise _explain(name, False, error) from error


def _language_model(name: str, model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, chat: bool | None) -> LanguageModel:
    if chat and not tokenizer.chat_template:
        raise UserError(f"model {name!r} has no chat template, so it cannot be opened as a chat model; leave model.chat out")
    ends = _declared_ends(model, tokenizer)
    turn_end = end_of_turn(tokenizer) if tokenizer.chat_template and chat is not False else None
    if chat is None:
        chat = turn_end in ends
    end = tokenizer.eos_token_id if tokenizer.eos_token_id is not None else next(iter(ends), None)
    if end is None:
        raise UserError(f"model {name!r} declares no end-of-text token, neither in its tokenizer nor in its configuration")
    reply_end = turn_end if chat and turn_end is not None else end
    stops = tuple(dict.fromkeys((reply_end, *ends, end)))
    return LanguageModel(name, model, tokenizer, chat, stops, end, reply_end, _context(model.config, tokenizer))


def _declared_ends(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> list[int]:
    """End tokens of the generation settings, the configuration and the tokenizer, each once."""
    ends: list[int] = []
    for declared in (model.generation_config.eos_token_id, model.config.get_text_config().eos_token_id, tokenizer.eos_token_id):
        ends += declared if isinstance(declared, list) else [declared] if declared is not None else []
    return list(dict.fromkeys(ends))


def _context(config: Any, tokenizer: Any) -> int:
    """Positions the model was made for, or how far its rotary positions turn alike: the engine runs no longer texts. A recurrent
    model has no such number, and its tokenizer's is taken."""
    text = config.get_text_config()
    most = getattr(text, "max_position_embeddings", tokenizer.model_max_length)
    return int(min([most, *_alike(text)]))


def _alike(text: Any) -> list[int]:
    """Positions up to which a model with LongRoPE turns them alike; nothing for others.

    Where one row of a batch is longer, transformers turns all of them by other frequencies, so a row would change its neighbours.
    The dynamic kind does so only beyond the positions that the model was made for.
    """
    rope = getattr(text, "rope_parameters", None) or {}
    each = [one for one in (rope, *rope.values()) if isinstance(one, dict)]  # one for all layers, or one for each kind of them
    return [one["original_max_position_embeddings"] for one in each if one.get("rope_type") == "longrope"]


def device_named(name: str) -> torch.device:
    """The torch device of that name; auto: the GPU if there is one. Raises UserError if this machine has none of that name, and
    for Apple's GPUs, whose fused AdamW does not clip either in older torch."""
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    if name.partition(":")[0] == "mps":
        raise UserError(f"device {name!r} has no float64, which training and sampling need; use cpu")
    try:
        device = torch.device(name)
        torch.empty(1, device=device)
    except (RuntimeError, AssertionError) as error:  # torch built without CUDA asserts
        raise UserError(f"no device {name!r} on this machine; use auto, cpu, or a GPU such as cuda:0") from error
    return device


def refuse_absent(name: str) -> None:
    """Raises UserError as `device_named` does, but takes nothing of a GPU: what a process uses once keeps memory for it."""
    number = name.removeprefix("cuda:")
    if number == name or not number.isdigit():
        device_named(name)
    elif int(number) >= (count := torch.cuda.device_count()):
        raise UserError(f"no device {name!r} on this machine, where torch sees {count} GPU{'' if count == 1 else 's'}")


def dtype_named(name: str, device: torch.device) -> torch.dtype:
    """One of DTYPES; auto: bfloat16 on a GPU, float32 on a CPU and on a GPU that would only emulate the other (T4, V100, RTX 20).
    Raises UserError for a name nobody knows."""
    if name == "auto":
        return torch.float32 if device.type == "cpu" or _emulates_bfloat16(device) else torch.bfloat16
    if name not in DTYPES:
        raise unknown("dtype", name, ["auto", *DTYPES])
    return DTYPES[name]


def _emulates_bfloat16(device: torch.device) -> bool:
    if device.type != "cuda":
        return False
    with torch.cuda.device(device):  # it is asked of the current one
        return not torch.cuda.is_bf16_supported(including_emulation=False)


def _load(
    name: str,
    trust_remote_code: bool,
    say: Say | None,
    gguf: Callable[[Path], Opened],
    pretrained: Callable[[str, dict[str, Any]], Opened],
) -> Opened:
    """What one of the two reads where the model called `name` is; whatever fails is one line for the user."""
    path = Path(name).expanduser()
    source, revision = name, None
    if name in CATALOG:
        path = pull(name, say=say)
    elif not path.exists():
        if name.startswith((".", "/", "~")) or name.endswith(".gguf") or not name:
            raise UserError(f"no model at {name!r}: there is no such file or directory")
        if "/" not in name and get_close_matches(name, CATALOG, cutoff=0.8):
            raise unknown("model", name, CATALOG)
        source, _, revision = name.partition("@")
    _refuse_adapter(name, path)
    try:
        if path.is_file():
            if path.suffix != ".gguf":
                raise UserError(f"{name} is a file but no GGUF; give a .gguf file or the directory that holds the model")
            return gguf(path)
        how = {"revision": revision or "main", "trust_remote_code": trust_remote_code}
        return pretrained(str(path) if path.is_dir() else source, how)
    except (UserError, MemoryError):
        raise
    except Exception as error:  # odd configurations, and whatever is wrong with a model's own code
        raise _explain(name, path.exists(), error) from error


def _refuse_adapter(name: str, path: Path) -> None:
    """Raises UserError for an adapter's folder, and for a model's with an adapter in it, which transformers puts on unasked."""
    settings = path / "adapter_config.json"
    if not settings.is_file():
        return
    if (path / "config.json").exists():
        raise UserError(f"{name} holds an adapter beside a model, which would be part of it unasked; move {settings} away")
    try:
        base = json.loads(settings.read_text(encoding="utf-8")).get("base_model_name_or_path") or "..."
    except (OSError, ValueError, AttributeError):
        base = "..."
    raise UserError(
        f"{name} is an adapter and no model; name the model that it is for (model.name={base}), and the adapter as the policy:"
        f" outer.policy={name} to train it further, --policy {name} to evaluate it or to have it write"
    )


def _from_pretrained(
    source: str, dtype: torch.dtype, place: torch.device, how: dict[str, Any]
) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    with quiet():
        config = AutoConfig.from_pretrained(source, **how)
        _refuse_quantised(source, config)
        tokenizer = _tokenizer(source, config, how)
        if not (how["trust_remote_code"] and hasattr(config, "auto_map")):  # a model's own code is run for the model alone
            _refuse_too_large(source, config, dtype, place)
        if place.type == "cuda":  # read to where they go: the machine's own memory need not hold them all on the way
            how = {**how, "device_map": {"": place}}
        model, info = AutoModelForCausalLM.from_pretrained(source, config=config, dtype=dtype, output_loading_info=True, **how)
    if missing := sorted(info["missing_keys"]):
        raise UserError(f"model {source!r} lacks weights ({missing[0]} and {len(missing) - 1} more); its files are incomplete")
    return model, tokenizer


def _refuse_quantised(source: str, config: Any) -> None:
    """Raises UserError if the weights are no plain numbers, to which an adapter could be added."""
    if quantised := getattr(config, "quantization_config", None):
        how = quantised.get("quant_method")
        raise UserError(
            f"model {source!r} is quantised ({how}), and adapters are added to plain weights; take the model it was made from,"
            " or a GGUF file of it, which is opened as plain weights"
        )


def _refuse_too_large(source: str, config: Any, dtype: torch.dtype, place: torch.device) -> None:
    """Raises MemoryError if the weights do not fit where they go. Asked before any of them is fetched: a kernel that runs out of
    memory kills without an error. Where what is free can only be guessed, nothing is refused."""
    with torch.device("meta"):  # no numbers, just their shapes
        shape = AutoModelForCausalLM.from_config(copy.deepcopy(config), dtype=dtype, trust_remote_code=False)
    needed = sum(weight.nbytes for weight in shape.parameters())
    if is_measured(place) and needed > (free := available(place)):
        sizes = f"{needed / GIB:.1f} GiB, and {free / GIB:.1f} GiB are free ({place})"
        half = " or bfloat16, which takes half" if dtype.itemsize > 2 else ""
        raise MemoryError(f"the weights of {source!r} need {sizes}; take a smaller model{half}")


def _tokenizer(source: str, config: Any, how: dict[str, Any]) -> PreTrainedTokenizerBase:
    try:
        return AutoTokenizer.from_pretrained(source, config=config, **how)
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise UserError(f"model {source!r} has no tokenizer that can be read: {_words(error)}") from error


def _explain(name: str, local: bool, error: Exception) -> UserError:
    """One line that says what is wrong, from the chain of errors that transformers and the hub raise."""
    chain: list[BaseException] = [error]
    while following := chain[-1].__cause__ or chain[-1].__context__:
        chain.append(following)
    kinds = {type(link) for link in chain}
    words = " ".join(str(link) for link in chain)
    if "trust_remote_code" in words:
        return UserError(f"model {name!r} needs its own code; read it, then allow it with model.trust_remote_code=true")
    if local:
        return UserError(f"the model in {name} cannot be opened: {_words(error)}")
    if GatedRepoError in kinds:
        return UserError(f"hub model {name!r} is gated: accept its terms on its page, then log in with `hf auth login`")
    if RevisionNotFoundError in kinds:
        return UserError(f"hub model {name!r} has no such revision (the part after @)")
    if RepositoryNotFoundError in kinds or HFValidationError in kinds:
        return UserError(f"no model {name!r}: no such directory here, no such id on the hub; embedded: {', '.join(CATALOG)}")
    if "connect" in words or "offline" in words.lower():
        return UserError(f"no model {name!r} here, and the hub cannot be reached to look there; embedded: {', '.join(CATALOG)}")
    return UserError(f"hub model {name!r} cannot be opened: {_words(error)}")


def _words(error: BaseException) -> str:
    """All that an error says, on one line, up to a length: some come to the reason last."""
    said = " ".join(str(error).split())
    if not said or isinstance(error, LookupError):  # a key by itself says little
        said = f"{type(error).__name__} {said}".strip()
    return said if len(said) <= _LONGEST else f"{said[:_LONGEST]} ..."
