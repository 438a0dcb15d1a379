"""What the store says about a run: one listing to know what is left, one read per shard for
totals.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from infra.commit import attempts_key, done_key, rewrite_done
from infra.dataset import ShardSummary
from infra.manifest import Columns, Manifest, ManifestFile
from infra.plan import Plan
from infra.run_state import (
    READ_AT_ONCE,
    READERS,
    crashed_shards,
    done_generations,
    read_state,
    read_summaries,
    todo_shards,
)
from infra.storage import LocalStorage


class Counting(LocalStorage):
    """Counts requests; the most reads at one time."""

    def __init__(self, root: Path) -> None:
        super().__init__(root)
        self.reads: list[str] = []
        self.listings: list[str] = []
        self.active = self.most = 0
        self._count = threading.Lock()

    def get(self, key: str) -> bytes:
        with self._count:
            self.reads.append(key)
            self.active += 1
            self.most = max(self.most, self.active)
        threading.Event().wait(0.002)
        try:
            return super().get(key)
        finally:
            with self._count:
                self.active -= 1

    def list(self, prefix: str) -> Iterator[str]:  # type: ignore[no-untyped-def]
        self.listings.append(prefix)
        return super().list(prefix)


def plan(rows: int) -> Plan:
    files = (ManifestFile("m.parquet", rows, False),)
    columns = Columns("id", None, "prompt", None)
    return Plan(Manifest("m", "parquet", "d", "/", files, columns, ()), 10, 0)


def summary(shard: int, generation: int = 0, **reasons: int) -> ShardSummary:
    failed = sum(reasons.values())
    return ShardSummary(
        shard,
        10 * shard,
        10 * shard + 10,
        {"done": 10 - failed, "failed": failed},
        reasons,
        {"generate": 1.0},
        generation=generation,
    )


@pytest.fixture
def store(tmp_path: Path) -> Counting:
    return Counting(tmp_path)


def test_what_is_left_costs_one_listing_and_no_read(store: Counting) -> None:
    for shard in (0, 2, 3):
        rewrite_done(store, summary(shard))
    rewrite_done(store, summary(3, 1))
    assert todo_shards(store, plan(55)) == [1, 4, 5]
    assert (store.listings, store.reads) == (["done"], [])


def test_the_highest_generation_counts_once(store: Counting) -> None:
    rewrite_done(store, summary(0, crashed=4))
    rewrite_done(store, summary(0, 2, crashed=1))
    rewrite_done(store, summary(0, 1, crashed=2))
    rewrite_done(store, summary(1))
    store.put_atomic("done/notes.txt", b"not ours")
    state = read_state(store)
    assert done_generations(store) == {0: 2, 1: 0}
    assert (state.shards_done, state.rows_done, state.failed) == (2, 20, 1)
    assert dict(state.reasons) == {"crashed": 1}
    assert state.seconds["generate"] == 2.0


def test_records_are_read_several_at_a_time_in_order(store: Counting) -> None:
    for shard in reversed(range(40)):
        rewrite_done(store, summary(shard))
    assert [s.shard for s in read_summaries(store)] == list(range(40))
    assert 2 <= store.most <= READERS
    assert len(store.reads) == 40 < READ_AT_ONCE


def test_a_record_superseded_after_the_listing_is_read_in_its_new_form(store: Counting) -> None:
    for shard in range(3):
        rewrite_done(store, summary(shard))
    read = Counting.get

    def get(key: str) -> bytes:
        if key == done_key(1):
            rewrite_done(store, summary(1, 1, empty_mesh=1))
            store.delete(key)
        return read(store, key)

    store.get = get
    assert read_state(store).reasons == {"empty_mesh": 1}


def test_a_record_withdrawn_after_the_listing_is_left_out(store: Counting) -> None:
    for shard in range(3):
        rewrite_done(store, summary(shard))
    read = Counting.get

    def get(key: str) -> bytes:
        if key == done_key(1):
            store.delete(key)
        return read(store, key)

    store.get = get
    assert [s.shard for s in read_summaries(store)] == [0, 2]


def test_crashed_shards_come_from_the_names_alone(store: Counting) -> None:
    store.put_atomic(attempts_key(4), b"never read")
    store.put_atomic(attempts_key(7, 1), b"never read")
    assert crashed_shards(store) == {4, 7}
    assert store.reads == []
