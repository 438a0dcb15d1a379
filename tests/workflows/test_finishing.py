"""Settings of finishing from the command line to the row, to the export and to the report."""

from __future__ import annotations

import base64
import importlib.util
import re
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from geco_core.mesh import draco
from geco_core.mesh.glb_read import read_glb
from tests.workflows.noop_runs import INLINE, geco, generate, image_manifest
from workflows import cli

Capture = pytest.CaptureFixture[str]
LEVELS = "finish.lods=[0.7,0.4]"
COMPRESSED = "finish.compression=draco"
needs_draco = pytest.mark.skipif(
    importlib.util.find_spec("DracoPy") is None, reason="the extra draco is not installed"
)


def rows_of(run: Path) -> list[dict]:
    parts = sorted((run / "assets").glob("*.parquet"))
    return [row for part in parts for row in pq.read_table(part).to_pylist()]


def test_levels_and_numbers_reach_the_rows_and_the_export(tmp_path: Path) -> None:
    run, out = tmp_path / "run", tmp_path / "out"
    manifest = image_manifest(tmp_path)
    assert generate(manifest, run, LEVELS) == cli.OK
    rows = rows_of(run)
    done = [row for row in rows if row["status"] == "done"]
    assert done
    for row in done:
        assert row["qc"]["euler"] == 2
        assert [level["n_faces"] for level in row["lods"]] == [8, 4]
        assert len(read_glb(row["lods"][1]["glb"]).mesh.faces) == 4
    assert all(row["qc"] is row["lods"] is None for row in rows if row["status"] != "done")
    assert geco("verify", run) == cli.OK
    assert geco("retry", run, "--all-failed", *INLINE) in {0, 1}
    assert geco("verify", run) == cli.OK
    assert geco("export", run, "--out", out, "--glb-folder") == cli.OK
    names = {path.name for path in (out / "glb").glob("*.glb")}
    assert len(names) == 3 * len(done)
    assert sum(name.endswith(".lod2.glb") for name in names) == len(done)


def test_runs_without_levels_have_no_such_column(tmp_path: Path) -> None:
    assert generate(image_manifest(tmp_path), tmp_path / "run") == cli.OK
    rows = rows_of(tmp_path / "run")
    assert "qc" in rows[0]
    assert "lods" not in rows[0]


@needs_draco
def test_compressed_runs_are_verified_and_reported(tmp_path: Path, capsys: Capture) -> None:
    run = tmp_path / "run"
    assert generate(image_manifest(tmp_path), run, COMPRESSED) == cli.OK
    glbs = [row["glb"] for row in rows_of(run) if row["glb"]]
    assert all(draco.EXTENSION.encode() in glb for glb in glbs)
    assert geco("verify", run) == cli.OK
    assert geco("report", run) == cli.OK
    # Browsers would load a decoder from the web: the page holds the meshes uncompressed.
    page = (run / "report/index.html").read_text()
    held = [base64.b64decode(text) for text in re.findall(r'id="glb-\d+"[^>]*>([^<]+)<', page)]
    assert len(held) == len(glbs)
    for glb in held:
        assert draco.EXTENSION.encode() not in glb
        assert len(read_glb(glb).mesh.faces) == 12


def test_without_the_package_nothing_is_started(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Capture
) -> None:
    monkeypatch.setattr(draco, "_installed", lambda: False)
    run = tmp_path / "run"
    assert generate(image_manifest(tmp_path), run, COMPRESSED) == 2
    assert "pip install dracopy" in capsys.readouterr().err
    assert not (run / "run.json").exists()
