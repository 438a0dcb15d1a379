"""The commit protocol: one object per shard, whole or absent, whoever writes and however often."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from geco_core.errors import Fatal, Reason
from geco_core.types import Asset, Outcome, Shard, Status
from infra.commit import (
    adopt_shard,
    agree,
    commit_shard,
    create_once,
    done_key,
    drop_generation,
    part_key,
    remove_damaged_part,
    remove_leftover,
    stored_summary,
)
from infra.dataset import ROW_SCHEMA, RowContext, ShardSummary, rows_to_table, summarise
from infra.run_state import done_generations, done_shards, read_done, read_state
from infra.storage import LocalStorage
from tests.support.stores import MemoryStorage, SteppedStorage

ROOT = Path(__file__).parents[2]
CONTEXT = RowContext(
    "noop", "micro", {"config_digest": "c", "weights_digest": "w", "licences": ["MIT"]}
)
STATS = {
    "n_vertices": 8,
    "n_faces": 12,
    "bounds": [0.0, 0.0, 0.0, 1.0, 1.0, 1.0],
    "watertight": True,
    "components": 1,
    "surface_area": 6.0,
    "volume": 1.0,
}


@pytest.fixture
def store(tmp_path: Path) -> LocalStorage:
    return LocalStorage(tmp_path)


def outcomes(start: int, stop: int, glb: bytes = b"glTF") -> list[Outcome]:
    made = []
    for k in range(start, stop):
        if k % 3 == 2:
            made.append(Outcome(f"i{k}", Status.FAILED, k, Reason.EMPTY_MESH, "nothing", "extract"))
        else:
            asset = Asset(glb, "digest", b"\x89PNG", STATS)
            made.append(Outcome(f"i{k}", Status.DONE, k, asset=asset, timing={"finish": 0.5}))
    return made


def shard_table(
    start: int, stop: int, glb: bytes = b"glTF", columns: Sequence[str] = ("tag",)
) -> tuple[pa.Table, ShardSummary]:
    made = outcomes(start, stop, glb)
    extra = pa.table({name: list(range(start, stop)) for name in columns})
    table = rows_to_table(made, [f"{o.item_id}.png" for o in made], CONTEXT, extra)
    return table, summarise(made, Shard(start // 6, start, stop), 2.0, {"commit": 0.1})


def test_a_shard_becomes_one_object_and_one_record(store: LocalStorage) -> None:
    table, summary = shard_table(6, 12)
    commit_shard(store, table, summary)
    assert sorted(store.list("")) == [part_key(1), done_key(1)]
    assert read_done(store, 1) == summary == stored_summary(store, 1)
    assert dict(summary.counts) == {"done": 4, "failed": 2}
    assert summary.seconds["finish"] == 2.0
    written = pq.read_table(store.root / part_key(1))
    assert written.schema.names == [*ROW_SCHEMA.names, "tag"]
    assert written.column("item_id").to_pylist() == [f"i{k}" for k in range(6, 12)]
    row = written.to_pylist()[0]
    assert row["glb"] == b"glTF"
    assert row["mesh"]["bounds"] == STATS["bounds"]
    assert row["thumbnail"] == {"bytes": b"\x89PNG", "path": "i6.png"}
    assert row["provenance"]["licences"] == ["MIT"]
    assert written.to_pylist()[2]["glb"] is None


def test_the_first_writer_wins_and_the_second_adopts(store: LocalStorage) -> None:
    first = commit_shard(store, *shard_table(0, 6, b"first"))
    second = commit_shard(store, *shard_table(0, 6, b"second"))
    assert first == second
    assert pq.read_table(store.root / part_key(0)).column("glb")[0].as_py() == b"first"


def test_a_part_without_a_record_is_adopted_on_the_next_try(store: LocalStorage) -> None:
    table, summary = shard_table(0, 6, b"before the crash")
    commit_shard(store, table, summary)
    store.delete(done_key(0))
    assert done_shards(store) == set()
    commit_shard(store, *shard_table(0, 6, b"after"))
    assert done_shards(store) == {0}
    assert pq.read_table(store.root / part_key(0)).column("glb")[0].as_py() == b"before the crash"


def test_a_part_of_other_rows_is_not_adopted(store: LocalStorage) -> None:
    commit_shard(store, *shard_table(0, 6))
    store.delete(done_key(0))
    assert adopt_shard(store, Shard(0, 0, 5)) is None
    assert adopt_shard(store, Shard(1, 6, 12)) is None
    assert done_shards(store) == set()
    standing = adopt_shard(store, Shard(0, 0, 6))
    assert standing == read_done(store, 0)


@pytest.mark.parametrize("junk", [b"", b"PAR1 torn", b"x" * 1000])
def test_junk_under_the_key_is_replaced(store: LocalStorage, junk: bytes) -> None:
    store.put_atomic(part_key(0), junk)
    assert stored_summary(store, 0) is None
    commit_shard(store, *shard_table(0, 6))
    assert stored_summary(store, 0) == read_done(store, 0)


def test_torn_temporaries_do_not_count(store: LocalStorage) -> None:
    table, summary = shard_table(0, 6)
    for folder in ("assets", "done"):
        (store.root / folder).mkdir()
        (store.root / folder / ".tmp-1234").write_bytes(b"PAR1")
    (store.root / "done" / "000007.json.bak").write_bytes(b"{}")
    assert done_shards(store) == set()
    commit_shard(store, table, summary)
    assert done_shards(store) == {0}
    assert read_state(store).rows_done == 6


def test_an_incomplete_table_is_not_committed(store: LocalStorage) -> None:
    table, summary = shard_table(0, 6)
    with pytest.raises(Fatal, match="5 rows, the plan says 6"):
        commit_shard(store, table.slice(0, 5), summary)
    assert list(store.list("")) == []


def test_row_groups_hold_32_rows_compressed_with_few_statistics(store: LocalStorage) -> None:
    made = outcomes(0, 70, bytes(60_000))  # groups of tiny rows hold more
    table = rows_to_table(made, [""] * 70, CONTEXT, pa.table({"tag": list(range(70))}))
    commit_shard(store, table, summarise(made, Shard(0, 0, 70), 1.0, {}))
    meta = pq.read_metadata(store.root / part_key(0))
    assert [meta.row_group(k).num_rows for k in range(meta.num_row_groups)] == [32, 32, 6]
    by_name = {
        meta.row_group(0).column(c).path_in_schema: meta.row_group(0).column(c)
        for c in range(meta.num_columns)
    }
    assert by_name["glb"].compression == "ZSTD"
    assert by_name["item_id"].is_stats_set
    assert not by_name["glb"].is_stats_set


def test_manifest_columns_named_like_ours_are_renamed() -> None:
    table, _ = shard_table(0, 6, columns=("status", "glb", "tag"))
    assert table.schema.names[-3:] == ["manifest_status", "manifest_glb", "tag"]


def test_totals_follow_the_done_records(store: LocalStorage) -> None:
    commit_shard(store, *shard_table(0, 6))
    commit_shard(store, *shard_table(6, 12))
    state = read_state(store)
    assert (state.shards_done, state.rows_done, state.failed) == (2, 12, 4)
    assert state.reasons == {"empty_mesh": 4}
    assert state.failure_rate == pytest.approx(4 / 12)


def test_a_generation_is_dropped_record_first_and_only_after_its_successor(
    store: LocalStorage, monkeypatch: pytest.MonkeyPatch
) -> None:
    table, summary = shard_table(0, 6)
    commit_shard(store, table, summary)
    with pytest.raises(Fatal, match="not superseded"):
        drop_generation(store, 0, 0, successor=1)
    commit_shard(store, table, replace(summary, generation=1))
    assert done_generations(store) == {0: 1}
    removed: list[str] = []
    original = store.delete
    monkeypatch.setattr(store, "delete", lambda key: (removed.append(key), original(key)))
    drop_generation(store, 0, 0, successor=1)
    assert removed == [done_key(0), part_key(0), "attempts/000000.json"]
    assert sorted(store.list("")) == [part_key(0, 1), done_key(0, 1)]
    with pytest.raises(Fatal, match="not superseded"):
        drop_generation(store, 0, 1, successor=1)


def test_only_parts_that_can_not_be_read_are_removed(store: LocalStorage) -> None:
    commit_shard(store, *shard_table(0, 6))
    assert not remove_damaged_part(store, 0, 0)
    assert not remove_damaged_part(store, 7, 0)
    store.put_atomic(part_key(0), b"torn")
    assert remove_damaged_part(store, 0, 0)
    assert list(store.list("")) == []


def test_only_partials_and_crash_records_are_leftovers(store: LocalStorage) -> None:
    for key in ("run.json", part_key(0), done_key(0)):
        store.put_atomic(key, b"x")
        with pytest.raises(Fatal, match="no leftover"):
            remove_leftover(store, key)
        assert store.exists(key)


def test_records_agree_when_rows_do_whoever_made_them(store: LocalStorage) -> None:
    _, summary = shard_table(0, 6)
    assert agree(summary, replace(summary, worker="other", finished_at="later", seconds={}))
    assert not agree(summary, replace(summary, counts={"done": 6}))
    assert not agree(summary, replace(summary, generation=1))


def test_a_whole_part_is_not_called_torn_because_a_ranged_read_failed(
    store: LocalStorage, monkeypatch: pytest.MonkeyPatch
) -> None:
    commit_shard(store, *shard_table(0, 6))
    monkeypatch.setattr(store, "open_for_pyarrow", lambda _: pa.BufferReader(b"short"))
    assert stored_summary(store, 0) == read_done(store, 0)


def test_nothing_else_writes_into_a_run() -> None:
    """Rows enter through `infra/commit.py` alone; probes, exports and made training data go
    elsewhere, report and evaluation may write where they are told to.
    """
    allowed = {
        "infra/checkpoints.py",
        "infra/commit.py",
        "infra/export.py",
        "infra/export_glbs.py",
        "infra/stages.py",
        "infra/storage/probe.py",
        "infra/training_folder.py",
        "workflows/doctor.py",
        "workflows/evaluate.py",
        "workflows/report/build.py",
        "workflows/train.py",
    }
    callers = {
        str(path.relative_to(ROOT))
        for package in ("infra", "actors", "workflows")
        for path in (ROOT / package).rglob("*.py")
        if re.search(r"\.put_atomic\(", path.read_text())
    }
    assert callers <= allowed


def test_without_conditions_the_record_that_stands_is_returned_to_both_writers() -> None:
    inner = MemoryStorage(conditional_put=False)
    late: list[dict[str, str]] = []

    def step(verb: str, _: str) -> None:
        if verb == "get" and not late:  # another writer, who had looked before the first one wrote
            late.append({"from": "the other"})
            inner.put_atomic("run.json", json.dumps(late[0]).encode())

    first = create_once(SteppedStorage(inner, step), "run.json", {"from": "the first"})
    assert late == [first] == [json.loads(inner.get("run.json"))]
