"""The live view: a line per step on a terminal, log lines elsewhere."""

from __future__ import annotations

import io
import logging

import pytest
from rich.console import Console

from infra.run_state import RunState
from workflows.dag import StepState
from workflows.distill_view import DistillView
from workflows.progress import LINE_EVERY_S

NAMES = ["conditions", "targets", "stage1"]


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


def view(clock: Clock, *, terminal: bool = False) -> tuple[DistillView, io.StringIO]:
    stream = io.StringIO()
    console = Console(file=stream, force_terminal=terminal, width=110, legacy_windows=False)
    return DistillView(NAMES, {"stage1": 200}, clock=clock, console=console), stream


def drawn(shown: DistillView) -> list[str]:
    console = Console(file=io.StringIO(), width=110)
    with console.capture() as text:
        console.print(shown.table())
    return text.get().splitlines()[1:]


def test_a_line_per_step_with_progress_rate_time_and_losses() -> None:
    clock = Clock()
    shown, _ = view(clock)
    shown.on_state("conditions", StepState.RUNNING, "")
    clock.now += 5
    shown.count("conditions", 10, 40)
    shown.on_state("stage1", StepState.RUNNING, "")
    numbers = {"vsd": 0.25, "student": 0.5, "generator_norm": 9.0, "steps_per_s": 4.0}
    shown.event("stage1", "train", 50, numbers)
    lines = drawn(shown)
    assert lines[0].split() == ["conditions", "running", "10/40", "2/s", "0m15s"]
    assert lines[1].split() == ["targets", "waiting"]
    assert lines[2].split() == [
        "stage1", "running", "50/200", "4/s", "0m37s", "vsd", "0.25", "student", "0.5",
    ]  # fmt: skip
    clock.now += 60
    shown.on_state("conditions", StepState.DONE, "")
    shown.on_state("stage1", StepState.FAILED, "the loss is nan")
    lines = drawn(shown)
    assert lines[0].split()[:4] == ["conditions", "done", "now", "1m05s"]
    assert "failed 1m00s" in lines[2]


def test_rows_of_the_engine_are_a_line_too() -> None:
    clock = Clock()
    shown, _ = view(clock)
    shown.on_state("targets", StepState.RUNNING, "")
    with shown.rows("targets")(8, clock=clock) as progress:
        progress.note("loading the system on 1 worker")
        assert "loading the system" in drawn(shown)[1]
        progress.started()
        clock.now += 2
        progress.update(RunState(rows_done=4))
        assert "4/8" in drawn(shown)[1]
        assert "2/s" in drawn(shown)[1]
        assert progress.working_s == pytest.approx(2)


def test_without_a_terminal_there_are_log_lines_now_and_then(
    caplog: pytest.LogCaptureFixture,
) -> None:
    clock = Clock()
    shown, stream = view(clock)
    with caplog.at_level(logging.INFO), shown:
        shown.on_state("stage1", StepState.RUNNING, "")
        shown.event("stage1", "started", 0, {"world": 1})
        shown.event("stage1", "train", 50, {"vsd": 0.25, "steps_per_s": 4.0})
        shown.tick()
        assert [record.message for record in caplog.records] == ["stage1_started"]
        clock.now += LINE_EVERY_S + 1
        shown.tick()
        shown.tick()
    last = caplog.records[-1]
    assert len(caplog.records) == 2
    assert last.message == "progress"
    assert vars(last)["event_fields"] == {
        "of": "stage1", "done": "50/200", "rate": "4/s", "eta": "0m37s", "losses": "vsd 0.25",
    }  # fmt: skip
    assert stream.getvalue() == ""


def test_on_a_terminal_the_table_is_live_and_stays_at_the_end() -> None:
    shown, stream = view(Clock(), terminal=True)
    with shown:
        shown.on_state("stage1", StepState.RUNNING, "")
        shown.event("stage1", "train", 7, {"vsd": 0.125})
        shown.tick()
    assert "7/200" in stream.getvalue()
    assert "0.125" in stream.getvalue()


def test_steps_resumed_do_not_count_what_was_there_before() -> None:
    clock = Clock()
    shown, _ = view(clock)
    shown.on_state("stage1", StepState.RUNNING, "")
    shown.event("stage1", "started", 150, {})
    assert drawn(shown)[2].split() == ["stage1", "running", "150/200"]
