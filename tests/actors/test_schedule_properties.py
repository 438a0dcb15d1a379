"""Whatever happens to replicas and nodes, the schedule loses no shard, gives none twice at a time,
and ends.
"""

from __future__ import annotations

from collections import Counter
from typing import Any

import hypothesis.strategies as st
from hypothesis import settings
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
)

from actors.schedule import MAX_START_FAILURES, MAX_STORE_FAILURES, Schedule

NODES = ("east", "west", "north")
MAX_ROUNDS = 400
DEPTH = 2  # one shard is prepared and finished while the other has the device
picks = st.integers(0, 10**6)


class ScheduleMachine(RuleBasedStateMachine):
    """Events in any order that Ray could deliver; `held` is the truth about who has what."""

    @initialize(
        shards=st.integers(1, 12),
        workers=st.integers(1, 4),
        limit=st.integers(1, 3),
        crashes=st.dictionaries(st.integers(0, 11), st.integers(0, 3), max_size=3),
    )
    def start(self, shards: int, workers: int, limit: int, crashes: dict[int, int]) -> None:
        self.schedule = Schedule(
            range(shards), workers=workers, crashes_before_isolation=limit, crashes=crashes,
        )  # fmt: skip
        self.limit = limit
        self.workers = workers
        self.todo = set(range(shards))
        self.crashes = Counter(crashes)
        self.held: dict[int, set[int]] = {}
        self.ready: set[int] = set()
        self.leaving: set[int] = set()
        self.store_failures: Counter[int] = Counter()
        self.start_failures: Counter[str] = Counter()
        self.losses: Counter[int] = Counter()
        self.now = 0.0
        self.done: set[int] = set()

    # what the scheduler does on its own

    @rule()
    def start_replicas(self) -> None:
        for replica in self.schedule.new_replicas():
            assert replica not in self.held, "ids are never used twice"
            self.held[replica] = set()
        staying = [replica for replica in self.held if replica not in self.leaving]
        assert len(staying) <= self.workers

    @rule()
    def hand_out(self) -> None:
        for given in self.schedule.assignments():
            assert given.shard in self.todo - self.done
            assert all(given.shard not in shards for shards in self.held.values())
            assert given.replica in self.ready - self.leaving
            suspect = self.crashes[given.shard] >= self.limit
            assert given.isolate == suspect
            shards = self.held[given.replica]
            shards.add(given.shard)
            assert len(shards) <= DEPTH
            assert len(shards) == 1 or not any(self.crashes[s] >= self.limit for s in shards)

    @rule()
    def end_surplus(self) -> None:
        for replica in self.schedule.surplus_replicas():
            assert not self.held[replica]
            self._forget(replica)

    @rule()
    def retire(self) -> None:
        nodes = self.schedule.retire_nodes()
        for replica in self.schedule.on_nodes(nodes):
            self.schedule.leave(replica)
            self.leaving.add(replica)

    @rule()
    def tick(self) -> None:
        """A whole turn of the scheduler's loop; more often than its parts alone."""
        self.retire()
        self.start_replicas()
        self.hand_out()
        self.end_surplus()

    @rule(node=st.sampled_from(NODES))
    def load_all_and_tick(self, node: str) -> None:
        self.start_replicas()
        while self.held.keys() - self.ready:
            self.load(0, node)
        self.tick()

    # what the world does

    def _some(self, pick: int, among: set[int]) -> int | None:
        return sorted(among)[pick % len(among)] if among else None

    def _forget(self, replica: int) -> None:
        del self.held[replica]
        self.ready.discard(replica)
        self.leaving.discard(replica)

    def _node(self, replica: int) -> str:
        return self.schedule.replicas[replica].node

    @rule(pick=picks, node=st.sampled_from(NODES))
    def load(self, pick: int, node: str) -> None:
        replica = self._some(pick, self.held.keys() - self.ready)
        if replica is not None:
            if not self._node(replica):
                self.schedule.placed(replica, node)
            self.schedule.ready(replica)
            self.ready.add(replica)
            self.start_failures[self._node(replica)] = 0

    @rule(pick=picks, node=st.sampled_from(NODES))
    def place_only(self, pick: int, node: str) -> None:
        replica = self._some(pick, self.held.keys() - self.ready)
        if replica is not None and not self._node(replica):
            self.schedule.placed(replica, node)

    @rule(pick=picks)
    def fail_to_load(self, pick: int) -> None:
        replica = self._some(pick, self.held.keys() - self.ready)
        if replica is None:
            return
        node = self._node(replica)
        if self.start_failures[node] + 1 >= MAX_START_FAILURES:
            return  # may be fatal: another test's business
        self.start_failures[node] += 1
        self._forget(replica)
        self.schedule.start_failed(replica, "no")

    def _working(self, pick: int) -> tuple[int, int] | None:
        pairs = sorted((r, s) for r, shards in self.held.items() for s in shards)
        return pairs[pick % len(pairs)] if pairs else None

    @rule(pick=picks, clean=st.booleans())
    def commit(self, pick: int, clean: bool) -> None:
        found = self._working(pick)
        if found is not None:
            replica, shard = found
            self.schedule.shard_done(replica, shard, clean=clean)
            self.held[replica].discard(shard)
            self.done.add(shard)

    @rule(pick=picks)
    def give_back(self, pick: int) -> None:
        found = self._working(pick)
        if found is not None:
            replica, shard = found
            self.schedule.abandoned(replica, shard)
            self.held[replica].discard(shard)
            self.leaving.add(replica)

    @rule(pick=picks)
    def fail_to_store(self, pick: int) -> None:
        found = self._working(pick)
        if found is None or self.store_failures[found[1]] + 1 >= MAX_STORE_FAILURES:
            return
        replica, shard = found
        self.store_failures[shard] += 1
        self.schedule.store_failed(replica, shard, "no")
        self.held[replica].discard(shard)

    @rule(pick=picks, blamed=st.booleans(), node_lost=st.booleans())
    def die(self, pick: int, blamed: bool, node_lost: bool) -> None:
        replica = self._some(pick, self.ready & self.held.keys())
        if replica is None:
            return
        node, shards = self._node(replica), self.held[replica]
        assert self.schedule.died(replica) == sorted(shards)
        self._forget(replica)
        self.now += 7.0
        if not node_lost:
            self.schedule.nodes.died(node, shards, self.now)
        for shard in sorted(shards):
            if node_lost and self.schedule.lost(shard):
                continue
            suspect = self.crashes[shard] >= self.limit
            self.crashes[shard] += 1
            # Isolated deaths without a row to blame are fatal sooner or later.
            guilty = blamed or suspect
            self.schedule.crashed(shard, self.crashes[shard], blamed=guilty, detail="bang")

    @rule(pick=picks, node=st.sampled_from(NODES))
    def die_and_be_replaced(self, pick: int, node: str) -> None:
        self.die(pick, False, False)
        self.load_all_and_tick(node)

    @rule(pick=picks)
    def ask_to_leave(self, pick: int) -> None:
        replica = self._some(pick, set(self.held))
        if replica is not None:
            assert self.schedule.leave(replica) == (replica not in self.leaving)
            self.leaving.add(replica)

    @precondition(lambda self: self.schedule.nodes.retired)
    @rule()
    def pardon(self) -> None:
        self.schedule.pardon_nodes()
        for replica, state in self.schedule.replicas.items():
            if state.leaving:
                self.leaving.add(replica)

    # what must always hold

    @invariant()
    def every_shard_is_in_one_place(self) -> None:
        held = [shard for shards in self.held.values() for shard in shards]
        for shards in self.held.values():
            assert len(shards) == 1 or not any(self.crashes[s] >= self.limit for s in shards)
        assert len(held) == len(set(held)) == self.schedule.in_flight
        assert self.schedule.waiting == len(self.todo) - len(held) - len(self.done)
        assert self.schedule.done == len(self.done)
        assert not self.done.intersection(held)
        assert self.schedule.finished == (self.done == self.todo)
        states: dict[int, Any] = dict(self.schedule.replicas)
        assert {r: s.shards for r, s in states.items()} == self.held

    def teardown(self) -> None:
        """From here on nothing goes wrong: everything must be made, soon."""
        for _ in range(MAX_ROUNDS):
            if self.schedule.finished:
                return
            self.retire()
            self.start_replicas()
            for replica in sorted(self.held.keys() - self.ready):
                self.load(sorted(self.held.keys() - self.ready).index(replica), "north")
            self.hand_out()
            while self._working(0):
                self.commit(0, True)
            self.end_surplus()
        raise AssertionError(f"{self.schedule.waiting} shards wait for ever")


ScheduleMachine.TestCase.settings = settings(stateful_step_count=40)
TestSchedule = ScheduleMachine.TestCase
