"""Sparse (coarse-to-fine) against dense evaluation and extraction of a triplane field.

    OMP_NUM_THREADS=1 python -m benchmarks.extraction [--grids 128 256] [--repeats 3] [--json]

The field is a sphere plus an MLP on bandlimited random planes (3 x 16 x 48^2), a stand-in with the
smoothness of a trained reconstructor. Both ways end in a mesh; they must find the same surface
cells. Targets on the smooth field: at least 4 times faster at 128^3 and 5 times at 256^3.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from benchmarks.machine import print_machine, save_result
from benchmarks.timing import interleaved
from geco_core.surface.extract import extract_nodes
from geco_core.surface.grid import RegularGrid
from geco_core.surface.sparse import SparseField, evaluate_sparse

TARGETS = {128: 4.0, 256: 5.0}
SCALE = 2.1
CHANNELS, PLANE, HIDDEN = 16, 48, 64


def triplane_field(cutoff: float, seed: int) -> Callable[[Tensor], Tensor]:
    """Points [P, 3] to values [P]: |p| - 0.6 plus a tenth of an MLP on bandlimited planes.

    Args:
        cutoff: highest frequency in the planes, in periods per plane.
        seed: of planes and weights.
    """
    draw = torch.Generator().manual_seed(seed)
    spectrum = torch.fft.fft2(torch.randn(3, CHANNELS, PLANE, PLANE, generator=draw))
    frequency = torch.fft.fftfreq(PLANE) * PLANE
    keep = frequency[:, None] ** 2 + frequency**2 <= cutoff**2
    planes = torch.fft.ifft2(spectrum * keep).real
    planes = planes / planes.std()
    widths = (3 * CHANNELS, HIDDEN, HIDDEN, 1)
    layers = [torch.randn(n, m, generator=draw) * (2 / m) ** 0.5 for m, n in pairwise(widths)]

    def sdf(points: Tensor) -> Tensor:
        where = torch.stack([points[:, [0, 1]], points[:, [0, 2]], points[:, [2, 1]]])
        sampled = F.grid_sample(planes, where[:, None], align_corners=False)[:, :, 0]
        hidden = sampled.permute(2, 0, 1).reshape(points.shape[0], -1)
        for layer in layers[:-1]:
            hidden = F.linear(hidden, layer).relu()
        return points.norm(dim=1) - 0.6 + 0.1 * F.linear(hidden, layers[-1])[:, 0]

    return sdf


def gradient_p99(field: Callable[[Tensor], Tensor], seed: int) -> float:
    """99th percentile of the gradient's length at random points; a distance field has 1.0."""
    draw = torch.Generator().manual_seed(seed)
    points = (torch.rand(20000, 3, generator=draw) - 0.5) * 1.8
    with torch.enable_grad():
        leaf = points.requires_grad_()
        (slope,) = torch.autograd.grad(field(leaf).sum(), leaf)
    return float(slope.norm(dim=1).quantile(0.99))


def measure(res: int, cutoff: float, repeats: int, seed: int) -> dict[str, Any]:
    """One row of the table."""
    grid = RegularGrid.cubic(res, SCALE)
    sdf = triplane_field(cutoff, seed)
    found: dict[str, SparseField] = {}

    def extract(name: str, *, exact: bool) -> None:
        found[name] = evaluate_sparse(sdf, grid, exact=exact)
        extract_nodes(found[name].surface())

    contenders = {
        "dense": lambda: extract("dense", exact=True),
        "sparse": lambda: extract("sparse", exact=False),
    }
    seconds = interleaved(contenders, repeats, warm_up=False)
    dense, sparse = found["dense"], found["sparse"]
    return {
        "grid": res,
        "cutoff": cutoff,
        "gradient_p99": round(gradient_p99(sdf, seed), 2),
        "surface_cells": dense.cubes.shape[0],
        "missed_cells": int((~torch.isin(dense.cubes, sparse.cubes)).sum()),
        "extra_cells": int((~torch.isin(sparse.cubes, dense.cubes)).sum()),
        "evaluated_share": round(sparse.nodes.shape[0] / grid.num_nodes, 4),
        "dense_s": round(seconds["dense"], 4),
        "sparse_s": round(seconds["sparse"], 4),
        "ratio": round(seconds["dense"] / seconds["sparse"], 2),
    }


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.extraction")
    parser.add_argument("--grids", type=int, nargs="+", default=[128, 256])
    parser.add_argument(
        "--cutoffs", type=float, nargs="+", default=[4.0], help="4 is smooth, 10 medium, 24 rough"
    )
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", type=Path, nargs="?", const=Path(), help="record the numbers")
    options = parser.parse_args()
    torch.set_num_threads(1)
    print_machine()
    print(
        f"{'grid':>5} {'cutoff':>6} {'gradient':>8} {'cells':>8} {'missed':>6} {'extra':>5} "
        f"{'evaluated':>9} {'dense s':>8} {'sparse s':>8} {'ratio':>7}"
    )
    rows = []
    with torch.no_grad():
        for cutoff in options.cutoffs:
            for res in options.grids:
                row = measure(res, cutoff, options.repeats, options.seed)
                rows.append(row)
                print(
                    f"{res:5d} {cutoff:6.1f} {row['gradient_p99']:8.2f} "
                    f"{row['surface_cells']:8d} {row['missed_cells']:6d} "
                    f"{row['extra_cells']:5d} {row['evaluated_share']:9.1%} "
                    f"{row['dense_s']:8.2f} {row['sparse_s']:8.3f} {row['ratio']:6.1f}x"
                )
    if options.json is not None:
        path = options.json if options.json.name else None
        targets = {str(res): ratio for res, ratio in TARGETS.items()}
        print(save_result("extraction", {"target_ratios": targets, "rows": rows}, path))


if __name__ == "__main__":
    main()
