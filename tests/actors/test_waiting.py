"""Shards in order, suspects apart, and away from nodes they crashed on."""

from __future__ import annotations

from actors.waiting import Waiting

NOWHERE: set[str] = set()


def test_suspects_come_first_and_only_to_those_who_hold_nothing() -> None:
    waiting = Waiting([0, 1, 2], 3, {1: 3})
    assert waiting.take("a", NOWHERE, alone=False) == 0
    assert waiting.take("a", NOWHERE, alone=True) == 1
    assert waiting.take("a", NOWHERE, alone=True) == 2
    assert waiting.take("a", NOWHERE, alone=True) is None
    assert len(waiting) == 0


def test_what_is_put_back_is_next() -> None:
    waiting = Waiting([0, 1], 3, {})
    assert waiting.take("a", NOWHERE, alone=True) == 0
    waiting.put_back(0)
    assert waiting.take("a", NOWHERE, alone=True) == 0


def test_a_shard_avoids_the_node_it_crashed_on_while_there_is_another() -> None:
    waiting = Waiting([0, 1], 3, {})
    waiting.died_on(0, "a")
    assert waiting.take("a", {"b"}, alone=True) == 1
    assert waiting.take("a", {"b"}, alone=True) is None
    assert waiting.take("b", {"a"}, alone=True) == 0


def test_a_shard_that_crashed_everywhere_goes_where_it_crashed_least() -> None:
    waiting = Waiting([0], 9, {})
    for node in ("a", "b", "a"):
        waiting.died_on(0, node)
    assert waiting.take("a", {"b"}, alone=True) is None
    assert waiting.take("b", {"a"}, alone=True) == 0


def test_the_only_node_gets_it_all_the_same() -> None:
    waiting = Waiting([0], 9, {})
    waiting.died_on(0, "a")
    assert waiting.take("a", NOWHERE, alone=True) == 0
