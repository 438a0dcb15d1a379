"""Reconstruction and extraction at full size on a CPU: ours against the plain chain, equal weights.

    OMP_NUM_THREADS=1 python -m benchmarks.full_chain [--reconstructor base] [--repeats 2] [--json]

Weights and views are random. An untrained field has no surface, so |p| - 0.7 is added to a fifth of
the SDF head's output (`sdf_sphere_radius`, `sdf_scale`; neutral in the published model), which
gives a bumpy sphere of the size of a real object. Every side runs in processes of its own, in turn,
so that its peak memory is its own; the two must make the same mesh. Targets at 128^3: extraction at
least 8 times faster, peak memory of reconstruction and extraction at most a quarter.

The plain weight head reads the corner features of all cubes at once, as published: 16 GB with the
large reconstructor, 8 GB with the base one. "auto" takes the large one where 26 GB are free.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import torch

from benchmarks.machine import print_machine, save_result
from benchmarks.peaks import Stages
from benchmarks.plain_chain import DenseGrid, plain_extract
from geco_core.cameras import encoder_cameras, rig_poses
from geco_core.checkpoints.instantmesh import PUBLISHED
from geco_core.config.models import (
    EncoderConfig,
    ExtractionConfig,
    ReconstructorConfig,
    ViewRigConfig,
)
from geco_core.errors import BadItem
from geco_core.reconstruct.extraction import SurfaceMesh
from geco_core.reconstruct.instantmesh import InstantMesh

TARGETS = {"extract_ratio": 8.0, "peak_share": 0.25}
SIDES = ("ours", "plain")
LARGE_NEEDS_GB = 26
VERTEX_TOLERANCE = 1e-5


def sized(name: str, grid_res: int) -> ReconstructorConfig:
    """A published reconstructor with a sphere in its field; "micro" for a quick look."""
    if name == "micro":
        published = ReconstructorConfig(
            encoder=EncoderConfig(32, 1, 2, 64),
            transformer_dim=64,
            transformer_layers=1,
            transformer_heads=2,
            triplane_dim=8,
        )
    else:
        published = PUBLISHED[f"instant-mesh-{name}"]
    return dataclasses.replace(published, sdf_sphere_radius=0.7, sdf_scale=0.2, grid_res=grid_res)


def run_side(side: str, config: ReconstructorConfig, seed: int) -> tuple[Stages, SurfaceMesh]:
    """Build the model, reconstruct one object and extract it: a stage each."""
    stages = Stages()
    draw = torch.Generator().manual_seed(seed)
    with stages.stage("build"):
        torch.manual_seed(seed)
        model = InstantMesh(config).eval()
    rig = ViewRigConfig()
    coarse = torch.rand(1, 6, 3, 20, 20, generator=draw)
    images = coarse.repeat_interleave(16, 3).repeat_interleave(16, 4)
    cameras = encoder_cameras(rig_poses(rig), rig.fov_deg)[None]
    with torch.inference_mode():
        with stages.stage("reconstruct"):
            planes = model.forward_planes(images, cameras)
        with stages.stage("extract"):
            if side == "plain":
                grid = DenseGrid.of(config.grid_res, config.grid_scale, planes.device)
                mesh = plain_extract(model.decoder, planes, grid)
            else:
                (mesh,) = model.extract(planes, ExtractionConfig(grid_res=config.grid_res))
    if isinstance(mesh, BadItem):
        raise mesh
    return stages, mesh


def in_child(side: str, options: argparse.Namespace, folder: Path) -> dict[str, Any]:
    """`run_side` in a process of its own: its stages and where its mesh is."""
    command = [sys.executable, "-m", "benchmarks.full_chain", "--side", side]
    for name in ("reconstructor", "grid", "seed", "threads"):
        command += [f"--{name}", str(getattr(options, name))]
    path = folder / f"{side}.npz"
    done = subprocess.run(
        [*command, "--mesh", str(path)], stdout=subprocess.PIPE, text=True, check=True
    )
    return {"stages": json.loads(done.stdout), "mesh": path}


def child(options: argparse.Namespace) -> None:
    config = sized(options.reconstructor, options.grid)
    stages, mesh = run_side(options.side, config, options.seed)
    np.savez(
        options.mesh,
        vertices=mesh.vertices.numpy(),
        faces=mesh.faces.numpy(),
        rgb=mesh.vertex_rgb.numpy(),
    )
    print(json.dumps(stages.rows))


def differences(ours: Path, plain: Path) -> dict[str, Any]:
    """How the two meshes differ: the same faces, and the largest distance and colour difference."""
    a, b = np.load(ours), np.load(plain)
    same = np.array_equal(a["faces"], b["faces"]) and a["vertices"].shape == b["vertices"].shape
    largest = {n: float(np.abs(a[n] - b[n]).max()) for n in ("vertices", "rgb")} if same else {}
    return {"same_faces": same, "faces": len(a["faces"]), "largest_difference": largest}


def summary(runs: list[dict[str, dict[str, Any]]]) -> dict[str, Any]:
    """Medians of both sides over the rounds, and the two ratios."""
    table: dict[str, Any] = {}
    for side in SIDES:
        rows = [run[side]["stages"] for run in runs]
        table[side] = {
            stage: {
                key: round(statistics.median(row[stage][key] for row in rows), 3)
                for key in ("seconds", "cpu_s", "peak_mb")
            }
            for stage in rows[0]
        }
        both = [max(row[s]["peak_mb"] for s in ("reconstruct", "extract")) for row in rows]
        table[side]["peak_mb"] = round(statistics.median(both), 1)
    seconds = {side: table[side]["extract"]["seconds"] for side in SIDES}
    table["extract_ratio"] = round(seconds["plain"] / seconds["ours"], 2)
    cpu_s = {side: table[side]["extract"]["cpu_s"] for side in SIDES}
    table["extract_cpu_ratio"] = round(cpu_s["plain"] / cpu_s["ours"], 2)
    table["peak_share"] = round(table["ours"]["peak_mb"] / table["plain"]["peak_mb"], 4)
    return table


def misses(result: dict[str, Any]) -> list[str]:
    """What falls short of the targets, in words."""
    found = []
    if result["extract_ratio"] < TARGETS["extract_ratio"]:
        found.append(f"extract_ratio {result['extract_ratio']} of {TARGETS['extract_ratio']}")
    if result["peak_share"] > TARGETS["peak_share"]:
        found.append(f"peak_share {result['peak_share']} of {TARGETS['peak_share']}")
    mesh = result["mesh"]
    if not mesh["same_faces"]:
        found.append("the faces differ")
    elif mesh["largest_difference"]["vertices"] > VERTEX_TOLERANCE:
        found.append(f"vertices differ by {mesh['largest_difference']['vertices']:.1e}")
    return found


def main() -> int:
    options = _options()
    torch.set_num_threads(options.threads)
    if options.side:
        child(options)
        return 0
    free_gb = psutil.virtual_memory().available / 1e9
    if options.reconstructor == "auto":
        options.reconstructor = "large" if free_gb >= LARGE_NEEDS_GB else "base"
    print_machine()
    print(f"reconstructor {options.reconstructor}, {free_gb:.0f} GB of memory free")
    load = psutil.getloadavg()[0]
    with tempfile.TemporaryDirectory() as folder:
        runs = [
            {side: in_child(side, options, Path(folder)) for side in SIDES}
            for _ in range(options.repeats)
        ]
        mesh = differences(*(runs[-1][side]["mesh"] for side in SIDES))
    result = {
        "targets": TARGETS,
        "reconstructor": options.reconstructor,
        "grid": options.grid,
        "rounds": options.repeats,
        "free_memory_gb": round(free_gb, 1),
        "load_average_at_start": round(load, 2),
        "field": "sphere of radius 0.7 plus 0.2 of the random SDF head",
        "mesh": mesh,
        **summary(runs),
    }
    _print(result)
    if options.json is not None:
        print(save_result("full_chain", result, options.json if options.json.name else None))
    for line in (missed := misses(result)):
        print(f"missed: {line}")
    return 1 if missed else 0


def _print(result: dict[str, Any]) -> None:
    print(f"{'side':6} {'stage':12} {'seconds':>8} {'cpu s':>8} {'peak MB':>9}")
    for side in SIDES:
        for stage in ("build", "reconstruct", "extract"):
            row = result[side][stage]
            numbers = f"{row['seconds']:8.2f} {row['cpu_s']:8.2f} {row['peak_mb']:9.0f}"
            print(f"{side:6} {stage:12} {numbers}")
    print(
        f"extraction {result['extract_ratio']:.1f}x ({result['extract_cpu_ratio']:.1f}x in CPU "
        f"seconds), peak memory "
        f"{result['peak_share']:.1%} of the plain chain's, {result['mesh']}"
    )


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.full_chain")
    names = ("auto", "large", "base", "micro")
    parser.add_argument("--reconstructor", choices=names, default="auto")
    parser.add_argument("--grid", type=int, default=128)
    parser.add_argument("--repeats", type=int, default=2)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--json", type=Path, nargs="?", const=Path(), help="record the numbers")
    parser.add_argument("--side", choices=SIDES, help=argparse.SUPPRESS)
    parser.add_argument("--mesh", type=Path, help=argparse.SUPPRESS)
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
