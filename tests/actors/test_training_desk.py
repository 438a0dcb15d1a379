"""The desk between a command and its workers; without Ray."""

from __future__ import annotations

from actors.training_desk import Desk
from geco_core.errors import Fatal


def test_wishes_and_events_are_passed_on() -> None:
    desk = Desk()
    assert not desk.stopping()
    desk.ask_to_stop()
    assert desk.stopping()
    desk.tell("train", 2, {"loss": 1.0})
    assert desk.events() == [("train", 2, {"loss": 1.0})]
    assert desk.events() == []


def test_the_first_trouble_counts_and_beats_a_result() -> None:
    desk = Desk()
    assert desk.end() is None
    desk.report_result((6, 0, True))
    assert desk.end() == (6, 0, True)
    first = Fatal("first")
    desk.report_trouble(first)
    desk.report_trouble(Fatal("second"))
    assert desk.end() is first
