"""Making rows again keeps the others, byte for byte."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from actors.shard_worker import Abandoned, Worker
from geco_core.errors import Fatal, Reason, Retryable
from geco_core.systems.noop import NoopConfig
from geco_core.types import Shard
from infra.commit import part_key
from infra.rows import ShardRows
from infra.run_state import read_done
from tests.actors.shards import Spy, batches, part_rows, reasons, run, worker

FAULTS = {"i1": "generate", "i4": "empty", "i7": "bad_item"}


def cured(
    made: Worker, *, keep: dict[str, str] | None = None, stops_at: str | None = None
) -> Worker:
    """The same worker with fewer faults, and asked to stop when it makes an item."""

    def trouble(batch: list[str]) -> None:
        if stops_at in batch:
            made.stopping.set()

    made.system = Spy(NoopConfig(batch_size=3, faults=keep or {}), trouble)
    return made


def first_generation(tmp_path: Path) -> tuple[Worker, list[dict[str, Any]]]:
    cells = {
        "id": [f"i{k}" for k in range(9)],
        "prompt": [f"p{k}" for k in range(9)],
        "tag": list(range(9)),
    }
    made = worker(tmp_path, cells, faults=FAULTS)
    run(made, 9)
    return made, part_rows(made)


def test_rows_of_the_named_reasons_are_made_again(tmp_path: Path) -> None:
    made, before = first_generation(tmp_path)
    rows = run(cured(made), 9, generation=1, retry=(Reason.GENERATION_FAILED, Reason.EMPTY_MESH))
    assert batches(made) == [["i1", "i4"]]
    assert reasons(rows) == {"i7": "corrupt_image"}
    after = part_rows(made, 1)
    assert [row["tag"] for row in after] == list(range(9))
    changed = [k for k in range(9) if after[k] != before[k]]
    assert changed == [1, 4]
    assert part_rows(made, 0) == before


def test_the_summary_counts_kept_and_new_rows(tmp_path: Path) -> None:
    made, before = first_generation(tmp_path)
    run(cured(made), 9, generation=1, retry=(Reason.EMPTY_MESH,))
    summary = read_done(made.storage, 0, 1)
    assert dict(summary.counts) == {"done": 7, "failed": 2}
    assert dict(summary.reasons) == {"generation_failed": 1, "corrupt_image": 1}
    assert summary.generation == 1
    assert summary.seconds["finish"] >= sum(
        row["timing"]["finish"] or 0 for row in before if row["status"] == "done"
    )


def test_generations_build_on_each_other_and_on_saved_rows(tmp_path: Path) -> None:
    made, _ = first_generation(tmp_path)
    reason = (Reason.GENERATION_FAILED,)
    run(cured(made, keep={"i4": "empty"}), 9, generation=1, retry=reason)
    again = (Reason.EMPTY_MESH, Reason.CORRUPT_IMAGE)
    made = cured(made, stops_at="i4")
    with pytest.raises(Abandoned) as caught:
        run(made, 9, generation=2, retry=again, isolate=True)
    assert caught.value.rows_saved == 1
    made = cured(made)
    made.stopping.clear()
    assert reasons(run(made, 9, generation=2, retry=again, partials=True)) == {}
    assert batches(made) == [["i7"]]


def test_nothing_to_make_again_is_a_copy(tmp_path: Path) -> None:
    made, before = first_generation(tmp_path)
    run(cured(made), 9, generation=1, retry=(Reason.TIMED_OUT,))
    assert batches(made) == []
    assert part_rows(made, 1) == before


def test_a_generation_without_the_one_before_is_refused(tmp_path: Path) -> None:
    made, _ = first_generation(tmp_path)
    with pytest.raises(Fatal, match="is missing"):
        run(made, 9, generation=2, retry=(Reason.EMPTY_MESH,))
    made.storage.put_atomic(part_key(0), b"torn")
    with pytest.raises(Fatal, match="can not be read"):
        run(made, 9, generation=1, retry=(Reason.EMPTY_MESH,))


def test_the_part_before_must_hold_the_same_items(tmp_path: Path) -> None:
    first_generation(tmp_path)
    other = worker(tmp_path, 9)
    other.reader = worker(tmp_path, {"id": list("abcdefghi"), "prompt": ["p"] * 9}).reader
    with pytest.raises(Fatal, match="does not hold the rows"):
        run(other, 9, generation=1, retry=(Reason.EMPTY_MESH,))


def test_a_generation_that_another_command_made_meanwhile_is_met_again(tmp_path: Path) -> None:
    made, _ = first_generation(tmp_path)
    retry = (Reason.EMPTY_MESH,)
    run(cured(made), 9, generation=1, retry=retry)
    whole = made.storage.get(part_key(0, 1))
    made.storage.delete(part_key(0, 1))
    read = made.reader.read

    def read_slowly(shard: Shard) -> ShardRows:
        made.storage.put_atomic(part_key(0, 1), whole)
        made.storage.delete(part_key(0))
        return read(shard)

    made.reader.read = read_slowly  # type: ignore[method-assign]
    with pytest.raises(Retryable, match="successor"):
        run(made, 9, generation=1, retry=retry)
    assert run(made, 9, generation=1, retry=retry)["i4"]["status"] == "done"
