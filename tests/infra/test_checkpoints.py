"""Checkpoints on a store: the newest few, whole or not counted, on disk and in S3."""

from __future__ import annotations

from pathlib import Path

import pytest

from geco_core.errors import Retryable
from infra.checkpoints import StoredCheckpoints, checkpoint_key, record_key
from infra.storage import LocalStorage
from infra.storage.protocol import Data, Storage
from tests.support.stores import MemoryStorage


@pytest.fixture(params=["local", "moto"])
def storage(request: pytest.FixtureRequest, tmp_path: Path) -> Storage:
    if request.param == "local":
        return LocalStorage(tmp_path / "stage")
    return request.getfixturevalue("moto_store")


def content(folder: Path, step: int) -> Path:
    path = folder / "made.pt"
    path.write_bytes(f"state {step} ".encode() * 1000)
    return path


def test_the_newest_few_are_kept_and_read_back(storage: Storage, tmp_path: Path) -> None:
    store = StoredCheckpoints(storage, keep=2)
    assert store.steps() == []
    for step in (250, 500, 1_000_000):
        store.put(step, content(tmp_path, step))
    assert store.steps() == [1_000_000, 500]
    back = tmp_path / "back.pt"
    assert store.fetch(500, back) == ""
    assert back.read_bytes() == b"state 500 " * 1000
    assert sorted(storage.list("checkpoints")) == sorted(
        key(step) for step in (500, 1_000_000) for key in (checkpoint_key, record_key)
    )


def test_what_a_killed_process_left_goes_with_the_oldest(storage: Storage, tmp_path: Path) -> None:
    store = StoredCheckpoints(storage, keep=2)
    for step in (1, 3):
        storage.put_atomic(
            checkpoint_key(step), content(tmp_path, step)
        )  # killed before its record
    store.put(2, content(tmp_path, 2))
    assert storage.exists(checkpoint_key(3)), "another process may be about to record it"
    assert not storage.exists(checkpoint_key(1))
    for step in (4, 6):
        store.put(step, content(tmp_path, step))
    assert store.steps() == [6, 4]
    assert sorted(storage.list("checkpoints")) == sorted(
        key(step) for step in (4, 6) for key in (checkpoint_key, record_key)
    )


def test_damage_is_told_and_not_counted(storage: Storage, tmp_path: Path) -> None:
    store, back = StoredCheckpoints(storage, keep=3), tmp_path / "back.pt"
    for step in (1, 2, 3, 4):
        store.put(step, content(tmp_path, step))
    changed = storage.get(checkpoint_key(2)).replace(b"state", b"STATE", 1)
    storage.put_atomic(checkpoint_key(2), changed)
    storage.put_atomic(checkpoint_key(3), changed[:-10])
    storage.delete(checkpoint_key(4))
    assert "sha256" in store.fetch(2, back)
    assert "bytes" in store.fetch(3, back)
    assert "is missing" in store.fetch(4, back)
    for step in (2, 3, 4):
        store.withdraw(step)
    assert store.steps() == []
    store.put(2, content(tmp_path, 2))
    assert store.steps() == [2]
    assert store.fetch(2, back) == ""


def test_a_record_that_is_no_record_is_damage(tmp_path: Path) -> None:
    storage = LocalStorage(tmp_path)
    store = StoredCheckpoints(storage, keep=1)
    store.put(5, content(tmp_path, 5))
    for text in (b"{", b"[]", b'{"bytes": 3}'):
        storage.put_atomic(record_key(5), text)
        assert store.fetch(5, tmp_path / "back.pt")


def test_a_writer_that_dies_between_file_and_record_leaves_nothing_that_counts(
    tmp_path: Path,
) -> None:
    class Dies(MemoryStorage):
        def put_atomic(self, key: str, data: Data, **options: bool) -> bool:
            if key == record_key(2):
                raise KeyboardInterrupt
            return super().put_atomic(key, data, **options)

    storage = Dies()
    store = StoredCheckpoints(storage, keep=1)
    store.put(1, content(tmp_path, 1))
    with pytest.raises(KeyboardInterrupt):
        store.put(2, content(tmp_path, 2))
    assert storage.exists(checkpoint_key(2))
    assert store.steps() == [1]
    assert store.fetch(1, tmp_path / "back.pt") == ""


def test_a_passing_fault_is_tried_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("infra.retry.FIRST_DELAY_S", 0.0)
    faults = iter([True, False, True] + [False] * 20)

    class Flaky(MemoryStorage):
        def put_atomic(self, key: str, data: Data, **options: bool) -> bool:
            if next(faults):
                raise Retryable("try again")
            return super().put_atomic(key, data, **options)

    store = StoredCheckpoints(Flaky(), keep=1)
    store.put(1, content(tmp_path, 1))
    assert store.steps() == [1]


def test_nothing_kept_is_refused() -> None:
    with pytest.raises(ValueError, match="keep"):
        StoredCheckpoints(MemoryStorage(), keep=0)
