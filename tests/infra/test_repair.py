"""`repair` makes the index agree with the parts and never costs a row."""

from __future__ import annotations

import json
import time
from pathlib import Path

import pytest

from geco_core.errors import Fatal, Retryable
from infra.commit import done_key, drop_generation, part_key
from infra.plan import Plan
from infra.repair import STALE_TEMPORARY_S, Act, Action, repair_run
from infra.run_state import done_generations, done_shards
from infra.storage import LocalStorage
from infra.verify import verify_run
from tests.infra.made_run import commit, made_run

Run = tuple[LocalStorage, Plan]
NOW = time.time()


@pytest.fixture
def run(tmp_path: Path) -> Run:
    return made_run(tmp_path)


def repaired(run: Run, *, dry_run: bool = False) -> list[Act]:
    return [action.act for action in repair_run(*run, now=NOW, dry_run=dry_run)]


def content(storage: LocalStorage) -> dict[str, bytes]:
    return {key: storage.get(key) for key in storage.list("")}


def test_a_sound_run_is_left_alone(run: Run) -> None:
    before = content(run[0])
    assert repaired(run) == []
    assert content(run[0]) == before


def test_the_whole_index_is_rebuilt_from_the_footers(run: Run) -> None:
    storage = run[0]
    before = content(storage)
    for shard in range(3):
        storage.delete(done_key(shard))
    storage.put_atomic(done_key(1), b"{")
    assert repaired(run, dry_run=True) == [Act.REWRITE_DONE] * 3
    assert done_shards(storage) == {1}
    assert repaired(run) == [Act.REWRITE_DONE] * 3
    assert content(storage) == before
    assert repaired(run) == []


def test_a_different_record_is_rewritten(run: Run) -> None:
    storage = run[0]
    before = storage.get(done_key(0))
    record = json.loads(before) | {"counts": {"done": 4}}
    storage.put_atomic(done_key(0), json.dumps(record).encode())
    assert repaired(run) == [Act.REWRITE_DONE]
    assert storage.get(done_key(0)) == before


def test_a_record_without_a_part_is_withdrawn(run: Run) -> None:
    storage = run[0]
    storage.delete(part_key(1))
    assert repaired(run) == [Act.WITHDRAW_DONE]
    assert done_shards(storage) == {0, 2}
    commit(*run, 1)
    assert verify_run(*run).sound


@pytest.mark.parametrize("junk", [b"", b"PAR1 torn", b"x" * 1000])
@pytest.mark.parametrize("with_record", [True, False])
def test_an_unreadable_part_is_removed(run: Run, junk: bytes, with_record: bool) -> None:
    storage = run[0]
    storage.put_atomic(part_key(1), junk)
    if not with_record:
        storage.delete(done_key(1))
    wanted = [Act.WITHDRAW_DONE, Act.REMOVE_DAMAGED] if with_record else [Act.REMOVE_DAMAGED]
    assert repaired(run, dry_run=True) == wanted
    assert all("can not be read" in a.message for a in repair_run(*run, now=NOW, dry_run=True))
    assert storage.exists(part_key(1))
    assert repaired(run) == wanted
    assert not storage.exists(part_key(1))
    assert done_shards(storage) == {0, 2}
    assert repaired(run) == []


def test_a_readable_part_of_other_rows_is_kept(run: Run) -> None:
    storage = run[0]
    storage.put_atomic(part_key(1), storage.get(part_key(0)))
    assert repaired(run) == [Act.WITHDRAW_DONE, Act.LEFT_ALONE]
    assert storage.exists(part_key(1))
    commit(*run, 1)  # the commit replaces what is not of this shard
    assert verify_run(*run).sound


def test_a_superseded_generation_is_dropped_whatever_is_left_of_it(run: Run) -> None:
    storage, plan = run
    for shard in (0, 1, 2):
        commit(storage, plan, shard, failed={}, generation=1)
    storage.delete(done_key(1))  # died after the old record
    storage.delete(done_key(2, 1))  # died before the new record
    assert repaired(run) == [
        Act.DROP_SUPERSEDED,
        Act.DROP_SUPERSEDED,
        Act.REWRITE_DONE,
        Act.DROP_SUPERSEDED,
    ]
    assert sorted(storage.list("assets")) == [part_key(shard, 1) for shard in (0, 1, 2)]
    assert done_generations(storage) == {0: 1, 1: 1, 2: 1}
    assert verify_run(*run).sound
    assert repaired(run) == []


