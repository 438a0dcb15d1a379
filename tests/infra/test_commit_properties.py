"""Deaths at any step and writers in any order leave one part, one done record and the same rows."""

from __future__ import annotations

import hashlib
from dataclasses import replace

import pyarrow.parquet as pq
from hypothesis import given
from hypothesis import strategies as st

from geco_core.errors import Reason
from geco_core.types import Asset, Outcome, Shard, Status
from infra.commit import agree, commit_shard, done_key, part_key, stored_summary
from infra.dataset import RowContext, ShardSummary, rows_to_table, summarise
from infra.run_state import read_done
from infra.storage import Storage
from tests.support.stores import MemoryStorage, PowerCut, Step, SteppedStorage, Turns, dying_after

SHARD = Shard(3, 12, 17)
STATS = {"n_vertices": 3, "n_faces": 1, "bounds": [0.0] * 6, "watertight": False}
KEYS = {part_key(3), done_key(3)}
garbage = st.sampled_from([None, b"", b"PAR1", b"{}", b"x" * 400])


def outcome(row: int) -> Outcome:
    """Every third row fails."""
    if row % 3 == 0:
        return Outcome(f"i{row}", Status.FAILED, row, Reason.EMPTY_MESH, "empty", "finish")
    glb = f"glb of {row}".encode() * 20
    asset = Asset(glb, hashlib.sha256(glb).hexdigest(), b"", STATS)
    return Outcome(f"i{row}", Status.DONE, row, asset=asset)


def commit(store: Storage, writer: str) -> ShardSummary:
    """The same rows from every writer; times and names differ."""
    outcomes = [outcome(row) for row in range(SHARD.start, SHARD.stop)]
    outcomes = [replace(o, timing={"generate": len(writer) / 7}) for o in outcomes]
    context = RowContext("noop", "micro", {"code_version": "1"})
    table = rows_to_table(outcomes, ["s"] * len(outcomes), context, _nothing(len(outcomes)))
    summary = replace(summarise(outcomes, SHARD, len(writer), {}), worker=writer)
    return commit_shard(store, table, summary)


def _nothing(rows: int):
    import pyarrow as pa

    return pa.table({"note": ["n"] * rows}).select([])


def rows_of(store: MemoryStorage) -> list[tuple[str, str, bytes | None]]:
    table = pq.read_table(store.open_for_pyarrow(part_key(3)))
    names = ("item_id", "status", "glb")
    return list(zip(*(table.column(name).to_pylist() for name in names), strict=True))


EXPECTED = [
    (o.item_id, o.status.value, o.asset.glb if o.asset else None)
    for o in map(outcome, range(SHARD.start, SHARD.stop))
]


def check(store: MemoryStorage) -> None:
    assert set(store.objects) == KEYS
    assert rows_of(store) == EXPECTED
    footer = stored_summary(store, 3)
    assert footer is not None
    assert agree(read_done(store, 3), footer)


@given(st.lists(st.integers(0, 8), max_size=4), garbage, st.booleans())
def test_any_number_of_deaths_at_any_step(
    deaths: list[int], standing: bytes | None, conditional: bool
) -> None:
    store = MemoryStorage(conditional_put=conditional)
    if standing is not None:
        store.put_atomic(part_key(3), standing)
    for number, steps in enumerate(deaths):
        try:
            commit(SteppedStorage(store, dying_after(steps)), "w" * (number + 1))
        except PowerCut:
            assert done_key(3) not in store.objects or rows_of(store) == EXPECTED
    returned = commit(SteppedStorage(store, dying_after(99)), "last")
    check(store)
    assert agree(returned, read_done(store, 3))


@given(
    st.lists(st.tuples(st.integers(0, 2), st.integers(0, 9)), max_size=40),
    st.sampled_from([2, 3]),
    st.booleans(),
    garbage,
)
def test_any_interleaving_of_writers(
    turns: list[tuple[int, int]], writers: int, conditional: bool, standing: bytes | None
) -> None:
    """Each turn is a step of one writer; about one in ten ends it for good."""
    store = MemoryStorage(conditional_put=conditional)
    if standing is not None:
        store.put_atomic(part_key(3), standing)
    crowd = Turns()

    def write(name: str, step: Step) -> None:
        returned = commit(SteppedStorage(store, step), name)
        assert (returned.shard, returned.rows) == (3, 5)

    for number in range(writers):
        crowd.add(lambda step, number=number: write("w" * (number + 1), step))
    for number, fate in turns:
        if number >= writers:
            continue
        (crowd.kill if fate == 9 else crowd.step)(number)
        if done_key(3) in store.objects:  # from then on every reader sees all rows, always
            assert rows_of(store) == EXPECTED
    crowd.finish()
    assert not crowd.errors, crowd.errors
    commit(store, "last")
    check(store)
    if conditional and standing is None:
        assert store.writes[part_key(3)] == 1, "a part is never written twice"


@given(st.integers(0, 12), st.integers(0, 12))
def test_a_done_record_never_stands_before_its_part(first: int, second: int) -> None:
    store = MemoryStorage(conditional_put=False)
    crowd = Turns()
    for name in ("one", "two"):
        crowd.add(lambda step, name=name: commit(SteppedStorage(store, step), name))
    for number, steps in enumerate((first, second)):
        for _ in range(steps):
            crowd.step(number)
            assert done_key(3) not in store.objects or stored_summary(store, 3) is not None
        crowd.kill(number)
    commit(store, "last")
    check(store)
