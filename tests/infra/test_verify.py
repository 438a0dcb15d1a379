"""`verify` finds what is wrong with a run, and nothing in a sound one."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from geco_core.errors import ManifestError, Reason
from infra.commit import done_key, drop_generation, part_key
from infra.dataset import SUMMARY_KEY
from infra.findings import MAX_SHOWN_PER_KIND, Kind, Verification
from infra.plan import Plan
from infra.storage import LocalStorage
from infra.survey_keys import survey_keys
from infra.verify import verify_run
from tests.infra.made_run import commit, made_run

Run = tuple[LocalStorage, Plan]


@pytest.fixture
def run(tmp_path: Path) -> Run:
    return made_run(tmp_path)


def kinds(result: Verification) -> dict[Kind, int]:
    return dict(result.found)


def rewrite(storage: LocalStorage, shard: int, change: Callable[[pa.Table], pa.Table]) -> None:
    """Change the rows of a part and keep its footer."""
    path = storage.root / part_key(shard)
    table = pq.read_table(path)
    changed = change(table)
    footer = {SUMMARY_KEY: (table.schema.metadata or {})[SUMMARY_KEY]}
    pq.write_table(changed.replace_schema_metadata(footer), path)


def column(table: pa.Table, name: str, change: Callable[[list[Any]], list[Any]]) -> pa.Table:
    index = table.schema.get_field_index(name)
    field = table.schema.field(index)
    return table.set_column(index, field, pa.array(change(table[name].to_pylist()), field.type))


@pytest.mark.parametrize("fast", [False, True])
def test_a_sound_run_is_complete_and_clean(run: Run, fast: bool) -> None:
    before = sorted(run[0].list(""))
    result = verify_run(*run, fast=fast)
    assert result.sound
    assert not result.found
    assert (result.rows_found, result.shards_done) == (11, 3)
    assert result.statuses == {"done": 8, "failed": 2, "skipped": 1}
    assert sorted(run[0].list("")) == before


def test_an_unfinished_run_is_incomplete_without_a_fault(tmp_path: Path) -> None:
    result = verify_run(*made_run(tmp_path, shards=[0, 2]))
    assert not result.complete
    assert not result.sound
    assert not result.found
    assert result.rows_found == 7


@pytest.mark.parametrize("fast", [False, True])
@pytest.mark.parametrize("how", ["missing", "truncated", "empty", "junk"])
def test_a_part_that_is_not_whole_is_found(run: Run, how: str, fast: bool) -> None:
    path = run[0].root / part_key(1)
    whole = path.read_bytes()
    path.unlink()
    if how != "missing":
        path.write_bytes({"truncated": whole[:-100], "empty": b"", "junk": b"x" * 999}[how])
    result = verify_run(*run, fast=fast)
    wanted = Kind.PART_MISSING if how == "missing" else Kind.PART_DAMAGED
    assert kinds(result) == {wanted: 1}
    assert result.shown[0].shard == 1
    assert result.shown[0].remedy.startswith("geco repair")
    assert (result.rows_found, result.complete) == (7, False)


def test_a_flipped_byte_among_the_rows_is_found(run: Run) -> None:
    path = run[0].root / part_key(0)
    data = bytearray(path.read_bytes())
    start = pq.read_metadata(path).row_group(0).column(11).data_page_offset
    for offset in range(start + 20, start + 60):
        data[offset] ^= 0xFF
    path.write_bytes(bytes(data))
    assert verify_run(*run, fast=True).sound
    result = verify_run(*run)
    assert not result.sound
    assert set(result.found) <= {Kind.PAGES_DAMAGED, Kind.GLB_DIGEST}


def test_a_column_that_does_not_decode_is_found_and_can_not_be_repaired(run: Run) -> None:
    path = run[0].root / part_key(0)
    group = pq.read_metadata(path).row_group(0)
    columns = [group.column(k) for k in range(group.num_columns)]
    start = next(c.data_page_offset for c in columns if c.path_in_schema == "thumbnail.bytes")
    data = bytearray(path.read_bytes())
    data[start] ^= 0xFF
    path.write_bytes(bytes(data))
    result = verify_run(*run)
    assert kinds(result) == {Kind.PAGES_DAMAGED: 1}
    assert "geco repair --remake" in result.shown[0].remedy
    assert not result.complete


def test_rows_of_another_shard_under_the_key_are_found(run: Run) -> None:
    storage, _ = run
    (storage.root / part_key(1)).write_bytes((storage.root / part_key(0)).read_bytes())
    assert kinds(verify_run(*run)) == {Kind.PART_FOREIGN: 1}


def test_a_damaged_or_different_done_record_is_found(run: Run) -> None:
    storage, _ = run
    (storage.root / done_key(0)).write_text("{")
    record = json.loads(storage.get(done_key(1)))
    record["counts"] = {"done": 4}
    (storage.root / done_key(1)).write_text(json.dumps(record))
    assert kinds(verify_run(*run, fast=True)) == {Kind.DONE_DAMAGED: 1, Kind.DONE_DIFFERS: 1}


CHANGES: dict[str, tuple[Callable[[pa.Table], pa.Table], set[Kind]]] = {
    "another id": (
        lambda t: column(t, "item_id", lambda v: ["other", *v[1:]]),
        {Kind.WRONG_ID},
    ),
    "swapped rows": (lambda t: t.take([1, 0, 2, 3]), {Kind.WRONG_ID}),
    "unknown status": (
        lambda t: column(t, "status", lambda v: ["maybe", *v[1:]]),
        {Kind.WRONG_STATUS, Kind.WRONG_COUNTS},
    ),
    "unknown reason": (
        lambda t: column(t, "reason", lambda v: [*v[:3], "bad luck"]),
        {Kind.WRONG_STATUS, Kind.WRONG_COUNTS},
    ),
    "no reason": (
        lambda t: column(t, "reason", lambda v: [*v[:3], None]),
        {Kind.REASON_MISSING, Kind.WRONG_COUNTS},
    ),
    "no stage": (lambda t: column(t, "stage", lambda v: [*v[:3], None]), {Kind.REASON_MISSING}),
    "another GLB": (lambda t: column(t, "glb", lambda v: [b"x", *v[1:]]), {Kind.GLB_DIGEST}),
    "no GLB": (lambda t: column(t, "glb", lambda v: [None, *v[1:]]), {Kind.GLB_MISSING}),
    "a GLB too many": (lambda t: column(t, "glb", lambda v: [*v[:3], b"x"]), {Kind.GLB_UNEXPECTED}),
    "a column less": (lambda t: t.drop_columns(["tag"]), {Kind.WRONG_SCHEMA}),
    "another type": (
        lambda t: t.set_column(5, "seed", t["seed"].cast(pa.int32())),
        {Kind.WRONG_SCHEMA},
    ),
    "a row less": (lambda t: t.slice(0, 3), {Kind.PART_FOREIGN}),
}


@pytest.mark.parametrize("name", CHANGES)
def test_wrong_rows_are_found(run: Run, name: str) -> None:
    change, wanted = CHANGES[name]
    rewrite(run[0], 0, change)
    result = verify_run(*run)
    assert set(result.found) == wanted
    assert not result.sound


def test_a_duplicate_that_was_made_is_found(run: Run) -> None:
    def made(table: pa.Table) -> pa.Table:
        table = column(table, "status", lambda v: [*v[:-1], "done"])
        table = column(table, "reason", lambda v: [*v[:-1], None])
        digest = hashlib.sha256(b"x").hexdigest()
        table = column(table, "glb_sha256", lambda v: [*v[:-1], digest])
        return column(table, "glb", lambda v: [*v[:-1], b"x"])

    rewrite(run[0], 2, made)
    result = verify_run(*run)
    assert Kind.WRONG_STATUS in result.found
    assert "the manifest makes it skipped duplicate_id" in result.shown[0].message


def test_a_glb_that_does_not_parse_is_found(run: Run) -> None:
    result = verify_run(*run, check_glb=lambda glb: "bad" if b"i4" in glb else "")
    assert kinds(result) == {Kind.GLB_INVALID: 1}
    assert (result.shown[0].row, result.shown[0].item_id) == (4, "i4")


def test_leftovers_cost_space_and_are_no_faults(run: Run) -> None:
    storage, plan = run
    commit(storage, plan, 0, failed={3: Reason.CRASHED}, generation=1)
    storage.put_atomic("partial/000001-g0/000000004.parquet", b"x")
    storage.put_atomic("partial/000001-g1/000000004.parquet", b"x")  # a retry may be at work
    storage.put_atomic("attempts/000000.json", b"{}")
    storage.put_atomic("done/notes.txt", b"hello")
    (storage.root / "assets" / ".tmp-abc").write_bytes(b"")
    result = verify_run(*run)
    assert result.sound
    assert kinds(result) == {
        Kind.SUPERSEDED: 1,
        Kind.STALE_PARTIAL: 1,
        Kind.STALE_ATTEMPTS: 1,
        Kind.FOREIGN_FILE: 1,
        Kind.TEMPORARY: 1,
    }
    assert (result.faults, result.leftovers) == (0, 5)
    storage.delete(done_key(0))
    assert kinds(verify_run(*run))[Kind.SUPERSEDED] == 1  # the part of generation 0


def test_parts_without_a_record_and_shards_beyond_the_plan_are_found(run: Run) -> None:
    storage, _ = run
    storage.delete(done_key(2))
    storage.put_atomic(done_key(7), storage.get(done_key(0)))
    result = verify_run(*run)
    assert kinds(result) == {Kind.UNCOMMITTED_PART: 1, Kind.UNKNOWN_SHARD: 1}
    assert not result.complete


def test_the_highest_generation_is_the_one_that_is_checked(run: Run) -> None:
    storage, plan = run
    commit(storage, plan, 0, failed={}, generation=1)
    rewrite(storage, 0, lambda t: column(t, "item_id", lambda v: ["other", *v[1:]]))
    result = verify_run(*run)
    assert result.sound
    assert result.statuses["failed"] == 1


def test_the_list_is_capped_and_the_counts_are_not(tmp_path: Path) -> None:
    run = made_run(tmp_path, rows=60, shard_size=60)
    rewrite(run[0], 0, lambda t: column(t, "glb", lambda v: [b"x"] * len(v)))
    result = verify_run(*run)
    assert result.found[Kind.GLB_DIGEST] == 57
    shown = [f for f in result.shown if f.kind is Kind.GLB_DIGEST]
    assert len(shown) == MAX_SHOWN_PER_KIND
    assert result.to_json()["found"]["glb_digest"] == 57


def test_without_the_manifest_only_the_fast_check_works(run: Run) -> None:
    Path(run[1].manifest.files[0].path).unlink()
    with pytest.raises(ManifestError, match="can not be read") as caught:
        verify_run(*run)
    assert "--fast" in caught.value.remedy
    assert verify_run(*run, fast=True).sound


def test_a_retry_that_commits_during_the_check_is_followed(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    storage, plan = run
    listed = survey_keys(storage)
    monkeypatch.setattr("infra.verify.survey_keys", lambda _: listed)
    for generation in (1, 2):
        commit(storage, plan, 0, failed={}, generation=generation)
        drop_generation(storage, 0, generation - 1, successor=generation)
    result = verify_run(*run)
    assert result.sound
    assert result.statuses["failed"] == 1
