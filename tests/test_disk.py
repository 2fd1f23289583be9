"""What a run keeps beside its database is on the disk before it is found in its place."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from seal.disk import put_in_place
from seal.engine import Engine
from seal.loops.rest_em import _export
from seal.loops.takeover import begin_with
from seal.store import Store

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="nothing is synced there")


def _round(engine: Engine, store: Store) -> Path:
    _export(engine, store, 1)
    return store.policy_dir(1)


def _begun(engine: Engine, store: Store) -> Path:
    engine.export(store.path / "policy" / "mine")
    begin_with(store.path / "policy" / "mine", [], store)
    return store.policy_dir(0)


def _adapter(engine: Engine, store: Store) -> Path:
    engine.export(store.path / "adapter")
    return store.path / "adapter"


def _recipe(engine: Engine, store: Store) -> Path:
    store.put_recipe("name = 'other'")
    return store.path / "recipe.toml"


@pytest.mark.parametrize("put", [_round, _begun, _adapter, _recipe])
def test_what_is_in_its_place_is_on_the_disk(
    put: Callable[[Engine, Store], Path], engine: Engine, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By inodes, which a move leaves as they are."""
    synced: set[int] = set()
    moved: dict[Path, set[int]] = {}
    sync, replace = os.fsync, os.replace

    def syncing(handle: int) -> None:
        sync(handle)
        synced.add(os.fstat(handle).st_ino)

    def replacing(made: Path, place: Path) -> None:
        moved[Path(place)] = set(synced)
        synced.clear()
        replace(made, place)

    monkeypatch.setattr(os, "fsync", syncing)
    monkeypatch.setattr(os, "replace", replacing)
    place = put(engine, store)
    assert {path.stat().st_ino for path in (place, *place.rglob("*"))} <= moved[place]
    assert place.parent.stat().st_ino in synced


def test_a_file_system_that_cannot_sync_folders_is_used_all_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def files_alone(handle: int) -> None:
        if os.path.isdir(f"/dev/fd/{handle}"):
            raise OSError(22, "Invalid argument")

    monkeypatch.setattr(os, "fsync", files_alone)
    (tmp_path / "made").mkdir()
    (tmp_path / "made" / "file").write_text("x")
    put_in_place(tmp_path / "made", tmp_path / "place")
    assert (tmp_path / "place" / "file").read_text() == "x"

    def nothing(handle: int) -> None:
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(os, "fsync", nothing)
    with pytest.raises(OSError, match="Input/output"):
        put_in_place(tmp_path / "place", tmp_path / "elsewhere")
    assert not (tmp_path / "elsewhere").exists()
