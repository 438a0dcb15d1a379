"""Seconds that finishing takes per step, and proof that no mesh takes longer than its limit.

    OMP_NUM_THREADS=1 python -m benchmarks.finishing [--meshes 32] [--limit 20] [--json]

Steps: procedural objects are extracted on a 128^3 grid and finished by the real finishing process
with a budget of 20000 faces, a texture of 1024^2 texels, three levels of detail and, where DracoPy
is installed, compression. Textures are baked from a triplane of the published size (3 x 80 x 64^2,
4 layers of 64) with random weights: what it says does not matter, what it costs does. Processor
seconds stand beside those of the clock: they say what a step costs where the machine is shared.

Limits: meshes made to take long (a noise field, separate tetrahedra, a ball of 300000 faces) and a
finisher that hangs, crashes late or asks for all memory. Each must end within its limit, with a
texture, with vertex colours and a note, or with a reason.
"""

from __future__ import annotations

import argparse
import importlib.util
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from itertools import pairwise
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import torch

from actors.finishing import ChildFinisher
from benchmarks.machine import print_machine, save_result
from geco_core.config.finish import FinishConfig
from geco_core.config.models import ExtractionConfig
from geco_core.errors import BadItem
from geco_core.fields.color import TriplaneColor
from geco_core.mesh import bake, draco, encode, finish, unwrap
from geco_core.mesh.frames import world_to_gltf
from geco_core.shapes.object import make_object, object_seed
from geco_core.surface.extract import extract_surface
from geco_core.surface.grid import RegularGrid
from geco_core.types import Asset, Mesh

FACES, TEXTURE, LODS = 20_000, 1024, (0.5, 0.25, 0.1)
GRID, SCALE = 128, 1.9
CHANNELS, PLANE, HIDDEN, LAYERS = 80, 64, 64, 4
MEMORY_MB = 4096
ALLOWED_OVERRUN_S = 0.5
WIDE_OPEN_S = 600.0
Spent = tuple[float, float]  # seconds of the clock, and of the processor
# Name of the step, and what is timed for it.
STEPS = {
    "simplify": (finish, "simplify"),
    "unwrap": (unwrap, "unwrap"),
    "bake": (bake, "bake"),
    "write": (encode, "write_glb"),
    "compress": (draco, "compressed"),
    "levels": (finish, "_levels"),
    "measure": (finish, "measured"),
    "stats": (finish, "mesh_stats"),
    "qc": (finish, "mesh_qc"),
    "thumbnail": (finish, "_thumbnail"),
}


def timed_finish(mesh: Mesh, **details: Any) -> Asset:
    """`finish_mesh`, with the seconds of its steps in `mesh_stats`. Runs in the child."""
    seconds: dict[str, Spent] = {}
    begun = _now()
    with _timed(seconds):
        asset = finish.finish_mesh(mesh, **details)
    seconds["finish"] = _since(begun)
    return replace(asset, mesh_stats={**asset.mesh_stats, "seconds": seconds})


def troubled_finish(mesh: Mesh, **details: Any) -> Asset:
    """A finisher that goes wrong as the item's id says, while it makes a texture."""
    trouble = details["item_id"] if "settings" in details else ""
    if trouble and details["settings"].texture_size:
        if trouble == "hangs":
            time.sleep(WIDE_OPEN_S)
        if trouble == "crashes late":
            time.sleep(2.0)
            os.abort()
        if trouble == "asks for all memory":
            np.ones(1 << 40, dtype=np.uint8)
    return finish.finish_mesh(mesh, **details)


def _now() -> Spent:
    return time.perf_counter(), time.process_time()


def _since(begun: Spent) -> Spent:
    wall, cpu = _now()
    return wall - begun[0], cpu - begun[1]


@contextmanager
def _timed(seconds: dict[str, Spent]) -> Iterator[None]:
    """Inside, the first call of every step is timed; those of the levels count as `levels`."""
    running: list[str] = []

    def timer(name: str, work: Callable[..., Any]) -> Callable[..., Any]:
        def run(*args: Any, **kwargs: Any) -> Any:
            if "levels" in running:
                return work(*args, **kwargs)
            running.append(name)
            begun = _now()
            try:
                return work(*args, **kwargs)
            finally:
                running.pop()
                seconds[name] = _since(begun)

        return run

    patches = [
        mock.patch.object(module, attribute, timer(name, getattr(module, attribute)))
        for name, (module, attribute) in STEPS.items()
    ]
    for patch in patches:
        patch.start()
    try:
        yield
    finally:
        for patch in patches:
            patch.stop()


