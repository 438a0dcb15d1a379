"""Python objects over a stream socket between two processes of ours; arrays travel as they lie in
memory.

Only for processes that trust each other: pickle runs what it is told to.
"""

from __future__ import annotations

import pickle
import socket
import struct
import time
from collections.abc import Callable
from typing import Any

_COUNT = struct.Struct("<I")
_SIZE = struct.Struct("<Q")

Clock = Callable[[], float]


def send(
    sock: socket.socket, message: Any, deadline: float | None = None, clock: Clock = time.monotonic
) -> None:
    """Send one object.

    Args:
        sock: a connected stream socket.
        message: what pickle can take.
        deadline: on `clock`; None waits for ever.
        clock: monotonic seconds.

    Raises:
        TimeoutError: the other side did not take it in time.
        OSError: the other side is gone.
    """
    buffers: list[pickle.PickleBuffer] = []
    head = pickle.dumps(message, protocol=5, buffer_callback=buffers.append)
    parts = [memoryview(head), *(buffer.raw() for buffer in buffers)]
    sizes = b"".join(_SIZE.pack(part.nbytes) for part in parts)
    first = _COUNT.pack(len(parts)) + sizes
    for part in (memoryview(first), *parts):
        _send_all(sock, part, deadline, clock)


def receive(
    sock: socket.socket, deadline: float | None = None, clock: Clock = time.monotonic
) -> Any:
    """Receive one object.

    Raises:
        EOFError: the other side closed before the whole object was here.
        TimeoutError: it did not come in time.
        OSError: the connection broke.
    """
    count = _COUNT.unpack(_receive_all(sock, _COUNT.size, deadline, clock))[0]
    sizes = _receive_all(sock, count * _SIZE.size, deadline, clock)
    head, *buffers = (
        _receive_all(sock, size, deadline, clock) for (size,) in _SIZE.iter_unpack(sizes)
    )
    return pickle.loads(head, buffers=buffers)  # noqa: S301 - from our own child


def check_portable(message: Any) -> None:
    """Raises whatever a foreign class raises when it is copied to another process."""
    pickle.loads(pickle.dumps(message))  # noqa: S301 - what was pickled just now


def _send_all(sock: socket.socket, data: memoryview, deadline: float | None, clock: Clock) -> None:
    while data.nbytes:
        _arm(sock, deadline, clock)
        data = data[sock.send(data) :]


def _receive_all(sock: socket.socket, size: int, deadline: float | None, clock: Clock) -> bytearray:
    data = bytearray(size)
    view = memoryview(data)
    while view.nbytes:
        _arm(sock, deadline, clock)
        count = sock.recv_into(view)
        if not count:
            raise EOFError("the other side closed the connection")
        view = view[count:]
    return data


def _arm(sock: socket.socket, deadline: float | None, clock: Clock) -> None:
    """A socket's own timeout bounds one call; the deadline bounds all of them."""
    if deadline is None:
        return
    left = deadline - clock()
    if left <= 0:
        raise TimeoutError("the time limit is over")
    sock.settimeout(left)
