"""A live table draws on a terminal, and says where it can not."""

from __future__ import annotations

import io

from rich.console import Console
from rich.table import Table

from workflows.live_table import LiveTable


class Words(LiveTable):
    word = "begin"

    def table(self) -> Table:
        table = Table.grid()
        table.add_row(self.word)
        return table


def words(*, terminal: bool) -> tuple[Words, io.StringIO]:
    screen = io.StringIO()
    console = Console(file=screen, force_terminal=terminal, width=40, legacy_windows=False)
    return Words(console), screen


def test_the_last_table_stays_on_a_terminal() -> None:
    shown, screen = words(terminal=True)
    with shown as entered:
        assert entered is shown
        assert shown.draw()
        shown.word = "end"
    assert "end" in screen.getvalue()


def test_without_a_terminal_nothing_is_drawn() -> None:
    shown, screen = words(terminal=False)
    with shown:
        assert not shown.draw()
    assert screen.getvalue() == ""


def test_nothing_is_drawn_before_it_is_entered() -> None:
    shown, screen = words(terminal=True)
    assert not shown.draw()
    assert screen.getvalue() == ""
