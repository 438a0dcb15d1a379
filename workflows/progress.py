"""Progress of a run: a live table on a terminal, a plain log line now and then everywhere else."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable
from typing import Protocol

from rich.console import Console
from rich.table import Table

from infra.run_state import RunState
from infra.telemetry import log_event
from workflows.live_table import LiveTable

log = logging.getLogger(__name__)

LINE_EVERY_S = 15.0
_HIDDEN = {"wall", "commit"}


class Progress(LiveTable):
    """Shows totals since the command started. A context manager; safe to update from one thread."""

    def __init__(
        self, rows: int, *, clock: Callable[[], float], console: Console | None = None
    ) -> None:
        """Args: rows: what the command has to do."""
        super().__init__(console)
        self._rows = rows
        self._clock = clock
        self._begun = clock()
        self._last_line = self._begun
        self._updated = self._begun
        self._state = RunState()
        self._note = ""
        self._crashes: Callable[[], int] = lambda: 0

    def note(self, text: str) -> None:
        """Say what is being waited for; shown until the next note."""
        if text == self._note:
            return
        self._note = text
        if not self.draw() and text:
            log_event(log, "progress", note=text)

    def count_crashes(self, crashes: Callable[[], int]) -> None:
        """Show how many processes died under shards, as soon as there is one."""
        self._crashes = crashes

    def started(self) -> None:
        """The first worker is ready: rates count from here."""
        self._begun = self._last_line = self._updated = self._clock()
        self.note("")

    @property
    def seconds(self) -> float:
        """Seconds since the first worker was ready."""
        return self._clock() - self._begun

    @property
    def working_s(self) -> float:
        """Seconds from the first worker ready to the last update."""
        return self._updated - self._begun

    def update(self, state: RunState) -> None:
        """Show new totals."""
        self._state = state
        self._updated = self._clock()
        if self.draw():
            return
        now = self._updated
        if now - self._last_line >= LINE_EVERY_S or state.rows_done >= self._rows:
            self._last_line = now
            log_event(log, "progress", level=logging.INFO, **self._fields())

    def _fields(self) -> dict[str, str]:
        state, seconds = self._state, self.seconds
        rate = state.rows_done / seconds if seconds > 0 else 0.0
        left = (self._rows - state.rows_done) / rate if rate > 0 else float("nan")
        crashes = self._crashes()
        return {
            "items": f"{state.rows_done}/{self._rows}",
            "done": str(state.counts["done"]),
            "failed": str(state.failed),
            "skipped": str(state.counts["skipped"]),
            **({"crashes": str(crashes)} if crashes else {}),
            "items_per_s": f"{rate:.3g}",
            "eta": duration(left),
        }

    def table(self) -> Table:
        """Totals, seconds per item of each stage, and what is being waited for."""
        table = Table.grid(padding=(0, 2))
        fields = self._fields()
        table.add_row(*[f"[bold]{value}[/] {name}" for name, value in fields.items()])
        made = max(1, self._state.attempted)
        stages = [
            f"{stage} {value / made:.2f} s"
            for stage, value in self._state.seconds.items()
            if stage not in _HIDDEN and value > 0
        ]
        table.add_row(*stages[: len(fields)])
        if self._note:
            table.add_row(self._note)
        return table


class ProgressMaker(Protocol):
    """Makes what shows the progress of a command."""

    def __call__(self, rows: int, *, clock: Callable[[], float]) -> Progress:
        """Of the number of rows to do, and monotonic seconds."""
        ...


def duration(seconds: float) -> str:
    """`1h05m`, `3m20s`; `unknown` for no number."""
    if math.isnan(seconds):
        return "unknown"
    minutes, rest = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}h{minutes:02d}m" if hours else f"{minutes}m{rest:02d}s"
