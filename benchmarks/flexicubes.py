"""Our FlexiCubes against the direct implementation with row-wise edge search.

    OMP_NUM_THREADS=1 python -m benchmarks.flexicubes [--grids 64 80 128] [--repeats 5] [--json]

Both get the same field, positions and raw weights of all cubes (the array of cubes is built outside
the clock), and must return the same faces and, to 1e-6, the same vertices. Target: at least 4 times
faster on every grid.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from benchmarks.machine import print_machine, save_result
from benchmarks.rowwise_flexicubes import rowwise_flexicubes
from benchmarks.timing import interleaved
from geco_core.surface.flexicubes import flexicubes
from geco_core.surface.grid import RegularGrid

TARGET = 4.0


def fields(points: Tensor) -> dict[str, Tensor]:
    """A sphere and a gyroid on points in [-0.5, 0.5]^3."""
    x, y, z = (points * 14.0 + 0.1).unbind(-1)
    return {
        "sphere": points.norm(dim=-1) - 0.37,
        "gyroid": x.sin() * y.cos() + y.sin() * z.cos() + z.sin() * x.cos(),
    }


def measure(name: str, s: Tensor, grid: RegularGrid, repeats: int, seed: int) -> dict[str, Any]:
    """One row of the table."""
    draw = torch.Generator().manual_seed(seed)
    cubes = grid.corners(torch.arange(grid.num_cubes))
    x = grid.points()
    beta = torch.randn(grid.num_cubes, 12, generator=draw)
    alpha = torch.randn(grid.num_cubes, 8, generator=draw)
    gamma = torch.randn(grid.num_cubes, generator=draw)

    def ours() -> tuple[Tensor, Tensor, Tensor]:
        return flexicubes(x, s, grid, beta=beta, alpha=alpha, gamma=gamma)

    def rowwise() -> tuple[Tensor, Tensor, Tensor]:
        return rowwise_flexicubes(x, s, cubes, grid.res, beta, alpha, gamma)

    verts, faces, _ = ours()
    their_verts, their_faces, _ = rowwise()
    if not torch.equal(faces, their_faces) or (verts - their_verts).abs().max() > 1e-6:
        raise AssertionError(f"the two implementations disagree on {name} at {grid.res}")
    seconds = interleaved({"ours": ours, "rowwise": rowwise}, repeats, warm_up=False)
    return {
        "field": name,
        "grid": grid.res[0],
        "faces": faces.shape[0],
        "ours_ms": round(1e3 * seconds["ours"], 2),
        "rowwise_ms": round(1e3 * seconds["rowwise"], 2),
        "ratio": round(seconds["rowwise"] / seconds["ours"], 2),
    }


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.flexicubes")
    parser.add_argument("--grids", type=int, nargs="+", default=[64, 80, 128])
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", type=Path, nargs="?", const=Path(), help="record the numbers")
    options = parser.parse_args()
    torch.set_num_threads(1)
    print_machine()
    print(f"{'field':8} {'grid':>5} {'faces':>8} {'row-wise ms':>12} {'ours ms':>9} {'ratio':>7}")
    rows = []
    with torch.inference_mode():
        for res in options.grids:
            grid = RegularGrid.cubic(res)
            for name, s in fields(grid.points()).items():
                row = measure(name, s, grid, options.repeats, options.seed)
                rows.append(row)
                print(
                    f"{name:8} {res:5d} {row['faces']:8d} {row['rowwise_ms']:12.1f} "
                    f"{row['ours_ms']:9.1f} {row['ratio']:6.1f}x"
                )
    if options.json is not None:
        path = options.json if options.json.name else None
        print(save_result("flexicubes", {"target_ratio": TARGET, "rows": rows}, path))


if __name__ == "__main__":
    main()
