"""`geco doctor --address`: it joins the cluster and says whether it is open."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
HEAD = """
import os, sys, ray
from infra.cluster import cluster
from geco_core.config.run import ClusterConfig
with cluster(ClusterConfig(num_cpus=1, num_gpus=0, object_store_mb=80), {}):
    print(ray.get_runtime_context().gcs_address, flush=True)
    sys.stdin.read()
"""
pytestmark = [pytest.mark.slow, pytest.mark.timeout(180)]


@pytest.mark.parametrize(("mode", "code"), [("token", 0), ("disabled", 1)])
def test_an_open_cluster_is_a_failure(
    tmp_path: Path, mode: str, code: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RAY_AUTH_MODE", mode)
    head = subprocess.Popen(
        [sys.executable, "-c", HEAD], cwd=ROOT, text=True,
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    assert head.stdout is not None
    try:
        address = head.stdout.readline().strip()
        words = ["doctor", "--out", str(tmp_path), "--address", address]
        asked = subprocess.run(
            [sys.executable, "-m", "workflows.cli", *words],
            cwd=ROOT, capture_output=True, text=True, check=False,
        )  # fmt: skip
    finally:
        head.communicate("", timeout=60)
    assert f"{address}: 1 CPU" in asked.stdout, asked.stderr
    assert ("asks for no token" in asked.stdout) == (mode == "disabled")
    assert asked.returncode == code
