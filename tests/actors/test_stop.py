"""Asking once, asking twice, and what is left of the time."""

from __future__ import annotations

import math

from actors.pace import Pace
from actors.stop import Stop


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


def test_nobody_asked() -> None:
    stop = Stop(60)
    assert not stop.requested
    assert not stop.abandon_due
    assert not stop.expired
    assert stop.deadline_s == math.inf


def test_the_end_of_the_time_limit_is_kept_for_saving() -> None:
    clock = Clock()
    stop = Stop(20, clock=clock)
    stop.request(15)
    assert (stop.requested, stop.signal, stop.deadline_s) == (True, 15, 20)
    clock.now += 14
    assert not stop.abandon_due
    clock.now += 1
    assert stop.abandon_due
    assert not stop.expired
    clock.now += 5
    assert stop.expired


def test_the_second_wish_waits_for_nothing() -> None:
    stop = Stop(60)
    stop.request(2)
    assert not stop.immediate
    stop.request(15)
    assert stop.immediate
    assert stop.expired
    assert stop.signal == 2


def test_without_a_time_limit_rows_are_not_waited_for() -> None:
    stop = Stop(0)
    stop.request(15)
    assert stop.abandon_due
    assert stop.expired


def test_a_shard_that_can_not_be_finished_in_time_is_known() -> None:
    clock = Clock()
    pace = Pace(clock)
    pace.begin(1)
    assert pace.fits(1, 0.0)  # nobody knows yet
    clock.now += 10
    pace.end(1, committed=True)
    pace.begin(2)
    clock.now += 4
    assert pace.fits(2, 6.0)
    assert not pace.fits(2, 5.0)


def test_shards_given_back_say_nothing_about_the_pace() -> None:
    clock = Clock()
    pace = Pace(clock)
    pace.begin(1)
    clock.now += 500
    pace.end(1, committed=False)
    pace.begin(2)
    assert pace.fits(2, 1.0)
