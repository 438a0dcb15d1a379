"""Ends a process in which an item takes too long, even when a C call holds the GIL.

The clock is the process's real-time interval timer: one system call arms it, and it needs neither
the GIL nor a thread. Its signal, SIGALRM, is handled in C by `faulthandler`, which writes the
traceback of all threads and then lets the signal end the process. There is one such timer per
process, so this class keeps all deadlines and arms it for the nearest.

What the choice means:
    - a process without guards has no armed timer: an idle or a suspended one is never ended;
    - Linux does not count the sleep of a machine; a process stopped by SIGSTOP is ended when it
      goes on after its deadline, as its item is late by any clock outside;
    - a forked child inherits neither the timer nor the deadlines; an ended interpreter has none;
    - code that wants SIGALRM for itself does not work beside it. When somebody else handles the
      signal already, `faulthandler`'s own timer thread is used, which costs 50 microseconds to arm.
"""

from __future__ import annotations

import faulthandler
import math
import os
import signal
import threading
import time
import weakref
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from types import TracebackType

STANDARD_ERROR = 2
SOONEST_S = 0.001


class Watchdog:
    """Guards code sections with time limits: one per process, thread-safe, 2 microseconds each."""

    def __init__(
        self,
        *,
        clock: Callable[[], float] = time.monotonic,
        arm: Callable[[float], None] | None = None,
        disarm: Callable[[], None] | None = None,
    ) -> None:
        """A watchdog without deadlines.

        Args:
            clock: monotonic seconds.
            arm: called with the seconds left until the nearest deadline, in place of the call
                before; the default ends the process then.
            disarm: called when no deadline is left.
        """
        default_arm, default_disarm = _process_timer() if arm is None else (arm, _nothing)
        self._clock = clock
        self._arm = default_arm
        self._disarm = disarm or default_disarm
        self._forget()
        self_reference: weakref.ref[Watchdog] = weakref.ref(self)
        os.register_at_fork(after_in_child=lambda: _forget_in_child(self_reference))

    def guard(self, seconds: float) -> AbstractContextManager[None]:
        """End the process if the block is not left within `seconds`.

        The traceback of all threads goes to stderr.
        """
        return _Guard(self, seconds)

    def _forget(self) -> None:
        self._lock = threading.Lock()
        self._deadlines: dict[_Guard, float] = {}
        self._armed = math.inf  # the deadline the timer stands at

    def _enter(self, guard: _Guard, seconds: float) -> None:
        with self._lock:
            now = self._clock()
            deadline = self._deadlines[guard] = now + seconds
            if deadline < self._armed:
                self._set(deadline, now)

    def _leave(self, guard: _Guard) -> None:
        with self._lock:
            deadline = self._deadlines.pop(guard, math.inf)
            if deadline > self._armed:
                return
            if self._deadlines:
                self._set(min(self._deadlines.values()), self._clock())
            else:
                self._armed = math.inf
                self._disarm()

    def _set(self, deadline: float, now: float) -> None:
        self._armed = deadline
        self._arm(max(SOONEST_S, deadline - now))


class _Guard:
    """One guarded section; leaving it forgets its deadline."""

    __slots__ = ("_dog", "_seconds")

    def __init__(self, dog: Watchdog, seconds: float) -> None:
        self._dog = dog
        self._seconds = seconds

    def __enter__(self) -> None:
        self._dog._enter(self, self._seconds)  # noqa: SLF001 - two halves of one class

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._dog._leave(self)  # noqa: SLF001


class NoWatchdog(Watchdog):
    """Guards nothing: for runs inside the user's own process, which is not ours to end."""

    def __init__(self) -> None:
        """Touch no timer."""

    def guard(self, seconds: float) -> AbstractContextManager[None]:  # noqa: ARG002 - same signature
        """Run the block."""
        return nullcontext()


def _process_timer() -> tuple[Callable[[float], None], Callable[[], None]]:
    """How to arm and disarm the clock that ends this process."""
    if signal.getsignal(signal.SIGALRM) is not signal.SIG_DFL:
        return _end_by_thread, faulthandler.cancel_dump_traceback_later
    faulthandler.register(signal.SIGALRM, file=STANDARD_ERROR, all_threads=True, chain=True)
    return _end_by_signal, _cancel_signal


def _end_by_signal(seconds: float) -> None:
    signal.setitimer(signal.ITIMER_REAL, seconds)


def _cancel_signal() -> None:
    signal.setitimer(signal.ITIMER_REAL, 0)


def _end_by_thread(seconds: float) -> None:
    faulthandler.dump_traceback_later(seconds, exit=True, file=STANDARD_ERROR)


def _nothing() -> None:
    return


def _forget_in_child(reference: weakref.ref[Watchdog]) -> None:
    dog = reference()
    if dog is not None:
        dog._forget()  # noqa: SLF001 - the parent's threads do not run here
