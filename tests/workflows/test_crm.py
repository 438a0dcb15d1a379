"""`--system crm` through the commands: everything that other systems go through, at tiny sizes."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
import yaml

from tests.geco_core.checkpoints.published_crm import tiny_crm_chain, write_crm
from tests.support.s3_servers import environment, moto_server
from tests.support.tiny_teacher import pictures
from tests.workflows.noop_runs import QUICK, geco
from workflows import cli

Capture = pytest.CaptureFixture[str]
COUNT, BROKEN = 5, "p003.png"
COARSE = (
    "protocol.resolution=32", "protocol.supersample=1", "protocol.points=500", "protocol.cells=12",
    "protocol.azimuths_deg=[0,90]", "protocol.elevations_deg=[0,0]",
)  # fmt: skip


@dataclass(frozen=True)
class Made:
    """A finished run of five pictures, one of them damaged."""

    folder: Path
    settings: Path
    manifest: Path
    run: Path

    def rows(self) -> dict[str, dict[str, Any]]:
        parts = sorted((self.run / "assets").glob("*.parquet"))
        return {row["item_id"]: row for part in parts for row in pq.read_table(part).to_pylist()}


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Made:
    folder = tmp_path_factory.mktemp("crm")
    write_crm(folder / "weights")
    weights = {name: str(folder / "weights") for name in ("multiview", "reconstructor")}
    model = {**tiny_crm_chain(), "weights": weights}
    settings = {"system": "crm", "preset": "full", "shard_size": 3, "engine": "inline"}
    path = folder / "run.yaml"
    path.write_text(yaml.safe_dump({**settings, "model": model}))
    manifest = pictures(folder / "photos", COUNT)
    (manifest / BROKEN).write_bytes((manifest / BROKEN).read_bytes()[:-40])
    run = folder / "run"
    words = ("generate", "--config", path, "--manifest", manifest, "--out", run, *QUICK)
    assert geco(*words, "batch_size=2", "max_failure_rate=1") == cli.OK
    return Made(folder, path, manifest, run)


def test_a_plan_needs_no_weights_and_names_licences(made: Made, capsys: Capture) -> None:
    words = ("--manifest", made.manifest, "--out", made.folder / "other")
    assert geco("plan", "--system", "crm", "--preset", "full", *words) == cli.OK
    text = capsys.readouterr().out
    assert "crm-full, licences CreativeML-OpenRAIL++-M, MIT" in text
    assert f"items       {COUNT}" in text


def test_rows_hold_meshes_seconds_and_provenance(made: Made) -> None:
    rows = made.rows()
    assert {name: row["status"] for name, row in rows.items()} == {
        **{f"p{k:03}.png": "done" for k in range(COUNT)},
        BROKEN: "failed",
    }
    assert rows[BROKEN]["reason"] == "corrupt_image"
    good = rows["p000.png"]
    assert (good["system"], good["preset"]) == ("crm", "full")
    assert good["mesh"]["n_faces"] > 100
    assert good["glb"][:4] == b"glTF"
    for stage in ("multiview", "reconstruct", "extract"):
        assert 0 < good["timing"][stage] < good["timing"]["generate"]
    assert good["provenance"]["licences"] == ["Apache-2.0", "CreativeML-OpenRAIL++-M", "MIT"]
    assert len(good["provenance"]["weights_digest"]) == 129


def test_bytes_depend_on_neither_batch_nor_shard(made: Made) -> None:
    run = made.folder / "one-by-one"
    words = ("generate", "--config", made.settings, "--manifest", made.manifest, "--out", run)
    alone = ("batch_size=1", "shard_size=5", "max_failure_rate=1")
    assert geco(*words, *QUICK, *alone) == cli.OK
    again = Made(made.folder, made.settings, made.manifest, run).rows()
    assert {n: r["glb_sha256"] for n, r in again.items()} == {
        n: r["glb_sha256"] for n, r in made.rows().items()
    }


def test_status_report_verify_and_repair(made: Made, capsys: Capture) -> None:
    assert geco("status", made.run) == cli.OK
    text = capsys.readouterr().out
    assert f"{COUNT - 1} done" in text
    assert "(multiview " in text
    assert ", views " in text
    assert ", ccm " in text
    assert geco("report", made.run) == cli.OK
    page = (made.run / "report/index.html").read_text()
    assert "corrupt_image" in page
    assert geco("verify", made.run) == cli.OK
    assert geco("repair", made.run) == cli.OK
    card = (made.run / "README.md").read_text()
    assert "`crm-full`" in card
    assert "CreativeML-OpenRAIL++-M" in card


def test_export_and_evaluate(made: Made, capsys: Capture) -> None:
    out = made.folder / "dataset"
    assert geco("export", made.run, "--out", out, "--glb-folder") == cli.OK
    assert len(list((out / "glb").glob("*.glb"))) == COUNT - 1
    capsys.readouterr()
    words = ("--reference", out / "glb", "--limit", "2", *COARSE, "--out", made.folder / "e.json")
    assert geco("evaluate", made.run, *words) == cli.OK
    scored = json.loads((made.folder / "e.json").read_text())
    assert scored


def test_a_resume_makes_nothing_and_another_preset_is_refused(made: Made, capsys: Capture) -> None:
    words = ("generate", "--config", made.settings, "--manifest", made.manifest)
    before = made.rows()
    limits = ("batch_size=2", "max_failure_rate=1")
    assert geco(*words, "--out", made.run, *QUICK, *limits) == cli.OK
    assert made.rows() == before
    other = "model.diffusion.ccm_sampler.steps=5"
    assert geco(*words, "--out", made.run, *QUICK, *limits, other) == cli.REFUSED
    assert "ccm_sampler.steps" in capsys.readouterr().err


def test_a_failed_row_is_made_again(made: Made, tmp_path: Path, capsys: Capture) -> None:
    manifest = pictures(tmp_path / "photos", 2)
    whole = (manifest / "p001.png").read_bytes()
    (manifest / "p001.png").write_bytes(whole[:-40])
    run = tmp_path / "run"
    words = ("--config", made.settings, "--manifest", manifest, "--out", run, *QUICK)
    assert geco("generate", *words, "max_failure_rate=1") == cli.OK
    (manifest / "p001.png").write_bytes(whole)
    assert geco("retry", run, "--all-failed", "--config", made.settings, *QUICK) == cli.OK
    assert "made again: 1 row of 1 shard, 1 done now" in capsys.readouterr().out
    assert geco("verify", run) == cli.OK


def test_doctor_opens_all_three_files(made: Made, capsys: Capture) -> None:
    assert geco("doctor", "--config", made.settings) == cli.OK
    text = capsys.readouterr().out
    for part in ("views", "vae", "text", "vision", "ccm", "the CRM reconstructor"):
        assert f" {part}: " in text
    assert "note licence      CreativeML-OpenRAIL++-M" in text
    missing = ("model.weights.multiview=nobody/nothing", f"model.weights.reconstructor={made.run}")
    assert geco("doctor", "--config", made.settings, *missing) == cli.OVER_LIMIT
    text = capsys.readouterr().out
    assert "hf download nobody/nothing pixel-diffusion.pth ccm-diffusion.pth" in text
    assert "looked for CRM.safetensors, CRM.pth" in text


def test_conversions_load_in_their_place(made: Made, capsys: Capture) -> None:
    views, mesh = made.folder / "views.safetensors", made.folder / "mesh.safetensors"
    common = ("--config", made.settings, "--as")
    weights = made.folder / "weights"
    assert geco("convert", weights, "--out", views, *common, "crm-diffusion") == cli.OK
    assert geco("convert", weights, "--out", mesh, *common, "crm-reconstructor") == cli.OK
    text = capsys.readouterr().out
    assert "licences CreativeML-OpenRAIL++-M, MIT" in text
    assert "crm-reconstructor: " in text
    words = (f"model.weights.multiview={views}", f"model.weights.reconstructor={mesh}")
    assert geco("doctor", "--config", made.settings, *words) == cli.OK
    assert " the multi-view model: " in capsys.readouterr().out
    refused = ("convert", weights, "--out", views, *common, "instant-mesh-large")
    assert geco(*refused) == cli.REFUSED
    assert "is no part of the system crm" in capsys.readouterr().err


def test_weights_in_a_bucket_are_pinned_and_fetched(made: Made, tmp_path: Path) -> None:
    with moto_server(tmp_path / "moto") as server, environment(server.env):
        server.create_bucket("assets")
        client = server.client()
        for path in (made.folder / "weights").iterdir():
            client.upload_file(str(path), "assets", f"CRM/{path.name}")
        client.put_object(Bucket="assets", Key="CRM/unrelated.bin", Body=b"x" * 10)
        words = ("generate", "--config", made.settings, "--manifest", made.manifest / "p000.png")
        stored = [
            f"model.weights.{name}=s3://assets/CRM" for name in ("multiview", "reconstructor")
        ]
        with environment({"GECO_CACHE_DIR": str(tmp_path / "cache")}):
            assert geco(*words, "--out", tmp_path / "run", *QUICK, *stored) == cli.OK
    pinned = json.loads((tmp_path / "run/run.json").read_text())["system"]["weights"]
    assert pinned["multiview_stored"].startswith("2 objects, ")
    assert pinned["reconstructor_stored"].startswith("1 object, ")
    cached = {path.name for path in (tmp_path / "cache").rglob("*.*") if path.is_file()}
    assert {"pixel-diffusion.pth", "ccm-diffusion.pth", "CRM.pth"} <= cached
    assert "unrelated.bin" not in cached
    row = pq.read_table(next((tmp_path / "run/assets").glob("*.parquet"))).to_pylist()[0]
    # The configuration, which a GLB names, has other addresses; the mesh is the same.
    assert row["mesh"] == made.rows()["p000.png"]["mesh"]
