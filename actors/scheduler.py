"""The loop between `Schedule` and Ray: start replicas, hand out shards, turn what comes back into
events.
"""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable, Collection
from dataclasses import dataclass, replace

from actors.coroner import Coroner
from actors.deaths import Death
from actors.node_watch import NodeWatch
from actors.order import WorkOrder
from actors.pace import Pace
from actors.pool import Answer, Call, Pool
from actors.replica import Failure, Placed, Ready
from actors.schedule import Assignment, Schedule
from actors.spec import WorkerSpec
from actors.stop import Stop
from geco_core.errors import Fatal, Reason
from infra.dataset import ShardSummary
from infra.plan import Plan
from infra.storage import Storage
from infra.telemetry import log_event

log = logging.getLogger(__name__)

WAIT_S = 1.0
SHORT_WAIT_S = 0.2
PROBES = 60  # half a second each
PROBE_EVERY_S = 0.5
BLAMED = {Reason.CRASHED.value, Reason.OUT_OF_MEMORY.value, Reason.TIMED_OUT.value}


@dataclass(frozen=True)
class Listener:
    """What a command hears of its engine.

    Attributes:
        summary: of each commit; returns False to stop.
        ready: the name of each replica that becomes ready.
        remark: what the user should know at the end, in a sentence.
    """

    summary: Callable[[ShardSummary], bool]
    ready: Callable[[str], object] = lambda _: None
    remark: Callable[[str], object] = lambda _: None


