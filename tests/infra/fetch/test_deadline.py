"""A deadline ends what blocks on its sockets, and leaves nothing behind."""

from __future__ import annotations

import socket
import threading
import time

from infra.fetch.deadline import Deadline


def test_a_blocked_read_ends() -> None:
    left, right = socket.socketpair()
    with left, right, Deadline(0.1) as deadline:
        deadline.watch(left)
        begun = time.monotonic()
        assert left.recv(1) == b""
        assert time.monotonic() - begun < 2.0
        assert deadline.expired


def test_sockets_that_come_late_are_ended_too() -> None:
    left, right = socket.socketpair()
    with left, right, Deadline(0.01) as deadline:
        time.sleep(0.1)
        deadline.watch(left)
        assert left.recv(1) == b""


def test_what_is_over_in_time_is_left_alone() -> None:
    left, right = socket.socketpair()
    with left, right:
        with Deadline(60.0) as deadline:
            deadline.watch(left)
            assert 59.0 < deadline.remaining_s() <= 60.0
            assert not deadline.expired
        right.sendall(b"x")
        assert left.recv(1) == b"x"
    assert not any(isinstance(t, threading.Timer) and t.interval == 60.0 for t in _alive())


def test_the_time_left_never_reaches_zero() -> None:
    ticks = iter([0.0, 100.0, 100.0])
    deadline = Deadline(10.0, clock=lambda: next(ticks))
    assert deadline.expired
    assert deadline.remaining_s() > 0


def _alive() -> list[threading.Thread]:
    time.sleep(0.05)
    return threading.enumerate()
