"""Columns of finishing: what a run has is pinned, and old runs stay as they are."""

from __future__ import annotations

import hashlib
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from geco_core.config.finish import FinishConfig
from geco_core.config.run import RunConfig
from geco_core.errors import ConfigError, Fatal
from geco_core.mesh.finish import finish_mesh
from geco_core.types import Asset, Outcome, Shard, Status
from infra.commit import commit_shard, part_key
from infra.dataset import ROW_SCHEMA, SCHEMA_VERSION, RowContext, rows_to_table, summarise
from infra.export import ExportWish, open_export
from infra.export_glbs import glb_key, write_glbs, write_index
from infra.findings import Kind
from infra.finish_columns import LODS, QC, finish_columns, recorded_columns, wanted_columns
from infra.plan import Plan, SystemDescription, make_plan, open_run, read_run
from infra.run_state import read_summaries
from infra.storage import LocalStorage
from infra.verify import verify_run
from tests.geco_core.mesh.meshes import sphere
from tests.infra.made_run import write_manifest
from workflows.execute import worker_spec

ROWS = 3
SYSTEM = SystemDescription({}, {}, ())
DATE = "2026-01-01T00:00:00+00:00"


def config_of(folder: Path, finish: FinishConfig) -> RunConfig:
    manifest = str(write_manifest(folder, ROWS, duplicate=False))
    return RunConfig(system="noop", manifest=manifest, out="x", shard_size=ROWS, finish=finish)


def opened(folder: Path, finish: FinishConfig) -> tuple[LocalStorage, Plan, RunConfig]:
    storage, config = LocalStorage(folder / "run"), config_of(folder, finish)
    plan = make_plan(storage, config)
    open_run(storage, config, plan, SYSTEM, {}, DATE)
    return storage, plan, config


def commit(storage: LocalStorage, outcomes: list[Outcome], columns: tuple[str, ...]) -> None:
    context = RowContext("noop", "micro", {}, finish_columns(columns))
    manifest = pq.read_table(storage.root.parent / "m.parquet").drop_columns(["id"])
    rows = rows_to_table(outcomes, [""] * ROWS, context, manifest)
    commit_shard(storage, rows, summarise(outcomes, Shard(0, 0, ROWS), 1.0, {}))


@pytest.fixture
def run(tmp_path: Path) -> tuple[LocalStorage, Plan]:
    """One shard of done rows with two levels each."""
    settings = FinishConfig(lods=(0.5, 0.25))
    storage, plan, _ = opened(tmp_path, settings)
    outcomes = []
    for k in range(ROWS):
        asset = finish_mesh(
            sphere(8 + k, 16), item_id=f"i{k}", seed=k, provenance={}, settings=settings
        )
        outcomes.append(Outcome(f"i{k}", Status.DONE, k, asset=asset, timing={"finish": 0.1}))
    commit(storage, outcomes, (QC, LODS))
    return storage, plan


def test_the_columns_of_a_row_are_those_finishing_fills() -> None:
    settings = FinishConfig(lods=(0.5,))
    asset = finish_mesh(sphere(), item_id="a", seed=0, provenance={}, settings=settings)
    schema = finish_columns(wanted_columns(settings))
    assert set(asset.columns) == set(schema.names) == {QC, LODS}
    assert set(asset.columns[QC]) == set(schema.field(QC).type.names)
    assert set(asset.columns[LODS][0]) == set(schema.field(LODS).type.value_type.names)
    context = RowContext("noop", "micro", {}, schema)
    done = Outcome("a", Status.DONE, 0, asset=asset)
    failed = Outcome("b", Status.FAILED, 0)
    table = rows_to_table([done, failed], ["", ""], context, pa.table({"x": [0, 0]}))
    assert table.schema.names == [*ROW_SCHEMA.names, QC, LODS, "x"]
    first, second = table.to_pylist()
    assert first[QC] == asset.columns[QC]
    assert first[LODS] == asset.columns[LODS]
    assert second[QC] is second[LODS] is None


def test_only_runs_that_want_levels_have_the_column() -> None:
    assert wanted_columns(FinishConfig()) == (QC,)
    assert wanted_columns(FinishConfig(lods=(0.5,))) == (QC, LODS)


