"""What follows from the death of a replica: the crash records of its shards, and who is blamed."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import replace

from actors.deaths import Death
from actors.order import WorkOrder
from actors.schedule import Schedule
from geco_core.errors import Reason
from infra.attempts import Attempts, after_crash, read_attempts, write_attempts
from infra.retry import retried
from infra.storage import Storage
from infra.telemetry import log_event

log = logging.getLogger(__name__)


class Coroner:
    """Keeps the crash records of the shards of one command."""

    def __init__(
        self,
        storage: Storage,
        schedule: Schedule,
        order: WorkOrder,
        limit_s: float,
        epoch: Callable[[], float],
    ) -> None:
        """Nothing has died yet.

        Args:
            storage: of the run folder.
            schedule: told of crashes and losses.
            order: generations of the shards.
            limit_s: the earliest time after which a row may have been ended for its slowness.
            epoch: seconds since the epoch.
        """
        self._storage = storage
        self._schedule = schedule
        self._order = order
        self._limit_s = limit_s
        self._epoch = epoch
        self._alone_at_loss: set[tuple[int, int]] = set()

    def record(self, shard: int) -> Attempts:
        """The shard's record, without the row that ran when another command was killed.

        The store is asked only about shards that are known to have crashed.
        """
        if not self._schedule.crashes.get(shard):
            return Attempts(shard, generation=self._order.generation(shard))
        attempts = self._read(shard)
        if attempts.running is not None:
            attempts = replace(attempts, running=None)
            self._write(attempts)
        return attempts

    def examine(self, node: str, shards: Sequence[int], death: Death, now: float) -> None:
        """Put a death on the record of each shard, and queue them again.

        Args:
            node: where it happened.
            shards: what the replica held.
            death: how it ended.
            now: seconds of the clock by which deaths are told to be close to each other.

        Raises:
            Fatal: a shard keeps dying without a row to blame.
        """
        if not death.node_lost and death.reason is not Reason.OUT_OF_MEMORY:
            self._schedule.nodes.died(node, shards, now)
        for shard in shards:
            record = self._read(shard)
            if death.node_lost and not self._guilty_of_loss(shard, record):
                record = self._acquitted(record)
                if self._schedule.lost(shard):
                    log_event(log, "worker_lost", level=logging.WARNING, shard=shard, node=node)
                    continue
            elif not self._schedule.suspected(shard):
                record = replace(record, running=None)
            self._convict(record, node, death)

    def _guilty_of_loss(self, shard: int, record: Attempts) -> bool:
        """A row takes its node down when nodes are lost twice while it runs alone."""
        if record.running is None or not self._schedule.suspected(shard):
            return False
        case = (shard, record.running.row)
        known = case in self._alone_at_loss
        self._alone_at_loss.add(case)
        return known

    def _acquitted(self, record: Attempts) -> Attempts:
        if record.running is not None:
            record = replace(record, running=None)
            self._write(record)
        return record

    def _convict(self, before: Attempts, node: str, death: Death) -> None:
        """A row is blamed only by the death of a replica that ran it alone."""
        record = after_crash(before, death.reason, self._epoch(), self._limit_s)
        self._write(record)
        blamed = len(record.blamed) > len(before.blamed)
        fields = {"shard": record.shard, "crashes": record.crashes, "blamed": blamed, "node": node}
        log_event(log, "worker_died", level=logging.WARNING, **fields, detail=death.detail)
        self._schedule.crashed(record.shard, record.crashes, blamed=blamed, detail=death.detail)

    def _read(self, shard: int) -> Attempts:
        generation = self._order.generation(shard)
        return retried(lambda: read_attempts(self._storage, shard, generation))

    def _write(self, record: Attempts) -> None:
        retried(lambda: write_attempts(self._storage, record))
