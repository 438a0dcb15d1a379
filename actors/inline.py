"""The engine without Ray: the same `run_shard`, one shard after the other, in this process.

For tests, debugging and tiny runs. It survives exceptions like the other engine, but not a crash or
a hang of the model.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from actors.shard_worker import ShardTask, Worker, run_shard
from infra.attempts import read_attempts
from infra.dataset import ShardSummary
from infra.plan import Plan
from infra.retry import retried


def run_inline(
    worker: Worker, plan: Plan, todo: Sequence[int], on_summary: Callable[[ShardSummary], bool]
) -> None:
    """Run shards in order.

    Rows that other commands found guilty stay failed; nothing else is known to kill a process.

    Args:
        worker: the loaded system.
        plan: the run's plan.
        todo: indices of the shards to make.
        on_summary: hears of each commit; returns False to stop.

    Raises:
        Fatal, Retryable, DeviceFault: what `run_shard` raises.
    """
    for index in todo:
        attempts = retried(lambda index=index: read_attempts(worker.storage, index))
        summary = run_shard(ShardTask(plan.shard(index), attempts), worker)
        if not on_summary(summary):
            return