def test_the_old_generation_counts_again_when_the_new_part_is_damaged(run: Run) -> None:
    storage, plan = run
    commit(storage, plan, 0, failed={}, generation=1)
    storage.put_atomic(part_key(0, 1), b"torn")
    assert repaired(run) == [Act.WITHDRAW_DONE, Act.REMOVE_DAMAGED]
    assert done_generations(storage)[0] == 0
    assert verify_run(*run).sound


def test_saved_rows_and_crash_records_of_committed_shards_are_removed(run: Run) -> None:
    storage, plan = run
    commit(storage, plan, 0, failed={}, generation=1)
    kept = {"partial/000001-g1/000000004.parquet", "attempts/000001.json"}
    for key in (*kept, "partial/000001-g0/000000004.parquet", "attempts/000000.json"):
        storage.put_atomic(key, b"{}")
    assert repaired(run).count(Act.REMOVE_LEFTOVER) == 1  # the crash record falls with its part
    left = {*storage.list("partial"), *storage.list("attempts")}
    assert left == kept


def test_only_old_unfinished_writes_are_swept(run: Run) -> None:
    import os

    storage = run[0]
    old, young = storage.root / "done/.tmp-old", storage.root / "done/.tmp-young"
    for path, age in ((old, STALE_TEMPORARY_S + 60), (young, 60)):
        path.write_bytes(b"")
        os.utime(path, (NOW - age, NOW - age))
    assert repaired(run, dry_run=True) == [Act.SWEEP_TEMPORARY]
    assert old.exists()
    assert repaired(run) == [Act.SWEEP_TEMPORARY]
    assert (old.exists(), young.exists()) == (False, True)


def test_shards_beyond_the_plan_are_named_and_kept(run: Run) -> None:
    storage = run[0]
    storage.put_atomic(done_key(9), storage.get(done_key(0)))
    assert repaired(run) == [Act.LEFT_ALONE]
    assert storage.exists(done_key(9))


def test_every_prefix_of_a_repair_can_be_finished_by_another(run: Run) -> None:
    """Killed after any action, a second repair leaves what one undisturbed repair leaves."""
    storage, plan = run
    commit(storage, plan, 0, failed={}, generation=1)
    commit(storage, plan, 2, failed={}, generation=1)
    storage.delete(done_key(2, 1))
    storage.put_atomic(part_key(1), b"torn")
    harmed = content(storage)
    repaired(run)
    wanted = content(storage)
    for stop_after in range(5):
        for key in list(storage.list("")):
            storage.delete(key)
        for key, data in harmed.items():
            storage.put_atomic(key, data)
        for number, _ in enumerate(repair_run(*run, now=NOW)):
            if number == stop_after:
                break
        repaired(run)
        assert content(storage) == wanted


def test_a_read_that_fails_for_a_moment_costs_no_part(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    storage = run[0]
    original, calls = storage.open_for_pyarrow, iter(range(100))

    def flaky(key: str) -> object:
        if next(calls) == 0:
            raise Retryable("try again")
        return original(key)

    monkeypatch.setattr(storage, "open_for_pyarrow", flaky)
    monkeypatch.setattr("infra.retry.FIRST_DELAY_S", 0.0)
    assert repaired(run) == []


def test_a_generation_without_a_committed_successor_is_never_dropped(run: Run) -> None:
    storage = run[0]
    for successor in (0, 1):
        with pytest.raises(Fatal, match="not superseded"):
            drop_generation(storage, 0, 0, successor=successor)
    assert storage.exists(part_key(0))


def test_actions_name_their_keys(run: Run) -> None:
    run[0].delete(done_key(2))
    (action,) = list(repair_run(*run, now=NOW, dry_run=True))
    assert isinstance(action, Action)
    assert (action.shard, action.message) == (2, "done/000002.json: missing")
