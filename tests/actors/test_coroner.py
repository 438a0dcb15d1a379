"""Who is blamed for a death: only a row that this command ran alone, never for its node's."""

from __future__ import annotations

from pathlib import Path

import pytest

from actors.coroner import Coroner
from actors.deaths import Death
from actors.order import WorkOrder
from actors.schedule import Schedule
from geco_core.errors import Reason
from infra.attempts import Attempts, Suspicion, read_attempts, write_attempts
from infra.storage import LocalStorage

ALONE = Suspicion(row=2, item_id="i2", started_at=100.0)
SEGFAULT = Death(Reason.CRASHED, "segfault")
LOST = Death(Reason.CRASHED, "the node is gone", node_lost=True)


class Morgue:
    """One replica that holds the only shard, whose record names row 2 as running alone."""

    def __init__(self, store: LocalStorage, crashes: int, generation: int = 0) -> None:
        self.store, self.generation = store, generation
        order = WorkOrder((0,), generations={0: generation})
        self.schedule = Schedule(
            [0], workers=1, crashes_before_isolation=3, crashes={0: crashes} if crashes else None
        )
        self.coroner = Coroner(store, self.schedule, order, 600.0, lambda: 101.0)
        self.hold()
        write_attempts(store, Attempts(0, crashes, running=ALONE, generation=generation))

    def hold(self) -> None:
        for replica in self.schedule.new_replicas():
            self.schedule.placed(replica, f"node{replica}")
            self.schedule.ready(replica)
        self.schedule.assignments()

    def die(self, death: Death) -> Attempts:
        (replica,) = self.schedule.replicas
        self.coroner.examine(f"node{replica}", self.schedule.died(replica), death, 0.0)
        return read_attempts(self.store, 0, self.generation)


@pytest.fixture
def store(tmp_path: Path) -> LocalStorage:
    return LocalStorage(tmp_path)


def test_a_row_that_ran_alone_is_blamed(store: LocalStorage) -> None:
    record = Morgue(store, 3).die(SEGFAULT)
    assert (record.crashes, list(record.blamed), record.running) == (4, [2], None)


def test_a_row_of_a_later_generation_is_blamed_there(store: LocalStorage) -> None:
    record = Morgue(store, 3, generation=2).die(SEGFAULT)
    assert (record.generation, list(record.blamed)) == (2, [2])
    assert read_attempts(store, 0).blamed == {}


def test_a_suspicion_of_an_earlier_command_blames_nobody(store: LocalStorage) -> None:
    record = Morgue(store, 0).die(SEGFAULT)
    assert (record.crashes, record.blamed, record.running) == (1, {}, None)


def test_a_lost_node_blames_nobody_and_is_no_crash(store: LocalStorage) -> None:
    record = Morgue(store, 3).die(LOST)
    assert (record.crashes, record.blamed, record.running) == (3, {}, None)


def test_a_shard_whose_nodes_keep_dying_counts_as_crashed(store: LocalStorage) -> None:
    morgue = Morgue(store, 0)
    assert morgue.die(LOST).crashes == 0
    morgue.hold()
    assert morgue.die(LOST).crashes == 1


def test_a_row_that_takes_its_node_down_twice_is_blamed(store: LocalStorage) -> None:
    morgue = Morgue(store, 3)
    assert morgue.die(LOST).blamed == {}
    morgue.hold()
    write_attempts(store, Attempts(0, 3, running=ALONE))
    assert list(morgue.die(LOST).blamed) == [2]


def test_a_shard_starts_without_old_suspicions(store: LocalStorage) -> None:
    assert Morgue(store, 3).coroner.record(0) == Attempts(0, 3)
    assert read_attempts(store, 0) == Attempts(0, 3)


def test_the_store_is_not_asked_about_shards_that_never_crashed(store: LocalStorage) -> None:
    morgue = Morgue(store, 0)
    assert morgue.coroner.record(0) == Attempts(0)
    assert read_attempts(store, 0).running == ALONE
