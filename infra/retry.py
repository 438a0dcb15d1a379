"""Patience with a store that fails for a moment: the same call again, a bounded number of times."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

from geco_core.errors import Retryable

T = TypeVar("T")
RETRIES = 3
FIRST_DELAY_S = 0.2


def retried(action: Callable[[], T], sleep: Callable[[float], None] = time.sleep) -> T:
    """The result of `action`, tried again after a `Retryable` with doubling delays.

    Raises:
        Retryable: it failed `RETRIES` + 1 times.
    """
    delay = FIRST_DELAY_S
    for _ in range(RETRIES):
        try:
            return action()
        except Retryable:
            sleep(delay)
            delay *= 2
    return action()
