"""A shard that ends early costs at most what was not saved, and its rows are the same bytes."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from actors.item_run import DeviceFault
from actors.shard_worker import ShardTask, Worker, run_shard
from geco_core.errors import Reason, Retryable
from geco_core.types import Shard
from infra.attempts import Attempts, Blame
from infra.commit import done_key
from infra.partial import partial_folder
from tests.actors.shards import batches, part_rows, reasons, run, worker

ALWAYS = {"save_every_s": 1e-9}
UNTIMED = ("timing", "attempts")


class Death(BaseException):
    """Ends everything at once, like the death of the process."""


def dies_at(name: str, error: BaseException) -> Callable[[list[str]], None]:
    def trouble(batch: list[str]) -> None:
        if name in batch:
            raise error

    return trouble


def saved(made: Worker) -> list[str]:
    return sorted(made.storage.list("partial"))


def comparable(made: Worker) -> list[dict[str, Any]]:
    return [{k: v for k, v in row.items() if k not in UNTIMED} for row in part_rows(made)]


def undisturbed(tmp_path: Path, **config: Any) -> list[dict[str, Any]]:
    folder = tmp_path / "undisturbed"
    folder.mkdir()
    made = worker(folder, 12, **config)
    run(made, 12)
    return comparable(made)


@pytest.mark.parametrize("isolate", [False, True])
def test_after_a_death_only_unsaved_rows_are_made_again(tmp_path: Path, isolate: bool) -> None:
    faults = {"i1": "bad_item", "i4": "generate", "i10": "empty"}
    whole = undisturbed(tmp_path, faults=faults)
    made = worker(tmp_path, 12, trouble=dies_at("i8", Death()), settings=ALWAYS, faults=faults)
    with pytest.raises(Death):
        run(made, 12, isolate=isolate)
    assert saved(made)
    batches(made).clear()
    made.system.trouble = lambda _: None  # type: ignore[attr-defined]
    run(made, 12, partials=True)
    again = [name for batch in batches(made) for name in batch]
    first = 8 if isolate else 7  # i1 never reached a batch: [0 2 3] [4 5 6] [7 8 9]
    assert again == [f"i{k}" for k in range(first, 12)]
    assert comparable(made) == whole
    assert saved(made) == []


def test_a_broken_device_leaves_its_finished_rows(tmp_path: Path) -> None:
    made = worker(tmp_path, trouble=dies_at("i3", RuntimeError("CUDA error: launch failure")))
    with pytest.raises(DeviceFault):
        run(made)
    assert saved(made) == ["partial/000000-g0/000000000.parquet"]


def test_nothing_is_saved_before_it_is_time(tmp_path: Path) -> None:
    made = worker(tmp_path, 9, settings={"save_every_s": 10.0}, trouble=dies_at("i8", Death()))
    time = [0.0]
    made.clock = lambda: time[0]
    whole = made.system.generate

    def generate(*arguments: Any) -> Any:
        time[0] += 6.0
        return whole(*arguments)

    made.system.generate = generate  # type: ignore[method-assign]
    with pytest.raises(Death):
        run(made, 9)
    assert saved(made) == ["partial/000000-g0/000000000.parquet"]  # after 12 s, both batches


def test_after_a_crash_every_batch_is_saved(tmp_path: Path) -> None:
    made = worker(tmp_path, 9, trouble=dies_at("i8", Death()))
    with pytest.raises(Death):
        run(made, 9, attempts=Attempts(0, crashes=1))
    assert len(saved(made)) == 2


def test_without_word_of_saved_rows_the_store_is_not_asked(tmp_path: Path) -> None:
    made = worker(tmp_path)
    asked: list[str] = []
    listing = made.storage.list
    made.storage.list = lambda prefix: (asked.append(prefix), listing(prefix))[1]  # type: ignore[method-assign]
    run(made)
    assert asked == []


def test_refused_and_guilty_rows_are_not_saved(tmp_path: Path) -> None:
    cells = {"id": ["a", "a", "b", "c"], "prompt": ["x", "x", "y", ""]}
    made = worker(tmp_path, cells, settings=ALWAYS)
    guilty = Attempts(0, 4, {2: Blame(Reason.CRASHED, "its process died")})
    kept: list[str] = []
    put = made.storage.put_atomic
    made.storage.put_atomic = lambda key, *a, **o: (kept.append(key), put(key, *a, **o))[1]  # type: ignore[method-assign]
    run_shard(ShardTask(Shard(0, 0, 4), guilty), made)
    assert [key for key in kept if key.startswith("partial")] == [
        "partial/000000-g0/000000000.parquet"
    ]
    assert [row["reason"] for row in part_rows(made)] == [
        None,
        "duplicate_id",
        "crashed",
        "missing_input",
    ]


def test_a_store_that_does_not_take_saves_does_not_stop_the_work(tmp_path: Path) -> None:
    made = worker(tmp_path, settings=ALWAYS)
    put = made.storage.put_atomic

    def refuse(key: str, *arguments: Any, **options: Any) -> bool:
        if key.startswith("partial"):
            raise Retryable("503")
        return put(key, *arguments, **options)

    made.storage.put_atomic = refuse  # type: ignore[method-assign]
    assert reasons(run(made)) == {}


def test_an_adopted_shard_drops_what_was_saved_of_it(tmp_path: Path) -> None:
    made = worker(tmp_path, settings=ALWAYS)
    run(made)
    made.storage.delete(done_key(0))
    made.storage.put_atomic(f"{partial_folder(0, 0)}/000000000.parquet", b"left over")
    run(made, partials=True)
    assert saved(made) == []


def test_saved_rows_that_can_not_be_removed_do_not_undo_a_commit(tmp_path: Path) -> None:
    made = worker(tmp_path, settings=ALWAYS)

    def refuse(_: str) -> None:
        raise Retryable("503")

    made.storage.delete = refuse  # type: ignore[method-assign]
    assert reasons(run(made)) == {}
    assert reasons(run(made, partials=True)) == {}  # adopted


def test_saved_rows_of_other_items_are_not_believed(tmp_path: Path) -> None:
    made = worker(tmp_path, 12, settings=ALWAYS, trouble=dies_at("i8", Death()))
    with pytest.raises(Death):
        run(made, 12)
    renamed = worker(
        tmp_path, {"id": [f"x{k}" for k in range(12)], "prompt": ["p"] * 12}, settings=ALWAYS
    )
    assert set(run(renamed, 12, partials=True)) == {f"x{k}" for k in range(12)}