def object_mesh(index: int, grid: int = GRID) -> Mesh:
    """A held-out procedural object, with its colours and a field of the published size."""
    made = make_object(object_seed("heldout", index))
    vertices, faces = extract_surface(
        lambda points: torch.from_numpy(made.sdf(points.numpy())),
        None,
        None,
        RegularGrid.cubic(grid, SCALE),
        ExtractionConfig(),
    )
    colors_N3 = np.rint(made.base_color(vertices.numpy()) * 255.0).astype(np.uint8)
    return Mesh(
        world_to_gltf(vertices.numpy()).astype(np.float32),
        faces.numpy().astype(np.int32),
        colors_N3,
        color_fn=random_field(index),
    )


def random_field(seed: int) -> TriplaneColor:
    """A triplane of the published size with random planes and layers."""
    draw = np.random.default_rng(seed)
    widths = [3 * CHANNELS, *[HIDDEN] * LAYERS, 3]
    layers = tuple(
        (draw.normal(0, (2 / m) ** 0.5, (n, m)).astype(np.float32), np.zeros(n, np.float32))
        for m, n in pairwise(widths)
    )
    return TriplaneColor(draw.normal(size=(3, CHANNELS, PLANE, PLANE)).astype(np.float16), layers)


def noise(cells: int = 48) -> Mesh:
    """The surface of white noise: hundreds of thousands of faces without any shape."""
    draw = torch.Generator().manual_seed(0)
    values = torch.randn((cells + 1) ** 3, generator=draw)
    grid = RegularGrid.cubic(cells, SCALE)

    def sdf(points_P3: torch.Tensor) -> torch.Tensor:
        index_P3 = ((points_P3 / SCALE + 0.5) * cells).round().long().clamp(0, cells)
        step = torch.tensor([(cells + 1) ** 2, cells + 1, 1])
        return values[(index_P3 * step).sum(dim=1)]

    vertices, faces = extract_surface(sdf, None, None, grid, ExtractionConfig(exact=True))
    return _coloured(vertices.numpy(), faces.numpy())


def tetrahedra(count: int = 50_000) -> Mesh:
    """Separate tetrahedra: as many parts, and as many charts."""
    draw = np.random.default_rng(0)
    corners = 0.01 * np.array([[0, 0, 0], [1, 0, 0], [0, 1, 0], [0, 0, 1]], dtype=np.float32)
    vertices = (draw.uniform(-1, 1, (count, 1, 3)).astype(np.float32) + corners).reshape(-1, 3)
    faces = np.array([[0, 2, 1], [0, 1, 3], [0, 3, 2], [1, 2, 3]], dtype=np.int32)
    return _coloured(vertices, (faces + 4 * np.arange(count)[:, None, None]).reshape(-1, 3))


def ball(grid: int = 200) -> Mesh:
    """A smooth ball of about 300000 faces: few charts, each of them huge."""
    surface = extract_surface(
        lambda points: points.norm(dim=1) - 0.85,
        None,
        None,
        RegularGrid.cubic(grid, SCALE),
        ExtractionConfig(),
    )
    return _coloured(surface[0].numpy(), surface[1].numpy())


def _coloured(vertices_N3: np.ndarray, faces_F3: np.ndarray) -> Mesh:
    low, size = vertices_N3.min(axis=0), np.ptp(vertices_N3, axis=0)
    colors = ((vertices_N3 - low) / size * 255).astype(np.uint8)
    return Mesh(vertices_N3.astype(np.float32), faces_F3.astype(np.int32), colors)


@dataclass(frozen=True)
class Load:
    """How busy the machine was."""

    before: float = field(default_factory=lambda: os.getloadavg()[0])

    def record(self) -> dict[str, float]:
        """Load average over a minute, before and after."""
        return {"before": round(self.before, 2), "after": round(os.getloadavg()[0], 2)}


