"""The scheduler's state machine, event by event, without Ray."""

from __future__ import annotations

import random

import pytest

from actors.schedule import DEPTH, Assignment, Schedule
from geco_core.errors import Fatal


def schedule(shards: int, workers: int = 2, **options: object) -> Schedule:
    made = Schedule(range(shards), workers=workers, crashes_before_isolation=3, **options)  # type: ignore[arg-type]
    return made


def started(shards: int, workers: int = 2, **options: object) -> Schedule:
    made = schedule(shards, workers, **options)
    for replica in made.new_replicas():
        made.ready(replica)
    return made


def test_lesson_1_only_ready_replicas_get_work() -> None:
    made = schedule(10)
    assert made.new_replicas() == [0, 1]
    assert made.assignments() == []
    made.ready(1)
    assert {a.replica for a in made.assignments()} == {1}


def test_two_shards_in_flight_spread_over_replicas_first() -> None:
    given = started(10).assignments()
    assert given == [
        Assignment(0, 0, False),
        Assignment(1, 1, False),
        Assignment(0, 2, False),
        Assignment(1, 3, False),
    ]


def test_never_more_replicas_than_work() -> None:
    assert schedule(1, workers=4).new_replicas() == [0]
    made = started(2)
    made.assignments()
    assert made.new_replicas() == []


def test_the_last_shards_wait_for_replicas_that_are_loading() -> None:
    made = schedule(2)
    made.new_replicas()
    made.ready(0)
    assert made.assignments() == [Assignment(0, 0, False)]
    made.ready(1)
    assert made.assignments() == [Assignment(1, 1, False)]


def test_idle_replicas_end_at_the_tail() -> None:
    made = started(2)
    made.assignments()
    assert made.surplus_replicas() == []
    made.shard_done(0, 0)
    assert made.surplus_replicas() == [0]
    assert made.surplus_replicas() == []
    assert not made.finished
    made.shard_done(1, 1)
    assert made.finished


def test_lesson_4_a_dead_replica_is_replaced_and_its_shards_are_given_out_again() -> None:
    made = started(4)
    made.assignments()
    for shard in made.died(0):
        made.crashed(shard, 1, blamed=False, detail="")
    assert made.waiting == 2
    assert made.new_replicas() == [2]
    made.ready(2)
    assert {a.shard for a in made.assignments() if a.replica == 2} == {0, 2}


def test_a_suspect_runs_alone_and_isolated() -> None:
    made = started(4, workers=1, crashes={1: 3})
    assert made.assignments() == [Assignment(0, 1, True)]
    assert made.assignments() == []  # nobody joins it
    made.shard_done(0, 1)
    assert made.assignments() == [Assignment(0, 0, False), Assignment(0, 2, False)]


def test_a_suspect_does_not_join_a_busy_replica() -> None:
    made = started(2)
    made.assignments()
    for shard in made.died(1):
        made.crashed(shard, 3, blamed=False, detail="")
    assert made.assignments() == []
    made.shard_done(0, 0)
    assert made.assignments() == [Assignment(0, 1, True)]


def test_a_suspect_that_dies_without_a_culprit_ends_the_run() -> None:
    made = started(1, workers=1, crashes={0: 3})
    for crashes in (4, 5):
        made.crashed(0, crashes, blamed=False, detail="segfault in the writer")
    made.crashed(0, 6, blamed=True, detail="")
    with pytest.raises(Fatal, match="segfault in the writer"):
        made.crashed(0, 7, blamed=False, detail="segfault in the writer")


def test_three_failed_starts_in_a_row_are_fatal() -> None:
    made = schedule(9, workers=3)
    first = made.new_replicas()
    made.start_failed(first[0], "no weights")
    made.start_failed(first[1], "no weights")
    made.ready(first[2])
    for _ in range(2):
        made.start_failed(made.new_replicas()[0], "no weights")
    with pytest.raises(Fatal, match="no weights"):
        made.start_failed(made.new_replicas()[0], "no weights", "download them")


def test_a_failing_store_is_tried_three_times() -> None:
    made = started(1, workers=1)
    for _ in range(2):
        made.assignments()
        made.store_failed(0, 0, "timeout")
    made.assignments()
    with pytest.raises(Fatal, match="could not be stored"):
        made.store_failed(0, 0, "timeout")


def test_a_shard_given_back_is_no_crash_and_its_replica_leaves() -> None:
    made = started(4, workers=1)
    made.assignments()
    made.abandoned(0, 0)
    assert made.crashes == {}
    assert made.assignments() == []  # it gets nothing new
    made.abandoned(0, 1)
    assert made.surplus_replicas() == [0]
    assert made.new_replicas() == [1]


def test_a_lost_node_is_no_crash_until_it_happens_again() -> None:
    made = started(1, workers=1)
    made.assignments()
    assert made.died(0) == [0]
    assert made.lost(0)
    made.ready(made.new_replicas()[0])
    made.assignments()
    made.died(1)
    assert not made.lost(0)


def test_a_node_where_nothing_starts_is_retired_when_others_work() -> None:
    made = schedule(9, workers=2)
    good, bad = made.new_replicas()
    made.placed(good, "good")
    made.ready(good)
    for _ in range(3):
        made.placed(bad, "bad")
        made.start_failed(bad, "no driver")
        (bad,) = made.new_replicas()
    assert made.retire_nodes() == ["bad"]
    assert made.retire_nodes() == []


@pytest.mark.parametrize("seed", range(20))
def test_random_events_never_lose_or_repeat_a_shard(seed: int) -> None:
    rng = random.Random(seed)
    made, done, crashes = schedule(30, workers=4), set(), {}
    for _ in range(5000):
        if made.finished:
            break
        for replica in made.new_replicas():
            made.placed(replica, rng.choice("ab"))
        for replica, state in list(made.replicas.items()):
            if not state.ready and rng.random() < 0.5:
                made.ready(replica)
        for given in made.assignments():
            assert given.shard not in done
            assert len(made.replicas[given.replica].shards) <= DEPTH
        assert sum(bool(s.shards) and not s.leaving for s in made.replicas.values()) <= 4
        busy = [(r, s) for r, state in made.replicas.items() for s in state.shards]
        if busy:
            replica, shard = rng.choice(busy)
            event = rng.random()
            if event < 0.2:
                for lost in made.died(replica):
                    if rng.random() < 0.3 and made.lost(lost):
                        continue
                    crashes[lost] = crashes.get(lost, 0) + 1
                    made.crashed(lost, crashes[lost], blamed=crashes[lost] > 3, detail="")
            elif event < 0.3:
                made.abandoned(replica, shard)
            else:
                made.shard_done(replica, shard)
                assert shard not in done
                done.add(shard)
        made.surplus_replicas()
    assert done == set(range(30))
    assert made.nodes.retired == set()
