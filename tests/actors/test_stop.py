"""Asking once, asking twice, and what is left of the time."""

from __future__ import annotations

import math

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
