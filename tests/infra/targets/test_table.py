"""Reading targets of a run by row number."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from geco_core.errors import Fatal, Reason
from geco_core.types import Asset, Outcome, Shard, Status
from infra.commit import commit_shard, part_key
from infra.dataset import RowContext, rows_to_table, summarise
from infra.extra_columns import extra_columns
from infra.storage import LocalStorage
from infra.targets.table import TargetTable
from tests.infra.targets.made import made_columns, made_target, same_target

ROWS, SIZE, BROKEN = 10, 4, {1, 5, 6}


def outcome(number: int) -> Outcome:
    if number in BROKEN:
        name = f"i{number}"
        return Outcome(name, Status.FAILED, number, Reason.TIMED_OUT, "late", "generate")
    asset = Asset(b"glb", "digest", b"", {}, columns=made_columns(number))
    return Outcome(f"i{number}", Status.DONE, number, asset=asset)


def made_run(folder: Path, system: str = "targets") -> LocalStorage:
    """Ten rows in three shards; rows 1, 5 and 6 failed."""
    store = LocalStorage(folder)
    context = RowContext(system, "micro", {}, extra_columns(system))
    for index, start in enumerate(range(0, ROWS, SIZE)):
        shard = Shard(index, start, min(start + SIZE, ROWS))
        made = [outcome(k) for k in range(shard.start, shard.stop)]
        passthrough = pa.table({"condition": list(range(shard.start, shard.stop))})
        table = rows_to_table(made, ["s"] * len(made), context, passthrough)
        commit_shard(store, table, summarise(made, shard, 1.0, {}))
    return store


@pytest.fixture
def table(tmp_path: Path) -> TargetTable:
    return TargetTable(made_run(tmp_path))


DONE = [k for k in range(ROWS) if k not in BROKEN]


def test_done_rows_are_numbered_in_manifest_order(table: TargetTable) -> None:
    assert len(table) == len(DONE)
    assert list(table.item_ids) == [f"i{k}" for k in DONE]


def test_rows_come_in_the_order_asked_for(table: TargetTable) -> None:
    wanted = [6, 0, 3, 0]
    for target, row in zip(table.read(wanted), wanted, strict=True):
        same_target(target, made_target(DONE[row]))


def test_arrays_may_be_written_to(table: TargetTable) -> None:
    """Torch warns about read-only ones."""
    (target,) = table.read([0], renders=[1])
    assert target.condition.flags.writeable
    assert target.renders.flags.writeable


def test_renders_are_chosen_for_all_rows_or_each(table: TargetTable) -> None:
    first, second = table.read([0, 1], renders=[2, 0])
    np.testing.assert_array_equal(first.renders, made_target(DONE[0]).renders[[2, 0]])
    np.testing.assert_array_equal(second.w2c, made_target(DONE[1]).w2c[[2, 0]])
    first, second = table.read([0, 1], renders=[[1], [2, 1]])
    np.testing.assert_array_equal(first.renders, made_target(DONE[0]).renders[[1]])
    np.testing.assert_array_equal(second.renders, made_target(DONE[1]).renders[[2, 1]])
    with pytest.raises(ValueError, match="2 lists of renders for 1 rows"):
        table.read([0], renders=[[1], [2]])


def test_conditions_alone_read_nothing_else(tmp_path: Path) -> None:
    store = made_run(tmp_path)
    table = TargetTable(store)
    seen: list[list[str]] = []
    real = table._file

    class Spy:
        def __init__(self, part: str) -> None:
            self._file = real(part)

        def read_row_group(self, group: int, columns: list[str], **words: Any) -> pa.Table:
            seen.append(columns)
            return self._file.read_row_group(group, columns=columns, **words)

    table._file = Spy  # type: ignore[assignment]
    (target,) = table.read([2], renders=(), latents=False)
    np.testing.assert_array_equal(target.condition, made_target(DONE[2]).condition)
    assert len(target.renders) == target.latents.size == 0
    assert not {"renders", "w2c", "latents", "glb", "thumbnail"} & {*seen[0]}
    table.read([2], renders=(), latents=False)
    assert len(seen) == 1  # the row group is kept


def test_memory_is_bounded(tmp_path: Path) -> None:
    table = TargetTable(made_run(tmp_path), cached_bytes=1)
    for row in (0, 3, 6, 0, 3):
        same_target(table.read([row])[0], made_target(DONE[row]))
    assert len(table._cached) == 1


def test_rows_and_renders_that_are_not_there(table: TargetTable) -> None:
    for row in (-1, len(DONE)):
        with pytest.raises(IndexError):
            table.read([row])
    with pytest.raises(IndexError):
        table.read([0], renders=[3])


def test_many_threads_read_the_same(table: TargetTable) -> None:
    wrong: list[int] = []

    def work(seed: int) -> None:
        for row in np.random.default_rng(seed).integers(0, len(DONE), 20):
            if table.read([int(row)])[0].item_id != f"i{DONE[row]}":
                wrong.append(int(row))

    threads = [threading.Thread(target=work, args=(k,)) for k in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


def test_a_run_without_targets_is_refused(tmp_path: Path) -> None:
    with pytest.raises(Fatal, match="without targets"):
        TargetTable(made_run(tmp_path, "noop"))


def test_a_part_that_is_gone_or_damaged_is_fatal(tmp_path: Path) -> None:
    store = made_run(tmp_path)
    table = TargetTable(store, cached_bytes=1)
    path = store.root / part_key(0)
    whole = path.read_bytes()
    group = pq.ParquetFile(path).metadata.row_group(0)
    chunks = [group.column(k) for k in range(group.num_columns)]
    place = next(c.data_page_offset for c in chunks if c.path_in_schema.endswith("element.bytes"))
    path.write_bytes(whole[: place + 60] + bytes(64) + whole[place + 124 :])
    with pytest.raises(Fatal, match="can not be read"):
        TargetTable(store, cached_bytes=1).read(range(3))
    path.unlink()
    table._files.clear()
    with pytest.raises(Fatal, match="is gone"):
        table.read([0])
