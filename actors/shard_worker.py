"""`run_shard`: everything that happens to a shard, free of scheduler types, callable from any
engine or a test.

Rows are prepared on a small thread pool ahead of the device, generated in batches under the device
lock, finished, and committed as one object. An exception costs a row-by-row replay of its batch,
never the batch. In isolation every row runs alone, and the store knows which before it starts.
Finished rows are saved now and then; rows that are saved, or sound in the generation before, are
not made again.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime

from actors.batches import give_up_if_asked, run_alone, run_batched
from actors.item_run import DeviceFault, ItemRun
from actors.kept import Kept, load_kept, merge, with_kept
from actors.saver import Saver, drop_saved, made_table
from actors.worker import (
    Abandoned,
    Finish,
    ShardTask,
    Worker,
    WorkerSettings,
    worker_settings,
)
from geco_core.types import seed_for
from infra.commit import adopt_shard, commit_shard
from infra.dataset import ShardSummary, summarise
from infra.retry import retried
from infra.rows import ShardRows

__all__ = [
    "Abandoned",
    "Finish",
    "ShardTask",
    "Worker",
    "WorkerSettings",
    "run_shard",
    "worker_settings",
]


def run_shard(task: ShardTask, worker: Worker) -> ShardSummary:
    """Make every row of a shard terminal and commit them.

    A whole part that already stands is adopted: its writer died before it could say so.

    Raises:
        Abandoned: `worker.stopping` was set; finished rows are saved.
        Fatal: the run must stop.
        Retryable: the store failed for good this time; the shard may be run again.
        DeviceFault: this process can not go on.
    """
    started = worker.clock()
    standing = _adopted(task, worker)
    if standing is not None:
        return standing
    if worker.stopping.is_set():
        raise Abandoned(task.shard.index, 0)
    read = worker.reader.read(task.shard)
    kept = load_kept(task, worker, read)
    runs = _runs(task, worker, read, kept)
    saver = Saver(task, worker, read, kept)
    pending = [run for run in runs if run.outcome is None]
    give_up_if_asked(task, worker, saver)
    try:
        (run_alone if task.isolate else run_batched)(pending, task, worker, saver)
    except DeviceFault:
        saver.save()  # the process is lost, its finished rows are not
        raise
    summary = _committed(task, worker, read, kept, runs, started)
    saver.drop()
    return summary


def _adopted(task: ShardTask, worker: Worker) -> ShardSummary | None:
    shard, generation = task.shard, task.generation
    standing = retried(lambda: adopt_shard(worker.storage, shard, generation), worker.sleep)
    if standing is not None and task.partials:
        drop_saved(task, worker)
    return standing


def _runs(task: ShardTask, worker: Worker, read: ShardRows, kept: Kept) -> list[ItemRun]:
    """The rows to make; those refused by the plan or found guilty before have ended already."""
    known = {task.shard.start + position for position in kept.positions}
    seed = worker.settings.run_seed
    runs = [ItemRun(row, seed_for(row.item, seed)) for row in read.rows if row.index not in known]
    for run in runs:
        blame = task.attempts.blamed.get(run.row.index)
        if run.row.problem is not None:
            run.refused()
        elif blame is not None:
            run.attempts = task.attempts.crashes
            run.failed(blame.reason, blame.message, "generate")
    return runs


def _committed(
    task: ShardTask,
    worker: Worker,
    read: ShardRows,
    kept: Kept,
    runs: Sequence[ItemRun],
    started: float,
) -> ShardSummary:
    shard = task.shard
    positions = [run.row.index - shard.start for run in runs]
    table = merge(kept, positions, made_table(runs, read, worker, shard.start))
    outcomes = [run.outcome for run in runs if run.outcome is not None]
    commit_started = worker.clock()

    def commit() -> ShardSummary:
        now = worker.clock()
        extra = {"commit": now - commit_started}
        summary = with_kept(summarise(outcomes, shard, now - started, extra), kept)
        at = datetime.fromtimestamp(worker.epoch(), UTC).isoformat(timespec="milliseconds")
        summary = replace(summary, worker=worker.name, finished_at=at, generation=task.generation)
        return commit_shard(worker.storage, table, summary)

    return retried(commit, worker.sleep)
