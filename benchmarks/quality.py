"""Quality of the shipped micro teacher chain on held-out objects, with floors and a contact sheet.

    python -m benchmarks.quality --objects 200 --json --sheet docs/images/contact_sheet.png

Numbers go to `benchmarks/results/quality.json` with the machine that produced them.
"""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageDraw

from benchmarks.machine import describe_machine, save_result
from geco_core.cameras import projection, rig_poses, world_to_camera
from geco_core.evaluate.micro_quality import HeldOut, evaluate_chain, load_heldout
from geco_core.mesh.frames import gltf_to_world
from geco_core.multiview.generate import views_of_images
from geco_core.reconstruct.instantmesh import InstantMesh
from geco_core.render.mesh import render_mesh
from geco_core.render.registry import get_rasterizer
from geco_core.systems.instantmesh import InstantMeshSystem, build_instantmesh
from geco_core.types import Mesh, MultiView

_CELL = 128


def main() -> int:
    """Evaluate, print a table, optionally record it and draw the sheet."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--objects", type=int, default=200)
    parser.add_argument(
        "--json", action="store_true", help="record benchmarks/results/quality.json"
    )
    parser.add_argument(
        "--sheet", type=Path, help="write the contact sheet of the first 12 objects"
    )
    parser.add_argument("overrides", nargs="*", help="key.sub=value on the micro preset")
    options = parser.parse_args()
    torch.set_num_threads(1)
    system = build_instantmesh("micro", options.overrides)
    truth = load_heldout(options.objects, system.config)
    started = time.perf_counter()
    multiview, reconstructor = system.models
    assert isinstance(reconstructor, InstantMesh)
    numbers = evaluate_chain(
        multiview,
        reconstructor,
        system.config,
        truth,
        lambda line: print(line, file=sys.stderr, flush=True),
    )
    for key, value in numbers.items():
        print(f"{key:32s} {value:8.3f}")
    print(f"machine: {describe_machine()}  ({time.perf_counter() - started:.0f} s)")
    if options.json:
        save_result("quality", {"numbers": numbers, "overrides": options.overrides})
    if options.sheet:
        draw_sheet(system, truth, options.sheet)
    return 0


def draw_sheet(system: InstantMeshSystem, truth: HeldOut, path: Path, count: int = 12) -> None:
    """Rows: condition | 3 true views | 3 teacher views | the mesh from 3 of the same cameras."""
    shown = truth.conditions[:count]
    views = views_of_images(system.models[0], shown, range(count), system.config.sampler)
    cameras = system.rig_cameras.expand(count, -1, -1)
    meshes = system.reconstruct(MultiView(views, cameras))
    rows = []
    for i in range(count):
        cells = [truth.conditions[i], *truth.views[i, :3], *views[i, :3]]
        images = [_enlarge(c) for c in cells] + _mesh_views(system, meshes[i])
        rows.append(np.concatenate(images, axis=1))
    half = (count + 1) // 2
    left, right = np.concatenate(rows[:half]), np.concatenate(rows[half:])
    gap = np.full((left.shape[0], 24, 3), 255, np.uint8)
    sheet = Image.fromarray(np.concatenate([left, gap, right], axis=1))
    canvas = Image.new("RGB", (sheet.width, sheet.height + 28), "white")
    canvas.paste(sheet, (0, 28))
    draw = ImageDraw.Draw(canvas)
    for side in (0, left.shape[1] + 24):
        for text, column in (
            ("input", 0),
            ("true views", 1),
            ("generated views", 4),
            ("generated mesh", 7),
        ):
            draw.text((side + column * _CELL + 8, 8), text, fill=(60, 60, 60))
    path.parent.mkdir(parents=True, exist_ok=True)
    canvas.save(path, optimize=True)


def _enlarge(image_3HW: torch.Tensor) -> np.ndarray:
    pixels = image_3HW.clamp(0, 1).mul(255).round().byte().permute(1, 2, 0).numpy()
    return np.asarray(Image.fromarray(pixels).resize((_CELL, _CELL), Image.Resampling.NEAREST))


def _mesh_views(system: InstantMeshSystem, mesh: object) -> list[np.ndarray]:
    if not isinstance(mesh, Mesh) or mesh.colors is None:
        return [np.full((_CELL, _CELL, 3), 230, np.uint8)] * 3
    rig = system.config.multiview.rig
    render = render_mesh(
        get_rasterizer("torch"),
        torch.from_numpy(gltf_to_world(mesh.vertices)),
        torch.from_numpy(mesh.faces),
        world_to_camera(rig_poses(rig)[:3]),
        projection(rig.fov_deg),
        _CELL,
        vertex_colors=torch.from_numpy(mesh.colors).float() / 255,
        supersample=2,
    )
    return [rgb.clamp(0, 1).mul(255).round().byte().permute(1, 2, 0).numpy() for rgb in render.rgb]


if __name__ == "__main__":
    sys.exit(main())
