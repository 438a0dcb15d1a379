"""Progress degrades to log lines, counts from the first ready worker, and never divides by zero."""

from __future__ import annotations

import io
import logging

import pytest
from rich.console import Console

from infra.dataset import ShardSummary
from infra.run_state import RunState
from workflows.progress import Progress
from workflows.tally import Tally


def summary(shard: int, done: int, failed: int) -> ShardSummary:
    counts = {"done": done, "failed": failed}
    return ShardSummary(shard, 0, done + failed, counts, {"empty_mesh": failed}, {"generate": 1.0})


def state(done: int, failed: int = 0) -> RunState:
    made = RunState()
    made.add(summary(0, done, failed))
    return made


def test_without_a_terminal_there_are_lines_now_and_then(caplog: pytest.LogCaptureFixture) -> None:
    now = [0.0]
    caplog.set_level(logging.INFO)
    with Progress(100, clock=lambda: now[0], console=Console(file=io.StringIO())) as progress:
        now[0] = 50.0
        progress.started()
        now[0] = 51.0
        progress.update(state(10))
        now[0] = 70.0
        progress.update(state(40))
        progress.update(state(98, 2))
    fields = [record.event_fields for record in caplog.records]  # type: ignore[attr-defined]
    assert [f["items"] for f in fields] == ["40/100", "100/100"]
    assert fields[0]["items_per_s"] == "2"
    assert fields[0]["eta"] == "0m30s"


def test_working_time_ends_with_the_last_update() -> None:
    now = [0.0]
    with Progress(100, clock=lambda: now[0], console=Console(file=io.StringIO())) as progress:
        now[0] = 50.0
        progress.started()
        now[0] = 53.0
        progress.update(state(40))
        now[0] = 60.0  # the engine shuts down
    assert (progress.working_s, progress.seconds) == (3.0, 10.0)


def test_on_a_terminal_there_is_a_table() -> None:
    screen = io.StringIO()
    console = Console(file=screen, force_terminal=True, width=120)
    with Progress(10, clock=lambda: 1.0, console=console) as progress:
        progress.note("loading the system")
        progress.update(state(3, 1))
    text = screen.getvalue()
    assert "4/10" in text
    assert "generate 0.25 s" in text
    assert "unknown" in text


def test_the_tally_stops_on_early_failures_only() -> None:
    tally = Tally(max_failure_rate=0.05)
    assert tally.add(summary(0, 90, 10))
    assert not tally.add(summary(1, 90, 1))
    assert "11 of 191 items failed" in tally.stopped
    late = Tally(max_failure_rate=0.05)
    assert late.add(summary(0, 200, 0))
    assert late.add(summary(1, 0, 50))


def test_crashes_are_shown_once_there_is_one(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    crashes = [0]
    with Progress(4, clock=lambda: 1.0, console=Console(file=io.StringIO())) as progress:
        progress.count_crashes(lambda: crashes[0])
        progress.update(state(4))
        crashes[0] = 2
        progress.update(state(4))
    fields = [record.event_fields for record in caplog.records]  # type: ignore[attr-defined]
    assert "crashes" not in fields[0]
    assert fields[1]["crashes"] == "2"


def test_a_limit_of_one_accepts_a_large_shard_of_failures() -> None:
    assert Tally(1.0).add(summary(0, 0, 256))
    assert not Tally(0.99).add(summary(0, 0, 256))
