"""The desk between a command and its training workers: a small actor that both can reach.

The wish to stop goes one way, events and ends the other. It imports neither torch nor our library,
because its process starts while the workers wait for it.
"""

from __future__ import annotations

from geco_core.errors import Fatal

Event = tuple[str, int, dict[str, float | str]]
Result = tuple[int, int, bool]


class Desk:
    """Plain state; Ray calls its methods one at a time."""

    def __init__(self) -> None:
        self._stop = False
        self._trouble: Fatal | None = None
        self._result: Result | None = None
        self._events: list[Event] = []

    def ask_to_stop(self) -> None:
        """The command wishes that the workers save and end."""
        self._stop = True

    def stopping(self) -> bool:
        """Whether it does."""
        return self._stop

    def tell(self, kind: str, step: int, numbers: dict[str, float | str]) -> None:
        """An event of the first worker."""
        self._events.append((kind, step, numbers))

    def events(self) -> list[Event]:
        """Events since the last call."""
        taken, self._events = self._events, []
        return taken

    def report_trouble(self, error: Fatal) -> None:
        """An error that another attempt would only repeat; the first one counts."""
        self._trouble = self._trouble or error

    def report_result(self, result: Result) -> None:
        """The first worker ended: (step, first, complete) of its loop."""
        self._result = result

    def end(self) -> Fatal | Result | None:
        """How the training ended; None while nobody has said so."""
        return self._trouble or self._result
