"""Whatever the cells of a manifest hold, every row comes out once, in order, with what it said."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from geco_core.config.run import ColumnsConfig
from geco_core.errors import ManifestError, Reason
from infra.locate import locate
from infra.manifest import read_manifest
from infra.plan import Plan, load_duplicates
from infra.rows import Row, RowReader
from tests.support.stores import MemoryStorage

# Characters that readers stumble over, and any other that UTF-8 can hold.
nasty = st.text(
    st.sampled_from("\",;\t\r\n\\'\x00\x0b\x1c\x85\u2028\ufeff{}[] aé漢😀"), max_size=12
)
text = st.one_of(nasty, st.text(st.characters(exclude_categories=["Cs"]), max_size=12))
prompt = text.filter(bool)
sizes = st.integers(1, 7)


def rows_in(path: Path, shard_size: int) -> list[Row]:
    """All rows, shard by shard, as workers read them."""
    store = MemoryStorage()
    manifest = read_manifest(locate(str(path)), ColumnsConfig(), store)
    duplicates = load_duplicates(manifest, store)
    plan = Plan(manifest, shard_size, len(duplicates))
    reader = RowReader(manifest, store, duplicates)
    found = []
    for index in range(plan.shards):
        read = reader.read(plan.shard(index))
        assert len(read.rows) == read.passthrough.num_rows
        found += read.rows
    assert [row.index for row in found] == list(range(len(found)))
    return found


def prompts(rows: list[Row]) -> list[str | None]:
    return [row.item.prompt for row in rows]


def troubles(rows: list[Row]) -> list[int]:
    """Rows that can not be made; the same prompt again is a duplicate and no trouble."""
    return [
        row.index
        for row in rows
        if row.problem is not None and row.problem.reason is not Reason.DUPLICATE_ID
    ]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path


@given(st.lists(st.tuples(prompt, text), min_size=1, max_size=12), sizes)
def test_csv_written_by_the_csv_module(
    folder: Path, cells: list[tuple[str, str]], size: int
) -> None:
    path = folder / "m.csv"
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["prompt", "note"])
        writer.writerows(cells)
    rows = rows_in(path, size)
    with path.open(newline="", encoding="utf-8") as file:
        expected = list(csv.reader(file))[1:]  # a lone carriage return may come back as a newline
    assert len(rows) == len(cells)
    assert troubles(rows) == []
    assert prompts(rows) == [row[0] for row in expected]


@given(st.lists(st.dictionaries(st.sampled_from(["prompt", "note"]), text)), sizes)
def test_jsonl_written_by_the_json_module(
    folder: Path, objects: list[dict[str, str]], size: int
) -> None:
    objects = [{"prompt": "first"}, *objects]
    path = folder / "m.jsonl"
    path.write_text("".join(json.dumps(one) + "\n" for one in objects), encoding="utf-8")
    rows = rows_in(path, size)
    assert prompts(rows) == [one.get("prompt") or None for one in objects]
    without = [k for k, one in enumerate(objects) if not one.get("prompt")]
    assert troubles(rows) == without


json_cell = st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), text, st.lists(text))


@given(st.lists(st.dictionaries(prompt, json_cell, max_size=4), max_size=8), sizes)
def test_jsonl_with_any_other_columns(
    folder: Path, others: list[dict[str, Any]], size: int
) -> None:
    roles = {"prompt", "image", "id", "item_id", "seed"}
    objects = [
        {**{k: v for k, v in other.items() if k.strip() not in roles}, "prompt": f"p{i}"}
        for i, other in enumerate([{}, *others])
    ]
    path = folder / "m.jsonl"
    path.write_text("".join(json.dumps(one) + "\n" for one in objects), encoding="utf-8")
    try:
        rows = rows_in(path, size)
    except ManifestError:  # e.g. names that differ in nothing a table can hold
        return
    assert prompts(rows) == [one["prompt"] for one in objects]


@given(st.lists(st.binary(max_size=30), max_size=10), sizes)
def test_jsonl_of_any_bytes_has_a_row_for_every_line(
    folder: Path, lines: list[bytes], size: int
) -> None:
    path = folder / "m.jsonl"
    path.write_bytes(b'{"prompt": "first"}\n' + b"\n".join(lines))
    rows = rows_in(path, size)
    written = path.read_bytes().split(b"\n")
    full = [line for line in written if line.strip().removeprefix(b"\xef\xbb\xbf").strip()]
    assert len(rows) == len(full)
    assert prompts(rows)[0] == "first"


@given(st.binary(max_size=80), sizes)
def test_csv_of_any_bytes_is_read_or_refused(folder: Path, data: bytes, size: int) -> None:
    path = folder / "m.csv"
    path.write_bytes(b"prompt,note\nfirst,x\n" + data)
    rows = rows_in(path, size)
    assert prompts(rows)[0] == "first"
    assert rows == rows_in(path, size + 3), "cut in another way, the rows are the same"


seeds = st.one_of(st.none(), st.integers(0, 2**63 - 1))
ids = st.one_of(st.none(), text)


@given(
    st.lists(st.lists(st.tuples(ids, text, seeds), max_size=7), min_size=1, max_size=4),
    st.integers(1, 4),
    sizes,
)
def test_parquet_files_in_row_groups(
    folder: Path, files: list[list[tuple[str | None, str, int | None]]], group: int, size: int
) -> None:
    files = [[("first", "first", None)], *files]
    source = folder / "files"
    source.mkdir(exist_ok=True)
    schema = pa.schema([("id", pa.string()), ("prompt", pa.string()), ("seed", pa.int64())])
    for old in source.iterdir():
        old.unlink()
    for number, rows in enumerate(files):
        table = pa.Table.from_pylist(
            [dict(zip(schema.names, row, strict=True)) for row in rows], schema=schema
        )
        pq.write_table(table, source / f"{number:03d}.parquet", row_group_size=group)
    flat = [row for rows in files for row in rows]
    found = rows_in(source, size)
    assert len(found) == len(flat)
    seen: set[str] = set()
    for row, (item_id, prompt, seed) in zip(found, flat, strict=True):
        if not item_id:
            assert row.problem is not None
            assert row.item.item_id == f"row-{row.index:09d}"
        elif row.problem is None:
            assert (row.item.item_id, row.item.seed) == (item_id, seed)
            assert row.item.prompt == (prompt or None)
            assert item_id not in seen
            seen.add(item_id)
