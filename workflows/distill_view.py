"""A distillation while it runs: a line per step with state, progress, rate, time left and losses;
a live table on a terminal, log lines now and then everywhere else.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Self

from rich.console import Console
from rich.table import Table

from infra.run_state import RunState
from infra.telemetry import log_event
from workflows.dag import StepState
from workflows.distill_events import losses
from workflows.distill_steps import Shown
from workflows.live_table import LiveTable
from workflows.progress import LINE_EVERY_S, Progress, ProgressMaker, duration

log = logging.getLogger(__name__)

MAX_LOSSES = 3
_WORTH_A_LINE = frozenset({"started", "damaged", "stopped"})
_STYLES: Mapping[StepState, str] = {
    StepState.RUNNING: "bold cyan",
    StepState.DONE: "green",
    StepState.KEPT: "green",
    StepState.FAILED: "bold red",
    StepState.STOPPED: "yellow",
}


@dataclass
class Line:
    """What is shown of a step."""

    state: StepState = StepState.WAITING
    text: str = ""
    done: int = 0
    total: int = 0
    per_s: float = 0.0
    begun: float = 0.0
    ended: float = 0.0
    losses: dict[str, float] = field(default_factory=dict)


class DistillView(LiveTable, Shown):
    """Shows the steps. A context manager; steps tell it from their threads."""

    def __init__(
        self,
        names: Sequence[str],
        updates: Mapping[str, int],
        *,
        clock: Callable[[], float],
        console: Console | None = None,
    ) -> None:
        """Show steps.

        Args:
            names: of all steps, in order.
            updates: training step -> number of its updates.
            clock: monotonic seconds.
            console: stderr when None.
        """
        super().__init__(console)
        self._clock = clock
        self._lines = {name: Line(total=updates.get(name, 0)) for name in names}
        self._lock = threading.Lock()
        self._printed = clock()

    def count(self, step: str, done: int, total: int) -> None:
        """See `Shown.count`."""
        with self._lock:
            line = self._lines[step]
            seconds = self._clock() - line.begun
            line.done, line.total = done, total
            line.per_s = done / seconds if seconds > 0 else 0.0

    def event(self, step: str, kind: str, at: int, numbers: Mapping[str, float | str]) -> None:
        """See `Shown.event`."""
        with self._lock:
            line = self._lines[step]
            line.done = at
            if kind == "train":
                named = losses(numbers).items()
                line.losses = {k: v for k, v in named if not k.endswith("_norm")}
                line.per_s = float(numbers.get("steps_per_s", 0.0))
        if kind in _WORTH_A_LINE:
            level = logging.WARNING if kind == "damaged" else logging.INFO
            log_event(log, f"{step}_{kind}", level=level, step=at, **numbers)

    def note(self, step: str, text: str) -> None:
        """What a step is waiting for."""
        with self._lock:
            self._lines[step].text = text

    def rows(self, step: str) -> ProgressMaker:
        """See `Shown.rows`."""

        def make(rows: int, *, clock: Callable[[], float]) -> Progress:
            return _StepRows(self, step, rows, clock)

        return make

    def on_state(self, name: str, state: StepState, text: str) -> None:
        """See `workflows.dag.Listener`."""
        with self._lock:
            line = self._lines[name]
            line.state, line.text = state, text
            if state is StepState.RUNNING:
                line.begun = self._clock()
            elif line.begun:
                line.ended = self._clock()
        self.draw()

    def tick(self) -> None:
        """See `workflows.dag.Listener`."""
        now = self._clock()
        if not self.draw() and now - self._printed >= LINE_EVERY_S:
            self._printed = now
            for name, line in self._lines.items():
                if line.state is StepState.RUNNING:
                    fields: dict[str, Any] = self._fields(line)
                    log_event(log, "progress", of=name, **fields)

    def table(self) -> Table:
        """One row per step."""
        table = Table(box=None, padding=(0, 2, 0, 0), header_style="dim")
        for heading in ("step", "state", "progress", "rate", "left", "losses"):
            table.add_column(heading, no_wrap=heading != "losses")
        with self._lock:
            for name, line in self._lines.items():
                style = _STYLES.get(line.state, "dim")
                fields = self._fields(line)
                took = line.ended - line.begun if line.ended else 0.0
                state = f"{line.state}" + (f" {duration(took)}" if took else "")
                table.add_row(
                    name,
                    f"[{style}]{state}[/]",
                    fields.get("done", ""),
                    fields.get("rate", ""),
                    fields.get("eta", ""),
                    fields.get("losses", fields.get("note", "")),
                )
        return table

    def _fields(self, line: Line) -> dict[str, str]:
        fields: dict[str, str] = {}
        if line.total and line.state is not StepState.KEPT:
            fields["done"] = f"{line.done}/{line.total}"
        if line.state is StepState.RUNNING and line.per_s > 0:
            fields["rate"] = f"{line.per_s:.3g}/s"
            fields["eta"] = duration((line.total - line.done) / line.per_s)
        if line.losses:
            shown = list(line.losses.items())[:MAX_LOSSES]
            fields["losses"] = " ".join(f"{name} {value:.4g}" for name, value in shown)
        if line.text:
            fields["note"] = line.text
        return fields


class _StepRows(Progress):
    """The rows of a generation run as a line of the view."""

    def __init__(self, view: DistillView, step: str, rows: int, clock: Callable[[], float]) -> None:
        super().__init__(rows, clock=clock)
        self._view, self._step = view, step

    def __enter__(self) -> Self:
        self._view.count(self._step, 0, self._rows)
        return self

    def __exit__(self, *_: object) -> None:
        self._view.note(self._step, "")

    def note(self, text: str) -> None:
        """See `Progress.note`."""
        self._view.note(self._step, text)

    def update(self, state: RunState) -> None:
        """See `Progress.update`."""
        self._state = state
        self._updated = self._clock()
        self._view.count(self._step, state.rows_done, self._rows)
