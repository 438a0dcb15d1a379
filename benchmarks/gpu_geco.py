"""Views, reconstruction, extraction and finishing on a GPU: ours against the plain chain.

    python -m benchmarks.gpu_geco [--json] [--batches 1 2 4 8 16] [compile=default ...]
    python -m benchmarks.gpu_geco --device cpu --system instantmesh --preset micro --repeats 1

Both chains run in one process, one after the other, each on its own copy of equal weights; the
plain one (`benchmarks.plain_chain`) makes one asset at a time, ours is swept over batch sizes.
Seconds are per asset, medians and 95th percentiles over batches; `total` adds the stages up, and
`assets_per_s` leaves finishing out, which runs on CPUs beside the GPU. Without configured weights
(`geco/full`) they are random, with a sphere in the field: see `benchmarks.random_weights`. The
measured numbers of a GPU go to `benchmarks/results/gpu_geco.json`; a CPU run is never recorded.
"""

from __future__ import annotations

import argparse
import gc
import statistics
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.machine import print_machine, save_result
from benchmarks.peaks import reset_peak, resident_mb
from benchmarks.plain_chain import DenseGrid, plain_extract, plain_views
from benchmarks.random_weights import SPHERE, fill
from geco_core.cameras import encoder_cameras, rig_poses
from geco_core.checkpoints.adapter import skeleton
from geco_core.config.load import load, preset_path
from geco_core.config.models import InstantMeshConfig
from geco_core.errors import ConfigError
from geco_core.imaging.framing import composite, resize_foreground
from geco_core.imaging.views import resize_views
from geco_core.mesh.finish import finish_mesh
from geco_core.mesh.frames import world_to_gltf
from geco_core.multiview.zero123plus import Zero123Plus
from geco_core.reconstruct.instantmesh import InstantMesh
from geco_core.shapes.object import make_object, object_seed
from geco_core.shapes.views import condition_view
from geco_core.systems.chain import load_chain
from geco_core.systems.device import check_device, device_named, precision, tf32
from geco_core.systems.instantmesh import InstantMeshSystem
from geco_core.types import Condition, Generated, Mesh

STAGES = ("multiview", "reconstruct", "extract", "finish")
PHOTO_SIZE = 512
Make = Callable[[Sequence[Condition], Sequence[int]], tuple[list[Generated], dict[str, float]]]


def models(config: InstantMeshConfig, device: torch.device) -> tuple[Zero123Plus, InstantMesh]:
    """The two models of a configuration, with random weights where none are configured.

    Raises:
        ConfigError: the reconstructor is not the mesh variant.
    """
    if config.reconstructor.kind != "mesh":
        raise ConfigError("the plain chain has FlexiCubes only", remedy="take another preset")
    dtype = precision(config.dtype, device)
    if config.weights.multiview:
        chain = load_chain(config, dtype)
        assert isinstance(chain.reconstructor, InstantMesh)
        return chain.multiview, chain.reconstructor
    draw = torch.Generator(device).manual_seed(0)
    views = skeleton(lambda: Zero123Plus(config.multiview))
    fill(views, draw, dtype)
    reconstructor = skeleton(lambda: InstantMesh(config.reconstructor))
    fill(reconstructor, draw, torch.float32)
    return views, reconstructor


def ours(config: InstantMeshConfig, device: torch.device) -> Make:
    """The system as `geco generate` runs it."""
    system = InstantMeshSystem(config, *models(config, device), "benchmark", device)

    def make(
        conditions: Sequence[Condition], seeds: Sequence[int]
    ) -> tuple[list[Generated], dict[str, float]]:
        return system.generate(conditions, seeds), dict(system.timing())

    return make


def plain(config: InstantMeshConfig, device: torch.device) -> Make:
    """The same networks in the plain loop, one asset after the other."""
    views_model, reconstructor = models(config, device)
    for model in (views_model, reconstructor):
        model.eval().to(device)
    rig = config.multiview.rig
    grid = DenseGrid.of(config.extraction.grid_res, config.reconstructor.grid_scale, device)
    cameras = encoder_cameras(rig_poses(rig), rig.fov_deg).to(device)[None]
    dtype = precision(config.dtype, device)

    @torch.inference_mode()
    def one(condition: Condition, seed: int, clock: Iterator[float]) -> Mesh:
        assert condition.rgba is not None
        image = composite(condition.rgba, config.multiview.background)
        autocast = torch.autocast(device.type, dtype, enabled=dtype != torch.float32)
        with autocast, tf32(allowed=config.tf32):
            views = plain_views(views_model, image, seed, config.sampler)
            next(clock)
            images = resize_views(views, config.reconstructor.input_size)
            planes = reconstructor.forward_planes(images, cameras).float()
        next(clock)
        with tf32(allowed=False):
            surface = plain_extract(reconstructor.decoder, planes, grid)
        colors = surface.vertex_rgb.mul(255).to(torch.uint8).cpu().numpy()
        vertices = world_to_gltf(surface.vertices.float().cpu().numpy()).astype(np.float32)
        mesh = Mesh(vertices, surface.faces.cpu().numpy().astype(np.int32), colors)
        next(clock)
        return mesh

    def make(
        conditions: Sequence[Condition], seeds: Sequence[int]
    ) -> tuple[list[Generated], dict[str, float]]:
        marks: list[float] = []
        clock = _clock(device, marks)
        next(clock)
        made: list[Generated] = [one(c, s, clock) for c, s in zip(conditions, seeds, strict=True)]
        steps = np.diff(marks).reshape(len(made), 3).sum(0)
        return made, dict(zip(STAGES, steps.tolist(), strict=False))

    return make


