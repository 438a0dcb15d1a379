"""Quality of the micro teacher chain on held-out procedural objects, with floors.

What is measured, per object:
- views: six-view PSNR of one-step and multi-step samples against true renders;
- reconstruction from true views and from the teacher's views: volume IoU of the extracted field at
  uniform points of the box, and the colour of the surface;
- floors: all-white views, the mean object's views, the best single occupancy for all objects.

Legend: B objects, V views, P points.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from geco_core.cameras import encoder_cameras, rig_poses
from geco_core.config.models import InstantMeshConfig, SamplerConfig
from geco_core.evaluate.geometry import constant_iou, volume_iou
from geco_core.evaluate.image import psnr
from geco_core.imaging.framing import composite
from geco_core.multiview.generate import views_of_images
from geco_core.multiview.zero123plus import Zero123Plus
from geco_core.reconstruct.instantmesh import InstantMesh
from geco_core.shapes.dataset import make_example
from geco_core.shapes.object import make_object, object_seed
from geco_core.training.cache import framed_condition

BOX_HALF_EXTENT = 1.05


@dataclass
class HeldOut:
    """Ground truth of the evaluation set.

    Attributes:
        conditions: [B, 3, C, C] framed, on white.
        views: [B, V, 3, S, S] true six views on white.
        inside: bool [B, P] occupancy at `points`.
        points: [P, 3] uniform in the box, the same for every object.
        surface: [B, Q, 3] points on the visible surface, with `colors` [B, Q, 3].
        names: class names.
        seeds: of the objects.
    """

    conditions: Tensor
    views: Tensor
    inside: Tensor
    points: Tensor
    surface: Tensor
    colors: Tensor
    names: list[str]
    seeds: list[int]


def load_heldout(
    count: int, config: InstantMeshConfig, points: int = 20_000, first: int = 0
) -> HeldOut:
    """Build the ground truth of `count` held-out objects from seeds."""
    generator = np.random.default_rng(12345)
    cloud = generator.uniform(-BOX_HALF_EXTENT, BOX_HALF_EXTENT, (points, 3)).astype(np.float32)
    rows: dict[str, list[np.ndarray]] = {
        k: [] for k in ("condition", "views", "inside", "surface", "colors")
    }
    names, seeds = [], []
    model = config.multiview
    for index in range(first, first + count):
        seed = object_seed("heldout", index)
        example = make_example(seed, view_size=model.rig.view_size, n_sdf=2, n_color=512)
        rows["condition"].append(
            framed_condition(example.condition, model.condition_size, model.foreground_ratio)
        )
        rows["views"].append(np.stack([composite(v, "white") for v in example.views]))
        rows["inside"].append(make_object(seed).sdf(cloud) < 0)
        rows["surface"].append(example.color_points)
        rows["colors"].append(example.color_values)
        names.append(example.class_name)
        seeds.append(seed)
    as_images = [
        torch.from_numpy(np.stack(rows[k])).movedim(-1, -3).float() / 255
        for k in ("condition", "views")
    ]
    return HeldOut(
        as_images[0],
        as_images[1],
        torch.from_numpy(np.stack(rows["inside"])),
        torch.from_numpy(cloud),
        torch.from_numpy(np.stack(rows["surface"])).float(),
        torch.from_numpy(np.stack(rows["colors"])).float(),
        names,
        seeds,
    )


@torch.inference_mode()
def sample_views(
    model: Zero123Plus, truth: HeldOut, sampler: SamplerConfig, seed: int = 0
) -> Tensor:
    """The teacher's views [B, V, 3, S, S] of every held-out object, on the CPU."""
    seeds = range(seed, seed + len(truth.names))
    return views_of_images(model, truth.conditions, seeds, sampler)


@torch.inference_mode()
def reconstruction_scores(
    model: InstantMesh, config: InstantMeshConfig, truth: HeldOut, views: Tensor
) -> dict[str, Tensor]:
    """Per-object scores of the fields reconstructed from views.

    `iou` [B], `color_psnr` [B] (dB, surface points), `color_hit` [B] (share of points right).

    A surface point counts as right when the predicted colour lies within 0.2 of the true one in
    every channel.
    """
    cameras = encoder_cameras(rig_poses(config.multiview.rig), config.multiview.rig.fov_deg)
    device = next(model.parameters()).device
    ious, quality, hits = [], [], []
    for i in range(0, len(views), 8):
        chunk = views[i : i + 8]
        planes = model.forward_planes(
            chunk.to(device), cameras.to(device).expand(len(chunk), -1, -1)
        )
        points = truth.points.to(device).expand(len(chunk), -1, -1)
        inside = model.decoder.sdf(planes, points).squeeze(-1).cpu() < 0
        ious.append(volume_iou(inside, truth.inside[i : i + 8]))
        rgb = model.decoder.rgb(planes, truth.surface[i : i + 8].to(device)).cpu()
        quality.append(psnr(rgb, truth.colors[i : i + 8]))
        hits.append(((rgb - truth.colors[i : i + 8]).abs().amax(-1) < 0.2).float().mean(-1))
    return {"iou": torch.cat(ious), "color_psnr": torch.cat(quality), "color_hit": torch.cat(hits)}


def floors(truth: HeldOut) -> dict[str, float]:
    """What knowing nothing scores.

    White views, the mean object's views, the best constant occupancy and the mean colour.
    """
    mean_views = truth.views.mean(0, keepdim=True).expand_as(truth.views)
    mean_color = truth.colors.mean(dim=(0, 1))
    return {
        "psnr_all_white": float(psnr(torch.ones_like(truth.views), truth.views).mean()),
        "psnr_mean_object": float(psnr(mean_views, truth.views).mean()),
        "iou_best_constant": constant_iou(truth.inside),
        "color_psnr_mean_color": float(
            psnr(mean_color.expand_as(truth.colors), truth.colors).mean()
        ),
        "color_hit_mean_color": float(
            ((mean_color - truth.colors).abs().amax(-1) < 0.2).float().mean()
        ),
    }


def evaluate_chain(
    multiview: Zero123Plus,
    reconstructor: InstantMesh,
    config: InstantMeshConfig,
    truth: HeldOut,
    progress: Callable[[str], None],
) -> dict[str, float]:
    """All numbers of the README's table, as plain floats."""
    numbers: dict[str, float] = {"objects": float(len(truth.names))} | floors(truth)
    progress("sampling one step")
    one = sample_views(
        multiview, truth, SamplerConfig(kind="one_step", steps=1, guidance_scale=1.0)
    )
    progress("sampling with the preset's steps")
    multi = sample_views(multiview, truth, config.sampler)
    numbers["psnr_one_step"] = float(psnr(one, truth.views).mean())
    numbers["psnr_multi_step"] = float(psnr(multi, truth.views).mean())
    for name, views in (("true", truth.views), ("teacher", multi), ("one_step", one)):
        progress(f"reconstructing from {name} views")
        scores = reconstruction_scores(reconstructor, config, truth, views)
        for key, value in scores.items():
            numbers[f"{key}_from_{name}_views"] = float(value.mean())
    return numbers
