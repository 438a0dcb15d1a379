"""The rows of a shard through the stages: in batches, with preparation running ahead, or one row
alone at a time.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from dataclasses import replace

from actors.item_run import ItemRun
from actors.saver import Saver
from actors.stages import Stopped, finish, generate, prepare
from actors.worker import Abandoned, ShardTask, Worker
from infra.attempts import Suspicion, write_attempts
from infra.retry import retried

PREPARED_BATCHES_AHEAD = 2
CHECK_EVERY_S = 0.25
TRIVIAL_S = 0.001
LARGEST_CHUNK = 64


def run_batched(pending: Sequence[ItemRun], task: ShardTask, worker: Worker, saver: Saver) -> None:
    """Make rows in batches.

    Raises:
        Abandoned: on request, between batches; what is finished is saved.
        Fatal, DeviceFault: the run or the process can not go on.
    """
    batch: list[ItemRun] = []
    for chunk in _prepared(pending, worker, lambda: give_up_if_asked(task, worker, saver)):
        saver.add([run for run in chunk if run.outcome is not None])
        for run in chunk:
            if run.outcome is None:
                batch.append(run)
            if len(batch) == worker.batch_size:
                _make_and_keep(batch, task, worker, saver)
                batch = []
    if batch:
        _make_and_keep(batch, task, worker, saver)


def run_alone(pending: Sequence[ItemRun], task: ShardTask, worker: Worker, saver: Saver) -> None:
    """Make rows one at a time; the store knows which before it starts, and keeps it afterwards.

    Raises: as `run_batched`.
    """
    early = worker.settings.shortest_limit_s("fetch", "prepare")
    late = worker.settings.shortest_limit_s("generate", "finish")
    try:
        for run in pending:
            give_up_if_asked(task, worker, saver)
            _write_running(task, worker, run, early)
            run.attempts = task.attempts.crashes
            prepare(run, worker)
            if run.outcome is None:
                if late != early:
                    _write_running(task, worker, run, late)
                _make_and_keep([run], task, worker, saver)
            else:
                saver.add([run])
            saver.save()
    except Abandoned:
        _write_running(task, worker, None)  # its process may be killed from now on
        raise
    _write_running(task, worker, None)


def give_up_if_asked(task: ShardTask, worker: Worker, saver: Saver) -> None:
    """Save the finished rows and raise `Abandoned` when the worker is to stop."""
    if worker.stopping.is_set():
        saver.save()
        raise Abandoned(task.shard.index, saver.rows_saved)


def _write_running(
    task: ShardTask, worker: Worker, run: ItemRun | None, limit_s: float | None = None
) -> None:
    suspicion = run and Suspicion(run.row.index, run.row.item.item_id, worker.epoch(), limit_s)
    record = replace(task.attempts, running=suspicion)
    retried(lambda: write_attempts(worker.storage, record), worker.sleep)


def _prepared(
    pending: Sequence[ItemRun], worker: Worker, check: Callable[[], None]
) -> Iterator[Sequence[ItemRun]]:
    """Runs in order, prepared on a thread pool a bounded number of batches ahead.

    They go to the pool in chunks, which grow while preparing costs less than handing over. `check`
    is called while it waits; it may raise.
    """
    threads = worker.settings.prepare_threads
    ahead = max(PREPARED_BATCHES_AHEAD * worker.batch_size, 2 * threads)
    size = max(1, worker.batch_size // threads)
    futures: deque[tuple[Sequence[ItemRun], Future[float]]] = deque()
    pool = ThreadPoolExecutor(threads, thread_name_prefix="prepare")
    try:
        first = waiting = 0
        while first < len(pending) or futures:
            while first < len(pending) and waiting <= ahead:
                chunk = pending[first : first + size]
                futures.append((chunk, pool.submit(_prepare_chunk, chunk, worker)))
                first, waiting = first + len(chunk), waiting + len(chunk)
            chunk, future = futures.popleft()
            while not wait([future], CHECK_EVERY_S).done:
                check()
            if future.result() < TRIVIAL_S:
                size = min(2 * size, LARGEST_CHUNK)
            check()  # a chunk cut short must not go on
            waiting -= len(chunk)
            yield chunk
    finally:
        pool.shutdown(wait=False, cancel_futures=True)  # a slow source may take its time


def _prepare_chunk(chunk: Sequence[ItemRun], worker: Worker) -> float:
    """Prepare rows one after the other; returns the seconds it took."""
    begun = worker.clock()
    for run in chunk:
        if worker.stopping.is_set():
            break
        prepare(run, worker)
    return worker.clock() - begun


def _make_and_keep(batch: Sequence[ItemRun], task: ShardTask, worker: Worker, saver: Saver) -> None:
    try:
        _make(batch, worker)
    except Stopped:
        pass
    finally:
        saver.add([run for run in batch if run.outcome is not None])
    give_up_if_asked(task, worker, saver)


def _make(batch: Sequence[ItemRun], worker: Worker) -> None:
    """Generate a batch and finish its members; after an exception, once more row by row."""
    try:
        results = generate(batch, worker)
    except Stopped:
        raise
    except Exception as error:  # noqa: BLE001 - the stage border
        if len(batch) == 1:
            batch[0].failed_by(error, "generate")
            return
        _stop_if_fatal(error, batch[0])
        for run in batch:
            _make([run], worker)
        return
    for run, result in zip(batch, results, strict=True):
        finish(run, result, worker)


def _stop_if_fatal(error: Exception, member: ItemRun) -> None:
    """Raise what row-by-row replay can not help."""
    probe = ItemRun(member.row, member.seed)
    probe.failed_by(error, "generate")
