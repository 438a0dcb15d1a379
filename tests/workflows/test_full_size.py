"""Full-size systems with random weights: one photograph through `geco generate` on a CPU.

Minutes of two cores, 14 GB of memory and 9 GB of disk; seconds and peaks per stage are left in
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
# Stages; what the weights alone take in float32: 1.9 billion parameters of the views and 0.4 of the
# reconstructor, 2.9 of CRM's diffusion half and 0.1 of its reconstructor; faces of a sphere at the
# preset's grid.
SYSTEMS = {
    "geco": ({"load", "prepare", "multiview", "reconstruct", "extract"}, 8_500, 20_000),
    "crm": ({"load", "prepare", "views", "ccm", "reconstruct", "extract"}, 11_500, 15_000),
}


@pytest.mark.slow
@pytest.mark.timeout(10800)
@pytest.mark.parametrize("system", list(SYSTEMS))
def test_one_photograph_goes_through_the_full_size_chain(tmp_path: Path, system: str) -> None:
    free_gb = psutil.virtual_memory().available / 1e9
    if free_gb < NEEDS_GB:
        pytest.skip(f"{free_gb:.0f} GB of memory free, the chain needs {NEEDS_GB}")
    path = tmp_path / "full_size_cpu.json"
    command = [sys.executable, "-m", "benchmarks.full_size_cpu", "--system", system]
    command += ["--json", str(path)]
    subprocess.run(command, cwd=ROOT, check=True)
    measured = json.loads(path.read_text())
    assert measured["machine"]["cpu"] == describe_machine()["cpu"]
    stages, (names, weights_mb, faces) = measured["stages"], SYSTEMS[system]
    assert set(stages) == names
    assert all(stage["seconds"] >= 0 for stage in stages.values())
    # Nothing smaller was built: the weights alone take this much.
    assert stages["views" if system == "crm" else "multiview"]["peak_mb"] > weights_mb
    assert measured["peak_mb"] < NEEDS_GB * 1e9 / 2**20
    assert measured["row_seconds"]["finish"] > 0
    assert measured["mesh"]["n_faces"] > faces
