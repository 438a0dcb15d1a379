"""The Ray engine of `geco generate`: a cluster, a schedule over the shards that are left, and the
loop between them.
"""

from __future__ import annotations

import contextlib
import io
import logging
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace

from actors.order import WorkOrder
from actors.pool import Pool, ReplicaOptions
from actors.replica import thread_environment
from actors.schedule import Schedule
from actors.scheduler import Listener, Scheduler
from actors.spec import WorkerSpec
from actors.stop import Stop
from geco_core.config.run import RunConfig
from geco_core.errors import ConfigError
from infra.attempts import read_attempts
from infra.cluster import cluster, starts_own
from infra.cluster_safety import Weakness, weaknesses_of_joined, weaknesses_of_own
from infra.dataset import ShardSummary
from infra.plan import Plan
from infra.run_state import crashed_shards
from infra.storage import Storage
from infra.telemetry import log_event
from workflows.progress import Progress
from workflows.words import counted

log = logging.getLogger(__name__)

MAX_DEFAULT_CPU_WORKERS = 2
CPU_REPLICA_BYTES = 2**30  # a micro replica holds about half of that


def run_ray(
    config: RunConfig,
    spec: WorkerSpec,
    storage: Storage,
    plan: Plan,
    order: WorkOrder,
    on_summary: Callable[[ShardSummary], bool],
    progress: Progress,
    stop: Stop,
    on_worker: Callable[[str], object] = lambda _: None,
    on_remark: Callable[[str], object] = lambda _: None,
) -> None:
    """Run the shards of `order` on Ray.

    Args:
        config: how to execute.
        spec: what every replica is built from.
        storage: of the run folder.
        plan: the run's plan.
        order: what to make.
        on_summary: hears of each commit; returns False to stop.
        progress: told what is being waited for.
        stop: ends the run early.
        on_worker: hears the name of each replica that becomes ready.
        on_remark: hears what the user should know at the end.

    Raises:
        Fatal: the run can not go on.
    """
    progress.note("starting Ray")
    own = starts_own(config.cluster)
    _warn(weaknesses_of_own() if own else ())
    with cluster(config.cluster, thread_environment(config.threads_per_replica)) as resources:
        _warn(weaknesses_of_joined() if config.cluster.address else ())
        options = replace(replica_options(config, resources), inherit=own)
        if not config.cluster.address:  # elsewhere, waiting is what makes an autoscaler act
            check_resources(options, resources)
        schedule = make_schedule(config, storage, order, options, resources)
        progress.count_crashes(lambda: sum(schedule.crashes.values()))
        wanted = min(schedule.workers, len(order.shards))
        progress.note(f"loading the system on {counted(wanted, 'worker')}")

        def on_ready(name: str) -> None:
            nonlocal waiting
            if waiting:
                progress.started()
            waiting = False
            on_worker(name)

        waiting = True
        listener = Listener(on_summary, on_ready, on_remark)
        scheduler = Scheduler(
            spec, plan, storage, schedule, Pool(spec, options), order, listener, stop
        )
        # Ray prints a paragraph about every dead worker to stdout; ours says it in a line with
        # fields.
        with contextlib.redirect_stdout(_DebugLog()):
            scheduler.run()


def make_schedule(
    config: RunConfig,
    storage: Storage,
    order: WorkOrder,
    options: ReplicaOptions,
    resources: Mapping[str, float],
) -> Schedule:
    """The schedule of an order.

    Args:
        config: how to execute.
        storage: of the run folder.
        order: what to make.
        options: what a replica asks for.
        resources: of the cluster.
    """
    workers = config.workers or default_workers(options, resources)
    return Schedule(
        order.shards,
        workers=workers,
        crashes_before_isolation=config.crashes_before_isolation,
        crashes=known_crashes(storage, order),
    )


def _warn(weaknesses: Iterable[Weakness]) -> None:
    for weakness in weaknesses:
        fields = {"problem": weakness.text, "remedy": weakness.remedy}
        log_event(log, "cluster_is_open", level=logging.WARNING, **fields)


class _DebugLog(io.TextIOBase):
    """A text stream whose lines become debug events."""

    def write(self, text: str) -> int:
        if text.strip():
            log_event(log, "ray_message", level=logging.DEBUG, text=text.strip())
        return len(text)


def replica_options(config: RunConfig, resources: Mapping[str, float]) -> ReplicaOptions:
    """Resources of a replica.

    A GPU replica asks for no CPU: it must never wait for one (Ray's default of 1 deadlocks). A CPU
    replica asks for one, or Ray would put all of them on one node.
    """
    share = config.num_gpus_per_replica
    if share is None:
        share = 1.0 if resources.get("GPU", 0) >= 1 else 0.0
    return ReplicaOptions(
        num_gpus=share,
        num_cpus=0.0 if share else 1.0,
        threads=config.threads_per_replica,
        start_timeout_s=config.start_timeout_s,
    )


def default_workers(options: ReplicaOptions, resources: Mapping[str, float]) -> int:
    """As many replicas as the GPUs hold; without GPUs at most two, as cores and memory allow."""
    if options.num_gpus:
        return max(1, int(resources.get("GPU", 0) / options.num_gpus))
    cores = int(resources.get("CPU", 1) / options.threads)
    fitting = int(resources.get("memory", 0) / CPU_REPLICA_BYTES)
    return max(1, min(MAX_DEFAULT_CPU_WORKERS, cores, fitting))


def check_resources(options: ReplicaOptions, resources: Mapping[str, float]) -> None:
    """Refuse replicas this machine can never hold: Ray would let them wait without end.

    Raises:
        ConfigError: one replica asks for more than there is.
    """
    for name, wanted, key in (
        ("GPU", options.num_gpus, "num_gpus_per_replica=0"),
        ("CPU", options.num_cpus, "cluster.num_cpus=1"),
    ):
        there = resources.get(name, 0.0)
        if wanted > there:
            raise ConfigError(
                f"a worker asks for {wanted:g} {name}, Ray has {there:g} here",
                remedy=f"give {key}, or use another machine",
            )


def known_crashes(storage: Storage, order: WorkOrder) -> dict[int, int]:
    """Deaths under earlier commands: a poison item does not get new lives with every resume."""
    crashed = sorted(crashed_shards(storage).intersection(order.shards))
    records = (read_attempts(storage, shard, order.generation(shard)) for shard in crashed)
    return {record.shard: record.crashes for record in records if record.crashes}
