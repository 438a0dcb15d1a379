"""Verbs that look at a run, or repair it, while another process makes it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from infra.findings import LEFTOVERS
from infra.run_state import read_state
from infra.storage import LocalStorage
from tests.workflows.noop_runs import INLINE, geco, generate, image_manifest, png
from workflows import cli
from workflows.verify import verify_uri

ROOT = Path(__file__).parents[2]
Capture = pytest.CaptureFixture[str]


def started(*words: object) -> subprocess.Popen[bytes]:
    """`geco WORDS` in a process of its own."""
    return subprocess.Popen(
        [sys.executable, "-m", "workflows.cli", *map(str, words)],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
    )


def looked_at(run: Path, process: subprocess.Popen[bytes]) -> int:
    """Look at the run and repair it until the process ends; returns how often."""
    looks = 0
    while process.poll() is None:
        if (run / "run.json").exists():
            result = verify_uri(str(run))
            faults = [f for f in result.shown if f.kind not in LEFTOVERS]
            assert not faults, faults
            assert geco("repair", run) == cli.OK
            assert geco("status", run) == cli.OK
            looks += 1
    assert process.stderr is not None
    assert process.returncode == 0, process.stderr.read().decode()
    return looks


@pytest.mark.slow
def test_a_run_is_repaired_while_it_is_made_and_retried(tmp_path: Path, capsys: Capture) -> None:
    manifest = image_manifest(tmp_path, rows=40, missing=range(0, 40, 3))
    run = tmp_path / "run"
    common = ("--system", "noop", "--manifest", manifest, "--out", run, *INLINE)
    settings = ("shard_size=2", "thumbnail_size=0", "finish_isolation=inline", "max_failure_rate=1")
    slow = "model.generate_s=0.05"
    assert looked_at(run, started("generate", *common, *settings, slow)) > 1
    assert geco("verify", run) == cli.OK
    for row in range(0, 40, 3):
        (tmp_path / f"img/{row}.png").write_bytes(png(row))
    retry = started("retry", run, "--all-failed", *INLINE, *settings[2:])
    assert looked_at(run, retry) > 1
    assert read_state(LocalStorage(run)).counts == {"done": 40}
    assert geco("verify", run) == cli.OK
    assert "nothing wrong" in capsys.readouterr().out


@pytest.mark.slow
def test_two_retries_at_once_do_no_damage(tmp_path: Path) -> None:
    manifest = image_manifest(tmp_path, rows=24, missing=range(0, 24, 2))
    run = tmp_path / "run"
    assert generate(manifest, run, "model.generate_s=0.02") == cli.OK
    for row in range(0, 24, 2):
        (tmp_path / f"img/{row}.png").write_bytes(png(row))
    words = ("retry", run, "--all-failed", *INLINE, "finish_isolation=inline")
    both = [started(*words), started(*words)]
    for process in both:
        process.wait()
    assert {process.returncode for process in both} <= {0, cli.STOPPED}
    assert geco(*words) == cli.OK
    assert read_state(LocalStorage(run)).counts == {"done": 24}
    assert geco("verify", run) == cli.OK
