"""The full-size chain with random weights: one photograph through `geco generate` on a CPU.

Minutes of two cores, 14 GB of memory and 5 GB of disk; seconds and peaks per stage are left in
`full_size_cpu.json` in the test's folder (`--basetemp` chooses where).
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from benchmarks.machine import describe_machine

ROOT = Path(__file__).parents[2]
NEEDS_GB = 16
STAGES = {"load", "prepare", "multiview", "reconstruct", "extract"}
FULL_WEIGHTS_MB = 8_500  # 1.9 billion parameters of the views, 0.4 of the reconstructor, float32


@pytest.mark.slow
@pytest.mark.timeout(10800)
def test_one_photograph_goes_through_the_full_size_chain(tmp_path: Path) -> None:
    free_gb = psutil.virtual_memory().available / 1e9
    if free_gb < NEEDS_GB:
        pytest.skip(f"{free_gb:.0f} GB of memory free, the chain needs {NEEDS_GB}")
    path = tmp_path / "full_size_cpu.json"
    command = [sys.executable, "-m", "benchmarks.full_size_cpu", "--json", str(path)]
    subprocess.run(command, cwd=ROOT, check=True)
    measured = json.loads(path.read_text())
    assert measured["machine"]["cpu"] == describe_machine()["cpu"]
    stages = measured["stages"]
    assert set(stages) == STAGES
    assert all(stage["seconds"] >= 0 for stage in stages.values())
    # Nothing smaller was built: the weights alone take this much.
    assert stages["multiview"]["peak_mb"] > FULL_WEIGHTS_MB
    assert measured["peak_mb"] < NEEDS_GB * 1e9 / 2**20
    assert measured["row_seconds"]["finish"] > 0
    assert measured["mesh"]["n_faces"] > 20_000
