"""One process timer, many deadlines: it is always armed for the nearest."""

from __future__ import annotations

import subprocess
import sys

from actors.watchdog import Watchdog

HANG = """
import ctypes
from actors.watchdog import Watchdog
with Watchdog().guard(60), Watchdog().guard(0.5):
    ctypes.PyDLL(None).sleep(30)  # holds the GIL
print("not reached")
"""


def test_it_is_armed_for_the_nearest_deadline() -> None:
    now, events = [100.0], []
    dog = Watchdog(
        clock=lambda: now[0],
        arm=lambda seconds: events.append(round(seconds, 3)),
        disarm=lambda: events.append("off"),
    )
    with dog.guard(10):
        now[0] += 4
        with dog.guard(20):
            now[0] += 1
    assert events == [10.0, 6.0, 5.0, "off"]


def test_a_passed_deadline_fires_at_once() -> None:
    now, events = [0.0], []
    dog = Watchdog(clock=lambda: now[0], arm=events.append, disarm=lambda: None)
    with dog.guard(1):
        now[0] = 5.0
        with dog.guard(9):
            pass
    assert events[1] == 0.001


def test_it_ends_a_process_that_hangs_with_the_gil_held() -> None:
    ended = subprocess.run(
        [sys.executable, "-c", HANG], capture_output=True, text=True, timeout=25, check=False
    )
    assert ended.returncode == 1
    assert "not reached" not in ended.stdout
    assert "Timeout" in ended.stderr
