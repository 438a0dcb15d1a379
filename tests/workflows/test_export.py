"""`geco export` as a user meets it."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from infra.commit import done_key, part_key
from tests.workflows.noop_runs import geco, generate, image_manifest
from workflows import cli

Capture = pytest.CaptureFixture[str]


@pytest.fixture
def run(tmp_path: Path) -> Path:
    out = tmp_path / "run"
    assert generate(image_manifest(tmp_path), out) == cli.OK
    return out


def test_an_export_with_meshes(run: Path, tmp_path: Path, capsys: Capture) -> None:
    out = tmp_path / "out"
    words = ("export", run, "--out", out, "--glb-folder", "--rows-per-file", 3)
    capsys.readouterr()
    assert geco(*words) == cli.OK
    assert "7 rows in 3 files, 3 written now" in capsys.readouterr().out
    table = pq.read_table(out / "data")
    assert table["item_id"].to_pylist() == [f"i{k}" for k in (0, 1, 4, 5, 6, 8, 9)]
    assert table["tag"].to_pylist() == [0, 1, 4, 5, 6, 8, 9]
    for row in pq.read_table(out / "glb/index.parquet").to_pylist():
        data = (out / row["file"]).read_bytes()
        assert hashlib.sha256(data).hexdigest() == row["glb_sha256"]
    card = (out / "README.md").read_text()
    assert "those that are done" in card
    assert 'pq.read_table("data")' in card
    assert geco(*words) == cli.OK
    assert "0 written now" in capsys.readouterr().out
    assert not list(out.rglob(".tmp-*"))


def test_a_killed_export_goes_on(run: Path, tmp_path: Path, capsys: Capture) -> None:
    out = tmp_path / "out"
    words = ("export", run, "--out", out, "--rows-per-file", 3, "--columns", "item_id,glb")
    assert geco(*words) == cli.OK
    before = {p.name: p.read_bytes() for p in (out / "data").iterdir()}
    (out / "README.md").unlink()
    (out / "data/part-00001-of-00003.parquet").unlink()
    capsys.readouterr()
    assert geco(*words) == cli.OK
    assert "1 written now" in capsys.readouterr().out
    assert {p.name: p.read_bytes() for p in (out / "data").iterdir()} == before


def test_every_status_can_be_exported(run: Path, tmp_path: Path) -> None:
    assert geco("export", run, "--out", tmp_path / "all", "--status", "all") == cli.OK
    assert pq.read_table(tmp_path / "all/data").num_rows == 10
    words = ("--status", "failed", "--columns", "item_id,reason")
    assert geco("export", run, "--out", tmp_path / "failed", *words) == cli.OK
    assert pq.read_table(tmp_path / "failed/data").to_pylist() == [
        {"item_id": name, "reason": "not_found"} for name in ("i2", "i3", "i7")
    ]


def test_an_unfinished_run_is_exported_and_said_to_be(
    run: Path, tmp_path: Path, capsys: Capture
) -> None:
    (run / done_key(2)).unlink()
    (run / part_key(2)).unlink()
    assert geco("export", run, "--out", tmp_path / "out") == cli.OK
    assert "not complete: 2 of 10 rows are not made yet" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--columns", "item_id,seeds"], "did you mean 'seed'?"),
        (["--status", "skipped"], "no rows that are skipped"),
    ],
)
def test_refusals(
    run: Path, tmp_path: Path, words: list[str], message: str, capsys: Capture
) -> None:
    assert geco("export", run, "--out", tmp_path / "out", *words) == cli.REFUSED
    assert message in capsys.readouterr().err
    assert geco("export", run, "--out", run) == cli.REFUSED
    assert geco("export", run, "--out", tmp_path) == cli.REFUSED
