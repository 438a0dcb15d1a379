"""`run_shard`: everything that happens to a shard, free of scheduler types, callable from any
engine or a test.

Rows are prepared on a small thread pool ahead of the device, generated in batches under the device
lock, finished, and committed as one object. An exception costs a row-by-row replay of its batch,
never the batch. In isolation every row runs alone, and the store knows which before it starts.
"""

from __future__ import annotations

import hashlib
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Any, Protocol

from actors.item_run import ItemRun
from actors.watchdog import NoWatchdog, Watchdog
from geco_core.errors import BadItem, Reason
from geco_core.types import Asset, Condition, Generated, Item, Mesh, Shard, System, seed_for
from infra.attempts import Attempts, Suspicion, write_attempts
from infra.commit import adopt_shard, commit_shard
from infra.dataset import RowContext, ShardSummary, rows_to_table, summarise
from infra.fetch import fetch
from infra.retry import retried
from infra.rows import RowReader
from infra.storage import Storage

PREPARED_BATCHES_AHEAD = 2


class Finish(Protocol):
    """`geco_core.mesh.finish.finish_mesh`."""

    def __call__(
        self,
        mesh: Mesh,
        *,
        item_id: str,
        seed: int,
        provenance: Mapping[str, Any],
        thumbnail_size: int = ...,
        source_sha256: str = ...,
    ) -> Asset:
        """Check, clean, measure, draw and write one mesh. Raises `BadItem`."""
        ...


@dataclass(frozen=True)
class WorkerSettings:
    """What a worker needs to know of the run configuration."""

    run_seed: int
    batch_size: int | None = None
    prepare_threads: int = 1
    item_timeout_s: float = 600.0
    max_source_bytes: int = 256 * 2**20
    thumbnail_size: int = 128


@dataclass(frozen=True)
class ShardTask:
    """A shard to run.

    Attributes:
        shard: the rows.
        attempts: the crash history of this generation.
        isolate: one row at a time.
        generation: of the part to write; from 1 on, rows of the generation before are kept.
        retry: reasons of the rows to make again, from generation 1 on.
    """

    shard: Shard
    attempts: Attempts
    isolate: bool = False
    generation: int = 0
    retry: tuple[Reason, ...] = ()


@dataclass
class Worker:
    """What `run_shard` works with: shared by the shards in flight in one process."""

    system: System
    reader: RowReader
    storage: Storage
    settings: WorkerSettings
    context: RowContext
    finish: Finish
    device_lock: threading.Lock = field(default_factory=threading.Lock)
    watchdog: Watchdog = field(default_factory=NoWatchdog)
    name: str = ""
    clock: Callable[[], float] = time.perf_counter
    epoch: Callable[[], float] = time.time
    sleep: Callable[[float], None] = time.sleep

    @property
    def batch_size(self) -> int:
        """Items per `generate` call."""
        return self.settings.batch_size or self.system.batch_size


def run_shard(task: ShardTask, worker: Worker) -> ShardSummary:
    """Make every row of a shard terminal and commit them.

    A whole part that already stands is adopted: its writer died before it could say so.

    Raises:
        Fatal: the run must stop.
        Retryable: the store failed for good this time; the shard may be run again.
        DeviceFault: this process can not go on.
    """
    started = worker.clock()
    standing = retried(lambda: adopt_shard(worker.storage, task.shard), worker.sleep)
    if standing is not None:
        return standing
    read = worker.reader.read(task.shard)
    runs = [ItemRun(row, seed_for(row.item, worker.settings.run_seed)) for row in read.rows]
    for run in runs:
        blame = task.attempts.blamed.get(run.row.index)
        if run.row.problem is not None:
            run.refused()
        elif blame is not None:
            run.attempts = task.attempts.crashes
            run.failed(blame.reason, blame.message, "generate")
    pending = [run for run in runs if run.outcome is None]
    if task.isolate:
        _run_alone(pending, task, worker)
    else:
        _run_batched(pending, worker)
    outcomes = [run.outcome for run in runs if run.outcome is not None]
    table = rows_to_table(
        outcomes, [run.row.source for run in runs], worker.context, read.passthrough
    )
    commit_started = worker.clock()

    def commit() -> ShardSummary:
        now = worker.clock()
        extra = {"commit": now - commit_started}
        summary = summarise(outcomes, task.shard, now - started, extra)
        at = datetime.fromtimestamp(worker.epoch(), UTC).isoformat(timespec="milliseconds")
        return commit_shard(
            worker.storage, table, replace(summary, worker=worker.name, finished_at=at)
        )

    return retried(commit, worker.sleep)


def _run_batched(pending: Sequence[ItemRun], worker: Worker) -> None:
    batch: list[ItemRun] = []
    for run in _prepared(pending, worker):
        if run.outcome is None:
            batch.append(run)
        if len(batch) == worker.batch_size:
            _make(batch, worker)
            batch = []
    if batch:
        _make(batch, worker)


