"""The wish to stop: asked once, shards in flight finish or save their rows within a time limit;
asked twice, nothing is waited for.
"""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable

SAVING_SHARE = 0.25
MAX_SAVING_S = 15.0


class Stop:
    """Set from a signal handler, read by engines.

    Attributes:
        signal: number of the first signal, 0 while nobody asked.
        requested: no new shards.
        immediate: do not wait for anything.
        abandon: set when shards in flight have to save their rows and give up; a worker in this
            process may share it as its own flag.
    """

    def __init__(
        self, drain_timeout_s: float = 60.0, *, clock: Callable[[], float] = time.monotonic
    ) -> None:
        """Args: drain_timeout_s: what shards in flight get; clock: monotonic seconds."""
        self.drain_timeout_s = drain_timeout_s
        self.signal = 0
        self.requested = False
        self.immediate = False
        self.abandon = threading.Event()
        self._clock = clock
        self._deadline = math.inf

    def request(self, signal: int) -> None:
        """Ask to stop. Only assigns attributes: a signal may interrupt anything, itself too."""
        if self.requested:
            self.immediate = True
            return
        self.signal = signal
        self._deadline = self._clock() + self.drain_timeout_s
        self.requested = True

    @property
    def deadline_s(self) -> float:
        """Seconds until everything must be down; infinite until asked."""
        return self._deadline - self._clock()

    @property
    def abandon_due(self) -> bool:
        """Whether what is left of the time limit is needed for saving rows."""
        saving = min(MAX_SAVING_S, SAVING_SHARE * self.drain_timeout_s)
        return self.requested and (self.immediate or self.deadline_s <= saving)

    @property
    def expired(self) -> bool:
        """Whether nothing more may be waited for."""
        return self.immediate or self.deadline_s <= 0
