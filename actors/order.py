"""What a command asks an engine to make: which shards, as which generation, which of their rows."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from actors.shard_worker import ShardTask
from geco_core.errors import Reason
from geco_core.types import Shard
from infra.attempts import Attempts


@dataclass(frozen=True)
class WorkOrder:
    """Shards to make.

    Attributes:
        shards: indices, in order.
        generations: of the parts to write, by shard; 0 where missing.
        retry: reasons of the rows to make again where the generation is above 0.
    """

    shards: tuple[int, ...]
    generations: Mapping[int, int] = field(default_factory=dict)
    retry: tuple[Reason, ...] = ()

    def generation(self, shard: int) -> int:
        """Generation of the part to write."""
        return self.generations.get(shard, 0)

    def task(self, shard: Shard, attempts: Attempts, *, isolate: bool = False) -> ShardTask:
        """The task of one shard."""
        return ShardTask(
            shard,
            attempts,
            isolate=isolate,
            generation=self.generation(shard.index),
            retry=self.retry,
        )
