"""The embedded model's way into the cache, with a package of a few bytes; the real one is opened once at the end."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from huggingface_hub.utils import filter_repo_objects

from seal.errors import UserError
from seal.home import home
from seal.models import catalog, describe, open_model, pull
from seal.models.cache import damage
from seal.types import Prompt

CONTENT = b"all the weights there are" * 1000
ENTRY = catalog.Entry(
    about="a file of a few bytes",
    file="Small.gguf",
    size=len(CONTENT),
    sha256=hashlib.sha256(CONTENT).hexdigest(),
    wheel="seal-small-model==1.0",
    repo="nobody/small",
    original="nobody/original",
    opened=2 * len(CONTENT),
)


def copy(source: Path, directory: Path) -> None:
    """Stands for the conversion: the same file, and one beside it."""
    shutil.copy(source, directory / "weights")
    (directory / "config").write_text("{}")


@pytest.fixture(autouse=True)
def index(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """A package index of one wheel, and a catalog that holds its model as `small`."""
    if "embedded" not in request.keywords:
        put_wheel(tmp_path / "index", CONTENT)
        monkeypatch.setenv("PIP_NO_INDEX", "1")
        monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path / "index"))
        monkeypatch.setitem(catalog.CATALOG, "small", ENTRY)
        monkeypatch.setattr(catalog, "dequantise", copy)
    return tmp_path / "index"


@pytest.fixture
def no_index(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path))


def put_wheel(directory: Path, content: bytes) -> None:
    directory.mkdir(exist_ok=True)
    info = "seal_small_model-1.0.dist-info"
    with zipfile.ZipFile(directory / "seal_small_model-1.0-py3-none-any.whl", "w") as wheel:
        wheel.writestr("seal_small_model/Small.gguf", content)
        wheel.writestr(f"{info}/METADATA", "Metadata-Version: 2.1\nName: seal-small-model\nVersion: 1.0\n")
        wheel.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        wheel.writestr(f"{info}/RECORD", "")


def left_over() -> list[str]:
    return sorted(path.name for path in (home() / "models").iterdir())


def test_pull_fetches_once_and_never_again(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    lines: list[str] = []
    directory = pull("small", say=lines.append)
    assert (directory / "weights").read_bytes() == CONTENT
    assert directory == home() / "models" / "small"
    assert [line.split()[0] for line in lines] == ["fetching", "converting"]
    assert left_over() == ["Small.gguf", "small", "small.lock"]
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path))
    assert pull("small", say=lines.append) == directory
    assert len(lines) == 2


def test_describe_says_what_is_there() -> None:
    small = {model.name: model for model in describe()}["small"]
    assert (small.pulled, small.download) == (False, len(CONTENT))
    pull("small")
    assert {model.name: model.pulled for model in describe()} == {"small": True, "smollm2-135m": False}


def truncate(directory: Path) -> None:
    (directory / "weights").write_bytes(CONTENT[:-1])


def overwrite(directory: Path) -> None:
    (directory / "weights").write_bytes(CONTENT[:-1] + b"!")


def remove_file(directory: Path) -> None:
    (directory / "config").unlink()


def remove_manifest(directory: Path) -> None:
    (directory / "manifest.json").unlink()


def garble_manifest(directory: Path) -> None:
    (directory / "manifest.json").write_text('{"files": [')


@pytest.mark.parametrize("harm", [truncate, overwrite, remove_file, remove_manifest, garble_manifest])
@pytest.mark.usefixtures("index")
def test_a_damaged_cache_is_noticed_and_mended_without_a_network(
    harm: Callable[[Path], None], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    directory = pull("small")
    harm(directory)
    assert damage(directory) is not None
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path))
    lines: list[str] = []
    assert pull("small", say=lines.append) == directory
    assert "is damaged" in lines[0]
    assert damage(directory) is None
    assert (directory / "weights").read_bytes() == CONTENT


def test_files_that_only_look_newer_are_read_once_and_kept() -> None:
    directory = pull("small")
    os.utime(directory / "weights", (1, 1))
    before = (directory / "manifest.json").read_text()
    assert damage(directory) is None
    assert (directory / "manifest.json").read_text() != before


def test_what_a_killed_pull_left_is_not_taken_for_the_model() -> None:
    partial = home() / "models" / ".small.partial"
    partial.mkdir(parents=True)
    (partial / "weights").write_bytes(b"half")
    assert (pull("small") / "weights").read_bytes() == CONTENT
    assert left_over() == ["Small.gguf", "small", "small.lock"]


def test_an_interrupted_conversion_leaves_no_model(monkeypatch: pytest.MonkeyPatch) -> None:
    def stop(source: Path, directory: Path) -> None:
        copy(source, directory)
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(catalog, "dequantise", stop)
        with pytest.raises(KeyboardInterrupt):
            pull("small")
    assert left_over() == ["Small.gguf", "small.lock"]
    pull("small")


def test_a_wrong_checksum_is_refused(index: Path) -> None:
    put_wheel(index, CONTENT[:-1] + b"!")
    with pytest.raises(UserError, match=r"seal-small-model==1.0 \(wrong checksum\)"):
        pull("small")
    put_wheel(index, CONTENT[:-1])
    with pytest.raises(UserError, match="24,999 bytes instead of 25,000"):
        pull("small")
    assert left_over() == ["small.lock"]


def test_the_hub_is_asked_when_the_package_is_not_to_be_had(no_index: None, monkeypatch: pytest.MonkeyPatch) -> None:
    def hub(repo: str, file: str, *, local_dir: Path) -> str:
        assert (repo, file) == (ENTRY.repo, ENTRY.file)
        (local_dir / file).write_bytes(CONTENT)
        return str(local_dir / file)

    monkeypatch.setattr(catalog, "hf_hub_download", hub)
    assert (pull("small") / "weights").read_bytes() == CONTENT


def test_without_a_network_the_message_says_where_to_put_the_file(no_index: None) -> None:
    with pytest.raises(UserError) as caught:
        pull("small")
    message = str(caught.value)
    place = home() / "models" / "Small.gguf"
    assert "seal-small-model==1.0" in message
    assert "nobody/small" in message
    assert message.endswith(f"put that file at {place}")
    assert "\n" not in message
    place.write_bytes(CONTENT)
    assert (pull("small") / "weights").read_bytes() == CONTENT


def test_a_full_disk_is_said_before_and_during(monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:
        patch.setitem(catalog.CATALOG, "small", replace(ENTRY, opened=10**18))
        with pytest.raises(UserError, match=r"the disk is full: .*SEAL_HOME"):
            pull("small")

    def no_room(source: Path, directory: Path) -> None:
        raise RuntimeError("Error while serializing: I/O error: No space left on device (os error 28)")

    monkeypatch.setattr(catalog, "dequantise", no_room)
    with pytest.raises(UserError, match=r"the disk is full: .*SEAL_HOME"):
        pull("small")
    assert left_over() == ["Small.gguf", "small.lock"]


def test_a_cache_that_cannot_be_written_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("SEAL_HOME", str(tmp_path / "file"))
    with pytest.raises(UserError, match=r"cannot keep models in .*SEAL_HOME"):
        pull("small")


@pytest.mark.parametrize("weights", ["model.safetensors", "pytorch_model.bin"])
def test_a_hub_id_is_pulled_into_the_hubs_own_cache(
    weights: str, seal: Callable[..., tuple[int, str, str]], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (hub := tmp_path / "hub").mkdir()
    asked: list[tuple[str, str | None]] = []

    def download(source: str, *, revision: str | None, allow_patterns: list[str], ignore_patterns: str) -> str:
        asked.append((source, revision))
        files = ["config.json", weights, "consolidated.safetensors", "tokenizer.model", "merges.txt", "training.bin"]
        for name in filter_repo_objects(files, allow_patterns=allow_patterns, ignore_patterns=ignore_patterns):
            (hub / name).write_text("")
        return str(hub)

    monkeypatch.setattr("seal.models.open.snapshot_download", download)
    assert seal("models", "pull", "someone/a-model") == (0, f"someone/a-model is in {hub}\n", "")
    assert {path.name for path in hub.iterdir()} == {"config.json", weights, "tokenizer.model", "merges.txt"}
    said = json.loads(seal("models", "pull", "someone/a-model@v2", "--json")[1])
    assert said == {"name": "someone/a-model@v2", "path": str(hub)}
    assert set(asked) == {("someone/a-model", None), ("someone/a-model", "v2")}


def test_a_hub_id_that_cannot_be_pulled_is_one_line(seal: Callable[..., tuple[int, str, str]]) -> None:
    code, out, error = seal("models", "pull", "someone/a-model")
    assert (code, out) == (2, "")
    assert "no model 'someone/a-model' here, and the hub cannot be reached" in error
    assert len(error.splitlines()) == 1


def test_an_unknown_name_is_the_users_mistake() -> None:
    with pytest.raises(UserError, match="did you mean 'small'"):
        pull("smal")


def test_the_cache_lies_where_the_environment_says(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("SEAL_HOME", str(tmp_path / "a"))
    assert home() == tmp_path / "a"
    monkeypatch.delenv("SEAL_HOME")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "b"))
    assert home() == tmp_path / "b" / "seal"
    monkeypatch.delenv("XDG_CACHE_HOME")
    assert home() == Path.home() / ".cache" / "seal"


PULLER = """
import sys
sys.path.insert(0, {tests!r})
from test_pull import ENTRY, catalog, copy

