"""The Ray engine of `geco generate`: a cluster, a schedule over the shards that are left, and the
loop between them.
"""

from __future__ import annotations

import contextlib
import io
import logging
from collections.abc import Callable, Mapping, Sequence

from actors.replica import thread_environment
from actors.schedule import Schedule
from actors.scheduler import ReplicaOptions, Scheduler
from actors.spec import WorkerSpec
from geco_core.config.run import RunConfig
from geco_core.errors import ConfigError
from infra.attempts import read_attempts
from infra.cluster import cluster
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
    todo: Sequence[int],
    on_summary: Callable[[ShardSummary], bool],
    progress: Progress,
) -> None:
    """Run the shards of `todo` on Ray. Raises `Fatal`."""
    progress.note("starting Ray")
    with cluster(config.cluster, thread_environment(config.threads_per_replica)) as resources:
        options = replica_options(config, resources)
        if not config.cluster.address:  # elsewhere, waiting is what makes an autoscaler act
            check_resources(options, resources)
        workers = config.workers or default_workers(options, resources)
        schedule = Schedule(
            todo,
            workers=workers,
            crashes_before_isolation=config.crashes_before_isolation,
            crashes=known_crashes(storage, todo),
        )
        progress.note(f"loading the system on {counted(min(workers, len(todo)), 'worker')}")
        first = True

        def on_ready(_: int) -> None:
            nonlocal first
            if first:
                progress.started()
            first = False

        scheduler = Scheduler(
            spec, plan, storage, schedule, options, on_summary=on_summary, on_ready=on_ready
        )
        # Ray prints a paragraph about every dead worker to stdout; ours says it in a line with
        # fields.
        with contextlib.redirect_stdout(_DebugLog()):
            scheduler.run()


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


def known_crashes(storage: Storage, todo: Sequence[int]) -> dict[int, int]:
    """Deaths under earlier commands: a poison item does not get new lives with every resume."""
    crashed = sorted(crashed_shards(storage).intersection(todo))
    return {shard: read_attempts(storage, shard).crashes for shard in crashed}