def _clock(device: torch.device, marks: list[float]) -> Iterator[float]:
    """Every `next` waits for the device and notes the time."""
    while True:
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        marks.append(time.perf_counter())
        yield marks[-1]


def conditions(count: int, config: InstantMeshConfig) -> list[Condition]:
    """Framed pictures of drawn objects, all different."""
    ratio = config.multiview.foreground_ratio
    drawn = [
        condition_view(make_object(object_seed("heldout", i)), 15.0, PHOTO_SIZE)
        for i in range(count)
    ]
    return [
        Condition(f"object-{i}", rgba=resize_foreground(rgba, ratio))
        for i, rgba in enumerate(drawn)
    ]


def measure(
    make: Make, given: Sequence[Condition], repeats: int, device: torch.device
) -> dict[str, Any]:
    """One row: a batch of all the given conditions, made `repeats` times after a warm-up.

    Raises:
        ForgeError: what a failed member of the batch says.
    """
    make(given, range(len(given)))
    samples: dict[str, list[float]] = {stage: [] for stage in STAGES}
    peaks = []
    for round_ in range(repeats):
        seeds = [1000 * (round_ + 1) + i for i in range(len(given))]
        reset_peak(device)
        made, seconds = make(given, seeds)
        peaks.append(_peak_mb(device))
        seconds["finish"] = _finish(made)
        for stage in STAGES:
            samples[stage].append(seconds[stage] / len(given))
    totals = [sum(values) for values in zip(*samples.values(), strict=True)]
    on_device = [
        sum(samples[stage][i] for stage in STAGES if stage != "finish") for i in range(repeats)
    ]
    columns = {**samples, "total": totals}
    return {
        "batch": len(given),
        **{name: _spread(values) for name, values in columns.items()},
        "assets_per_s": round(1 / statistics.median(on_device), 4),
        "peak_mb": round(max(peaks), 1),
    }


def sweep(
    make: Make,
    batches: Sequence[int],
    repeats: int,
    config: InstantMeshConfig,
    device: torch.device,
) -> list[dict[str, Any]]:
    """Rows of growing batches, until memory ends."""
    rows = []
    given = conditions(max(batches), config)
    for batch in sorted(batches):
        try:
            rows.append(measure(make, given[:batch], repeats, device))
        except torch.OutOfMemoryError:
            break
    return rows


def _finish(made: Sequence[Generated]) -> float:
    started = time.perf_counter()
    for i, mesh in enumerate(made):
        if not isinstance(mesh, Mesh):
            raise mesh if isinstance(mesh, Exception) else TypeError("a mesh was expected")
        finish_mesh(mesh, item_id=f"object-{i}", seed=i, provenance={})
    return time.perf_counter() - started


def _peak_mb(device: torch.device) -> float:
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 2**20
    return resident_mb(peak=True)


def _spread(values: Sequence[float]) -> dict[str, float]:
    quantiles = np.quantile(values, [0.5, 0.95])
    return {"p50_s": round(float(quantiles[0]), 4), "p95_s": round(float(quantiles[1]), 4)}


def run(options: argparse.Namespace) -> dict[str, Any]:
    """Both sides, and what the best batch gains."""
    device = device_named(options.device)
    words = [f"device={options.device}", "reference_cache=0", *options.words]
    source = preset_path(options.system, options.preset)
    if not load(InstantMeshConfig, source, words).weights.multiview:
        words = [*SPHERE, *words]
    config = load(InstantMeshConfig, source, words)
    check_device(config, device)
    result: dict[str, Any] = {"system": options.system, "preset": options.preset, "words": words}
    for name, side, batches in (("plain", plain, [1]), ("ours", ours, options.batches)):
        result[name] = sweep(side(config, device), batches, options.repeats, config, device)
        gc.collect()
        if device.type == "cuda":
            torch.cuda.empty_cache()
    if not result["plain"] or not result["ours"]:
        return result
    best = max(result["ours"], key=lambda row: row["assets_per_s"])
    base = result["plain"][0]
    result["best_batch"] = best["batch"]
    result["ratio_at_batch_1"] = _ratio(result["ours"][0], base)
    result["ratio_at_best_batch"] = _ratio(best, base)
    return result


def _ratio(row: dict[str, Any], base: dict[str, Any]) -> float:
    return round(row["assets_per_s"] / base["assets_per_s"], 2)


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.gpu_geco")
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--system", default="geco")
    parser.add_argument("--preset", default="full")
    parser.add_argument("--batches", type=int, nargs="+", default=[1, 2, 4, 8, 16])
    parser.add_argument("--repeats", type=int, default=20)
    parser.add_argument("--json", type=Path, nargs="?", const=Path(), help="record the numbers")
    parser.add_argument("words", nargs="*", help="key.sub=value on the preset")
    options = parser.parse_args()
    if options.json is not None and not options.device.startswith("cuda"):
        parser.error("only a GPU's numbers are recorded")
    print_machine()
    result = run(options)
    print(f"{'side':6} {'batch':>5} " + " ".join(f"{s:>12}" for s in (*STAGES, "total")))
    for side in ("plain", "ours"):
        for row in result[side]:
            cells = [f"{row[s]['p50_s']:.3f}/{row[s]['p95_s']:.3f}" for s in (*STAGES, "total")]
            print(f"{side:6} {row['batch']:5d} " + " ".join(f"{c:>12}" for c in cells), end="")
            print(f"  {row['assets_per_s']:.2f} assets/s, peak {row['peak_mb']:.0f} MB")
    for key in ("best_batch", "ratio_at_batch_1", "ratio_at_best_batch"):
        print(f"{key}: {result.get(key, 'not enough memory')}")
    if options.json is not None:
        print(save_result("gpu_geco", result, options.json if options.json.name else None))
    return 0


if __name__ == "__main__":
    sys.exit(main())
