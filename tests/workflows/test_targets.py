"""`geco targets` end to end on a tiny teacher: every verb works on its runs, nothing twice."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest

from actors.targets import FOUND
from geco_core.config.distill import DistillConfig, TargetsConfig, TeacherConfig
from geco_core.config.run import model_overrides
from geco_core.distill.targets import make_target
from geco_core.errors import ConfigError
from geco_core.systems.instantmesh import build_instantmesh
from geco_core.types import Target
from infra.run_storage import open_storage
from infra.targets import TargetTable
from tests.support.tiny_teacher import pictures, tiny_model
from workflows import cli
from workflows.targets import targets, targets_run

ITEMS = 5
WORDS = ("engine=inline", "finish_isolation=inline", "thumbnail_size=32", "max_failure_rate=1")


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    return tiny_model(tmp_path_factory.mktemp("weights"))


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = pictures(tmp_path_factory.mktemp("in") / "photos", ITEMS)
    (folder / "p002.png").write_bytes(b"not a picture")
    return folder


def config(model: dict[str, Any], **own: Any) -> DistillConfig:
    sizes: dict[str, Any] = {"renders": 3, "render_size": 16, "shard_size": 2}
    settings = TargetsConfig(**(sizes | own))
    return DistillConfig(teacher=TeacherConfig(model=model), targets=settings)


@pytest.fixture(scope="module")
def made(model: dict[str, Any], photos: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("runs")
    store = str(folder / "shared")
    result = targets(config(model, store=store), str(photos), str(folder / "a"), words=WORDS)
    assert result.complete
    assert (result.state.counts["done"], result.state.failed) == (ITEMS - 1, 1)
    return folder


def rows(run: Path) -> list[dict[str, Any]]:
    return [
        row
        for part in sorted((run / "assets").iterdir())
        for row in pq.read_table(part).to_pylist()
    ]


def test_every_row_is_terminal_and_done_ones_hold_a_target(made: Path) -> None:
    found = rows(made / "a")
    assert [row["status"] for row in found] == ["done", "done", "failed", "done", "done"]
    for row in found:
        sound = row["status"] == "done"
        assert row["system"] == "targets"
        assert (row["glb"] is not None) == (row["target_key"] is not None) == sound
        assert not sound or row["thumbnail"]["bytes"][:4] == b"\x89PNG"
    assert found[2]["reason"] == "not_an_image"


def test_a_row_can_be_made_again_from_itself(made: Path, model: dict[str, Any]) -> None:
    """Condition, seed, teacher and settings are all a target depends on, and all are recorded."""
    table = TargetTable(open_storage(str(made / "a")))
    (row,) = table.read([3])
    teacher = build_instantmesh("micro", model_overrides(model))
    again = make_target(teacher, row.condition, row.seed, config(model).targets)
    assert isinstance(again, Target)
    for name in ("latents", "renders", "w2c"):
        np.testing.assert_array_equal(getattr(again, name), getattr(row, name))
    assert (again.key, again.teacher_digest) == (row.key, row.teacher_digest)


def test_another_run_takes_everything_from_the_store(
    made: Path, model: dict[str, Any], photos: Path
) -> None:
    shared = made / "shared"
    before = {p: p.stat().st_mtime_ns for p in shared.rglob("*.safetensors")}
    assert len(before) == ITEMS - 1
    wanted = config(model, store=str(shared), shard_size=3)
    targets(wanted, str(photos), str(made / "b"), words=WORDS)
    assert {p: p.stat().st_mtime_ns for p in shared.rglob("*.safetensors")} == before
    ours = {row["item_id"]: row for row in rows(made / "a")}
    for row in rows(made / "b"):
        if row["status"] == "done":
            assert FOUND in row["notes"]
            assert row["timing"]["multiview"] is None
            for name in ("target_sha256", "glb_sha256", "renders", "latents"):
                assert row[name] == ours[row["item_id"]][name]
    assert not (made / "b/objects").exists()


def test_another_teacher_or_seed_shares_nothing(
    made: Path, model: dict[str, Any], photos: Path
) -> None:
    keys = {row["target_key"] for row in rows(made / "a") if row["target_key"]}
    base = config(model, store=str(made / "shared"))
    other = {**model, "sampler": {**model["sampler"], "steps": 3}}
    for number, wanted in enumerate(
        (replace(base, seed=1), replace(base, teacher=TeacherConfig(model=other)))
    ):
        run = made / f"other-{number}"
        targets(wanted, str(photos), str(run), words=WORDS)
        mine = {row["target_key"] for row in rows(run) if row["target_key"]}
        assert len(mine) == ITEMS - 1
        assert not mine & keys


def test_a_run_without_a_shared_store_keeps_its_own(
    model: dict[str, Any], photos: Path, tmp_path: Path
) -> None:
    targets(config(model), str(photos), str(tmp_path / "run"), words=WORDS)
    assert len([*(tmp_path / "run/objects").rglob("*.safetensors")]) == ITEMS - 1


def test_the_other_verbs_work_on_a_targets_run(
    made: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = str(made / "a")
    assert cli.main(["verify", run]) == 0
    assert "nothing wrong" in capsys.readouterr().out
    assert cli.main(["status", run, "--json"]) == 0
    status = json.loads(capsys.readouterr().out)
    assert (status["system"], status["counts"]) == ("targets-micro", {"done": 4, "failed": 1})
    assert cli.main(["repair", run]) == 0
    assert cli.main(["report", run]) == 0
    assert "p000.png" in (made / "a/report/index.html").read_text()
    capsys.readouterr()


def test_verify_names_a_target_that_is_not_what_was_written(
    model: dict[str, Any], photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = tmp_path / "run"
    targets(config(model, shard_size=ITEMS), str(photos), str(run), words=WORDS)
    (part,) = (run / "assets").iterdir()
    table = pq.read_table(part)
    digests = table.column("target_sha256").to_pylist()
    digests[1] = "0" * 64
    at = table.schema.get_field_index("target_sha256")
    pq.write_table(table.set_column(at, table.schema.field(at), [digests]), part)
    assert cli.main(["verify", str(run)]) == 1
    text = capsys.readouterr().out
    assert "target_invalid: 1" in text
    assert "item p001.png: sha256 of the target" in text


def test_retry_makes_failed_rows_with_the_store_the_run_started_with(
    made: Path, photos: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    broken = photos / "p002.png"
    shared = made / "shared"
    count = len([*shared.rglob("*.safetensors")])
    keep = {row["item_id"]: row["target_sha256"] for row in rows(made / "a")}
    words = [w for w in WORDS if not w.startswith(("thumbnail", "max"))]
    assert cli.main(["retry", str(made / "a"), "--all-failed", *words]) == 1
    assert "made again: 1 row" in capsys.readouterr().out
    assert broken.read_bytes() == b"not a picture"
    after = {row["item_id"]: row["target_sha256"] for row in rows(made / "a")}
    assert after == keep
    assert not (made / "a/objects").exists()
    assert len([*shared.rglob("*.safetensors")]) == count
    assert cli.main(["verify", str(made / "a")]) == 0
    capsys.readouterr()


def test_the_verb_reads_a_distillation_configuration(
    model: dict[str, Any], photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    settings = tmp_path / "distill.yaml"
    settings.write_text(
        json.dumps({"teacher": {"model": model}, "targets": {"renders": 2, "render_size": 16}})
    )
    line = ["targets", "--manifest", str(photos), "--out", str(tmp_path / "run"), "--engine",
            "inline", "--max-failure-rate", "1", "--config", str(settings), "seed=3"]  # fmt: skip
    assert cli.main(line) == 0
    assert "4 done, 1 failed" in capsys.readouterr().out
    record = json.loads((tmp_path / "run/run.json").read_text())
    assert record["config"]["seed"] == 3
    assert record["config"]["model"]["targets"]["renders"] == 2
    assert cli.main(line) == 0
    assert "made now" not in capsys.readouterr().out


def test_what_cannot_give_targets_is_refused_before_any_work(
    model: dict[str, Any], photos: Path, tmp_path: Path
) -> None:
    euler = {**model, "sampler": {"kind": "euler_ancestral"}}
    wanted = replace(config(model), teacher=TeacherConfig(model=euler))
    with pytest.raises(ConfigError, match="euler_ancestral"):
        targets(wanted, str(photos), str(tmp_path / "run"), words=WORDS)
    limited = {**model, "weights": {**model["weights"], "licence": "CC-BY-NC-4.0"}}
    wanted = replace(config(model), teacher=TeacherConfig(model=limited))
    with pytest.raises(ConfigError, match=r"CC-BY-NC-4\.0"):
        targets(wanted, str(photos), str(tmp_path / "run"), words=WORDS)
    assert not (tmp_path / "run").exists()


def test_how_it_is_run_is_not_pinned(model: dict[str, Any], tmp_path: Path) -> None:
    run = targets_run(config(model, store="s", workers=3), "m", str(tmp_path), ["batch_size=2"])
    assert (run.targets_store, run.workers, run.batch_size) == ("s", 3, 2)
    assert {*run.model["targets"]} == {
        "renders",
        "render_size",
        "supersample",
        "fov_deg",
        "radius",
        "elevation_deg",
    }


def test_the_guide_reads_a_target(
    model: dict[str, Any], photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The Python of docs/guide/targets.md, as it stands there, on a run in `runs/targets`."""
    run = tmp_path / "runs/targets"
    targets(config(model, renders=8), str(photos), str(run), words=WORDS)
    text = (Path(__file__).parents[2] / "docs/guide/targets.md").read_text()
    blocks = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    assert len(blocks) == 2
    monkeypatch.chdir(tmp_path)
    found: dict[str, Any] = {}
    for block in blocks:
        exec(compile(block, "targets.md", "exec"), found)
    assert found["condition"].size == (32, 32)
    assert found["render"].mode == "RGBA"
    assert 0 < found["mask"].mean() < 1
    assert found["poses"].shape == (8, 4, 4)
    assert found["latents"].shape == tuple(found["noise"].shape)
    assert len(found["second"].renders) == 2
