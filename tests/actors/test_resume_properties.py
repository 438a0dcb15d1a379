"""A run that starts again from whatever an earlier one left makes every row once, and the same."""

from __future__ import annotations

import hashlib
from collections import Counter
from dataclasses import replace
from typing import Any

import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from actors.inline import run_inline
from actors.order import WorkOrder, saved_shards
from actors.shard_worker import Worker
from geco_core.types import Asset, Mesh
from infra.commit import done_key, part_key
from infra.dataset import ShardSummary
from infra.partial import save_rows
from infra.plan import Plan
from infra.run_state import done_shards, read_state, todo_shards
from tests.actors.shards import batches, worker
from tests.support.stores import MemoryStorage, PowerCut, SteppedStorage, dying_after

ROWS, SIZE = 11, 4
SHARDS = range(3)


def quick_finish(mesh: Mesh, *, item_id: str, seed: int, **_: Any) -> Asset:
    """An asset in no time that still depends on the mesh and the item."""
    glb = item_id.encode() + mesh.vertices.tobytes()
    stats = {"n_vertices": 8, "n_faces": 12, "bounds": [0.0] * 6, "watertight": True}
    return Asset(glb, hashlib.sha256(glb).hexdigest(), b"", stats)


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Worker:
    made = worker(tmp_path_factory.mktemp("run"), ROWS, settings={"save_every_s": 1e-9})
    made.finish = quick_finish
    return made


@pytest.fixture(scope="module")
def plan(base: Worker) -> Plan:
    return Plan(base.reader._manifest, SIZE, 0)


def on(base: Worker, storage: Any) -> Worker:
    """The worker over another store."""
    return replace(base, storage=storage)


def make(base: Worker, plan: Plan, store: MemoryStorage, steps: int | None = None) -> list[str]:
    """`generate` without its frame: what is left, in order. Returns the ids that were made.

    Args: steps: the process is gone before the step after so many.
    """
    before = len(batches(base))
    try:
        door = store if steps is None else SteppedStorage(store, dying_after(steps))
        order = WorkOrder(tuple(todo_shards(door, plan)))
        order = replace(order, partials=saved_shards(door, order))
        summaries: list[ShardSummary] = []
        run_inline(on(base, door), plan, order, lambda s: not summaries.append(s))
        assert [s.shard for s in summaries] == list(order.shards)
    except PowerCut:
        pass
    return [item for batch in batches(base)[before:] for item in batch]


def content(store: MemoryStorage) -> list[tuple[Any, ...]]:
    names = ("item_id", "status", "seed", "glb", "glb_sha256", "prompt")
    tables = [pq.read_table(store.open_for_pyarrow(part_key(shard))) for shard in SHARDS]
    return [
        row
        for table in tables
        for row in zip(*(table.column(name).to_pylist() for name in names), strict=True)
    ]


@pytest.fixture(scope="module")
def reference(base: Worker, plan: Plan) -> MemoryStorage:
    store = MemoryStorage()
    assert sorted(make(base, plan, store)) == sorted(f"i{k}" for k in range(ROWS))
    return store


def check(store: MemoryStorage, plan: Plan, reference: MemoryStorage) -> None:
    assert content(store) == content(reference)
    assert todo_shards(store, plan) == []
    assert read_state(store).counts == {"done": ROWS}
    assert not list(store.list("partial"))
    assert len(list(store.list("assets"))) == len(list(store.list("done"))) == len(SHARDS)


state = st.sampled_from(["nothing", "part", "done", "torn part"])


@given(
    st.tuples(state, state, state),
    st.lists(st.sets(st.integers(0, ROWS - 1), min_size=1), max_size=3),
    st.booleans(),
)
def test_any_subset_of_what_a_run_leaves_is_completed(
    base: Worker, plan: Plan, reference: MemoryStorage, states: tuple[str, ...],
    saved: list[set[int]], damaged: bool,
) -> None:  # fmt: skip
    store = MemoryStorage()
    kept: set[int] = set()
    for shard, found in zip(SHARDS, states, strict=True):
        part = reference.get(part_key(shard))
        if found in ("part", "done"):
            store.put_atomic(part_key(shard), part)
            kept |= set(range(ROWS)[shard * SIZE : (shard + 1) * SIZE])
        if found == "done":
            store.put_atomic(done_key(shard), reference.get(done_key(shard)))
        if found == "torn part":
            store.put_atomic(part_key(shard), part[: len(part) // 2])
    for shard, chosen in zip(SHARDS, saved, strict=False):
        rows = sorted(row for row in chosen if row // SIZE == shard)
        if rows and states[shard] in ("nothing", "torn part"):
            table = pq.read_table(reference.open_for_pyarrow(part_key(shard)))
            save_rows(store, shard, 0, rows, table.take([row - shard * SIZE for row in rows]))
            kept |= set(rows)
    if damaged:
        store.put_atomic("partial/000001-g0/000000099.parquet", b"PAR1 no more")
    assert todo_shards(store, plan) == [k for k in SHARDS if states[k] != "done"]
    made = make(base, plan, store)
    assert Counter(made) == Counter(f"i{k}" for k in range(ROWS) if k not in kept)
    store.delete("partial/000001-g0/000000099.parquet")  # litter: verify names it
    check(store, plan, reference)


@given(st.lists(st.integers(0, 45), max_size=5), st.booleans())
def test_deaths_at_any_step_of_a_run(
    base: Worker, plan: Plan, reference: MemoryStorage, deaths: list[int], conditional: bool
) -> None:
    store = MemoryStorage(conditional_put=conditional)
    done: set[int] = set()
    for steps in deaths:
        make(base, plan, store, steps)
        assert done <= done_shards(store), "what was committed once stays committed"
        done = done_shards(store)
    make(base, plan, store)
    for key in [k for k in store.list("partial") if done_key(int(k[8:14])) in store.objects]:
        store.delete(key)  # a death between the commit and the cleaning: litter that repair removes
    check(store, plan, reference)
