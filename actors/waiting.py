"""The shards nobody holds: in order, suspects apart, and which node each should keep away from."""

from __future__ import annotations

from collections import deque
from collections.abc import Collection, Iterable, Mapping


class Waiting:
    """Two queues: shards, and suspects that run row by row because they crashed too often.

    Attributes:
        crashes: deaths by shard.
    """

    def __init__(self, todo: Iterable[int], limit: int, crashes: Mapping[int, int]) -> None:
        """Args: todo: in order; limit: crashes that make a suspect; crashes: earlier deaths."""
        self.crashes: dict[int, int] = dict(crashes)
        self._limit = limit
        self._crashed_on: dict[int, list[str]] = {}
        self._queue: deque[int] = deque()
        self._suspects: deque[int] = deque()
        for shard in todo:
            (self._suspects if self.suspected(shard) else self._queue).append(shard)

    def __len__(self) -> int:
        return len(self._queue) + len(self._suspects)

    def suspected(self, shard: int) -> bool:
        """Whether the shard's rows run one by one: its process died too often."""
        return self.crashes.get(shard, 0) >= self._limit

    def put_back(self, shard: int) -> None:
        """The shard is the next of its queue."""
        (self._suspects if self.suspected(shard) else self._queue).appendleft(shard)

    def died_on(self, shard: int, node: str) -> None:
        """A replica on `node` died with the shard."""
        if node:
            self._crashed_on.setdefault(shard, []).append(node)

    def take(self, node: str, others: Collection[str], *, alone: bool) -> int | None:
        """The next shard for a replica on `node`, if there is one that it should have.

        Args:
            node: where the replica runs.
            others: other nodes with replicas; a shard waits for the one it crashed least on.
            alone: whether the replica holds nothing: only then it may have a suspect.
        """
        for queue in (self._suspects, self._queue) if alone else (self._queue,):
            for place, shard in enumerate(queue):
                if self._welcome(shard, node, others):
                    del queue[place]
                    return shard
        return None

    def _welcome(self, shard: int, node: str, others: Collection[str]) -> bool:
        crashed = self._crashed_on.get(shard)
        if crashed is None:
            return True
        return all(crashed.count(node) <= crashed.count(other) for other in others)