def measure_steps(meshes: int, grid: int = GRID, settings: FinishConfig | None = None) -> Any:
    """Seconds per step over finished meshes of about the budget."""
    packed = "draco" if importlib.util.find_spec("DracoPy") else "none"
    settings = settings or FinishConfig(
        face_budget=FACES, texture_size=TEXTURE, lods=LODS, compression=packed
    )
    child = ChildFinisher(
        MEMORY_MB, settings=settings, function="benchmarks.finishing:timed_finish"
    )
    child.warm_up()
    load, sizes, index = Load(), [], 0
    rows: list[dict[str, Spent]] = []
    through_process: list[float] = []
    while len(rows) < meshes:
        mesh = object_mesh(index, grid)
        index += 1
        if len(mesh.faces) < (settings.face_budget or 0):
            continue
        begun = time.perf_counter()
        asset = child(mesh, item_id=f"{index}", seed=0, provenance={}, limit_s=WIDE_OPEN_S)
        wall = time.perf_counter() - begun
        # A texture that was given up would leave out the steps this is about.
        assert not any(note.startswith("no texture") for note in asset.notes), asset.notes
        rows.append(asset.mesh_stats["seconds"])
        through_process.append(wall)
        sizes.append((len(mesh.faces), asset.mesh_stats["n_faces"], len(asset.glb)))
        print(f"{index:4d} {sizes[-1]} " + _line(rows[-1]), flush=True)
    child.close()
    share = sum(row["qc"][1] for row in rows) / sum(row["finish"][1] for row in rows)
    names = [name for name in (*STEPS, "finish") if name in rows[0]]
    return {
        "meshes": len(rows),
        "faces_extracted_median": int(np.median([given for given, _, _ in sizes])),
        "faces_finished": [min(n for _, n, _ in sizes), max(n for _, n, _ in sizes)],
        "glb_kib_median": round(float(np.median([size for _, _, size in sizes])) / 1024, 1),
        "load": load.record(),
        "seconds": {name: _spread([row[name][0] for row in rows]) for name in names}
        | {"with process": _spread(through_process)},
        "processor_seconds": {name: _spread([row[name][1] for row in rows]) for name in names},
        "qc_share": round(share, 4),
    }


def measure_limits(limit_s: float, cases: dict[str, Callable[[], Mesh]]) -> Any:
    """What becomes of meshes that take long, and how long after their limit."""
    load, rows = Load(), []
    small = object_mesh(0, 32)
    settings = FinishConfig(texture_size=TEXTURE, lods=LODS)
    real = ChildFinisher(MEMORY_MB, settings=settings)
    troubled = ChildFinisher(
        MEMORY_MB, settings=settings, function="benchmarks.finishing:troubled_finish"
    )
    for child in (real, troubled):
        child.warm_up()
    for name, make in cases.items():
        mesh = make()
        limits = (limit_s, limit_s / 4, limit_s / 40)
        rows += [_limited(real, name, mesh, limit) for limit in limits]
    troubles = ("hangs", "crashes late", "asks for all memory")
    rows += [_limited(troubled, name, small, limit_s / 4) for name in troubles]
    for child in (real, troubled):
        child.close()
    worst = max(row["overrun_s"] for row in rows)
    return {
        "limit_s": limit_s,
        "load": load.record(),
        "rows": rows,
        "longest_overrun_s": worst,
        "allowed_overrun_s": ALLOWED_OVERRUN_S,
        "held": worst <= ALLOWED_OVERRUN_S,
    }


def _limited(child: ChildFinisher, name: str, mesh: Mesh, limit_s: float) -> dict[str, Any]:
    begun = time.perf_counter()
    try:
        asset = child(mesh, item_id=name, seed=0, provenance={}, limit_s=limit_s)
        end = next((note for note in asset.notes if note.startswith("no texture")), "textured")
    except BadItem as error:
        end = f"{error.reason.value}: {error.message}"
    except MemoryError:
        end = "out_of_memory"
    wall = time.perf_counter() - begun
    row = {
        "mesh": name,
        "faces": len(mesh.faces),
        "limit_s": limit_s,
        "wall_s": round(wall, 3),
        "overrun_s": round(max(0.0, wall - limit_s), 3),
        "end": end,
    }
    print("     ".join(f"{key} {value}" for key, value in row.items()), flush=True)
    return row


def _spread(values: list[float]) -> dict[str, float]:
    return {
        "p50": round(float(np.quantile(values, 0.5)), 4),
        "p95": round(float(np.quantile(values, 0.95)), 4),
        "max": round(max(values), 4),
    }


def _line(row: dict[str, Spent]) -> str:
    return "  ".join(f"{name} {cpu:.2f}" for name, (_, cpu) in row.items())


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.finishing")
    parser.add_argument("--meshes", type=int, default=32)
    parser.add_argument("--limit", type=float, default=20.0, help="seconds, longest of the limits")
    parser.add_argument("--json", type=Path, nargs="?", const=Path(), help="record the numbers")
    options = parser.parse_args()
    torch.set_num_threads(1)
    print_machine()
    with torch.no_grad():
        cases = {"noise": noise, "tetrahedra": tetrahedra, "ball": ball}
        limits = measure_limits(options.limit, cases)
        steps = measure_steps(options.meshes)
    for clock in ("seconds", "processor_seconds"):
        print(clock)
        for name, spread in steps[clock].items():
            print(f"{name:14} " + "  ".join(f"{key} {value:8.3f}" for key, value in spread.items()))
    print(f"longest overrun {limits['longest_overrun_s']} s, load {steps['load']}")
    if options.json is not None:
        path = options.json if options.json.name else None
        print(save_result("finishing", {"steps": steps, "limits": limits}, path))


if __name__ == "__main__":
    main()
