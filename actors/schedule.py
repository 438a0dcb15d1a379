"""Which replica gets which shard, and what follows from a death: a pure state machine without Ray,
clock or store.

Rules that each cost a bug once:
    - only replicas that answered a ping get work; a pending one would swallow its shards for ever;
    - a replica holds at most `DEPTH` shards, so that one is prepared and finished while the other
      has the device;
    - a suspect shard runs alone on its replica, row by row: nobody else can take the blame or be
      blamed;
    - a shard that crashed on a node is tried on another one first: a sick node must not get its
      rows blamed;
    - a shard that keeps dying without a row to blame ends the run instead of looping;
    - a lost node and a worker told to leave are nobody's crash, unless nodes keep dying under one
      shard.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field

from actors.nodes import Nodes
from actors.waiting import Waiting
from geco_core.errors import Fatal

DEPTH = 2
MAX_START_FAILURES = 3
MAX_STORE_FAILURES = 3
FRUITLESS_CRASHES = 3
FREE_NODE_LOSSES = 1


@dataclass
class ReplicaState:
    """What one replica is doing.

    Attributes:
        ready: it answered its ping.
        leaving: it gets no more shards and ends when it holds none.
        node: where it runs; empty while nobody knows.
        shards: what it holds.
    """

    ready: bool = False
    leaving: bool = False
    node: str = ""
    shards: set[int] = field(default_factory=set)


@dataclass(frozen=True)
class Assignment:
    """Give `shard` to `replica`; `isolate`: one row at a time."""

    replica: int
    shard: int
    isolate: bool


class Schedule:
    """State of the shards still to be made and of the replicas making them.

    `replicas` and `nodes` hold what is known of each.
    """

    def __init__(
        self,
        todo: Iterable[int],
        *,
        workers: int,
        crashes_before_isolation: int,
        crashes: Mapping[int, int] | None = None,
    ) -> None:
        """Nobody works yet.

        Args:
            todo: the shards, in order.
            workers: replicas that work at once.
            crashes_before_isolation: deaths that make a shard run row by row.
            crashes: deaths of shards under earlier commands.
        """
        self.workers = workers
        self.replicas: dict[int, ReplicaState] = {}
        self._shards = Waiting(todo, crashes_before_isolation, crashes or {})
        self.nodes = Nodes()
        self.done = 0
        self._told: set[str] = set()
        self._node_losses: dict[int, int] = {}
        self._store_failures: dict[int, int] = {}
        self._fruitless: dict[int, int] = {}
        self._next_replica = 0

    @property
    def crashes(self) -> Mapping[int, int]:
        """Deaths by shard."""
        return self._shards.crashes

    @property
    def finished(self) -> bool:
        """Nothing waits and nothing runs."""
        return self.waiting == 0 and self.in_flight == 0

    @property
    def waiting(self) -> int:
        """Shards no replica holds."""
        return len(self._shards)

    @property
    def in_flight(self) -> int:
        """Shards replicas hold."""
        return sum(len(state.shards) for state in self.replicas.values())

    def new_replicas(self) -> list[int]:
        """Ids of replicas to start now: up to `workers`, never more than there is work for."""
        staying = [state for state in self.replicas.values() if not state.leaving]
        wanted = min(self.workers, self.waiting + sum(1 for state in staying if state.shards))
        fresh = []
        for _ in range(len(staying), wanted):
            self.replicas[self._next_replica] = ReplicaState()
            fresh.append(self._next_replica)
            self._next_replica += 1
        return fresh

    def surplus_replicas(self) -> list[int]:
        """Replicas without work that will get none: forgotten here, the caller ends them."""
        ends = not self.waiting
        surplus = [i for i, s in self.replicas.items() if not s.shards and (s.leaving or ends)]
        for replica in surplus:
            del self.replicas[replica]
        return surplus

    def placed(self, replica: int, node: str) -> None:
        """The replica's process runs on `node`; its system is still loading."""
        self.replicas[replica].node = node

    def ready(self, replica: int) -> None:
        """The replica answered its ping."""
        state = self.replicas[replica]
        state.ready = True
        self.nodes.started(state.node)

    def leave(self, replica: int) -> bool:
        """The replica gets no more shards. Returns whether that is news."""
        state = self.replicas.get(replica)
        if state is None or state.leaving:
            return False
        state.leaving = True
        return True

    def on_nodes(self, nodes: Collection[str]) -> list[int]:
        """Replicas on these nodes."""
        return [i for i, state in self.replicas.items() if state.node in nodes]

    def retire_nodes(self) -> list[str]:
        """Retire the nodes that have deserved it. Returns those that have not heard of it yet."""
        self.nodes.retire({state.node for state in self.replicas.values() if state.node})
        fresh = sorted(self.nodes.retired - self._told)
        self._told.update(fresh)
        return fresh

    def pardon_nodes(self) -> None:
        """Take retired nodes back; replicas that wait for others leave, to be asked for anew."""
        self.nodes.pardon()
        self._told.clear()
        for replica, state in self.replicas.items():
            if not state.node:
                self.leave(replica)

    def start_failed(self, replica: int, message: str, remedy: str = "") -> None:
        """The replica died or raised while loading.

        The third time in a row on one node the node is retired, if replicas are ready elsewhere.

        Raises:
            Fatal: they are not.
        """
        state = self.replicas.pop(replica, ReplicaState())
        failures = self.nodes.start_failed(state.node)
        if failures < MAX_START_FAILURES:
            return
        if not any(other.ready and other.node != state.node for other in self.replicas.values()):
            raise Fatal(
                f"workers failed to start {failures} times in a row: {message}",
                remedy=remedy or "run `geco doctor`, or the same command with engine=inline",
            )
        self.nodes.retired.add(state.node)

    def assignments(self) -> list[Assignment]:
        """Work to hand out now. Shallow replicas first: two shards go to two replicas."""
        given: list[Assignment] = []
        staying = [(i, s) for i, s in self.replicas.items() if not s.leaving]
        ready = [(i, s) for i, s in staying if s.ready]
        working = sorted(ready, key=lambda entry: not entry[1].shards)[: self.workers]
        nodes = {state.node for _, state in working}
        starting = min(len(staying), self.workers) - len(working)
        for depth in range(DEPTH):
            for replica, state in working:
                if len(state.shards) != depth or any(map(self.suspected, state.shards)):
                    continue
                if depth and self.waiting <= starting:
                    continue  # the last shards are left to replicas about to be ready
                shard = self._shards.take(state.node, nodes - {state.node}, alone=depth == 0)
                if shard is None:
                    continue
                state.shards.add(shard)
                given.append(Assignment(replica, shard, self.suspected(shard)))
        return given

    def shard_done(self, replica: int, shard: int, *, clean: bool = True) -> None:
        """The shard is committed.

        `clean`: it was made there, and none of its rows ever killed a process.
        """
        state = self.replicas[replica]
        state.shards.discard(shard)
        if not clean:
            self.nodes.blamed(shard)
        self.nodes.committed(shard, state.node)
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
        self._shards.put_back(shard)

    def abandoned(self, replica: int, shard: int) -> None:
        """The replica gave the shard back, its finished rows saved, and leaves."""
        self.replicas[replica].shards.discard(shard)
        self.leave(replica)
        self._shards.put_back(shard)

    def died(self, replica: int) -> list[int]:
        """The replica is gone. Returns its shards: to be queued by `crashed` or `lost`."""
        state = self.replicas.pop(replica, None)
        if state is None:
            return []
        for shard in state.shards:
            self._shards.died_on(shard, state.node)
        return sorted(state.shards)

    def lost(self, shard: int) -> bool:
        """Queue a shard again whose node was lost.

        False, and nothing is queued, when it lost so many that it may be the cause: a crash.
        """
        losses = self._node_losses[shard] = self._node_losses.get(shard, 0) + 1
        if losses > FREE_NODE_LOSSES:
            return False
        self._shards.put_back(shard)
        return True

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
        self._shards.crashes[shard] = crashes
        if blamed:
            self.nodes.blamed(shard)
        if isolated and not blamed:
            fruitless = self._fruitless[shard] = self._fruitless.get(shard, 0) + 1
            if fruitless >= FRUITLESS_CRASHES:
                raise Fatal(
                    f"shard {shard} keeps ending its process outside of its rows: {detail}",
                    remedy="run the same command with engine=inline --debug to see the error",
                )
        self._shards.put_back(shard)

    def suspected(self, shard: int) -> bool:
        """Whether the shard's rows run one by one: its process died too often."""
        return self._shards.suspected(shard)

    def _is_isolating(self, state: ReplicaState) -> bool:
        return any(self.suspected(shard) for shard in state.shards)
