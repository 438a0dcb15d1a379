"""`export`: every chosen row once, in order, in files of the wanted size, however interrupted."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from geco_core.errors import ConfigError, Fatal
from infra import export as export_module
from infra.commit import part_key
from infra.export import STATUSES, ExportPlan, ExportWish, open_export, write_file
from infra.export_glbs import INDEX_KEY, write_glbs, write_index
from infra.plan import Plan, read_run
from infra.run_state import read_summaries
from infra.storage import LocalStorage
from tests.infra.made_run import commit, made_run

Run = tuple[LocalStorage, Plan]


@pytest.fixture
def run(tmp_path: Path) -> Run:
    return made_run(tmp_path, rows=21)  # done: all but rows 3 and 5, and the duplicate at the end


def opened(run: Run, target: LocalStorage, **wish: Any) -> ExportPlan:
    record = read_run(run[0])
    assert record is not None
    return open_export(run[0], record, list(read_summaries(run[0])), target, ExportWish(**wish))


def exported(run: Run, target: LocalStorage, **wish: Any) -> list[dict[str, Any]]:
    plan = opened(run, target, **wish)
    for number in range(plan.files):
        assert write_file(run[0], target, plan, number)
    return rows(target)


def rows(target: LocalStorage) -> list[dict[str, Any]]:
    files = sorted((target.root / "data").iterdir())
    return [row for file in files for row in pq.read_table(file).to_pylist()]


DONE = [f"i{k}" for k in range(20) if k not in (3, 5)]


@pytest.mark.parametrize("rows_per_file", [1, 4, 7, 17, 18, 100, None])
def test_done_rows_come_once_in_order(run: Run, tmp_path: Path, rows_per_file: int | None) -> None:
    target = LocalStorage(tmp_path / "out")
    found = exported(run, target, rows_per_file=rows_per_file)
    assert [row["item_id"] for row in found] == DONE
    assert all(row["status"] == "done" and row["glb"] for row in found)
    sizes = [pq.read_metadata(f).num_rows for f in sorted((target.root / "data").iterdir())]
    size = rows_per_file or 18
    assert sizes == [min(size, 18 - first) for first in range(0, 18, size)]


def test_the_rows_are_those_of_the_parts_without_their_footer(run: Run, tmp_path: Path) -> None:
    target = LocalStorage(tmp_path / "out")
    found = exported(run, target, statuses=STATUSES, rows_per_file=5)
    parts = [pq.read_table(run[0].root / part_key(shard)).to_pylist() for shard in range(6)]
    assert found == [row for part in parts for row in part]
    assert not pq.read_schema(target.root / "data/part-00000-of-00005.parquet").metadata


def test_columns_and_statuses_are_chosen(run: Run, tmp_path: Path) -> None:
    columns = ("tag", "item_id", "reason")
    target = LocalStorage(tmp_path / "out")
    found = exported(run, target, statuses=("failed",), columns=columns)
    assert found == [
        {"tag": 3, "item_id": "i3", "reason": "timed_out"},
        {"tag": 5, "item_id": "i5", "reason": "crashed"},
    ]
    assert list(found[0]) == list(columns)


def test_the_generation_that_counts_is_exported(run: Run, tmp_path: Path) -> None:
    commit(*run, 0, failed={}, generation=1)
    found = exported(run, LocalStorage(tmp_path / "out"))
    assert [row["item_id"] for row in found] == [f"i{k}" for k in range(20) if k != 5]
    assert found[0]["glb"] == b"glTF i0 1"


def test_an_interrupted_export_writes_the_missing_files_only(run: Run, tmp_path: Path) -> None:
    target = LocalStorage(tmp_path / "out")
    plan = opened(run, target, rows_per_file=5)
    write_file(run[0], target, plan, 1)
    again = opened(run, target)  # the size of the standing export is taken
    assert again == plan
    assert [write_file(run[0], target, again, n) for n in range(4)] == [True, False, True, True]
    assert [row["item_id"] for row in rows(target)] == DONE


def test_another_export_on_the_same_target_is_refused(run: Run, tmp_path: Path) -> None:
    target = LocalStorage(tmp_path / "out")
    opened(run, target, rows_per_file=5)
    for other in ({"columns": ("seed",)}, {"rows_per_file": 6}, {"statuses": STATUSES}):
        with pytest.raises(ConfigError, match="holds another export"):
            opened(run, target, **other)
    commit(*run, 0, failed={}, generation=1)
    with pytest.raises(ConfigError, match="parts_digest"):
        opened(run, target)


def test_a_target_with_something_else_is_refused(run: Run, tmp_path: Path) -> None:
    target = LocalStorage(tmp_path / "out")
    target.put_atomic("thesis.tex", b"x")
    with pytest.raises(ConfigError, match="not empty"):
        opened(run, target)
    target.put_atomic("export.json", b"[")
    with pytest.raises(ConfigError, match="none of ours"):
        opened(run, target)


@pytest.mark.parametrize("where", ["run", "run/export", "."])
def test_a_target_inside_the_run_or_around_it_is_refused(
    run: Run, tmp_path: Path, where: str
) -> None:
    with pytest.raises(ConfigError, match="lie in each other"):
        opened(run, LocalStorage(tmp_path / where))


def test_nothing_to_export_and_unknown_columns_are_refused(run: Run, tmp_path: Path) -> None:
    target = LocalStorage(tmp_path / "out")
    with pytest.raises(ConfigError, match="no column") as caught:
        opened(run, target, columns=("item_ids",))
    assert "did you mean 'item_id'?" in caught.value.remedy
    empty = made_run(tmp_path / "empty", shards=[])
    with pytest.raises(ConfigError, match="no rows that are done"):
        opened(empty, target)
    assert not target.root.exists()


@pytest.mark.parametrize("harm", ["gone", "torn"])
def test_a_part_that_is_gone_or_torn_stops_the_export(run: Run, tmp_path: Path, harm: str) -> None:
    target = LocalStorage(tmp_path / "out")
    plan = opened(run, target, rows_per_file=5)
    path = run[0].root / part_key(0)
    whole = path.read_bytes()
    path.unlink()
    if harm == "torn":
        path.write_bytes(whole[:-50])
    with pytest.raises(Fatal, match=r"is gone|does not read"):
        write_file(run[0], target, plan, 0)
    assert not target.exists(plan.key(0))


def test_row_groups_are_bounded(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(export_module, "GROUP_ROWS", 6)
    target = LocalStorage(tmp_path / "out")
    exported(run, target)
    metadata = pq.read_metadata(target.root / "data/part-00000-of-00001.parquet")
    assert [metadata.row_group(k).num_rows for k in range(metadata.num_row_groups)] == [6, 8, 4]


def test_files_aim_at_the_target_size(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(export_module, "TARGET_FILE_BYTES", 3000)
    plan = opened(run, LocalStorage(tmp_path / "out"))
    assert 1 <= plan.rows_per_file < 18


def test_glbs_become_files_with_an_index(run: Run, tmp_path: Path) -> None:
    target = LocalStorage(tmp_path / "out")
    plan = opened(run, target, rows_per_file=10, glb_folder=True, columns=("item_id",))
    assert [write_glbs(run[0], target, plan, number) for number in range(plan.files)] == [10, 8]
    write_index(run[0], target, plan)
    index = pq.read_table(target.root / INDEX_KEY).to_pylist()
    assert [row["item_id"] for row in index] == DONE
    assert all(target.get(row["file"]) == f"glTF {row['item_id']} 0".encode() for row in index)


def test_a_glb_with_another_digest_is_not_exported(run: Run, tmp_path: Path) -> None:
    path = run[0].root / part_key(0)
    table = pq.read_table(path)
    wrong = table.set_column(
        table.schema.get_field_index("glb"),
        table.schema.field("glb"),
        pa.array([b"x"] * table.num_rows, pa.large_binary()),
    )
    pq.write_table(wrong, path)
    target = LocalStorage(tmp_path / "out")
    plan = opened(run, target, glb_folder=True)
    with pytest.raises(Fatal, match="digest"):
        write_glbs(run[0], target, plan, 0)
