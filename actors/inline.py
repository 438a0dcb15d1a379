"""The engine without Ray: the same `run_shard`, one shard after the other, in this process.

For tests, debugging and tiny runs. It survives exceptions like the other engine, but not a crash or
a hang of the model.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from actors.shard_worker import ShardTask, Worker, run_shard
from infra.attempts import Attempts
from infra.dataset import ShardSummary
from infra.plan import Plan


def run_inline(
    worker: Worker, plan: Plan, todo: Sequence[int], on_summary: Callable[[ShardSummary], bool]
) -> None:
    """Run shards in order; `on_summary` hears of each commit and returns False to stop. Raises what
    `run_shard` does.
    """
    for index in todo:
        summary = run_shard(ShardTask(plan.shard(index), Attempts(index)), worker)
        if not on_summary(summary):
            return
