"""Saves the finished rows of a shard in flight, now and then, and forgets them after the commit."""

from __future__ import annotations

import logging
from collections.abc import Sequence

import pyarrow as pa

from actors.item_run import ItemRun
from actors.kept import Kept
from actors.worker import ShardTask, Worker
from geco_core.errors import Retryable
from infra.dataset import rows_to_table
from infra.partial import drop_partials, save_rows, saved_keys
from infra.retry import retried
from infra.rows import ShardRows
from infra.telemetry import log_event

log = logging.getLogger(__name__)


class Saver:
    """Holds the rows that were finished since the last save.

    Rows without work behind them (refused by the plan, blamed before) are not given to it: a
    resumed shard has them at once.
    """

    def __init__(self, task: ShardTask, worker: Worker, read: ShardRows, kept: Kept) -> None:
        """Nothing is finished yet. Args: kept: what was saved before."""
        self._task = task
        self._worker = worker
        self._read = read
        self._keys = list(kept.keys)
        self._waiting: list[ItemRun] = []
        self._last = worker.clock()
        # A shard whose process died is likely to lose another one.
        self._every_s = 0.0 if task.attempts.crashes else worker.settings.save_every_s
        self.rows_saved = kept.saved

    def add(self, runs: Sequence[ItemRun]) -> None:
        """Rows that are finished now; saved when it is time to."""
        self._waiting += runs
        if self._worker.clock() - self._last >= self._every_s:
            self.save()

    def save(self) -> None:
        """Save what is not saved yet.

        A store that fails keeps the rows waiting: a save may be missed, a shard may not.

        Raises:
            Fatal: the store refuses for good.
        """
        self._last = self._worker.clock()
        if not self._waiting:
            return
        shard = self._task.shard
        runs = sorted(self._waiting, key=lambda run: run.row.index)
        table = made_table(runs, self._read, self._worker, shard.start)
        rows = [run.row.index for run in runs]
        try:
            key = retried(
                lambda: save_rows(
                    self._worker.storage, shard.index, self._task.generation, rows, table
                ),
                self._worker.sleep,
            )
        except Retryable as error:
            log_event(log, "save_failed", level=logging.WARNING, problem=error.message)
            return
        self._keys.append(key)
        self.rows_saved += len(runs)
        self._waiting = []

    def drop(self) -> None:
        """Remove the saved rows: a part holds them now."""
        if self._keys:
            drop_saved(self._task, self._worker, self._keys)


def drop_saved(task: ShardTask, worker: Worker, keys: Sequence[str] | None = None) -> None:
    """Remove saved rows of a committed shard, as far as the store lets us.

    Args:
        task: whose rows.
        worker: whose store.
        keys: where they lie; None looks.
    """
    storage, index = worker.storage, task.shard.index

    def drop() -> None:
        known = saved_keys(storage, index, task.generation) if keys is None else keys
        drop_partials(storage, known)

    try:
        retried(drop, worker.sleep)
    except Retryable as error:
        log_event(log, "saved_rows_left", level=logging.WARNING, problem=error.message)


def made_table(runs: Sequence[ItemRun], read: ShardRows, worker: Worker, start: int) -> pa.Table:
    """The output rows of finished runs. Args: start: first row of the shard."""
    passthrough = read.passthrough
    if len(runs) != passthrough.num_rows:
        passthrough = passthrough.take(
            pa.array([run.row.index - start for run in runs], pa.int64())
        )
    outcomes = [run.outcome for run in runs if run.outcome is not None]
    return rows_to_table(outcomes, [run.row.source for run in runs], worker.context, passthrough)
