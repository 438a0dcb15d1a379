"""Looks, every few seconds, which nodes work has to leave, and whether any are left to go to."""

from __future__ import annotations

import logging
from collections.abc import Callable

import ray

from actors.pool import draining_nodes
from actors.schedule import Schedule
from infra.telemetry import log_event

log = logging.getLogger(__name__)

LOOK_EVERY_S = 2.0
PATIENCE_S = 60.0


class NodeWatch:
    """Knows the nodes that are about to go down."""

    def __init__(self, schedule: Schedule, clock: Callable[[], float]) -> None:
        """Args: schedule: whose replicas run on the nodes; clock: monotonic seconds."""
        self._schedule = schedule
        self._clock = clock
        self._next_look = 0.0
        self._known: set[str] = set()
        self._alone_since: float | None = None

    def look(self) -> set[str]:
        """Nodes that replicas must leave now; empty between two looks."""
        now = self._clock()
        if now < self._next_look:
            return set()
        self._next_look = now + LOOK_EVERY_S
        self._pardon(now)
        if len(ray.nodes()) == 1:
            return set()
        leaving = draining_nodes()
        for node in sorted(leaving - self._known):
            log_event(log, "node_draining", level=logging.WARNING, node=node)
        self._known |= leaving
        return leaving

    def _pardon(self, now: float) -> None:
        """Retired nodes are better than none: take them back when nobody has worked for a while."""
        retired = self._schedule.nodes.retired
        if not retired or any(s.ready and not s.leaving for s in self._schedule.replicas.values()):
            self._alone_since = None
        elif self._alone_since is None:
            self._alone_since = now
        elif now - self._alone_since >= PATIENCE_S:
            log_event(log, "nodes_pardoned", level=logging.WARNING, nodes=len(retired))
            self._schedule.pardon_nodes()
            self._alone_since = None
