"""Running a work order on the configured engine: what `geco generate` and `geco retry` share."""

from __future__ import annotations

import logging
import os
import socket
import uuid
from collections.abc import Callable
from dataclasses import replace

from actors.inline import run_inline
from actors.order import WorkOrder, saved_shards
from actors.shard_worker import worker_settings
from actors.spec import WorkerSpec, build_worker
from actors.stop import Stop
from geco_core.config.run import RunConfig, model_overrides
from infra.dataset import ShardSummary
from infra.environment import code_version
from infra.extra_columns import TARGETS
from infra.finish_columns import recorded_columns
from infra.plan import Plan, read_run
from infra.storage import Storage
from infra.targets.place import StoreAddress, store_address
from infra.telemetry import log_event
from workflows.drain import draining
from workflows.progress import Progress, ProgressMaker
from workflows.tally import Tally

log = logging.getLogger(__name__)


def execute(
    config: RunConfig,
    storage: Storage,
    plan: Plan,
    order: WorkOrder,
    tally: Tally,
    clock: Callable[[], float],
    stop: Stop,
    make_progress: ProgressMaker = Progress,
) -> float:
    """Make the shards of an order, as far as `stop` and `tally` let it.

    Until it returns, SIGINT and SIGTERM ask `stop` instead of ending the process.

    Args:
        config: how to execute.
        storage: of the run folder, opened and described (`run.json`).
        plan: the run's plan.
        order: what to make; nothing to make is fine.
        tally: counts what is committed.
        clock: monotonic seconds.
        stop: told by signals, asked by engines.
        make_progress: of the number of rows to do, what shows the progress.

    Returns:
        Seconds from the first worker ready to the last commit.

    Raises:
        Fatal: the run can not go on; what is committed stays.
        Interrupted: the second signal.
    """
    if not order.shards:
        return 0.0
    spec = worker_spec(config, storage, plan)
    order = replace(order, partials=order.partials | saved_shards(storage, order))
    rows = sum(plan.shard(index).stop - plan.shard(index).start for index in order.shards)
    with make_progress(rows, clock=clock) as progress, draining(stop):

        def on_summary(summary: ShardSummary) -> bool:
            keep_going = tally.add(summary)
            progress.update(tally.state)
            log_event(log, "shard_done", level=logging.DEBUG, **summary.to_json())
            return keep_going

        if config.engine == "inline":
            progress.note("loading the system")
            worker = build_worker(spec, name=f"inline-{socket.gethostname()}:{os.getpid()}")
            tally.ours.add(worker.name)
            progress.started()
            run_inline(worker, plan, order, on_summary, stop)
        else:
            from workflows.ray_engine import run_ray  # noqa: PLC0415 - Ray takes a second to import

            run_ray(
                config,
                spec,
                storage,
                plan,
                order,
                on_summary,
                progress,
                stop,
                on_worker=tally.ours.add,
                on_remark=tally.remarks.append,
            )
        return progress.working_s


def worker_spec(config: RunConfig, storage: Storage, plan: Plan) -> WorkerSpec:
    """What the run's workers are built from."""
    return WorkerSpec(
        run_uri=storage.uri,
        manifest=plan.manifest,
        system=config.system,
        preset=config.preset,
        overrides=tuple(model_overrides(config.model)),
        code_version=code_version(),
        settings=worker_settings(config),
        conditional_put=storage.conditional_put,
        finish_columns=recorded_columns(read_run(storage) or {}),
        target_store=_target_store(config, storage),
    )


def _target_store(config: RunConfig, storage: Storage) -> StoreAddress | None:
    if config.system != TARGETS:
        return None
    record, token = read_run(storage), uuid.uuid4().hex
    return store_address(storage, record, config.targets_store, config.s3, token)
