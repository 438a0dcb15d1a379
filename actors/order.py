"""What a command asks an engine to make: which shards, as which generation, which of their rows."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field

from actors.shard_worker import ShardTask
from geco_core.errors import Reason
from geco_core.types import Shard
from infra.attempts import Attempts
from infra.storage import Storage

_PARTIAL = re.compile(r"partial/(\d{6,})-g(\d+)/")


@dataclass(frozen=True)
class WorkOrder:
    """Shards to make.

    Attributes:
        shards: indices, in order.
        generations: of the parts to write, by shard; 0 where missing.
        retry: reasons of the rows to make again where the generation is above 0.
        partials: shards that earlier commands saved rows of.
    """

    shards: tuple[int, ...]
    generations: Mapping[int, int] = field(default_factory=dict)
    retry: tuple[Reason, ...] = ()
    partials: frozenset[int] = frozenset()

    def generation(self, shard: int) -> int:
        """Generation of the part to write."""
        return self.generations.get(shard, 0)

    def task(
        self,
        shard: Shard,
        attempts: Attempts,
        *,
        isolate: bool = False,
        partials: bool | None = None,
    ) -> ShardTask:
        """The task of one shard.

        Args:
            shard: its rows.
            attempts: its crash history.
            isolate: one row at a time.
            partials: whether the store may hold saved rows of it; None: as the order knows.
        """
        return ShardTask(
            shard,
            attempts,
            isolate=isolate,
            generation=self.generation(shard.index),
            retry=self.retry,
            partials=shard.index in self.partials if partials is None else partials,
        )


def saved_shards(storage: Storage, order: WorkOrder) -> frozenset[int]:
    """Shards of the order that the store holds saved rows of: one listing, mostly empty."""
    found = (_PARTIAL.match(key) for key in storage.list("partial"))
    saved = {(int(match[1]), int(match[2])) for match in found if match}
    wanted = set(order.shards)
    return frozenset(
        shard
        for shard, generation in saved
        if shard in wanted and generation == order.generation(shard)
    )
