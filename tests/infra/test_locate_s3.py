"""Manifests in a bucket: the same items as from a disk, and replaced objects are noticed."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from geco_core.config.run import ColumnsConfig, RunConfig
from geco_core.errors import Fatal, ManifestError, Retryable
from geco_core.types import Shard
from infra.duplicates import find_duplicates
from infra.locate import locate
from infra.manifest import Manifest, read_manifest
from infra.plan import SystemDescription, make_plan, open_run
from infra.rows import Row, RowReader
from infra.storage import LocalStorage
from infra.storage.client import s3_client
from infra.storage.reader import ObjectReader
from infra.storage.s3 import S3Storage
from tests.support.fault_proxy import Fault, fault_proxy
from tests.support.s3_servers import S3Server, environment

SYSTEM = SystemDescription({"system": "noop"}, {}, ())


@pytest.fixture
def local(tmp_path: Path) -> LocalStorage:
    return LocalStorage(tmp_path / "run")


def table(columns: dict[str, Any], **options: Any) -> bytes:
    sink = io.BytesIO()
    pq.write_table(pa.table(columns), sink, **options)
    return sink.getvalue()


def opened(source: str, store: S3Storage, local: LocalStorage) -> Manifest:
    return read_manifest(locate(source, store.config), ColumnsConfig(), local)


def all_rows(manifest: Manifest, store: S3Storage, local: LocalStorage) -> list[Row]:
    duplicates = find_duplicates(manifest, local, store.config)
    reader = RowReader(manifest, local, duplicates, store.config)
    return reader.read(Shard(0, 0, manifest.rows)).rows


def test_every_kind_gives_the_same_items(store: S3Storage, local: LocalStorage) -> None:
    store.put_atomic("m.parquet", table({"id": ["a", "b"], "image": ["x.png", "s/y.png"]}))
    store.put_atomic("m.csv", b"id,image\na,x.png\nb,s/y.png\n")
    store.put_atomic("m.tsv", b"id\timage\na\tx.png\nb\ts/y.png\n")
    store.put_atomic(
        "m.jsonl", b'{"id": "a", "image": "x.png"}\n\n{"id": "b", "image": "s/y.png"}\n'
    )
    expected = [("a", f"{store.uri}/x.png"), ("b", f"{store.uri}/s/y.png")]
    for name in ("m.parquet", "m.csv", "m.tsv", "m.jsonl"):
        rows = all_rows(opened(f"{store.uri}/{name}", store, local), store, local)
        assert [(r.item.item_id, r.item.image) for r in rows] == expected, name
        assert [r.source for r in rows] == ["x.png", "s/y.png"]


def test_paths_of_a_bucket_manifest(store: S3Storage, local: LocalStorage) -> None:
    names = ["../up.png", "/abs/x.png", "s3://other/y.png"]
    store.put_atomic("m/m.parquet", table({"image": names}))
    rows = all_rows(opened(f"{store.uri}/m/m.parquet", store, local), store, local)
    assert [r.item.image for r in rows] == [f"{store.uri}/up.png", "/abs/x.png", names[2]]


def test_folders_and_patterns_of_images(store: S3Storage, local: LocalStorage) -> None:
    for name in ("in/b.png", "in/deep/ä a.JPG", "in/.hidden.png", "in/notes.txt", "inner/c.png"):
        store.put_atomic(name, b"x")
    for source in (f"{store.uri}/in/", f"{store.uri}/in"):
        rows = all_rows(opened(source, store, local), store, local)
        assert [r.item.item_id for r in rows] == ["b.png", "deep/ä a.JPG"]
        assert rows[0].item.image == f"{store.uri}/in/b.png"
    rows = all_rows(opened(f"{store.uri}/in/**/*.JPG", store, local), store, local)
    assert [r.item.item_id for r in rows] == ["deep/ä a.JPG"]
    rows = all_rows(opened(f"{store.uri}/in/b.png", store, local), store, local)
    assert [r.item.item_id for r in rows] == ["b.png"]


def test_a_folder_of_parquet_files_is_one_manifest(store: S3Storage, local: LocalStorage) -> None:
    for k in range(3):
        ids = [f"{k}-{i}" for i in range(5)]
        store.put_atomic(f"m/{k}.parquet", table({"id": ids, "prompt": ids}, row_group_size=2))
    store.put_atomic("m/readme.md", b"not a table")
    for source in (f"{store.uri}/m/", f"{store.uri}/m/*.parquet"):
        manifest = opened(source, store, local)
        assert manifest.rows == 15
        none = np.empty(0, dtype=np.int64)
        rows = RowReader(manifest, local, none, store.config).read(Shard(1, 4, 11)).rows
        assert [r.item.item_id for r in rows] == [f"{k // 5}-{k % 5}" for k in range(4, 11)]
    store.put_atomic("m/3.parquet", table({"id": [1]}))
    with pytest.raises(ManifestError, match="differ in schema"):
        opened(f"{store.uri}/m/", store, local)


def test_only_footers_are_read(
    store: S3Storage, local: LocalStorage, monkeypatch: pytest.MonkeyPatch
) -> None:
    blob = [np.random.default_rng(k).bytes(1 << 20) for k in range(8)]
    store.put_atomic("m.parquet", table({"prompt": ["p"] * 8, "blob": blob}))
    sizes: list[int] = []
    real = ObjectReader._range

    def watched(self: ObjectReader, size: int, offset: int) -> pa.Buffer:
        sizes.append(size)
        return real(self, size, offset)

    monkeypatch.setattr(ObjectReader, "_range", watched)
    assert opened(f"{store.uri}/m.parquet", store, local).rows == 8
    assert 0 < sum(sizes) < 1 << 20


def test_missing_and_unusable_things_are_named(store: S3Storage, local: LocalStorage) -> None:
    store.put_atomic("photos.parquet", table({"image": ["a"]}))
    store.put_atomic("x/notes.txt", b"")
    with pytest.raises(ManifestError, match="there is no manifest") as caught:
        locate(f"{store.uri}/photo.parquet", store.config)
    assert f"did you mean {store.uri}/photos.parquet" in caught.value.remedy
    with pytest.raises(ManifestError, match="holds no images"):
        locate(f"{store.uri}/x/", store.config)
    with pytest.raises(ManifestError, match="no manifest this program reads"):
        locate(f"{store.uri}/x/notes.txt", store.config)
    store.put_atomic("bad.parquet", b"not parquet at all")
    with pytest.raises(ManifestError, match="not a readable Parquet file"):
        opened(f"{store.uri}/bad.parquet", store, local)
    with pytest.raises(Fatal, match="NoSuchBucket"):
        locate("s3://there-is-none/in/", store.config)
    with pytest.raises(ManifestError, match="https"):
        locate("https://host/m.parquet")


def test_the_digest_follows_the_content_not_the_place(store: S3Storage) -> None:
    for name, value in (("a", "x"), ("else/b", "x"), ("c", "y")):
        store.put_atomic(f"{name}.parquet", table({"prompt": [value]}))
    digests = [
        locate(f"{store.uri}/{name}.parquet", store.config).digest for name in ("a", "else/b", "c")
    ]
    assert digests[0] == digests[1] != digests[2]
    store.put_atomic("in/a.png", b"1")
    first = locate(f"{store.uri}/in/", store.config).digest
    store.put_atomic("in/a.png", b"2")
    assert locate(f"{store.uri}/in/", store.config).digest != first


def test_a_replaced_manifest_is_refused_on_resume(store: S3Storage, local: LocalStorage) -> None:
    store.put_atomic("m.parquet", table({"id": ["a"], "prompt": ["x"]}))
    config = RunConfig(system="noop", manifest=f"{store.uri}/m.parquet", s3=store.config)
    plan = make_plan(local, config)
    open_run(local, config, plan, SYSTEM, {}, "2026-01-01T00:00:00+00:00")
    assert make_plan(local, config) == plan
    store.put_atomic("m.parquet", table({"id": ["a"], "prompt": ["y"]}))
    with pytest.raises(ManifestError, match="belongs to another manifest"):
        make_plan(local, config)


def test_a_manifest_replaced_under_a_worker_is_fatal(store: S3Storage, local: LocalStorage) -> None:
    store.put_atomic("m.parquet", table({"id": ["a"], "prompt": ["x"]}))
    manifest = opened(f"{store.uri}/m.parquet", store, local)
    store.put_atomic("m.parquet", table({"id": ["b"], "prompt": ["x"]}))
    none = np.empty(0, dtype=np.int64)
    with pytest.raises(Fatal, match="was replaced"):
        RowReader(manifest, local, none, store.config).read(Shard(0, 0, 1))
    store.delete("m.parquet")
    with pytest.raises(Fatal, match="is gone"):
        RowReader(manifest, local, none, store.config).read(Shard(0, 0, 1))


def test_a_text_manifest_replaced_while_it_is_read_is_refused(
    moto_store: S3Storage, local: LocalStorage, monkeypatch: pytest.MonkeyPatch
) -> None:
    moto_store.put_atomic("m.csv", b"prompt\nx\n")
    located = locate(f"{moto_store.uri}/m.csv", moto_store.config)
    client = s3_client(moto_store.config)
    real, calls = client.head_object, []

    def replacing(**arguments: Any) -> Any:
        calls.append(arguments)
        if len(calls) == 4:  # the rows are read, the check after them comes next
            moto_store.put_atomic("m.csv", b"prompt\ny\n")
        return real(**arguments)

    monkeypatch.setattr(client, "head_object", replacing)
    with pytest.raises(Fatal, match="was replaced"):
        read_manifest(located, ColumnsConfig(), local)
    assert list(local.list("")) == []


def test_a_store_that_fails_under_a_reader_is_retryable(
    moto: S3Server, make_store: Any, local: LocalStorage
) -> None:
    """Arrow passes this project's errors through: a lost connection is not a broken file."""
    with environment(moto.env):
        store = make_store(moto)
        prompts = [np.random.default_rng(k).bytes(60_000).hex() for k in range(100)]
        store.put_atomic("m.parquet", table({"prompt": prompts}, row_group_size=10))
    with fault_proxy(moto.port) as proxy, environment(proxy.env):
        manifest = opened(f"{store.uri}/m.parquet", store, local)
        reader = RowReader(manifest, local, np.empty(0, dtype=np.int64), store.config)
        reader.read(Shard(0, 0, 10))
        proxy.faults.append(Fault("error_500"))
        with pytest.raises(Retryable, match="InternalError"):
            reader.read(Shard(9, 90, 100))


@pytest.mark.parametrize(
    ("source", "run", "inside"),
    [
        ("in/", "in/run", True),
        ("in", "in/run", True),
        ("", "run", True),
        ("in/**", "in/run", True),
        ("*/*/*.parquet", "run", True),
        ("in/*.png", "in/run", False),
        ("in/", "inner/run", False),
        ("in/m.parquet", "in", False),
    ],
)
def test_a_run_inside_its_own_manifest_is_refused(
    moto_store: S3Storage, source: str, run: str, inside: bool
) -> None:
    for key in ("in/a.png", "in/m.parquet", "in/deep/m.parquet"):
        moto_store.put_atomic(key, table({"prompt": ["x"]}))
    storage = S3Storage(f"{moto_store.uri}/{run}", moto_store.config, conditional_put=True)
    manifest = f"{moto_store.uri}/{source}"
    config = RunConfig(system="noop", manifest=manifest, s3=moto_store.config)
    if inside:
        with pytest.raises(ManifestError, match="lies inside"):
            make_plan(storage, config)
    else:
        assert make_plan(storage, config).rows >= 1
