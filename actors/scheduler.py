"""The loop between `Schedule` and Ray: start replicas, hand out shards, turn what comes back into
events.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, cast

import ray
from ray.exceptions import NodeDiedError, OutOfMemoryError, RayError

from actors.replica import MAX_CONCURRENCY, Failure, Ready, Replica, thread_environment
from actors.schedule import Assignment, Schedule
from actors.shard_worker import ShardTask
from actors.spec import WorkerSpec
from geco_core.errors import Fatal, Reason
from infra.attempts import Attempts, after_crash, read_attempts, write_attempts
from infra.dataset import ShardSummary
from infra.plan import Plan
from infra.retry import retried
from infra.storage import Storage
from infra.telemetry import log_event

log = logging.getLogger(__name__)

WAIT_S = 1.0


@dataclass(frozen=True)
class ReplicaOptions:
    """Resources and limits of every replica."""

    num_gpus: float
    num_cpus: float
    threads: int
    start_timeout_s: float


@dataclass(frozen=True)
class _Call:
    replica: int
    shard: int | None  # None: the ping


class Scheduler:
    """Runs shards on replicas until all are committed, it is told to stop, or an error is fatal."""

    def __init__(
        self,
        spec: WorkerSpec,
        plan: Plan,
        storage: Storage,
        schedule: Schedule,
        options: ReplicaOptions,
        *,
        on_summary: Callable[[ShardSummary], bool],
        on_ready: Callable[[int], None] = lambda _: None,
        epoch: Callable[[], float] = time.time,
    ) -> None:
        """Connect the pieces; `run` starts the work.

        Args:
            spec: what every replica is built from.
            plan: the run's plan.
            storage: of the run folder.
            schedule: the state machine over the shards to make.
            options: resources and limits of a replica.
            on_summary: hears of each commit; returns False to stop.
            on_ready: hears the number of ready replicas, each time one becomes so.
            epoch: seconds since the epoch.
        """
        self._spec = spec
        self._plan = plan
        self._storage = storage
        self._schedule = schedule
        self._options = options
        self._on_summary = on_summary
        self._on_ready = on_ready
        self._epoch = epoch
        self._actors: dict[int, Any] = {}
        self._calls: dict[Any, _Call] = {}
        self._stopping = False

    def run(self) -> None:
        """Returns when nothing is left to do. Raises `Fatal`."""
        try:
            while not self._schedule.finished and not self._stopping:
                self._start_replicas()
                for assignment in self._schedule.assignments():
                    self._submit(assignment)
                for replica in self._schedule.surplus_replicas():
                    self._end(replica)
                self._collect()
        finally:
            for replica in list(self._actors):
                self._end(replica)

    def _start_replicas(self) -> None:
        for replica in self._schedule.new_replicas():
            options = self._options
            actor_class = cast("Any", ray.remote(Replica)).options(
                num_gpus=options.num_gpus,
                num_cpus=options.num_cpus,
                max_restarts=0,
                max_concurrency=MAX_CONCURRENCY,
                runtime_env={"env_vars": thread_environment(options.threads)},
            )
            actor = actor_class.remote(self._spec)
            self._actors[replica] = actor
            ping = actor.ping.remote(options.start_timeout_s, options.threads)
            self._calls[ping] = _Call(replica, None)

    def _submit(self, assignment: Assignment) -> None:
        shard = self._plan.shard(assignment.shard)
        attempts = self._unsuspected(shard.index)
        task = ShardTask(shard, attempts, assignment.isolate)
        reference = self._actors[assignment.replica].run.remote(task)
        self._calls[reference] = _Call(assignment.replica, shard.index)

    def _collect(self) -> None:
        if not self._calls:
            return
        ready, _ = ray.wait(list(self._calls), num_returns=1, timeout=WAIT_S)
        for reference in ready:
            call = self._calls.pop(reference, None)
            if call is not None:  # else its replica died with it
                self._handle(call, reference)

    def _handle(self, call: _Call, reference: Any) -> None:
        try:
            result: Any = ray.get(reference)
        except RayError as error:
            # RayActorError, but also OutOfMemoryError, WorkerCrashedError, NodeDiedError and
            # ActorUnavailableError, which are none: whatever Ray raises, this replica is lost.
            self._replica_died(call, error)
        else:
            if isinstance(result, Failure):
                self._failed(call, result)
            elif isinstance(result, Ready):
                self._schedule.ready(call.replica)
                log_event(log, "worker_ready", worker=result.name)
                self._on_ready(sum(state.ready for state in self._schedule.replicas.values()))
            elif call.shard is not None:
                self._schedule.shard_done(call.replica, call.shard)
                self._stopping = not self._on_summary(result)

    def _failed(self, call: _Call, failure: Failure) -> None:
        log_event(
            log, "worker_failure", level=logging.DEBUG, message=failure.message, trace=failure.trace
        )
        if failure.kind == "fatal":
            raise Fatal(failure.message, remedy=failure.remedy)
        if call.shard is None:
            self._end(call.replica)
            self._schedule.start_failed(call.replica, failure.message, failure.remedy)
        elif failure.kind == "store":
            self._schedule.store_failed(call.replica, call.shard, failure.message)
        else:
            self._bury(call.replica, Reason.CRASHED, failure.message)

    def _replica_died(self, call: _Call, error: RayError) -> None:
        detail = _last_words(error)
        if call.shard is None:
            self._end(call.replica)
            self._schedule.start_failed(call.replica, detail)
            return
        reason = Reason.OUT_OF_MEMORY if _killed_for_memory(error) else Reason.CRASHED
        self._bury(call.replica, reason, detail, blame=not _lost_with_its_node(error))

    def _unsuspected(self, shard: int) -> Attempts:
        """The shard's record without the row that ran when another command was killed."""
        attempts = retried(lambda: read_attempts(self._storage, shard))
        if attempts.running is not None:
            attempts = replace(attempts, running=None)
            retried(lambda: write_attempts(self._storage, attempts))
        return attempts

    def _bury(self, replica: int, reason: Reason, detail: str, *, blame: bool = True) -> None:
        """End a replica and give its shards back, with the death on their record.

        A row is blamed only by the death of a replica that ran it alone, and never for its node's.
        """
        self._end(replica)
        for shard in self._schedule.died(replica):
            before = retried(lambda shard=shard: read_attempts(self._storage, shard))
            if not (blame and self._schedule.suspected(shard)):
                before = replace(before, running=None)
            limit_s = self._spec.settings.item_timeout_s
            record = after_crash(before, reason, self._epoch(), limit_s)
            retried(lambda record=record: write_attempts(self._storage, record))
            blamed = len(record.blamed) > len(before.blamed)
            fields = {"shard": shard, "crashes": record.crashes, "blamed": blamed}
            log_event(log, "worker_died", level=logging.WARNING, **fields, detail=detail)
            self._schedule.crashed(shard, record.crashes, blamed=blamed, detail=detail)

    def _end(self, replica: int) -> None:
        actor = self._actors.pop(replica, None)
        if actor is not None:
            ray.kill(actor, no_restart=True)
        self._calls = {ref: call for ref, call in self._calls.items() if call.replica != replica}


def _killed_for_memory(error: RayError) -> bool:
    # Not "OOM": Ray names the OOM killer among the possible causes of every death.
    return isinstance(error, OutOfMemoryError) or "running low on memory" in str(error)


def _lost_with_its_node(error: RayError) -> bool:
    return isinstance(error, NodeDiedError) or "node has died" in str(error).lower()


def _last_words(error: RayError) -> str:
    text = str(error).partition("Some common causes")[0]  # a list of guesses follows
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    exits = next((line for line in lines if "exit" in line.lower()), "")
    return (exits or (lines[0] if lines else type(error).__name__))[:300]
