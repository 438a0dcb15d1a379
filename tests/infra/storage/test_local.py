"""The store's promise: an object appears whole or not at all, and the first writer may win."""

from __future__ import annotations

import errno
import os
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from geco_core.errors import ConfigError, Fatal, Retryable
from infra.storage import LocalStorage, open_storage, publish
from infra.storage import local as module


@pytest.fixture
def store(tmp_path: Path) -> LocalStorage:
    return LocalStorage(tmp_path / "run")


def test_put_then_get_list_delete(store: LocalStorage) -> None:
    assert store.put_atomic("a/b.bin", b"0123456789")
    assert store.get("a/b.bin") == b"0123456789"
    assert list(store.list("a")) == ["a/b.bin"] == list(store.list("a/"))
    with store.open_for_pyarrow("a/b.bin") as file:
        assert file.read() == b"0123456789"
    store.delete("a/b.bin")
    store.delete("a/b.bin")
    assert not store.exists("a/b.bin")
    assert list(store.list("nowhere")) == []


def test_a_file_is_copied_in(store: LocalStorage, tmp_path: Path) -> None:
    source = tmp_path / "large"
    source.write_bytes(os.urandom(1 << 16))
    store.put_atomic("copy", source)
    assert store.get("copy") == source.read_bytes()


def test_missing_objects_are_key_errors(store: LocalStorage) -> None:
    for read in (store.get, store.open_for_pyarrow):
        with pytest.raises(KeyError):
            read("none")


def test_the_second_writer_of_an_absent_key_changes_nothing(store: LocalStorage) -> None:
    assert store.put_atomic("run.json", b"first", only_if_absent=True)
    assert not store.put_atomic("run.json", b"second", only_if_absent=True)
    assert store.get("run.json") == b"first"
    assert store.put_atomic("run.json", b"third")
    assert store.get("run.json") == b"third"


def test_of_many_racing_writers_one_wins(store: LocalStorage) -> None:
    wins = race(store, "done/0")
    assert len(wins) == 1
    assert store.get("done/0") == bytes(wins) * 1000


def test_torn_temporaries_are_invisible_and_swept_by_age(store: LocalStorage) -> None:
    store.put_atomic("assets/part", b"whole")
    torn = store.root / "assets" / ".tmp-dead"
    torn.write_bytes(b"ha")
    assert list(store.list("")) == ["assets/part"]
    assert store.sweep_temporary(torn.stat().st_mtime - 1) == 0
    assert store.sweep_temporary(torn.stat().st_mtime + 1) == 1
    assert not torn.exists()


def test_what_is_torn_in_the_folders_of_others_stays(store: LocalStorage) -> None:
    torn = store.root / "thesis" / ".tmp-draft"
    torn.parent.mkdir(parents=True)
    torn.write_bytes(b"ha")
    assert store.sweep_temporary(torn.stat().st_mtime + 1) == 0
    assert torn.exists()


@pytest.mark.parametrize("key", ["", "../x", "a/../../x", "a//b", "."])
def test_keys_do_not_leave_the_folder(store: LocalStorage, key: str) -> None:
    with pytest.raises(Fatal, match="refused storage key"):
        store.put_atomic(key, b"")


@pytest.mark.parametrize(
    ("number", "kind"),
    [
        (errno.ENOSPC, Fatal),
        (errno.EACCES, Fatal),
        (errno.EIO, Retryable),
        (errno.ESTALE, Retryable),
    ],
)
def test_errors_say_what_to_do_next(
    store: LocalStorage, monkeypatch: pytest.MonkeyPatch, number: int, kind: type[Exception]
) -> None:
    def fail(*_: object) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(module, "_write", fail)
    with pytest.raises(kind):
        store.put_atomic("x", b"1")
    monkeypatch.undo()
    assert list(store.root.iterdir()) == []  # no temporary stays behind


def refuse_links(*_: object) -> None:
    raise OSError(errno.EPERM, "no links here")


def race(store: LocalStorage, key: str) -> list[int]:
    """Winners among eight threads that write an absent key at once."""
    wins: list[int] = []
    gate = threading.Barrier(8)

    def write(number: int) -> None:
        gate.wait()
        if store.put_atomic(key, bytes([number]) * 1000, only_if_absent=True):
            wins.append(number)

    threads = [threading.Thread(target=write, args=(k,)) for k in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return wins


@pytest.mark.parametrize("rename", [True, False])
def test_filesystems_without_links_still_have_one_winner(
    store: LocalStorage, monkeypatch: pytest.MonkeyPatch, rename: bool
) -> None:
    monkeypatch.setattr(publish.os, "link", refuse_links)
    if not rename:
        monkeypatch.setattr(publish, "rename_noreplace", lambda *_: errno.EINVAL)
    # The early look at the key would hide the race this is about.
    monkeypatch.setattr(module.Path, "exists", seldom(module.Path.exists))
    for number in range(5):
        wins = race(store, f"done/{number}")
        assert len(wins) == 1
        assert store.get(f"done/{number}") == bytes(wins) * 1000
    assert sorted(store.list("")) == [f"done/{number}" for number in range(5)]
    assert not list(store.root.rglob(".tmp-*"))


def seldom(exists: Callable[[Path], bool]) -> Callable[[Path], bool]:
    """`Path.exists` that is slow to look: both racers see no file before either writes."""

    def slow(path: Path) -> bool:
        found = exists(path)
        time.sleep(0.002)
        return found

    return slow


def test_the_lock_of_a_dead_writer_is_taken_over(tmp_path: Path) -> None:
    target, temporary = tmp_path / "k", tmp_path / ".tmp-mine"
    temporary.write_bytes(b"mine")
    lock = tmp_path / ".tmp-lock-k"
    lock.touch()
    os.utime(lock, (1, 1))
    assert publish.publish_under_lock(temporary, target)
    assert target.read_bytes() == b"mine"
    assert not lock.exists()


def test_a_full_disk_is_no_lost_race(store: LocalStorage, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(publish.os, "link", refuse_links)
    monkeypatch.setattr(publish, "rename_noreplace", lambda *_: errno.ENOSPC)
    with pytest.raises(Fatal, match="no space"):
        store.put_atomic("k", b"1", only_if_absent=True)


def test_new_folders_and_adopted_names_are_durable(
    store: LocalStorage, monkeypatch: pytest.MonkeyPatch
) -> None:
    synced: list[Path] = []
    monkeypatch.setattr(module, "_sync_folder", synced.append)
    root = store.root
    store.put_atomic("assets/part", b"1", only_if_absent=True)
    assert synced == [root.parent, root, root / "assets"]
    synced.clear()
    assert not store.put_atomic("assets/part", b"2", only_if_absent=True)
    assert synced == [root / "assets"]  # its writer may not have come that far


def test_a_folder_that_can_not_be_read_is_not_empty(
    store: LocalStorage, monkeypatch: pytest.MonkeyPatch
) -> None:
    store.put_atomic("done/000000.json", b"{}")

    def refuse(_: object) -> None:
        raise OSError(errno.EIO, "cable out")

    monkeypatch.setattr(module.os, "scandir", refuse)
    with pytest.raises(Retryable, match="cable out"):
        list(store.list("done"))


def test_unknown_schemes_are_refused(tmp_path: Path) -> None:
    assert open_storage(f"file://{tmp_path}").uri == str(tmp_path)
    with pytest.raises(ConfigError, match="gs://"):
        open_storage("gs://bucket/run")
