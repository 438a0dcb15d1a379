"""Repeated ids are found however the column spells them, and as by the slow way."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from infra.duplicates import find_duplicates, repeated_rows
from infra.manifest import Columns, Manifest, ManifestFile
from infra.normalise import PROBLEM_COLUMN
from infra.rows import iterate_rows
from infra.storage import LocalStorage

LONG = "é" * 400  # 800 bytes, a usable id all the same


def found(tmp_path: Path, table: pa.Table, columns: Columns) -> tuple[list[int], list[int]]:
    """Duplicates by the module, and by a dictionary over the rows' ids."""
    path = tmp_path / "m.parquet"
    pq.write_table(table, path)
    files = (ManifestFile(str(path), table.num_rows, False),)
    manifest = Manifest("m", "parquet", "d", str(tmp_path), files, columns, ())
    seen: set[str] = set()
    slow = []
    for row in iterate_rows(table, manifest, 0, set()):
        if row.item.item_id in seen:
            slow.append(row.index)
        seen.add(row.item.item_id)
    return find_duplicates(manifest, LocalStorage(tmp_path / "run")).tolist(), slow


ID = Columns("id", None, "prompt", None)


@pytest.mark.parametrize(
    "ids",
    [
        ["a", "b", "a", "c", "b", "a"],
        ["a", "", "", "a", "row-000000001"],
        ["a", None, None, "a"],
        [LONG, "x", LONG],
        ["y" * 600, "y" * 600, "row-000000001", "z"],
        [3, 4, 3],
        ["a\tb", "a\tb", "c"],
        ["ü", "ü", "c"],
    ],
)
def test_ids_of_every_kind(tmp_path: Path, ids: list[Any]) -> None:
    fast, slow = found(tmp_path, pa.table({"id": ids, "prompt": ["p"] * len(ids)}), ID)
    assert fast == slow


def test_ids_that_are_not_text(tmp_path: Path) -> None:
    ids = pa.Array.from_buffers(
        pa.string(),
        3,
        [None, pa.py_buffer(np.array([0, 1, 2, 3], np.int32)), pa.py_buffer(b"\xff\xffa")],
    )
    fast, slow = found(tmp_path, pa.table({"id": ids, "prompt": ["p"] * 3}), ID)
    assert fast == slow


def test_duplicates_across_batches(tmp_path: Path) -> None:
    ids = [f"item-{k % 30_000}" for k in range(40_000)]
    fast, slow = found(tmp_path, pa.table({"id": ids, "prompt": ids}), ID)
    assert fast == slow == list(range(30_000, 40_000))


def test_rows_without_an_id_column_are_compared_by_content(tmp_path: Path) -> None:
    table = pa.table({"prompt": ["a", "b", "a"], "seed": [1, 1, 1]})
    assert found(tmp_path, table, Columns(None, None, "prompt", "seed")) == ([2], [2])


def test_a_line_that_could_not_be_read_has_its_own_id(tmp_path: Path) -> None:
    table = pa.table({"id": ["a", "a", None], PROBLEM_COLUMN: [None, None, "line 3: not JSON"]})
    assert found(tmp_path, table, ID) == ([1], [1])


def test_the_earliest_of_equal_rows_is_kept() -> None:
    digests_N2 = np.array([[2, 1], [1, 2], [2, 1], [2, 2], [1, 2], [2, 1]], dtype=np.uint64)
    assert repeated_rows(digests_N2).tolist() == [2, 4, 5]