def test_verify_looks_into_every_level(run: tuple[LocalStorage, Plan]) -> None:
    storage, plan = run
    seen: list[bytes] = []
    assert verify_run(storage, plan, check_glb=lambda glb: seen.append(glb) or "").found == {}
    assert len(seen) == ROWS * 3
    digest = hashlib.sha256(seen[5]).hexdigest()  # the second level of the second row

    def check(glb: bytes) -> str:
        return "odd" if hashlib.sha256(glb).hexdigest() == digest else ""

    (finding,) = verify_run(storage, plan, check_glb=check).shown
    assert (finding.kind, finding.row) == (Kind.GLB_INVALID, 1)
    assert "level of detail 2: odd" in finding.message


@pytest.mark.parametrize(
    ("change", "kind"),
    [
        ({"glb_sha256": "0" * 64}, Kind.GLB_DIGEST),
        ({"glb": None}, Kind.GLB_MISSING),
    ],
)
def test_wrong_levels_are_found(tmp_path: Path, change: dict[str, Any], kind: Kind) -> None:
    storage, plan, _ = opened(tmp_path, FinishConfig(lods=(0.5,)))
    glb = b"glTF"
    level = {"n_vertices": 3, "n_faces": 1, "glb": glb, "glb_sha256": _digest(glb)}
    sound = Asset(glb, _digest(glb), b"", {}, columns={LODS: [level]})
    wrong = replace(sound, columns={LODS: [level, {**level, **change}]})
    outcomes = [Outcome(f"i{k}", Status.DONE, k, asset=sound) for k in range(ROWS)]
    outcomes[1] = replace(outcomes[1], asset=wrong)
    commit(storage, outcomes, (QC, LODS))
    (finding,) = verify_run(storage, plan).shown
    assert (finding.kind, finding.row) == (kind, 1)
    assert finding.message.startswith("level of detail 2: ")


def test_an_export_writes_the_levels_beside_the_mesh(
    run: tuple[LocalStorage, Plan], tmp_path: Path
) -> None:
    storage, _ = run
    target, record = LocalStorage(tmp_path / "out"), read_run(storage)
    assert record is not None
    summaries = list(read_summaries(storage))
    # The index and the files have the levels whatever columns the table has.
    wish = ExportWish(columns=("item_id",), glb_folder=True)
    export = open_export(storage, record, summaries, target, wish)
    assert write_glbs(storage, target, export, 0) == ROWS * 3
    write_index(storage, target, export)
    index = pq.read_table(tmp_path / "out/glb/index.parquet").to_pylist()
    assert [row["lod"] for row in index] == [0, 1, 2] * ROWS
    assert [row["file"] for row in index[:3]] == [
        "glb/i0.glb",
        "glb/i0.lod1.glb",
        "glb/i0.lod2.glb",
    ]
    for row in index:
        assert _digest(target.get(row["file"])) == row["glb_sha256"]


def test_ids_that_look_like_levels_get_names_of_their_own() -> None:
    assert glb_key("a", 1) == "glb/a.lod1.glb"
    assert glb_key("a.lod1") not in {"glb/a.lod1.glb", glb_key("a.LOD1")}


def test_a_run_of_the_schema_before_goes_on_as_it_was(tmp_path: Path) -> None:
    storage, plan, config = opened(tmp_path, FinishConfig())
    record = json.loads(storage.get("run.json"))
    record["schema_version"] = 1
    del record["finish_columns"]
    for name in ("lods", "compression"):
        del record["config"]["finish"][name]
    storage.put_atomic("run.json", json.dumps(record).encode())

    standing = open_run(storage, config, plan, SYSTEM, {}, DATE)
    assert recorded_columns(standing) == ()
    levels = replace(config, finish=FinishConfig(lods=(0.5,)))
    with pytest.raises(ConfigError, match=r"finish.lods"):
        open_run(storage, levels, plan, SYSTEM, {}, DATE)
    asset = Asset(b"glTF", _digest(b"glTF"), b"", {}, columns={QC: {"holes": 1}})
    outcomes = [Outcome(f"i{k}", Status.DONE, k, asset=asset) for k in range(ROWS)]
    commit(storage, outcomes, worker_spec(config, storage, plan).finish_columns)
    assert QC not in pq.read_schema(tmp_path / "run" / part_key(0)).names
    assert verify_run(storage, plan).found == {}


def test_a_run_of_another_schema_is_refused(tmp_path: Path) -> None:
    storage, _, _ = opened(tmp_path, FinishConfig())
    record = json.loads(storage.get("run.json")) | {"schema_version": SCHEMA_VERSION + 1}
    storage.put_atomic("run.json", json.dumps(record).encode())
    with pytest.raises(Fatal, match="another version"):
        read_run(storage)


def test_a_name_that_is_none_of_ours_is_refused() -> None:
    with pytest.raises(KeyError):
        finish_columns(("glb",))


def _digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()
