"""Weights in a bucket come down once per machine, whole, and anew when the object changes."""

from __future__ import annotations

import os
import threading
from pathlib import Path
from typing import Any

import pytest

from geco_core.config.run import S3Config
from geco_core.errors import Fatal, Retryable
from infra import weights as module
from infra.storage import download
from infra.storage.client import s3_client
from infra.storage.s3 import S3Storage
from infra.weights import cache_folder, local_overrides, local_weights, stored_identities
from tests.support.fault_proxy import Fault, fault_proxy
from tests.support.s3_servers import S3Server, environment


@pytest.fixture(autouse=True)
def small_ranges(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(download, "RANGE_BYTES", 100_000)


def test_other_references_stay(tmp_path: Path) -> None:
    for reference in ("package:x.safetensors", "/a/b", "", "rel/x"):
        assert local_weights(reference, S3Config(), tmp_path / "cache") == reference
    assert not (tmp_path / "cache").exists()


def test_an_object_comes_down_once_and_anew_when_replaced(
    store: S3Storage, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = os.urandom(1_050_000)
    store.put_atomic("w/model.safetensors", data)
    uri = f"{store.uri}/w/model.safetensors"
    first = Path(local_weights(uri, store.config, tmp_path))
    assert first.name == "model.safetensors"
    assert first.read_bytes() == data
    assert not list(tmp_path.rglob(".tmp-*"))
    client = s3_client(store.config)
    with monkeypatch.context() as patch:
        patch.setattr(client, "get_object", None)
        assert local_weights(uri, store.config, tmp_path) == str(first)
    store.put_atomic("w/model.safetensors", data[::-1])
    second = Path(local_weights(uri, store.config, tmp_path))
    assert second != first
    assert second.read_bytes() == data[::-1]


def test_many_askers_cost_one_download(
    moto_store: S3Storage, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    moto_store.put_atomic("w", os.urandom(300_000))
    calls: list[int] = []
    real = download.download

    def counted(*arguments: Any) -> None:
        calls.append(1)
        real(*arguments)

    monkeypatch.setattr(download, "download", counted)
    found: list[str] = []
    threads = [
        threading.Thread(
            target=lambda: found.append(
                local_weights(f"{moto_store.uri}/w", moto_store.config, tmp_path)
            )
        )
        for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(set(found)) == 1
    assert len(found) == 4
    assert len(calls) == 1


def test_a_broken_connection_costs_a_range(moto: S3Server, make_store: Any, tmp_path: Path) -> None:
    data = os.urandom(450_000)
    with environment(moto.env):
        store = make_store(moto)
        store.put_atomic("w", data)
    with fault_proxy(moto.port, [Fault("truncated", method="GET", nth=[1, 3])]) as proxy:
        with environment(proxy.env):
            path = local_weights(f"{store.uri}/w", store.config, tmp_path)
        assert proxy.counts["truncated"] == 2
    assert Path(path).read_bytes() == data


def test_an_object_replaced_meanwhile_is_no_mixture(
    moto_store: S3Storage, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    moto_store.put_atomic("w", b"a" * 450_000)
    client = s3_client(moto_store.config)
    real = client.get_object

    def replacing(**arguments: Any) -> Any:
        if arguments.get("Range") == "bytes=100000-199999":
            moto_store.put_atomic("w", b"b" * 450_000)
        return real(**arguments)

    monkeypatch.setattr(client, "get_object", replacing)
    with pytest.raises(Retryable, match="was replaced"):
        local_weights(f"{moto_store.uri}/w", moto_store.config, tmp_path)
    assert not [p for p in tmp_path.rglob("*") if p.is_file() and p.name != ".lock"]


def test_missing_weights_and_full_disks_are_fatal(
    moto_store: S3Storage, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(Fatal, match="no weights at"):
        local_weights(f"{moto_store.uri}/none", moto_store.config, tmp_path)
    moto_store.put_atomic("w", b"1")
    (tmp_path / "file").touch()
    with pytest.raises(Fatal) as caught:
        local_weights(f"{moto_store.uri}/w", moto_store.config, tmp_path / "file")
    assert "GECO_CACHE_DIR" in caught.value.remedy


def test_only_the_weights_in_a_bucket_are_overridden(moto_store: S3Storage, tmp_path: Path) -> None:
    moto_store.put_atomic("m.safetensors", b"1")
    weights = {
        "multiview": f"{moto_store.uri}/m.safetensors",
        "multiview_sha256": "00",
        "reconstructor": "package:r",
        "licence": "MIT",
        "count": 3,
    }
    (line,) = local_overrides(weights, moto_store.config, tmp_path)
    assert line.startswith(f'weights.multiview="{tmp_path}/weights/')


def test_the_cache_folder_follows_the_environment() -> None:
    assert cache_folder({"GECO_CACHE_DIR": "/c", "XDG_CACHE_HOME": "/x"}) == Path("/c")
    assert cache_folder({"XDG_CACHE_HOME": "/x"}) == Path("/x/geco-forge")
    assert cache_folder({}) == Path.home() / ".cache/geco-forge"


FOLDER = (("unet/model.bin",), ("config.json", "config.yaml"), ("absent.json",))


def put_folder(store: S3Storage) -> dict[str, bytes]:
    files = {"unet/model.bin": os.urandom(250_000), "config.json": b"{}", "unused.bin": b"1"}
    for name, data in files.items():
        store.put_atomic(f"w/{name}", data)
    return files


def test_a_folder_comes_down_with_what_is_needed_of_it(store: S3Storage, tmp_path: Path) -> None:
    files = put_folder(store)
    folder = Path(local_weights(f"{store.uri}/w", store.config, tmp_path, FOLDER))
    there = {str(p.relative_to(folder)) for p in folder.rglob("*") if p.is_file()}
    assert there == {".lock", "unet/model.bin", "config.json"}
    assert (folder / "unet/model.bin").read_bytes() == files["unet/model.bin"]
    assert local_weights(f"{store.uri}/w", store.config, tmp_path, FOLDER) == str(folder)
    store.put_atomic("w/config.json", b"[]")
    second = Path(local_weights(f"{store.uri}/w", store.config, tmp_path, FOLDER))
    assert second != folder
    assert (second / "config.json").read_bytes() == b"[]"


def test_a_killed_download_goes_on_with_what_is_missing(
    moto_store: S3Storage, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    put_folder(moto_store)
    fetched: list[str] = []
    real = module._fetch

    def dies(s3: S3Config, bucket: str, found: Any, path: Path) -> None:
        if fetched:
            raise KeyboardInterrupt
        fetched.append(path.name)
        real(s3, bucket, found, path)

    reference = f"{moto_store.uri}/w"
    with monkeypatch.context() as patch:
        patch.setattr(module, "_fetch", dies)
        with pytest.raises(KeyboardInterrupt):
            local_weights(reference, moto_store.config, tmp_path, FOLDER)
    assert fetched == ["config.json"]

    def counted(s3: S3Config, bucket: str, found: Any, path: Path) -> None:
        fetched.append(path.name)
        real(s3, bucket, found, path)

    monkeypatch.setattr(module, "_fetch", counted)
    folder = Path(local_weights(reference, moto_store.config, tmp_path, FOLDER))
    assert fetched == ["config.json", "model.bin"]
    (folder / "unet/model.bin").write_bytes(b"torn")
    local_weights(reference, moto_store.config, tmp_path, FOLDER)
    assert fetched == ["config.json", "model.bin", "model.bin"]


def test_room_is_looked_for_first(
    moto_store: S3Storage, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    put_folder(moto_store)
    monkeypatch.setattr(module.shutil, "disk_usage", lambda _: type("U", (), {"free": 100})())
    with pytest.raises(Fatal, match="250,002 bytes are needed, 100 are free") as caught:
        local_weights(f"{moto_store.uri}/w", moto_store.config, tmp_path, FOLDER)
    assert "GECO_CACHE_DIR" in caught.value.remedy
    assert not [p for p in tmp_path.rglob("*") if p.is_file() and p.name != ".lock"]


def test_identities_name_what_is_stored(moto_store: S3Storage) -> None:
    put_folder(moto_store)
    weights = {"multiview": f"{moto_store.uri}/w", "reconstructor": "package:r", "licence": "MIT"}
    found = stored_identities(weights, {"multiview": FOLDER}, moto_store.config)
    assert list(found) == ["multiview_stored"]
    assert found["multiview_stored"].startswith("2 objects, 250002 bytes, ETags ")
    moto_store.put_atomic("w/config.json", b"[]")
    assert stored_identities(weights, {"multiview": FOLDER}, moto_store.config) != found
