"""One process timer, many deadlines: it is always armed for the nearest."""

from __future__ import annotations

import signal
import subprocess
import sys
import time

import pytest

from actors.watchdog import Watchdog

PROGRAM = """
import ctypes, os, signal, threading, time
from actors.watchdog import NoWatchdog, Watchdog
hold_gil = ctypes.PyDLL(None).sleep  # a C call that keeps the GIL
{setup}
dog = Watchdog()
{body}
print("reached")
"""
LIMIT_S = 0.6


def run(body: str, setup: str = "") -> tuple[subprocess.CompletedProcess[str], float]:
    """Run a program in a process of its own; returns how it ended and its seconds."""
    begun = time.monotonic()
    ended = subprocess.run(
        [sys.executable, "-c", PROGRAM.format(body=body, setup=setup)],
        capture_output=True,
        text=True,
        timeout=25,
        check=False,
    )
    return ended, time.monotonic() - begun


class Recorder:
    """A watchdog on an injected clock that notes what it asks of the timer."""

    def __init__(self) -> None:
        self.now = 100.0
        self.events: list[float | str] = []
        self.dog = Watchdog(
            clock=lambda: self.now,
            arm=lambda seconds: self.events.append(round(seconds, 3)),
            disarm=lambda: self.events.append("off"),
        )


def test_it_is_armed_for_the_nearest_deadline_and_only_when_that_changes() -> None:
    record = Recorder()
    with record.dog.guard(10):
        record.now += 4
        with record.dog.guard(20):
            record.now += 1
            with record.dog.guard(2):
                record.now += 1
    assert record.events == [10.0, 2.0, 4.0, "off"]


def test_a_section_that_ends_gives_its_time_to_the_next() -> None:
    record = Recorder()
    first, second = record.dog.guard(3), record.dog.guard(5)
    first.__enter__()
    second.__enter__()
    record.now += 1
    first.__exit__(None, None, None)
    second.__exit__(None, None, None)
    assert record.events == [3.0, 4.0, "off"]


def test_a_passed_deadline_fires_at_once() -> None:
    record = Recorder()
    with record.dog.guard(1), record.dog.guard(0.5):
        record.now += 5
    assert record.events == [1.0, 0.5, 0.001, "off"]


def test_an_exception_leaves_the_section() -> None:
    record = Recorder()
    with pytest.raises(KeyError), record.dog.guard(1):
        raise KeyError
    assert record.events == [1.0, "off"]


def test_sections_of_many_threads_end_without_an_armed_timer() -> None:
    body = """
def work(seconds):
    for _ in range(2000):
        with dog.guard(seconds):
            pass
threads = [threading.Thread(target=work, args=(100.0 + k,)) for k in range(4)]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
assert signal.getitimer(signal.ITIMER_REAL) == (0.0, 0.0)
with dog.guard(50):
    assert 49 < signal.getitimer(signal.ITIMER_REAL)[0] <= 50
"""
    ended, _ = run(body)
    assert (ended.returncode, ended.stdout.strip()) == (0, "reached"), ended.stderr


def test_a_section_costs_microseconds() -> None:
    body = """
best = 1.0
for _ in range(5):
    begun = time.perf_counter()
    for _ in range(1000):
        with dog.guard(600):
            pass
    best = min(best, (time.perf_counter() - begun) / 1000)
assert best < 20e-6, best
"""
    ended, _ = run(body)
    assert (ended.returncode, ended.stdout.strip()) == (0, "reached"), ended.stderr


HANGS = {"python": "time.sleep(30)", "gil": "hold_gil(30)"}


@pytest.mark.parametrize("hang", HANGS)
def test_it_ends_a_process_that_hangs(hang: str) -> None:
    body = f"with dog.guard(60), dog.guard({LIMIT_S}):\n    {HANGS[hang]}"
    ended, seconds = run(body)
    assert ended.returncode == -signal.SIGALRM
    assert "reached" not in ended.stdout
    assert "most recent call first" in ended.stderr
    assert LIMIT_S < seconds < LIMIT_S + 8


@pytest.mark.parametrize("hang", HANGS)
def test_it_ends_a_process_whose_other_thread_hangs(hang: str) -> None:
    setup = "def work():\n    with dog.guard(0.6):\n        " + HANGS[hang]
    ended, _ = run("threading.Thread(target=work).start()\ntime.sleep(20)", setup)
    assert ended.returncode == -signal.SIGALRM
    assert "in work" in ended.stderr


def test_a_call_that_holds_the_gil_within_its_limit_lives() -> None:
    # Short sections before it and beside it must leave no earlier deadline behind.
    body = """
def many():
    for _ in range(300):
        with dog.guard(0.3):
            time.sleep(0.001)
beside = threading.Thread(target=many)
beside.start()
beside.join()
with dog.guard(0.5):
    pass
with dog.guard(30):
    hold_gil(1)
"""
    ended, _ = run(body)
    assert (ended.returncode, ended.stdout.strip()) == (0, "reached"), ended.stderr


def test_an_idle_process_lives_through_a_stop() -> None:
    body = """
with dog.guard(0.3):
    pass
if os.fork() == 0:
    time.sleep(0.6)
    os.kill(os.getppid(), signal.SIGCONT)
    os._exit(0)
os.kill(os.getpid(), signal.SIGSTOP)
"""
    ended, _ = run(body)
    assert (ended.returncode, ended.stdout.strip()) == (0, "reached"), ended.stderr


def test_a_forked_child_has_no_deadline_of_its_parent() -> None:
    body = """
with dog.guard(1.5):
    child = os.fork()
    if child == 0:
        with dog.guard(60):
            assert signal.getitimer(signal.ITIMER_REAL)[0] > 50
        time.sleep(1.8)
        os._exit(7)
assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 7
"""
    ended, _ = run(body)
    assert (ended.returncode, ended.stdout.strip()) == (0, "reached"), ended.stderr


def test_an_interpreter_ends_without_waiting_for_a_deadline() -> None:
    body = "dog.guard(30).__enter__()"
    ended, seconds = run(body)
    assert ended.returncode == 0
    assert seconds < 15


def test_where_somebody_else_has_the_signal_it_still_ends_the_process() -> None:
    setup = "signal.signal(signal.SIGALRM, signal.SIG_IGN)"
    ended, _ = run(f"with dog.guard({LIMIT_S}):\n    hold_gil(30)", setup)
    assert ended.returncode == 1
    assert "Timeout" in ended.stderr


def test_no_watchdog_touches_no_timer() -> None:
    body = """
with NoWatchdog().guard(0.001):
    assert signal.getitimer(signal.ITIMER_REAL) == (0.0, 0.0)
    time.sleep(0.05)
"""
    ended, _ = run(body)
    assert (ended.returncode, ended.stdout.strip()) == (0, "reached"), ended.stderr
