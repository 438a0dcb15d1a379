"""Shards cut the rows without gap or overlap, whatever the numbers."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from infra.commit import done_key, part_key
from infra.manifest import Columns, Manifest, ManifestFile
from infra.plan import Plan
from infra.run_state import todo_shards
from tests.support.stores import MemoryStorage

COLUMNS = Columns("item_id", None, "prompt", None)


def plan_over(files: list[int], size: int) -> Plan:
    held = tuple(ManifestFile(f"{k}.parquet", rows, stored=False) for k, rows in enumerate(files))
    return Plan(Manifest("m", "parquet", "d", "", held, COLUMNS, ()), size, 0)


@given(st.lists(st.integers(0, 10**9), min_size=1, max_size=20), st.data())
def test_shards_partition_the_rows(files: list[int], data: st.DataObject) -> None:
    rows = sum(files)
    size = data.draw(st.integers(max(1, rows // 300), max(1, 2 * rows)))
    plan, again = plan_over(files, size), plan_over(files, size)
    place = 0
    for index in range(plan.shards):
        shard = plan.shard(index)
        assert (shard.index, shard.start) == (index, place)
        assert 0 < shard.stop - shard.start <= size
        assert shard == again.shard(index)
        place = shard.stop
    assert place == rows == plan.rows


@given(st.integers(1, 10**12), st.integers(1, 10**7), st.data())
def test_any_shard_of_a_huge_plan_is_found_without_the_others(
    rows: int, size: int, data: st.DataObject
) -> None:
    plan = plan_over([rows], size)
    index = data.draw(st.integers(0, plan.shards - 1))
    shard = plan.shard(index)
    assert shard.start == index * size
    assert shard.stop == min(rows, shard.start + size)


@given(st.integers(1, 60), st.integers(1, 9), st.data())
def test_what_is_left_is_the_complement_of_the_done_records(
    rows: int, size: int, data: st.DataObject
) -> None:
    plan, store = plan_over([rows], size), MemoryStorage()
    shards = st.sets(st.integers(0, plan.shards - 1))
    done, parts, strangers = data.draw(shards), data.draw(shards), data.draw(shards)
    for shard in done:
        store.put_atomic(done_key(shard, data.draw(st.integers(0, 3))), b"{}")
    for shard in parts:
        store.put_atomic(part_key(shard), b"")
    for shard in strangers:
        store.put_atomic(f"done/{shard:06d}.json.bak", b"")
        store.put_atomic(f"done/x{shard:06d}.json", b"")
        store.put_atomic(f"done/{shard:06d}/notes.json", b"")
    assert todo_shards(store, plan) == [k for k in range(plan.shards) if k not in done]
