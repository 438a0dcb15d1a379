"""SIGTERM and SIGINT during a run: the first lets shards in flight finish, the second ends it at
once.
"""

from __future__ import annotations

import contextlib
import logging
import signal
import threading
from collections.abc import Iterator
from types import FrameType

from actors.stop import Stop
from infra.telemetry import log_event

log = logging.getLogger(__name__)

SIGNALS = (signal.SIGINT, signal.SIGTERM)
EXIT_BASE = 128
_POLL_S = 0.1


class Interrupted(KeyboardInterrupt):
    """The second signal: leave everything as it is."""

    def __init__(self, signum: int) -> None:
        super().__init__(signal.Signals(signum).name)
        self.signum = signum


@contextlib.contextmanager
def draining(stop: Stop) -> Iterator[None]:
    """Route the signals to `stop` for the length of the block.

    Handlers belong to the main thread; anywhere else the signals stay as they are.

    Raises:
        Interrupted: in the block, at the second signal.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def handle(signum: int, _: FrameType | None) -> None:
        stop.request(signum)
        if stop.immediate:
            raise Interrupted(stop.signal)

    before = {number: signal.signal(number, handle) for number in SIGNALS}
    over = threading.Event()
    watcher = threading.Thread(target=_watch, args=(stop, over), name="drain", daemon=True)
    watcher.start()
    try:
        yield
    except KeyboardInterrupt:  # Ray turns what a handler raises into its base class
        raise Interrupted(stop.signal or signal.SIGINT) from None
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        over.set()


def exit_code(signum: int) -> int:
    """130 after SIGINT, 143 after SIGTERM, as shells have it."""
    return EXIT_BASE + signum


def _watch(stop: Stop, over: threading.Event) -> None:
    """Say that the wish was heard, and set `stop.abandon` when it is due: a signal handler may
    touch no lock, so it can do neither.
    """
    told = False
    while not over.wait(_POLL_S):
        if stop.requested and not told:
            told = True
            hint = "a second signal stops at once"
            log_event(log, "stopping", within_s=stop.drain_timeout_s, hint=hint)
        if stop.abandon_due:
            stop.abandon.set()
            return
