"""`geco evaluate` as a user meets it: every row has a state, the table, the file, comparisons."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import trimesh
from PIL import Image

from geco_core.config.run import S3Config
from infra.storage import open_storage
from tests.support.s3_servers import environment, moto_server
from tests.workflows.noop_runs import geco, generate
from workflows import cli

Capture = pytest.CaptureFixture[str]
QUICK = (
    "protocol.resolution=32", "protocol.supersample=1", "protocol.points=500", "protocol.cells=12",
    "protocol.azimuths_deg=[0,90]", "protocol.elevations_deg=[0,0]",
)  # fmt: skip
IDS = [f"i{k}" for k in range(6)]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of six boxes, of which i2 failed and i5 repeats i0, and its exported meshes."""
    folder = tmp_path_factory.mktemp("evaluate")
    ids = [*IDS[:5], IDS[0]]
    pq.write_table(
        pa.table({"id": ids, "prompt": ["a", "b", "", "d", "e", "f"]}), folder / "m.parquet"
    )
    assert generate(folder / "m.parquet", folder / "run") == cli.OK
    words = ("--out", folder / "export", "--glb-folder")
    assert geco("export", folder / "run", *words) == cli.OK
    return folder


@pytest.fixture
def run(made: Path, tmp_path: Path) -> Path:
    shutil.copytree(made / "run", tmp_path / "run")
    return tmp_path / "run"


@pytest.fixture
def references(made: Path, tmp_path: Path) -> Path:
    shutil.copytree(made / "export/glb", tmp_path / "references")
    return tmp_path / "references"


def results(path: Path) -> dict:
    return json.loads(path.read_text())


def states(content: dict) -> list[tuple[str, str]]:
    return [(item["item_id"], item["state"]) for item in content["items"]]


def test_a_run_against_its_own_export_is_perfect(
    run: Path, references: Path, capsys: Capture
) -> None:
    assert geco("evaluate", run, "--reference", references, *QUICK) == cli.OK
    text = capsys.readouterr().out
    assert "scored    4 of 4 objects (1 no_reference, 1 skipped)" in text
    assert "alignment box (scale and translation by bounding boxes)" in text
    content = results(run / "evaluation/geco.json")
    assert {k: v["mean"] for k, v in content["summary"].items()} == pytest.approx(
        {"psnr": 100, "ssim": 1, "silhouette_iou": 1, "chamfer": 0, "f_score": 1, "volume_iou": 1},
        abs=1e-6,
    )
    assert content["protocol"]["name"] == "geco"
    assert content["protocol"]["resolution"] == 32
    assert content["references"]["count"] == 4
    first = content["items"][0]
    assert first["alignment"]["kind"] == "box"
    assert first["glb_sha256"] == first["reference_sha256"]
    before = (run / "evaluation/geco.json").read_bytes()
    assert geco("evaluate", run, "--reference", references, *QUICK) == cli.OK
    assert (run / "evaluation/geco.json").read_bytes() == before
    assert geco("verify", run) == cli.OK


def test_every_row_ends_in_a_state_with_its_reason(
    run: Path, references: Path, capsys: Capture
) -> None:
    trimesh.creation.icosphere(2).export(references / "i0.glb")
    (references / "i1.glb").write_bytes(b"broken")
    trimesh.creation.box().export(references / "i2.ply")
    (references / "i3.glb").unlink()
    trimesh.creation.box().export(references / "stranger.obj")
    assert geco("evaluate", run, "--reference", references, *QUICK) == cli.OVER_LIMIT
    content = results(run / "evaluation/geco.json")
    assert states(content) == [
        ("i0", "scored"), ("i1", "bad_reference"), ("i2", "not_made"), ("i3", "no_reference"),
        ("i4", "scored"), ("i0", "skipped"),
    ]  # fmt: skip
    assert content["items"][1]["reason"] == "invalid_mesh"
    assert content["items"][2]["reason"] == "missing_input"
    assert content["record"]["references_unused"] == ["stranger"]
    assert content["summary"]["volume_iou"]["count"] == 2
    text = capsys.readouterr().out
    assert "scored    2 of 4 objects" in text
    assert "i1: bad_reference (invalid_mesh: " in text
    assert "i2: not_made (missing_input" in text
    assert "1 reference without an item" in text


def test_the_limit_counts_objects_in_manifest_order(run: Path, references: Path) -> None:
    words = ("evaluate", run, "--reference", references, *QUICK)
    assert geco(*words, "--limit", 2, "--protocol", "crm", "--align", "none") == cli.OK
    content = results(run / "evaluation/crm.json")
    assert states(content)[:4] == [
        ("i0", "scored"), ("i1", "scored"), ("i2", "no_reference"), ("i3", "over_limit"),
    ]  # fmt: skip
    assert content["limit"] == 2
    assert content["protocol"]["align"] == "none"
    assert geco(*words, "--limit", "all") == cli.OK
    assert geco(*words, "--limit", "few") == cli.REFUSED


def test_a_table_with_angles_and_given_renders(run: Path, references: Path) -> None:
    base = references.parent
    renders = base / "renders"
    renders.mkdir()
    for view in range(2):
        Image.fromarray(np.zeros((64, 64, 4), np.uint8)).save(renders / f"{view:03}.png")
    (base / "table.csv").write_text(
        "item_id,reference,images,azimuth_deg\n"
        "i0,references/i0.glb,,\n"
        "i1,references/i1.glb,,37\n"
        f"i3,{references}/i3.glb,renders,\n"
        "i4,references/none.glb,,\n"
    )
    out = base / "out.json"
    words = ("evaluate", run, "--reference", base / "table.csv", *QUICK, "--align", "none")
    assert geco(*words, "--out", out) == cli.OVER_LIMIT
    assert not (run / "evaluation").exists()
    items = {i["item_id"]: i for i in reversed(results(out)["items"])}
    assert items["i0"]["metrics"]["volume_iou"] == 1.0
    assert items["i1"]["metrics"]["volume_iou"] < 0.95
    assert items["i3"]["metrics"]["silhouette_iou"] == 0.0  # empty renders are all white
    assert items["i4"]["reason"] == "not_found"
    (renders / "001.png").unlink()
    assert geco(*words, "--out", out) == cli.OVER_LIMIT
    items = {i["item_id"]: i for i in reversed(results(out)["items"])}
    assert items["i3"]["message"].startswith("1 PNG files")