class Scheduler:
    """Runs shards on replicas until all are committed, it is told to stop, or an error is fatal."""

    def __init__(
        self,
        spec: WorkerSpec,
        plan: Plan,
        storage: Storage,
        schedule: Schedule,
        pool: Pool,
        order: WorkOrder,
        listener: Listener,
        stop: Stop | None = None,
        *,
        watch: NodeWatch | None = None,
        clock: Callable[[], float] = time.monotonic,
        epoch: Callable[[], float] = time.time,
    ) -> None:
        """Connect the pieces; `run` starts the work.

        Args:
            spec: what every replica is built from.
            plan: the run's plan.
            storage: of the run folder.
            schedule: the state machine over the shards to make.
            pool: the replicas.
            order: generations and reasons of the shards.
            listener: hears what happens.
            stop: ends the run early.
            watch: knows the nodes that work has to leave.
            clock: monotonic seconds.
            epoch: seconds since the epoch.
        """
        self._plan = plan
        self._schedule = schedule
        self._pool = pool
        self._order = order
        self._listener = listener
        self._stop = stop or Stop()
        self._clock = clock
        self._pace = Pace(clock)
        self._coroner = Coroner(storage, schedule, order, spec.settings.deadly_limit_s, epoch)
        self._watch = watch or NodeWatch(schedule, clock)
        self._partials = set(order.partials)
        self._names: dict[int, str] = {}
        self._lost_sight: dict[int, _LostSight] = {}
        self._stopping = False

    def run(self) -> None:
        """Returns when nothing is left to do, or to wait for. Raises `Fatal`."""
        try:
            while not self._over():
                self._move_away(self._watch.look())
                self._probe()
                if self._stop.requested:
                    self._drain()
                else:
                    self._start_replicas()
                    for assignment in self._schedule.assignments():
                        self._submit(assignment)
                for replica in self._schedule.surplus_replicas():
                    self._pool.end(replica)
                for call, answer in self._pool.answers(self._wait_s()):
                    self._handle(call, answer)
        finally:
            self._pool.end_all()

    def _over(self) -> bool:
        if self._stop.requested and (self._stop.expired or not self._schedule.in_flight):
            return True
        return self._stopping or self._schedule.finished

    def _wait_s(self) -> float:
        return SHORT_WAIT_S if self._stop.requested or self._lost_sight else WAIT_S

    def _start_replicas(self) -> None:
        for replica in self._schedule.new_replicas():
            self._pool.start(replica, avoid=self._schedule.nodes.retired)

    def _submit(self, assignment: Assignment) -> None:
        shard = self._plan.shard(assignment.shard)
        attempts = self._coroner.record(shard.index)
        partials = shard.index in self._partials
        task = self._order.task(shard, attempts, isolate=assignment.isolate, partials=partials)
        self._pool.run(assignment.replica, task)
        self._pace.begin(shard.index)

    def _handle(self, call: Call, answer: Answer) -> None:
        if isinstance(answer, Death):
            (self._bury if answer.certain else self._lose_sight)(call.replica, answer)
        elif call.kind == "probe":  # it lives, but what it answered before is lost
            self._bury(call.replica, Death(Reason.CRASHED, "its answers were lost", node_lost=True))
        elif isinstance(answer, Placed):
            self._placed(call.replica, answer)
        elif isinstance(answer, Ready):
            self._schedule.ready(call.replica)
            log_event(log, "worker_ready", worker=answer.name)
            self._listener.ready(answer.name)
        elif isinstance(answer, Failure):
            self._failed(call, answer)
        else:
            self._committed(call, answer)

    def _placed(self, replica: int, placed: Placed) -> None:
        self._names[replica] = placed.name
        self._schedule.placed(replica, placed.node)
        if placed.node in self._schedule.nodes.retired:
            self._schedule.leave(replica)

    def _committed(self, call: Call, summary: ShardSummary) -> None:
        self._pace.end(call.shard, committed=True)
        self._schedule.shard_done(
            call.replica,
            call.shard,
            clean=summary.worker == self._names.get(call.replica)
            and not BLAMED.intersection(summary.reasons),
        )
        self._stopping = not self._listener.summary(summary)
        self._retire_nodes()

    def _failed(self, call: Call, failure: Failure) -> None:
        log_event(
            log, "worker_failure", level=logging.DEBUG, message=failure.message, trace=failure.trace
        )
        if failure.kind == "fatal":
            raise Fatal(failure.message, remedy=failure.remedy)
        if call.kind != "run":
            self._pool.end(call.replica)
            self._schedule.start_failed(call.replica, failure.message, failure.remedy)
            self._retire_nodes()
        elif failure.kind == "store":
            self._pace.end(call.shard, committed=False)
            self._partials.add(call.shard)
            self._schedule.store_failed(call.replica, call.shard, failure.message)
        elif failure.kind == "abandoned":
            self._pace.end(call.shard, committed=False)
            self._partials.add(call.shard)
            log_event(log, "shard_given_back", shard=call.shard, detail=failure.message)
            self._schedule.abandoned(call.replica, call.shard)
        else:
            self._bury(call.replica, Death(Reason.CRASHED, failure.message))

    def _bury(self, replica: int, death: Death) -> None:
        """End a replica and give its shards back, with the death on their record."""
        self._pool.end(replica)
        self._lost_sight.pop(replica, None)
        state = self._schedule.replicas.get(replica)
        if state is None:
            return
        if not state.ready and not death.node_lost:
            self._schedule.start_failed(replica, death.detail)
        else:
            shards = self._schedule.died(replica)
            for shard in shards:
                self._pace.end(shard, committed=False)
            self._partials.update(shards)
            self._coroner.examine(state.node, shards, death, self._clock())
        self._retire_nodes()

    def _lose_sight(self, replica: int, death: Death) -> None:
        """Ray can not reach the replica and does not know why yet: ask again until it does."""
        self._pool.forget(replica)
        tries = self._lost_sight[replica].tries if replica in self._lost_sight else 0
        if tries >= PROBES:
            self._bury(replica, replace(death, node_lost=True))
        else:
            self._lost_sight[replica] = _LostSight(tries + 1, self._clock() + PROBE_EVERY_S)

    def _probe(self) -> None:
        for replica, lost in self._lost_sight.items():
            if self._clock() >= lost.again_at:
                self._pool.probe(replica)
                self._lost_sight[replica] = replace(lost, again_at=math.inf)

    def _drain(self) -> None:
        """Tell replicas to give their shards back when there is no time left to finish them."""
        left = self._stop.deadline_s
        for replica, state in self._schedule.replicas.items():
            late = not all(self._pace.fits(shard, left) for shard in state.shards)
            if self._stop.abandon_due or late:
                self._tell_to_leave(replica)

    def _move_away(self, nodes: Collection[str]) -> None:
        """Give up the replicas on nodes that go down soon, or that are retired."""
        for replica in self._schedule.on_nodes(nodes):
            self._tell_to_leave(replica)

    def _tell_to_leave(self, replica: int) -> None:
        if self._schedule.leave(replica) and self._schedule.replicas[replica].shards:
            self._pool.abandon(replica)

    def _retire_nodes(self) -> None:
        for node in self._schedule.retire_nodes():
            text = f"node {node[:12]} was retired: what died on it was made elsewhere"
            log_event(log, "node_retired", level=logging.WARNING, node=node)
            self._listener.remark(text)
            self._move_away([node])


@dataclass(frozen=True)
class _LostSight:
    """Probes of a replica so far, and when the next one is due."""

    tries: int
    again_at: float
