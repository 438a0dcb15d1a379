"""The stages of a row: fetch, prepare, generate, finish, each within its time limit.

A stage border turns an exception into a failed row, or lets it through when it concerns the whole
run or process. Time limits come in two strengths: fetching and a finishing child end with a reason,
everything else is ended by the watchdog together with its process.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any, TypeVar

from actors.finishing import ChildFinisher
from actors.item_run import ItemRun
from actors.memory import is_out_of_memory
from actors.worker import Worker
from geco_core.errors import BadItem, Reason, Retryable
from geco_core.types import Asset, Condition, Generated, Item, Mesh, MeshRow
from infra.fetch import FetchTimeout

T = TypeVar("T")
FETCH_RETRIES = 3
FIRST_PAUSE_S = 0.2
SHORTEST_LIMIT_S = 0.01


class Stopped(Exception):
    """The worker is to stop, and the device work was not begun."""


def limit_s(run: ItemRun, worker: Worker, stage: str) -> float:
    """Seconds a row may spend in a stage now: the stage's limit, or what is left of the item's."""
    settings = worker.settings
    left = settings.item_timeout_s - run.spent_s
    return max(SHORTEST_LIMIT_S, min(settings.stage_limit_s(stage), left))


def prepare(run: ItemRun, worker: Worker) -> None:
    """Fetch and prepare a row; its condition is set unless it failed."""
    stage, item = "fetch", run.row.item
    try:
        if isinstance(item.image, str):
            item = _fetch(run, item, worker)
        stage = "prepare"
        condition = _prepared(run, item, worker)
    except Exception as error:  # noqa: BLE001 - the stage border: one row fails, or the run stops
        if stage == "prepare" and isinstance(item.image, bytes):
            run.source_sha256 = hashlib.sha256(item.image).hexdigest()
        run.failed_by(error, stage)
        return
    run.source_sha256 = condition.source_sha256
    run.condition, run.notes = condition, condition.notes


def generate(batch: Sequence[ItemRun], worker: Worker) -> list[Generated]:
    """One result per row, in order.

    Raises:
        Stopped: the worker is to stop; nothing was begun.
        Exception: what the system raises.
    """
    conditions = [_condition(run) for run in batch]
    seeds = [run.seed for run in batch]
    limit = sum(limit_s(run, worker, "generate") for run in batch)
    parts: Mapping[str, float] = {}
    with worker.device_lock, worker.watchdog.guard(limit):
        if worker.stopping.is_set():  # the other shard's batch may have taken minutes
            raise Stopped
        begun = worker.clock()
        try:
            results = worker.system.generate(conditions, seeds)
            parts = worker.system.timing()
        finally:
            _attribute(batch, worker.clock() - begun, parts)
    if len(results) != len(batch):
        raise RuntimeError(f"the system returned {len(results)} results for {len(batch)} items")
    return results


def finish(run: ItemRun, result: Generated, worker: Worker) -> None:
    """End a row with what was generated for it."""
    if isinstance(result, Asset):
        run.done(result)
        return
    if isinstance(result, BadItem):
        run.failed_by(result, "generate")
        return
    begun = worker.clock()
    row = result if isinstance(result, MeshRow) else MeshRow(result, {})
    try:
        asset = _finished(run, row.mesh, worker)
    except Exception as error:  # noqa: BLE001 - the stage border
        run.add_time("finish", worker.clock() - begun)
        run.failed_by(error, "finish")
        return
    run.add_time("finish", worker.clock() - begun)
    columns = {**asset.columns, **row.columns}
    run.done(replace(asset, columns=columns, notes=(*row.notes, *asset.notes)))


def _prepared(run: ItemRun, item: Item, worker: Worker) -> Condition:
    begun = worker.clock()

    def attempt() -> Condition:
        with worker.watchdog.guard(limit_s(run, worker, "prepare")):
            return worker.system.prepare(item)

    condition = _with_memory(attempt, worker)
    if not condition.source_sha256 and isinstance(item.image, bytes):
        condition = replace(condition, source_sha256=hashlib.sha256(item.image).hexdigest())
    run.add_time("prepare", worker.clock() - begun)
    return condition


def _attribute(batch: Sequence[ItemRun], seconds: float, parts: Mapping[str, float]) -> None:
    """Share the seconds of one try, whether it succeeded or not."""
    share = 1.0 / len(batch)
    for run in batch:
        run.attempts += 1
        run.add_time("generate", seconds * share)
        for part, value in parts.items():
            run.add_part(part, value * share)


def _condition(run: ItemRun) -> Condition:
    assert run.condition is not None
    return run.condition


def _fetch(run: ItemRun, item: Item, worker: Worker) -> Item:
    """The item with its source in memory; passing faults are tried again within the time limit."""
    assert isinstance(item.image, str)
    limit, pause, begun = limit_s(run, worker, "fetch"), FIRST_PAUSE_S, worker.clock()
    for attempt in range(FETCH_RETRIES + 1):
        tried = worker.clock()
        try:
            with worker.watchdog.guard(max(SHORTEST_LIMIT_S, limit - (tried - begun))):
                data = worker.fetcher.fetch(item.image, item.item_id)
            run.add_time("fetch", worker.clock() - begun)
            return replace(item, image=data)
        except Retryable as error:
            now = worker.clock()
            wait = pause * (0.5 + worker.random())
            late = now + wait + (now - tried) > begun + limit  # the next try may take as long
            if late or attempt == FETCH_RETRIES:
                run.add_time("fetch", now - begun)
                raise _fetch_failed(error, attempt + 1, late) from error
            worker.sleep(wait)
            pause *= 2
    raise AssertionError("not reached")


def _fetch_failed(error: Retryable, tries: int, late: bool) -> BadItem:
    timed_out = late or isinstance(error, FetchTimeout)
    return BadItem(
        f"{error.message}, {tries} times",
        reason=Reason.TIMED_OUT if timed_out else Reason.FETCH_FAILED,
        remedy=error.remedy,
        stage="fetch",
    )


def _finished(run: ItemRun, mesh: Mesh, worker: Worker) -> Asset:
    details: dict[str, Any] = {
        "item_id": run.row.item.item_id,
        "seed": run.seed,
        "provenance": worker.context.provenance,
        "thumbnail_size": worker.settings.thumbnail_size,
        "source_sha256": run.source_sha256,
    }
    limit = limit_s(run, worker, "finish")
    if isinstance(worker.finish, ChildFinisher):
        return worker.finish(mesh, **details, limit_s=limit)

    def attempt() -> Asset:
        with worker.watchdog.guard(limit):
            return worker.finish(mesh, **details)

    return _with_memory(attempt, worker)


def _with_memory(attempt: Callable[[], T], worker: Worker) -> T:
    """The result of `attempt`; when memory runs out, once more while the device rests.

    The memory limit is the process's: the item that needs too much may be another shard's.
    """
    try:
        return attempt()
    except (MemoryError, RuntimeError) as error:
        if not is_out_of_memory(error):
            raise
    with worker.device_lock:
        return attempt()
