"""Ends a process in which an item takes too long, even when a C call holds the GIL.

`faulthandler.dump_traceback_later(exit=True)` is the only clock in the standard library that needs
neither the GIL nor the main thread. It has one timer per process, so this class keeps all deadlines
and arms it for the nearest.
"""

from __future__ import annotations

import faulthandler
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

STANDARD_ERROR = 2


class Watchdog:
    """Guards code sections with time limits. Thread-safe; arming costs about 50 microseconds."""

    def __init__(
        self,
        *,
        clock: Callable[[], float] = time.monotonic,
        arm: Callable[[float], None] | None = None,
        disarm: Callable[[], None] = faulthandler.cancel_dump_traceback_later,
    ) -> None:
        """A watchdog without deadlines.

        Args:
            clock: monotonic seconds.
            arm: called with the seconds left until the nearest deadline; the default ends the
                process then.
            disarm: called when no deadline is left.
        """
        self._clock = clock
        self._arm = arm or _end_process_after
        self._disarm = disarm
        self._lock = threading.Lock()
        self._deadlines: dict[int, float] = {}
        self._next = 0

    @contextmanager
    def guard(self, seconds: float) -> Iterator[None]:
        """End the process if the block is not left within `seconds`.

        The traceback of all threads goes to stderr.
        """
        with self._lock:
            key, self._next = self._next, self._next + 1
            self._deadlines[key] = self._clock() + seconds
            self._rearm()
        try:
            yield
        finally:
            with self._lock:
                del self._deadlines[key]
                self._rearm()

    def _rearm(self) -> None:
        if self._deadlines:
            self._arm(max(0.001, min(self._deadlines.values()) - self._clock()))
        else:
            self._disarm()


class NoWatchdog(Watchdog):
    """Guards nothing: for runs inside the user's own process, which is not ours to end."""

    @contextmanager
    def guard(self, seconds: float) -> Iterator[None]:  # noqa: ARG002 - same signature
        """Run the block."""
        yield


def _end_process_after(seconds: float) -> None:
    faulthandler.dump_traceback_later(seconds, exit=True, file=STANDARD_ERROR)
