"""Objects between processes: whole or an error, and never later than agreed."""

from __future__ import annotations

import socket
import threading
import time

import numpy as np
import pytest

from actors import wire


@pytest.fixture
def pair():
    ours, theirs = socket.socketpair()
    with ours, theirs:
        yield ours, theirs


def test_arrays_larger_than_any_buffer_arrive_as_they_were(pair) -> None:
    ours, theirs = pair
    message = ({"a": np.arange(3_000_000), "b": np.zeros((0, 3))}, "text", b"bytes")
    sender = threading.Thread(target=wire.send, args=(ours, message))
    sender.start()
    arrays, text, data = wire.receive(theirs)
    sender.join()
    assert np.array_equal(arrays["a"], message[0]["a"])
    assert arrays["b"].shape == (0, 3)
    assert (text, data) == ("text", b"bytes")
    arrays["a"][0] = 7  # the far side works on its own copy
    assert message[0]["a"][0] == 0


def test_many_objects_keep_their_order(pair) -> None:
    ours, theirs = pair
    for number in range(50):
        wire.send(ours, number)
    assert [wire.receive(theirs) for _ in range(50)] == list(range(50))


def test_half_an_object_is_an_end_not_an_object(pair) -> None:
    ours, theirs = pair
    ours.send(b"\x01\x00\x00")
    ours.close()
    with pytest.raises(EOFError):
        wire.receive(theirs)


def test_a_trickle_does_not_pass_the_deadline(pair) -> None:
    ours, theirs = pair
    stop = threading.Event()

    def trickle() -> None:
        ours.send(b"\x01\x00\x00\x00" + (1 << 20).to_bytes(8, "little"))
        while not stop.wait(0.02):
            ours.send(b"x")

    thread = threading.Thread(target=trickle)
    thread.start()
    begun = time.monotonic()
    with pytest.raises(TimeoutError):
        wire.receive(theirs, time.monotonic() + 0.2)
    assert time.monotonic() - begun < 2
    stop.set()
    thread.join()


def test_nobody_who_reads_is_a_time_out_too(pair) -> None:
    with pytest.raises(TimeoutError):
        wire.send(pair[0], np.zeros(10_000_000), time.monotonic() + 0.1)
