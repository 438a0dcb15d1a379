"""Which replica gets which shard, and what follows from a death: a pure state machine without Ray,
clock or store.

Rules that each cost a bug once:
    - only replicas that answered a ping get work; a pending one would swallow its shards for ever;
    - a replica holds at most `DEPTH` shards, so that one is prepared and finished while the other
      has the device;
    - a suspect shard runs alone on its replica, row by row: nobody else can take the blame or be
      blamed;
    - a shard that keeps dying without a row to blame ends the run instead of looping.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from geco_core.errors import Fatal

DEPTH = 2
MAX_START_FAILURES = 3
MAX_STORE_FAILURES = 3
FRUITLESS_CRASHES = 3


@dataclass
class ReplicaState:
    """What one replica is doing."""

    ready: bool = False
    shards: set[int] = field(default_factory=set)


@dataclass(frozen=True)
class Assignment:
    """Give `shard` to `replica`; `isolate`: one row at a time."""

    replica: int
    shard: int
    isolate: bool


class Schedule:
    """State of the shards still to be made and of the replicas making them."""

    def __init__(
        self,
        todo: Iterable[int],
        *,
        workers: int,
        crashes_before_isolation: int,
        crashes: Mapping[int, int] | None = None,
    ) -> None:
        """Args: crashes: deaths of shards under earlier commands."""
        self.workers = workers
        self.replicas: dict[int, ReplicaState] = {}
        self.crashes: dict[int, int] = dict(crashes or {})
        self.done = 0
        self._limit = crashes_before_isolation
        self._queue: deque[int] = deque()
        self._suspects: deque[int] = deque()
        for shard in todo:
            (self._suspects if self.suspected(shard) else self._queue).append(shard)
        self._store_failures: dict[int, int] = {}
        self._fruitless: dict[int, int] = {}
        self._start_failures = 0
        self._next_replica = 0

    @property
    def finished(self) -> bool:
        """Nothing waits and nothing runs."""
        return self.waiting == 0 and self.in_flight == 0

    @property
    def waiting(self) -> int:
        """Shards no replica holds."""
        return len(self._queue) + len(self._suspects)

    @property
    def in_flight(self) -> int:
        """Shards replicas hold."""
        return sum(len(state.shards) for state in self.replicas.values())

    def new_replicas(self) -> list[int]:
        """Ids of replicas to start now: up to `workers`, never more than there is work for."""
        busy = sum(1 for state in self.replicas.values() if state.shards)
        wanted = min(self.workers, self.waiting + busy)
        fresh = []
        while len(self.replicas) < wanted:
            self.replicas[self._next_replica] = ReplicaState()
            fresh.append(self._next_replica)
            self._next_replica += 1
        return fresh

    def surplus_replicas(self) -> list[int]:
        """Replicas the tail of the run has no work for: forgotten here, the caller ends them."""
        if self.waiting:
            return []
        surplus = [i for i, state in self.replicas.items() if not state.shards]
        for replica in surplus:
            del self.replicas[replica]
        return surplus

    def ready(self, replica: int) -> None:
        """The replica answered its ping."""
        self.replicas[replica].ready = True
        self._start_failures = 0

    def start_failed(self, replica: int, message: str, remedy: str = "") -> None:
        """The replica died or raised while loading. Raises `Fatal` the third time in a row."""
        self.replicas.pop(replica, None)
        self._start_failures += 1
        if self._start_failures >= MAX_START_FAILURES:
            raise Fatal(
                f"workers failed to start {self._start_failures} times in a row: {message}",
                remedy=remedy or "run `geco doctor`, or the same command with engine=inline",
            )

    def assignments(self) -> list[Assignment]:
        """Work to hand out now. Shallow replicas first, so that two shards go to two replicas."""
        given: list[Assignment] = []
        starting = sum(1 for state in self.replicas.values() if not state.ready)
        for depth in range(DEPTH):
            for replica, state in self.replicas.items():
                if not state.ready or len(state.shards) != depth or self._is_isolating(state):
                    continue
                if depth and self.waiting <= starting:
                    continue  # the last shards are left to replicas about to be ready
                shard = self._take(alone=depth == 0)
                if shard is None:
                    continue
                state.shards.add(shard)
                given.append(Assignment(replica, shard, self.suspected(shard)))
        return given

    def shard_done(self, replica: int, shard: int) -> None:
        """The shard is committed."""
        self.replicas[replica].shards.discard(shard)
        self.done += 1

    def store_failed(self, replica: int, shard: int, message: str) -> None:
        """The store failed beyond the worker's patience: the shard waits again.

        Raises:
            Fatal: the third time.
        """
        self.replicas[replica].shards.discard(shard)
        failures = self._store_failures[shard] = self._store_failures.get(shard, 0) + 1
        if failures >= MAX_STORE_FAILURES:
            raise Fatal(
                f"shard {shard} could not be stored: {message}",
                remedy="check the store, then run again",
            )
        self._requeue(shard)

    def died(self, replica: int) -> list[int]:
        """The replica is gone. Returns its shards: call `crashed` for each to queue it again."""
        state = self.replicas.pop(replica, None)
        return sorted(state.shards) if state else []

    def crashed(self, shard: int, crashes: int, *, blamed: bool, detail: str) -> None:
        """Count the death of a shard's process and queue the shard again.

        Args:
            shard: the shard.
            crashes: deaths so far, from the store.
            blamed: a row was found guilty: progress, however slow.
            detail: the last words, for the error.

        Raises:
            Fatal: isolated, and still dying without a row to blame.
        """
        isolated = self.suspected(shard)
        self.crashes[shard] = crashes
        if isolated and not blamed:
            fruitless = self._fruitless[shard] = self._fruitless.get(shard, 0) + 1
            if fruitless >= FRUITLESS_CRASHES:
                raise Fatal(
                    f"shard {shard} keeps ending its process outside of its rows: {detail}",
                    remedy="run the same command with engine=inline --debug to see the error",
                )
        self._requeue(shard)

    def _requeue(self, shard: int) -> None:
        (self._suspects if self.suspected(shard) else self._queue).appendleft(shard)

    def suspected(self, shard: int) -> bool:
        """Whether the shard's rows run one by one: its process died too often."""
        return self.crashes.get(shard, 0) >= self._limit

    def _is_isolating(self, state: ReplicaState) -> bool:
        return any(self.suspected(shard) for shard in state.shards)

    def _take(self, *, alone: bool) -> int | None:
        if alone and self._suspects:
            return self._suspects.popleft()
        if self._queue:
            return self._queue.popleft()
        return None