def slow(source, directory):
    print("converting", flush=True)
    sys.stdin.readline()
    copy(source, directory)

catalog.CATALOG["small"], catalog.dequantise = ENTRY, slow
print("ready", flush=True)
sys.stdin.readline()
print((catalog.pull("small", say=lambda line: print(line, flush=True)) / "weights").stat().st_size)
"""


def test_of_two_processes_that_pull_at_once_one_works_and_the_other_waits() -> None:
    command = [sys.executable, "-c", PULLER.format(tests=str(Path(__file__).parent))]
    pullers = [subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) for _ in range(2)]
    for puller in pullers:
        assert puller.stdout is not None
        assert puller.stdout.readline() == "ready\n"
    for puller in pullers:
        assert puller.stdin is not None
        puller.stdin.write("go\n")
        puller.stdin.flush()
    first = []
    for puller in pullers:  # each has said something: one that it fetches, one that it waits
        assert puller.stdout is not None
        first.append(puller.stdout.readline())
    for puller in pullers:  # both, before either is waited for: nobody knows yet which of them fetches
        assert puller.stdin is not None
        puller.stdin.write("go on\n")
        puller.stdin.flush()
    said = [puller.communicate(timeout=200)[0].splitlines() for puller in pullers]
    assert [lines[-1] for lines in said] == ["25000", "25000"]
    assert sum(lines.count("converting") for lines in said) == 1
    assert sorted("another process is pulling" in line for line in first) == [False, True]


@pytest.mark.embedded
def test_the_embedded_model_knows_the_capital_of_france(embedded_path: Path) -> None:
    model = open_model("smollm2-135m", device="cpu")
    assert damage(embedded_path) is None
    assert (model.chat, model.context, model.dtype) == (True, 8192, torch.float32)
    prompt = torch.tensor([model.encode_prompt(Prompt("What is the capital of France?"))])
    with torch.no_grad():
        reply = model.model.generate(prompt, max_new_tokens=20, do_sample=False, eos_token_id=list(model.stop_ids))
    assert "Paris" in model.decode(reply[0, prompt.shape[1] :].tolist())
    assert reply[0, -1] == model.reply_end_id
