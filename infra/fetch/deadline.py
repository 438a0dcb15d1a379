"""A limit on the whole of a network exchange, whatever it is waiting for.

Socket timeouts bound one read; a server that sends a byte a second passes them for ever, in the
handshake, the headers or the body. Here a timer shuts the sockets down, which ends any blocked call
on them.
"""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from collections.abc import Callable
from types import TracebackType


class Deadline:
    """A context that shuts the sockets it watches down after `seconds`."""

    def __init__(self, seconds: float, clock: Callable[[], float] = time.monotonic) -> None:
        self.seconds = seconds
        self._clock = clock
        self._end = clock() + seconds
        self._lock = threading.Lock()
        self._watched: list[socket.socket] = []
        self._fired = False
        self._timer = threading.Timer(seconds, self._fire)
        self._timer.daemon = True

    @property
    def expired(self) -> bool:
        """Whether the time is over."""
        return self._fired or self._clock() >= self._end

    def remaining_s(self) -> float:
        """Seconds left, at least a millisecond: a socket timeout of zero would not block."""
        return max(1e-3, self._end - self._clock())

    def watch(self, connection: socket.socket) -> None:
        """Shut this socket down as well; call it before TLS takes the socket over.

        The duplicate shares the connection, and stays valid when TLS detaches the original.
        """
        duplicate = connection.dup()
        with self._lock:
            self._watched.append(duplicate)
            if self._fired:
                _shut(duplicate)

    def __enter__(self) -> Deadline:
        self._timer.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._timer.cancel()
        with self._lock:
            for connection in self._watched:
                connection.close()
            self._watched.clear()

    def _fire(self) -> None:
        with self._lock:
            self._fired = True
            for connection in self._watched:
                _shut(connection)


def _shut(connection: socket.socket) -> None:
    with contextlib.suppress(OSError):  # the other side was faster
        connection.shutdown(socket.SHUT_RDWR)
