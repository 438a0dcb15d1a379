"""Orders know which shards have saved rows, of the generation they make."""

from __future__ import annotations

from pathlib import Path

from actors.order import WorkOrder, saved_shards
from geco_core.errors import Reason
from geco_core.types import Shard
from infra.attempts import Attempts
from infra.storage import LocalStorage


def test_a_task_carries_what_the_order_says() -> None:
    order = WorkOrder((1, 2), {2: 3}, (Reason.CRASHED,), partials=frozenset({2}))
    task = order.task(Shard(2, 8, 12), Attempts(2), isolate=True)
    assert (task.generation, task.retry, task.partials, task.isolate) == (
        3,
        (Reason.CRASHED,),
        True,
        True,
    )
    assert not order.task(Shard(1, 4, 8), Attempts(1)).partials
    assert order.task(Shard(1, 4, 8), Attempts(1), partials=True).partials


def test_saved_rows_of_the_generation_to_make_are_known(tmp_path: Path) -> None:
    storage = LocalStorage(tmp_path)
    for key in (
        "partial/000001-g0/000000004.parquet",
        "partial/000002-g0/000000008.parquet",
        "partial/000003-g1/000000012.parquet",
        "partial/notes.txt",
    ):
        storage.put_atomic(key, b"x")
    order = WorkOrder((1, 3, 4), generations={3: 1})
    assert saved_shards(storage, order) == {1, 3}
    assert saved_shards(storage, WorkOrder((3,))) == frozenset()
