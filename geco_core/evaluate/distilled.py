"""Teacher and students side by side on held-out procedural objects, sample by sample.

Every variant makes the same objects from the same seeds, so differences are paired. A mean image
beats a true sample in PSNR, so views are also compared in feature distance, and by what is
reconstructed from them: volume IoU of the field, Chamfer distance of the mesh to the visible
surface, PSNR of the mesh's renders from cameras between those of the rig.

Legend: B objects, V views, P points.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from geco_core.cameras import (
    encoder_cameras,
    rig_poses,
)
from geco_core.config.models import InstantMeshConfig, SamplerConfig
from geco_core.evaluate.geometry import volume_iou
from geco_core.evaluate.image import psnr
from geco_core.evaluate.mesh_quality import mesh_scores, true_renders
from geco_core.evaluate.micro_quality import HeldOut
from geco_core.evaluate.perceptual import RandomFeatures
from geco_core.imaging.views import resize_views
from geco_core.multiview.generate import views_of_images
from geco_core.multiview.zero123plus import Zero123Plus
from geco_core.reconstruct.instantmesh import InstantMesh

METRICS = ("view_psnr", "view_feature", "iou", "chamfer", "render_psnr")
COSTS = ("network_evaluations", "multiview_s")

Row = dict[str, Any]


@dataclass(frozen=True)
class Variant:
    """A chain to be measured: two models and how the first is sampled."""

    name: str
    multiview: Zero123Plus
    reconstructor: InstantMesh
    sampler: SamplerConfig


@torch.inference_mode()
def evaluate_variants(
    variants: Sequence[Variant],
    truth: HeldOut,
    config: InstantMeshConfig,
    seeds: Sequence[int],
    progress: Callable[[str], None],
    *,
    batch_size: int = 8,
) -> list[Row]:
    """Measure every variant on every object with every seed.

    Args:
        variants: what to compare.
        truth: held-out objects.
        config: rig, image size and extraction; the same for all variants.
        seeds: each makes one sample per object; object i of seed s gets `item_seed(s, i)`.
        progress: hears what is done.
        batch_size: objects per pass.

    Returns:
        One row per variant, seed and object: `variant`, `seed`, `object`, `class_name`,
        `view_psnr` and `render_psnr` (dB), `view_feature` (distance, at least 0), `iou`, `chamfer`
        (world units), `network_evaluations` (rows that went through the U-Net) and `multiview_s`
        (seconds), both per object.
    """
    renders = true_renders(truth.seeds, config.multiview.rig)
    rows: list[Row] = []
    for variant in variants:
        for seed in seeds:
            progress(f"{variant.name}, seed {seed}")
            for start in range(0, len(truth.names), batch_size):
                part = range(start, min(start + batch_size, len(truth.names)))
                rows += _measure(variant, truth, config, seed, part, renders)
    return rows


def item_seed(seed: int, index: int) -> int:
    """Seed of a sample: objects of different seeds share no noise."""
    return seed * 1_000_003 + index


def summarise_variants(
    rows: Sequence[Row], *, against: str, resamples: int = 2000
) -> dict[str, dict[str, dict[str, float]]]:
    """Means with 95% confidence intervals, and paired differences to one variant.

    Objects are drawn with replacement; all seeds of an object stay together, because they share
    its difficulty.

    Args:
        rows: of `evaluate_variants`.
        against: name of the variant the others are compared with.
        resamples: bootstrap draws.

    Returns:
        variant -> metric -> `mean`, `low`, `high`, `gap`, `gap_low`, `gap_high`, `seed_spread`
        (standard deviation of the means of single seeds). Costs have `mean` alone.
    """
    tables = {
        (name, metric): _by_object(rows, name, metric)
        for name in dict.fromkeys(row["variant"] for row in rows)
        for metric in METRICS
    }
    summary: dict[str, dict[str, dict[str, float]]] = {}
    for (name, metric), table_BS in tables.items():
        gap_B = (table_BS - tables[against, metric]).mean(1)
        mean, low, high = _interval(table_BS.mean(1), resamples)
        gap, gap_low, gap_high = _interval(gap_B, resamples)
        summary.setdefault(name, {})[metric] = {
            "mean": mean,
            "low": low,
            "high": high,
            "gap": gap,
            "gap_low": gap_low,
            "gap_high": gap_high,
            "seed_spread": float(table_BS.mean(0).std()),
        }
    for name, metrics in summary.items():
        for cost in COSTS:
            mine = [row[cost] for row in rows if row["variant"] == name]
            metrics[cost] = {"mean": float(np.mean(mine))}
    return summary


def _measure(
    variant: Variant,
    truth: HeldOut,
    config: InstantMeshConfig,
    seed: int,
    part: range,
    renders: Tensor,
) -> list[Row]:
    where = slice(part.start, part.stop)
    seeds = [item_seed(seed, i) for i in part]
    with _counted(variant.multiview) as count:
        begun = time.perf_counter()
        views = views_of_images(
            variant.multiview,
            truth.conditions[where],
            seeds,
            variant.sampler,
            batch_size=len(part),
        )
        seconds = (time.perf_counter() - begun) / len(part)
    device = variant.multiview.device
    cameras = encoder_cameras(rig_poses(config.multiview.rig), config.multiview.rig.fov_deg)
    images = resize_views(views.to(device), config.reconstructor.input_size)
    planes = variant.reconstructor.forward_planes(
        images, cameras.to(device).expand(len(part), -1, -1)
    ).float()
    points = truth.points.to(device).expand(len(part), -1, -1)
    inside = variant.reconstructor.decoder.sdf(planes, points).squeeze(-1).cpu() < 0
    scores = {
        "view_psnr": psnr(views, truth.views[where]),
        "view_feature": _feature_distance(views, truth.views[where]),
        "iou": volume_iou(inside, truth.inside[where]),
    }
    meshes = variant.reconstructor.extract(planes, config.extraction)
    rows: list[Row] = []
    for i, mesh in zip(part, meshes, strict=True):
        row: Row = {"variant": variant.name, "seed": seed, "object": i}
        row |= {"class_name": truth.names[i]}
        row |= {name: float(values[i - part.start]) for name, values in scores.items()}
        row |= mesh_scores(mesh, truth.surface[i], renders[i], config.multiview.rig)
        row |= {"network_evaluations": count[0] / len(part), "multiview_s": seconds}
        rows.append(row)
    return rows


@contextmanager
def _counted(model: Zero123Plus) -> Iterator[list[int]]:
    """Count the batch rows that go through the U-Net."""
    count = [0]

    def add(_module: Any, inputs: tuple[Any, ...]) -> None:
        count[0] += len(inputs[0])

    handle = model.unet.register_forward_pre_hook(add)
    try:
        yield count
    finally:
        handle.remove()


def _feature_distance(views_BV3HW: Tensor, reference_BV3HW: Tensor) -> Tensor:
    distances = RandomFeatures()(views_BV3HW.flatten(0, 1), reference_BV3HW.flatten(0, 1))
    return distances.view(len(views_BV3HW), -1).mean(1)


def _by_object(rows: Sequence[Row], name: str, metric: str) -> np.ndarray:
    """Values float64 [B, seeds] of one variant."""
    mine = sorted(
        (row["object"], row["seed"], row[metric]) for row in rows if row["variant"] == name
    )
    objects = len({row[0] for row in mine})
    return np.array([row[2] for row in mine]).reshape(objects, -1)


def _interval(values_B: np.ndarray, resamples: int) -> tuple[float, float, float]:
    generator = np.random.default_rng(0)
    drawn = generator.integers(0, len(values_B), (resamples, len(values_B)))
    low, high = np.percentile(values_B[drawn].mean(1), (2.5, 97.5))
    return float(values_B.mean()), float(low), float(high)
