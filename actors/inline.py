"""The engine without Ray: the same `run_shard`, one shard after the other, in this process.

For tests, debugging and tiny runs. It survives exceptions like the other engine, but not a crash or
a hang of the model.
"""

from __future__ import annotations

from collections.abc import Callable

from actors.order import WorkOrder
from actors.shard_worker import Abandoned, Worker, run_shard
from actors.stop import Stop
from infra.attempts import read_attempts
from infra.dataset import ShardSummary
from infra.plan import Plan
from infra.retry import retried


def run_inline(
    worker: Worker,
    plan: Plan,
    order: WorkOrder,
    on_summary: Callable[[ShardSummary], bool],
    stop: Stop | None = None,
) -> None:
    """Run shards in order.

    Rows that other commands found guilty stay failed; nothing else is known to kill a process.

    Args:
        worker: the loaded system.
        plan: the run's plan.
        order: the shards to make.
        on_summary: hears of each commit; returns False to stop.
        stop: ends the run between shards, and between batches once it is time to abandon.

    Raises:
        Fatal, Retryable, DeviceFault: what `run_shard` raises.
    """
    stop = stop or Stop()
    worker.stopping = stop.abandon
    for index in order.shards:
        if stop.requested:
            return
        generation = order.generation(index)
        attempts = retried(
            lambda index=index, generation=generation: read_attempts(
                worker.storage, index, generation
            )
        )
        try:
            summary = run_shard(order.task(plan.shard(index), attempts), worker)
        except Abandoned:
            return
        if not on_summary(summary):
            return
