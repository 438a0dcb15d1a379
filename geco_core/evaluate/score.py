"""All standard numbers of one generated mesh against its reference.

Legend: V views, R resolution, P points, N vertices.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from geco_core.evaluate.alignment import Aligned, about_vertical, align, normalisation
from geco_core.evaluate.geometry import nearest_distances, point_scores, volume_iou
from geco_core.evaluate.image import psnr, silhouette_iou, ssim
from geco_core.evaluate.occupancy import grid_around, occupancy
from geco_core.evaluate.protocol import Protocol
from geco_core.evaluate.renders import Renders, render_albedo
from geco_core.evaluate.surface_points import sample_surface
from geco_core.mesh.frames import gltf_to_world
from geco_core.render.protocol import Rasterizer
from geco_core.types import Mesh

# A generated mesh far larger than its reference gets larger cells instead of more than this many.
MAX_CELLS_PER_UNIT = 3

PairMetric = Callable[[Tensor, Tensor], Tensor]
"""Images and reference images [V, 3, R, R] in [0, 1] -> one value per view [V]."""


@dataclass(frozen=True)
class Metric:
    """How a number is shown: its name, unit, and whether more is better."""

    name: str
    unit: str
    higher_is_better: bool


METRICS = {
    metric.name: metric
    for metric in (
        Metric("psnr", "dB", higher_is_better=True),
        Metric("ssim", "", higher_is_better=True),
        Metric("silhouette_iou", "", higher_is_better=True),
        Metric("chamfer", "unit cube", higher_is_better=False),
        Metric("f_score", "", higher_is_better=True),
        Metric("volume_iou", "", higher_is_better=True),
        Metric("lpips", "", higher_is_better=False),
        Metric("lpips_alex", "", higher_is_better=False),
        Metric("clip", "", higher_is_better=True),
    )
}


@dataclass(frozen=True)
class Reference:
    """What a mesh is compared with.

    Attributes:
        mesh: in the frame that the protocol states.
        azimuth_deg: where around the vertical axis the input image was taken; the reference is
            turned so that this side is its front.
        images: [V, 3, R, R] renders to compare with instead of our own, or None.
        masks: [V, 1, R, R] their coverage; None where the images have no transparency, and then
            there is no overlap of silhouettes.
    """

    mesh: Mesh
    azimuth_deg: float = 0.0
    images: Tensor | None = None
    masks: Tensor | None = None


@dataclass(frozen=True)
class Scored:
    """The numbers of one object.

    Attributes:
        metrics: by name, of `METRICS` and the extras given.
        details: precision, recall, the sampling floor of the Chamfer distance.
        aligned: the alignment that was used.
        renders: of the generated mesh.
        reference_renders: what they were compared with.
    """

    metrics: Mapping[str, float]
    details: Mapping[str, Any]
    aligned: Aligned
    renders: Renders
    reference_renders: Renders


@torch.no_grad()
def score_mesh(
    mesh: Mesh,
    reference: Reference,
    protocol: Protocol,
    rasterizer: Rasterizer,
    extras: Mapping[str, PairMetric] | None = None,
) -> Scored:
    """Score one mesh; a function of its arguments alone.

    Args:
        mesh: generated, glTF frame.
        reference: see `Reference`.
        protocol: what to measure and how.
        rasterizer: of the renders.
        extras: further metrics of pairs of images, by name.
    """
    ours = gltf_to_world(mesh.vertices).astype(np.float64)
    theirs = _upright(reference, protocol)
    unit = normalisation(theirs, protocol.normalise)
    theirs = unit.apply(theirs)
    count, seed = protocol.points, protocol.seed
    points = sample_surface(ours, mesh.faces, count, seed)
    targets = sample_surface(theirs, reference.mesh.faces, count, seed)
    box = np.array([theirs.min(axis=0), theirs.max(axis=0)])
    aligned = align(protocol.align, ours, points, targets, box, unit, protocol.yaw_steps)
    ours = aligned.transform.apply(ours)
    renders = render_albedo(mesh, ours, protocol, rasterizer)
    expected = _expected(reference, theirs, protocol, rasterizer)
    metrics = _image_metrics(renders, expected, extras or {})
    near = point_scores(aligned.transform.apply(points), targets, protocol.f_score_threshold)
    metrics |= {
        "chamfer": near.chamfer,
        "f_score": near.f_score,
        "volume_iou": _volume_iou(ours, mesh.faces, theirs, reference.mesh.faces, protocol),
    }
    again = sample_surface(theirs, reference.mesh.faces, count, seed + 1)
    details = {
        "precision": near.precision,
        "recall": near.recall,
        "chamfer_floor": float(nearest_distances(again, targets).mean()),
        "colored": _colored(mesh),
        "reference_colored": reference.images is not None or _colored(reference.mesh),
    }
    ordered = {name: metrics[name] for name in [*METRICS, *metrics] if name in metrics}
    return Scored(ordered, details, aligned, renders, expected)


def _upright(reference: Reference, protocol: Protocol) -> np.ndarray:
    """Vertices float64 [N, 3] of the reference in the world frame, input view in front."""
    vertices = reference.mesh.vertices.astype(np.float64)
    if protocol.reference_up == "y":
        vertices = gltf_to_world(vertices)
    return vertices @ about_vertical(-reference.azimuth_deg).T


def _expected(
    reference: Reference, vertices: np.ndarray, protocol: Protocol, rasterizer: Rasterizer
) -> Renders:
    if reference.images is not None:
        return Renders(reference.images, reference.masks)
    return render_albedo(reference.mesh, vertices, protocol, rasterizer)


def _image_metrics(
    renders: Renders, expected: Renders, extras: Mapping[str, PairMetric]
) -> dict[str, float]:
    """Means over the views."""
    images, wanted = renders.rgb, expected.rgb
    silhouettes = torch.full((len(images),), torch.nan)
    if expected.mask is not None and renders.mask is not None:
        silhouettes = silhouette_iou(renders.mask, expected.mask)
    pairs = {
        "psnr": psnr(images, wanted),
        "ssim": ssim(images, wanted),
        "silhouette_iou": silhouettes,
    } | {name: metric(images, wanted) for name, metric in extras.items()}
    return {name: float(values.double().mean()) for name, values in pairs.items()}


def _volume_iou(
    vertices: np.ndarray,
    faces: np.ndarray,
    reference: np.ndarray,
    reference_faces: np.ndarray,
    protocol: Protocol,
) -> float:
    boxes = [np.array([v.min(axis=0), v.max(axis=0)]) for v in (vertices, reference)]
    limit = MAX_CELLS_PER_UNIT * protocol.cells + 2
    grid = grid_around(boxes, 1.0 / protocol.cells, limit)
    ours, theirs = (
        torch.from_numpy(occupancy(v, f, grid).reshape(1, -1))
        for v, f in ((vertices, faces), (reference, reference_faces))
    )
    # Two meshes without volume do not agree about volume: they have none to compare.
    if not bool(theirs.any()):
        return float("nan")
    return float(volume_iou(ours, theirs))


def _colored(mesh: Mesh) -> bool:
    return mesh.colors is not None or (mesh.uvs is not None and mesh.texture is not None)
