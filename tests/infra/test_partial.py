"""Saved rows are a hint: what is whole and belongs is used, anything else is left out."""

from __future__ import annotations

import logging
from pathlib import Path

import pyarrow as pa
import pytest

from geco_core.errors import Reason
from geco_core.types import Outcome, Shard, Status
from infra.dataset import RowContext, rows_to_table
from infra.partial import drop_partials, load_partials, partial_folder, save_rows, saved_keys
from infra.storage import LocalStorage

CONTEXT = RowContext("noop", "micro", {})
SHARD = Shard(3, 12, 18)


def table(rows: list[int]) -> pa.Table:
    ended = [Outcome(f"i{k}", Status.FAILED, k, Reason.EMPTY_MESH) for k in rows]
    return rows_to_table(ended, [f"{k}.png" for k in rows], CONTEXT, pa.table({"tag": rows}))


@pytest.fixture
def store(tmp_path: Path) -> LocalStorage:
    return LocalStorage(tmp_path)


def save(store: LocalStorage, rows: list[int], shard: int = 3, generation: int = 0) -> str:
    return save_rows(store, shard, generation, rows, table(rows))


def test_saved_rows_come_back_as_they_were(store: LocalStorage) -> None:
    keys = [save(store, [12, 14]), save(store, [13])]
    assert keys[0] == "partial/000003-g0/000000012.parquet"
    first, second = load_partials(store, SHARD, 0)
    assert (first.rows, second.rows) == ((12, 14), (13,))
    assert first.table.equals(table([12, 14]))
    assert saved_keys(store, 3, 0) == keys
    drop_partials(store, keys)
    assert load_partials(store, SHARD, 0) == []


def test_generations_and_shards_are_apart(store: LocalStorage) -> None:
    save(store, [12], generation=1)
    assert load_partials(store, SHARD, 0) == []
    assert load_partials(store, SHARD, 2) == []
    assert load_partials(store, Shard(4, 12, 18), 1) == []


def test_damaged_and_foreign_files_are_left_out(
    store: LocalStorage, caplog: pytest.LogCaptureFixture
) -> None:
    whole = store.get(save(store, [12]))
    folder = partial_folder(3, 0)
    assert b"empty_mesh" in whole
    strangers = {
        "torn": whole[: len(whole) // 2],
        "empty": b"",
        "text": b"not a table",
        "flipped": bytes(b ^ 255 for b in whole),
        "one_bit": whole.replace(b"empty_mesh", b"emptY_mesh", 1),
        "other_shard": store.get(save(store, [13], shard=4)),
        "outside": store.get(save_rows(store, 3, 9, [99], table([99]))),
        "generation": store.get(save(store, [14], generation=1)),
        "twice": store.get(save_rows(store, 3, 8, [15, 15], table([15, 16]))),
        "columns": store.get(save_rows(store, 3, 7, [15], pa.table({"x": [1]}))),
    }
    for name, data in strangers.items():
        store.put_atomic(f"{folder}/{name}.parquet", data)
    with caplog.at_level(logging.WARNING):
        assert [piece.rows for piece in load_partials(store, SHARD, 0)] == [(12,)]
    assert caplog.messages == ["saved_rows_ignored"] * len(strangers)