def test_parquet_tables_are_the_same(run: Path, references: Path) -> None:
    table = pa.table({"item_id": ["i0"], "reference": ["references/i0.glb"]})
    pq.write_table(table, references.parent / "t.parquet")
    words = ("evaluate", run, "--reference", references.parent / "t.parquet", *QUICK)
    assert geco(*words) == cli.OK
    assert results(run / "evaluation/geco.json")["objects"] == 1


def test_two_runs_are_compared_object_by_object(
    run: Path, references: Path, tmp_path: Path, capsys: Capture
) -> None:
    other = tmp_path / "other"
    prompts = pa.table({"id": IDS[:5], "prompt": ["x", "y", "z", "v", "w"]})
    pq.write_table(prompts, tmp_path / "other.parquet")
    assert generate(tmp_path / "other.parquet", other, "seed=9") == cli.OK
    words = ("evaluate", run, "--reference", references, "--against", other)
    capsys.readouterr()
    assert geco(*words, "--align", "none", *QUICK) == cli.OK
    content = results(run / "evaluation/geco.json")
    difference = content["against"]["differences"]["volume_iou"]
    mine, theirs = content["summary"]["volume_iou"], content["against"]["summary"]["volume_iou"]
    assert difference["count"] == 4
    assert difference["mean"] == pytest.approx(mine["mean"] - theirs["mean"])
    assert difference["mean"] > 0
    assert "over 4 objects scored in both" in capsys.readouterr().out


def test_missing_weights_stop_before_any_work(
    run: Path, references: Path, tmp_path: Path, capsys: Capture
) -> None:
    words = ("--with", "lpips,clip,fid", "--metric-weights", tmp_path / "w")
    capsys.readouterr()
    assert geco("evaluate", run, "--reference", references, *words) == cli.REFUSED
    text = capsys.readouterr().err
    assert "remedy: get them with" in text
    assert f"curl -L --create-dirs -o {tmp_path}/w/vgg16-397923af.pth" in text
    assert "scored" not in text
    assert not (run / "evaluation").exists()


@pytest.mark.parametrize(
    ("reference", "message"),
    [
        ("nowhere", "there are no references in"),
        ("nowhere.csv", "there is no"),
        ("foreign", "none of the 6 rows"),
        ("columns.csv", "no column item_id and no reference"),
        ("twice.csv", "'i0' a second time"),
        ("angle.csv", "azimuth_deg of item 'i0'"),
    ],
)
def test_refusals(run: Path, reference: str, message: str, capsys: Capture) -> None:
    base = run.parent
    (base / "foreign").mkdir()
    trimesh.creation.box().export(base / "foreign/x.obj")
    (base / "columns.csv").write_text("a,b\n1,2\n")
    (base / "twice.csv").write_text("item_id,reference\ni0,x.obj\ni0,y.obj\n")
    (base / "angle.csv").write_text("item_id,reference,azimuth_deg\ni0,x.obj,left\n")
    assert geco("evaluate", run, "--reference", base / reference) == cli.REFUSED
    assert message in capsys.readouterr().err
    assert geco("evaluate", base / "no-run", "--reference", base / "foreign") == cli.REFUSED
    assert geco("evaluate", run, "--reference", base / "foreign", "--protocol", "x") == cli.REFUSED
    words = ("--reference", base / "foreign", "protocol.pionts=3")
    assert geco("evaluate", run, *words) == cli.REFUSED


def test_an_unfinished_run_is_said_to_be(run: Path, references: Path, capsys: Capture) -> None:
    (run / "done/000001.json").unlink()
    assert geco("evaluate", run, "--reference", references, *QUICK) == cli.OK
    assert "the run is not complete: 2 rows not made yet" in capsys.readouterr().out


def test_run_and_references_in_a_bucket(made: Path, references: Path, tmp_path: Path) -> None:
    with moto_server(tmp_path) as server:
        without_endpoint = {k: v for k, v in server.env.items() if "ENDPOINT" not in k}
        with environment(without_endpoint):
            uri, word = server.create_bucket("bucket"), f"s3.endpoint_url={server.endpoint_url}"
            assert generate(made / "m.parquet", f"{uri}/run", word) == cli.OK
            store = open_storage(uri, S3Config(endpoint_url=server.endpoint_url))
            for path in sorted(references.glob("*.glb")):
                store.put_atomic(f"references/{path.name}", path.read_bytes())
            words = ("--reference", f"{uri}/references", word, *QUICK)
            assert geco("evaluate", f"{uri}/run", *words) == cli.OK
            content = json.loads(store.get("run/evaluation/geco.json"))
            assert content["counts"] == {"scored": 4, "no_reference": 1, "skipped": 1}
            table = "item_id,reference\ni0,references/i0.glb\n"
            store.put_atomic("table.csv", table.encode())
            words = ("--reference", f"{uri}/table.csv", word, *QUICK)
            assert geco("evaluate", f"{uri}/run", *words, "--out", f"{uri}/x/y.json") == cli.OK
            assert json.loads(store.get("x/y.json"))["objects"] == 1
