"""Every kind of manifest becomes the same items; hostile ones cost their rows or are refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from geco_core.config.run import ColumnsConfig
from geco_core.errors import ManifestError, Reason
from geco_core.types import Shard, Status
from infra.duplicates import find_duplicates
from infra.locate import locate
from infra.manifest import Manifest, read_manifest
from infra.rows import Row, RowReader
from infra.storage import LocalStorage


@pytest.fixture
def store(tmp_path: Path) -> LocalStorage:
    return LocalStorage(tmp_path / "run")


def opened(source: Path | str, store: LocalStorage, **columns: str) -> Manifest:
    return read_manifest(locate(str(source)), ColumnsConfig(**columns), store)


def all_rows(manifest: Manifest, store: LocalStorage) -> list[Row]:
    reader = RowReader(manifest, store, find_duplicates(manifest, store))
    return reader.read(Shard(0, 0, manifest.rows)).rows


def write_parquet(path: Path, columns: dict[str, Any], **options: Any) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.table(columns), path, **options)
    return path


def test_every_kind_gives_the_same_items(tmp_path: Path, store: LocalStorage) -> None:
    write_parquet(tmp_path / "m.parquet", {"id": ["a", "b"], "image": ["x.png", "y.png"]})
    (tmp_path / "m.csv").write_text("id,image\na,x.png\nb,y.png\n")
    (tmp_path / "m.tsv").write_text("id\timage\na\tx.png\nb\ty.png\n")
    (tmp_path / "m.jsonl").write_text(
        '{"id": "a", "image": "x.png"}\n\n{"id": "b", "image": "y.png"}\n'
    )
    expected = [("a", str(tmp_path / "x.png")), ("b", str(tmp_path / "y.png"))]
    for name in ("m.parquet", "m.csv", "m.tsv", "m.jsonl"):
        rows = all_rows(opened(tmp_path / name, store), store)
        assert [(r.item.item_id, r.item.image) for r in rows] == expected, name
        assert [r.source for r in rows] == ["x.png", "y.png"]


def test_folders_and_globs_of_images(tmp_path: Path, store: LocalStorage) -> None:
    for name in ("in/b.png", "in/deep/a.JPG", "in/.hidden.png", "in/notes.txt"):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"x")
    rows = all_rows(opened(tmp_path / "in", store), store)
    assert [r.item.item_id for r in rows] == ["b.png", "deep/a.JPG"]
    assert rows[0].item.image == str(tmp_path / "in/b.png")
    globbed = all_rows(opened(f"{tmp_path}/in/**/*.JPG", store), store)
    assert [r.item.item_id for r in globbed] == ["deep/a.JPG"]
    single = all_rows(opened(tmp_path / "in/b.png", store), store)
    assert [r.item.item_id for r in single] == ["b.png"]


def test_a_folder_of_parquet_files_is_one_manifest(tmp_path: Path, store: LocalStorage) -> None:
    for k in range(3):
        ids = [f"{k}-{i}" for i in range(5)]
        write_parquet(tmp_path / f"m/{k}.parquet", {"id": ids, "prompt": ids}, row_group_size=2)
    manifest = opened(tmp_path / "m", store)
    assert manifest.rows == 15
    reader = RowReader(manifest, store, np.empty(0, dtype=np.int64))
    middle = reader.read(Shard(1, 4, 11))
    assert [r.item.item_id for r in middle.rows] == [f"{k // 5}-{k % 5}" for k in range(4, 11)]
    assert middle.passthrough.column("prompt").to_pylist() == [r.item.prompt for r in middle.rows]


def test_image_bytes_and_the_struct_of_the_datasets_library(
    tmp_path: Path, store: LocalStorage
) -> None:
    write_parquet(tmp_path / "bytes.parquet", {"image": [b"\x89PNG", b"\x89PNG", b"other"]})
    rows = all_rows(opened(tmp_path / "bytes.parquet", store), store)
    assert rows[0].item.image == b"\x89PNG"
    assert rows[0].item.item_id == rows[1].item.item_id != rows[2].item.item_id
    assert rows[1].problem is not None
    assert rows[1].problem.reason is Reason.DUPLICATE_ID
    cells = [{"bytes": b"\x89PNG", "path": "p.png"}, {"bytes": None, "path": "q.png"}, None]
    write_parquet(tmp_path / "struct.parquet", {"id": [1, 2, 3], "image": cells})
    rows = all_rows(opened(tmp_path / "struct.parquet", store), store)
    assert (rows[0].item.item_id, rows[0].item.image, rows[0].source) == ("1", b"\x89PNG", "p.png")
    assert rows[1].item.image == str(tmp_path / "q.png")
    assert rows[2].problem is not None
    assert rows[2].problem.reason is Reason.MISSING_INPUT


def test_ids_default_to_a_digest_of_image_prompt_and_seed(
    tmp_path: Path, store: LocalStorage
) -> None:
    cells = {"image": ["a.png"] * 3, "seed": [1, 2, 1], "shape": ["x", "y", "z"]}
    write_parquet(tmp_path / "m.parquet", cells)
    rows = all_rows(opened(tmp_path / "m.parquet", store), store)
    assert len({r.item.item_id for r in rows}) == 2
    assert [r.problem is None for r in rows] == [True, True, False]
    assert [r.item.seed for r in rows[:2]] == [1, 2]


def test_uris_stay_and_relative_paths_resolve(tmp_path: Path, store: LocalStorage) -> None:
    paths = ["/abs/x.png", "sub/y.png", "https://host/z.png"]
    write_parquet(tmp_path / "m.parquet", {"image": paths})
    rows = all_rows(opened(tmp_path / "m.parquet", store), store)
    assert [r.item.image for r in rows] == ["/abs/x.png", str(tmp_path / "sub/y.png"), paths[2]]


def test_malformed_rows_become_outcomes(tmp_path: Path, store: LocalStorage) -> None:
    (tmp_path / "m.csv").write_text(
        'id,prompt,seed\na,"two\nlines",7\nb\n,no id,1\nc,seed,-1\nd,,\n'
    )
    rows = all_rows(opened(tmp_path / "m.csv", store), store)
    reasons = [r.problem.reason.value if r.problem else None for r in rows]
    assert reasons == [None, "malformed_row", "malformed_row", "malformed_row", "missing_input"]
    assert rows[0].item.prompt == "two\nlines"
    assert rows[2].item.item_id == "row-000000002"
    assert rows[1].problem is not None
    assert "1 cells, the header has 3" in rows[1].problem.message
    lines = ['{"prompt": "ok"}', "{broken", "[1]", '{"prompt": "\\ud800"}', "\x00"]
    (tmp_path / "m.jsonl").write_text("\n".join(lines))
    rows = all_rows(opened(tmp_path / "m.jsonl", store), store)
    assert [r.problem is None for r in rows] == [True, False, False, True, False]
    assert all(r.problem.status is Status.FAILED for r in rows if r.problem)


def test_later_duplicates_are_skipped(tmp_path: Path, store: LocalStorage) -> None:
    ids = [f"i{k % 700}" for k in range(1000)]
    write_parquet(tmp_path / "m.parquet", {"id": ids, "prompt": ids}, row_group_size=64)
    manifest = opened(tmp_path / "m.parquet", store)
    assert find_duplicates(manifest, store).tolist() == list(range(700, 1000))
    rows = all_rows(manifest, store)
    assert rows[699].problem is None
    assert rows[700].problem is not None
    assert rows[700].problem.status is Status.SKIPPED


def test_json_columns_keep_types_or_become_text(tmp_path: Path, store: LocalStorage) -> None:
    lines: list[dict[str, Any]] = [
        {"prompt": "a", "n": 1, "x": 1, "mixed": 1, "deep": {"k": [1]}, "big": 2**70},
        {"prompt": "b", "n": 2, "x": 0.5, "mixed": "s", "late": True},
    ]
    (tmp_path / "m.jsonl").write_text("\n".join(json.dumps(line) for line in lines))
    manifest = opened(tmp_path / "m.jsonl", store)
    reader = RowReader(manifest, store, np.empty(0, dtype=np.int64))
    columns = reader.read(Shard(0, 0, 2)).passthrough.to_pydict()
    assert columns["n"] == [1, 2]
    assert columns["x"] == [1.0, 0.5]
    assert columns["mixed"] == ["1", "s"]
    assert columns["deep"] == ['{"k": [1]}', None]
    assert columns["big"] == [str(2**70), None]
    assert columns["late"] == [None, True]


@pytest.mark.parametrize(
    ("name", "content", "message", "remedy"),
    [
        ("m.csv", "id,image\n", "has no rows", "add rows"),
        ("m.csv", "", "no header", "first line"),
        ("m.csv", "image,image\na,b\n", "two columns named 'image'", "rename"),
        ("m.csv", "id,img\na,b\n", "no usable column", "columns.image=img"),
        ("m.csv", "id,caption\na,b\n", "no usable column", "columns.prompt=caption"),
        ("m.jsonl", "{broken\n", "no usable column", "columns.image"),
        ("m.parquet", "not parquet at all", "not a readable Parquet file", "again"),
        ("m.xlsx", "", "no manifest this program reads", ".csv"),
    ],
)
def test_hopeless_manifests_are_refused_before_any_work(
    tmp_path: Path, store: LocalStorage, name: str, content: str, message: str, remedy: str
) -> None:
    (tmp_path / name).write_text(content)
    with pytest.raises(ManifestError, match=message) as caught:
        opened(tmp_path / name, store)
    assert remedy in caught.value.remedy


def test_missing_things_are_named_with_their_neighbours(
    tmp_path: Path, store: LocalStorage
) -> None:
    write_parquet(tmp_path / "photos.parquet", {"id": ["a"], "picture": ["x.png"]})
    with pytest.raises(ManifestError) as caught:
        opened(tmp_path / "photo.parquet", store)
    assert "photos.parquet" in caught.value.remedy
    with pytest.raises(ManifestError, match="no column 'pictur'") as caught:
        opened(tmp_path / "photos.parquet", store, image="pictur")
    assert "'picture'" in caught.value.remedy
    assert opened(tmp_path / "photos.parquet", store, image="picture").columns.image == "picture"
    (tmp_path / "empty").mkdir()
    with pytest.raises(ManifestError, match="holds no images"):
        opened(tmp_path / "empty", store)


def test_columns_of_impossible_types_are_refused(tmp_path: Path, store: LocalStorage) -> None:
    write_parquet(tmp_path / "m.parquet", {"image": [1.5]})
    with pytest.raises(ManifestError, match="type double"):
        opened(tmp_path / "m.parquet", store)


def test_the_digest_follows_the_content_not_the_place(tmp_path: Path) -> None:
    first = write_parquet(tmp_path / "a.parquet", {"prompt": ["x"]})
    second = write_parquet(tmp_path / "else/b.parquet", {"prompt": ["x"]})
    third = write_parquet(tmp_path / "c.parquet", {"prompt": ["y"]})
    digests = [locate(str(path)).digest for path in (first, second, third)]
    assert digests[0] == digests[1] != digests[2]
