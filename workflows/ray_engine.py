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
from infra.attempts import read_attempts
from infra.cluster import cluster
from infra.dataset import ShardSummary
from infra.plan import Plan
from infra.storage import Storage
from infra.telemetry import log_event
from workflows.progress import Progress

log = logging.getLogger(__name__)


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
        workers = config.workers or default_workers(options, resources)
        schedule = Schedule(
            todo,
            workers=workers,
            crashes_before_isolation=config.crashes_before_isolation,
            crashes=known_crashes(storage, todo),
        )
        progress.note(f"loading the system on {min(workers, len(todo))} worker(s)")
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
    """Resources of a replica. A GPU replica asks for no CPU: it must never wait for one (Ray's
    default of 1 deadlocks).

    A CPU replica asks for one, or Ray would put all of them on one node.
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
    """As many replicas as the GPUs hold; one without GPUs."""
    if not options.num_gpus:
        return 1
    return max(1, int(resources.get("GPU", 0) / options.num_gpus))


def known_crashes(storage: Storage, todo: Sequence[int]) -> dict[int, int]:
    """Deaths under earlier commands, so that a poison item does not get three more lives per
    resume.
    """
    waiting = set(todo)
    found = {}
    for key in storage.list("attempts"):
        shard = int(key.rpartition("/")[2].removesuffix(".json"))
        if shard in waiting:
            found[shard] = read_attempts(storage, shard).crashes
    return found
