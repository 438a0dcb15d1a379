"""Nodes are looked at now and then, and retired ones are taken back when nobody else is left."""

from __future__ import annotations

import pytest

from actors import node_watch as module
from actors.node_watch import LOOK_EVERY_S, PATIENCE_S, NodeWatch
from actors.schedule import Schedule


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def watched(
    monkeypatch: pytest.MonkeyPatch, nodes: int, draining: set[str]
) -> tuple[NodeWatch, Schedule, Clock]:
    monkeypatch.setattr(module.ray, "nodes", lambda: [{}] * nodes)
    monkeypatch.setattr(module, "draining_nodes", lambda: draining)
    schedule, clock = Schedule([0, 1], workers=1, crashes_before_isolation=3), Clock()
    return NodeWatch(schedule, clock), schedule, clock


def test_nodes_are_looked_at_every_few_seconds(monkeypatch: pytest.MonkeyPatch) -> None:
    watch, _, clock = watched(monkeypatch, 2, {"a"})
    assert watch.look() == {"a"}
    assert watch.look() == set()
    clock.now += LOOK_EVERY_S
    assert watch.look() == {"a"}


def test_the_only_node_is_not_left(monkeypatch: pytest.MonkeyPatch) -> None:
    watch, _, _ = watched(monkeypatch, 1, {"a"})
    assert watch.look() == set()


def test_retired_nodes_are_better_than_none(monkeypatch: pytest.MonkeyPatch) -> None:
    watch, schedule, clock = watched(monkeypatch, 2, set())
    schedule.nodes.retired.add("a")
    assert schedule.new_replicas() == [0]  # waits for another node
    watch.look()
    clock.now += PATIENCE_S / 2
    watch.look()
    assert schedule.nodes.retired == {"a"}
    clock.now += PATIENCE_S
    watch.look()
    assert schedule.nodes.retired == set()
    assert schedule.new_replicas() == [1]
    assert schedule.surplus_replicas() == [0]


def test_a_replica_that_works_keeps_them_retired(monkeypatch: pytest.MonkeyPatch) -> None:
    watch, schedule, clock = watched(monkeypatch, 2, set())
    schedule.nodes.retired.add("a")
    schedule.ready(schedule.new_replicas()[0])
    for _ in range(5):
        watch.look()
        clock.now += PATIENCE_S
    assert schedule.nodes.retired == {"a"}