def _run_alone(pending: Sequence[ItemRun], task: ShardTask, worker: Worker) -> None:
    for run in pending:
        suspicion = Suspicion(run.row.index, run.row.item.item_id, worker.epoch())
        write_attempts(worker.storage, replace(task.attempts, running=suspicion))
        run.attempts = task.attempts.crashes
        _prepare(run, worker)
        if run.outcome is None:
            _make([run], worker)
    write_attempts(worker.storage, replace(task.attempts, running=None))


def _prepared(pending: Sequence[ItemRun], worker: Worker) -> Iterator[ItemRun]:
    """Runs in order, prepared on a thread pool a bounded number of batches ahead."""
    ahead = PREPARED_BATCHES_AHEAD * worker.batch_size
    futures: deque[tuple[ItemRun, Future[None]]] = deque()
    with ThreadPoolExecutor(worker.settings.prepare_threads, thread_name_prefix="prepare") as pool:
        try:
            for run in pending:
                futures.append((run, pool.submit(_prepare, run, worker)))
                if len(futures) > ahead:
                    yield _settled(*futures.popleft())
            while futures:
                yield _settled(*futures.popleft())
        finally:
            for _, future in futures:
                future.cancel()


def _settled(run: ItemRun, future: Future[None]) -> ItemRun:
    future.result()
    return run


def _prepare(run: ItemRun, worker: Worker) -> None:
    stage = "fetch"
    item = run.row.item
    try:
        with worker.watchdog.guard(worker.settings.item_timeout_s):
            begun = worker.clock()
            item = _fetched(item, worker)
            run.add_time("fetch", worker.clock() - begun)
            stage, begun = "prepare", worker.clock()
            if isinstance(item.image, bytes):
                run.source_sha256 = hashlib.sha256(item.image).hexdigest()
            condition = worker.system.prepare(item)
            run.add_time("prepare", worker.clock() - begun)
        run.source_sha256 = run.source_sha256 or condition.source_sha256
        run.condition, run.notes = condition, condition.notes
    except Exception as error:  # noqa: BLE001 - the stage border: one row fails, or the run stops
        run.failed_by(error, stage)


def _fetched(item: Item, worker: Worker) -> Item:
    if not isinstance(item.image, str):
        return item
    source, limit = item.image, worker.settings.max_source_bytes
    data = retried(lambda: fetch(source, max_bytes=limit, item_id=item.item_id), worker.sleep)
    return replace(item, image=data)


def _make(batch: Sequence[ItemRun], worker: Worker) -> None:
    """Generate a batch and finish its members; after an exception, once more row by row."""
    try:
        results = _generate(batch, worker)
    except Exception as error:  # noqa: BLE001 - the stage border
        if len(batch) == 1:
            batch[0].failed_by(error, "generate")
            return
        _stop_if_fatal(error, batch[0])
        for run in batch:
            _make([run], worker)
        return
    for run, result in zip(batch, results, strict=True):
        if isinstance(result, BadItem):
            run.failed_by(result, "generate")
        else:
            _finish(run, result, worker)


def _stop_if_fatal(error: Exception, member: ItemRun) -> None:
    """Raise what row-by-row replay can not help."""
    probe = ItemRun(member.row, member.seed)
    probe.failed_by(error, "generate")


def _generate(batch: Sequence[ItemRun], worker: Worker) -> list[Generated]:
    conditions = [_condition(run) for run in batch]
    for run in batch:
        run.attempts += 1
    with worker.device_lock, worker.watchdog.guard(worker.settings.item_timeout_s * len(batch)):
        begun = worker.clock()
        results = worker.system.generate(conditions, [run.seed for run in batch])
        seconds = {"generate": worker.clock() - begun, **worker.system.timing()}
    if len(results) != len(batch):
        raise RuntimeError(f"the system returned {len(results)} results for {len(batch)} items")
    for run in batch:
        for stage, value in seconds.items():
            run.add_time(stage, value / len(batch))
    return results


def _condition(run: ItemRun) -> Condition:
    assert run.condition is not None
    return run.condition


def _finish(run: ItemRun, mesh: Mesh, worker: Worker) -> None:
    begun = worker.clock()
    try:
        with worker.watchdog.guard(worker.settings.item_timeout_s):
            asset = worker.finish(
                mesh,
                item_id=run.row.item.item_id,
                seed=run.seed,
                provenance=worker.context.provenance,
                thumbnail_size=worker.settings.thumbnail_size,
                source_sha256=run.source_sha256,
            )
    except Exception as error:  # noqa: BLE001 - the stage border
        run.failed_by(error, "finish")
        return
    run.add_time("finish", worker.clock() - begun)
    run.done(asset)
