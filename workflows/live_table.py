"""A table that is drawn over and over in place: on a terminal alone."""

from __future__ import annotations

import sys
from abc import ABC, abstractmethod
from types import TracebackType
from typing import Self

from rich.console import Console
from rich.live import Live
from rich.table import Table


class LiveTable(ABC):
    """What draws itself while it is entered, and stays on the screen as it was at the end."""

    def __init__(self, console: Console | None = None) -> None:
        """Args: console: stderr when None."""
        self._console = console or Console(file=sys.stderr)
        self._live: Live | None = None

    @abstractmethod
    def table(self) -> Table:
        """What is to be seen now."""

    def __enter__(self) -> Self:
        if self._console.is_terminal:
            self._live = Live(self.table(), console=self._console, refresh_per_second=4)
            self._live.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._live is not None:
            self.draw()
            self._live.stop()

    def draw(self) -> bool:
        """Draw the table as it is now; False where there is no terminal to draw on."""
        if self._live is None:
            return False
        self._live.update(self.table())
        return True
