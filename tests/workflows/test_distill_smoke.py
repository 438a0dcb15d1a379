"""`geco distill --preset micro-smoke`: the whole graph on two cores in less than five minutes."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from geco_core.config.run import S3Config
from infra.storage import LocalStorage, open_storage
from tests.support.s3_servers import environment, moto_server
from workflows import cli
from workflows.dag_record import read_record
from workflows.distill_evaluate import VARIANTS

ROOT = Path(__file__).parents[2]
MINUTES_5 = 300.0
STEPS = ("conditions", "targets", "stage1", "stage2", "evaluate", "generate")
pytestmark = [pytest.mark.slow, pytest.mark.timeout(1200)]


def smoke(out: str, *words: str) -> tuple[float, str]:
    command = [sys.executable, "-m", "workflows.cli", "distill", "--preset", "micro-smoke"]
    started = time.monotonic()
    done = subprocess.run(
        [*command, "--out", out, *words],
        cwd=ROOT, env=dict(os.environ), capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"
    return time.monotonic() - started, done.stdout + done.stderr


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Path, float]]:
    pytest.importorskip("ray.train", reason="Ray Train's own dependencies are not installed")
    folder = tmp_path_factory.mktemp("smoke") / "run"
    seconds, _ = smoke(str(folder))
    return folder, seconds


def test_it_is_done_in_five_minutes_with_everything_in_place(
    run: tuple[Path, float], capsys: pytest.CaptureFixture[str]
) -> None:
    folder, seconds = run
    assert seconds < MINUTES_5
    storage = LocalStorage(folder)
    records = {name: read_record(storage, name) for name in STEPS}
    assert all(records.values())
    evaluate, generate = records["evaluate"], records["generate"]
    assert evaluate is not None
    assert generate is not None
    table = json.loads(storage.get(evaluate.outputs["table"]))
    assert set(table["variants"]) == set(VARIANTS)
    assert storage.get(evaluate.outputs["markdown"]).decode().count("\n") == 2 + len(VARIANTS)
    assert generate.outputs["done"] == 2
    parts = sorted((folder / generate.outputs["dataset"] / "assets").glob("*.parquet"))
    rows = [row for part in parts for row in pq.read_table(part).to_pylist()]
    assert [row["system"] for row in rows] == ["geco", "geco"]
    assert all(row["glb"][:4] == b"glTF" for row in rows)
    page = (folder / "report/index.html").read_text()
    assert page.count("data:image/png;base64,") == 4
    assert not storage.exists("claim.json")
    assert cli.main(["distill", "--out", str(folder), "--plan"]) == cli.OK
    assert "everything is done" in capsys.readouterr().out
    assert cli.main(["verify", str(folder / generate.outputs["dataset"])]) == cli.OK


def test_again_nothing_is_done(run: tuple[Path, float]) -> None:
    folder, _ = run
    before = {p: p.stat().st_mtime_ns for p in folder.glob("stages/**/*") if p.is_file()}
    _, text = smoke(str(folder))
    assert text.count("done before") >= len(STEPS)
    assert "starting_ray" not in text
    assert {p: p.stat().st_mtime_ns for p in folder.glob("stages/**/*") if p.is_file()} == before


def test_in_a_bucket_in_this_process(tmp_path: Path) -> None:
    with moto_server(tmp_path) as server, environment(server.env):
        uri = f"{server.create_bucket('distill')}/runs/a"
        with environment({"GECO_CACHE_DIR": str(tmp_path / "cache")}):
            smoke(uri, "train.engine=inline")
        storage = open_storage(uri, S3Config())
        record = read_record(storage, "generate")
        assert record is not None
        key = f"{record.outputs['dataset']}/assets/part-000000.parquet"
        assert pq.read_table(io.BytesIO(storage.get(key))).num_rows == 2
        assert b"complete" in storage.get("report/index.html")
