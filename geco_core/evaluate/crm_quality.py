"""Quality of a CRM chain on held-out procedural objects, object by object, with floors.

Two sources feed the reconstructor: true views with true coordinate maps, and what the two diffusion
stages make of the condition image. Each object passes alone, as it does in a run on a CPU, so that
seconds are those of an item. Distances are in world units: objects fill a ball of radius 0.88.

Legend: B objects, V = 6 views in order 0..5, S pixels per side, P points.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from geco_core.config.models import ExtractionConfig, ViewRigConfig
from geco_core.diffusion.noise import ItemNoise
from geco_core.errors import BadItem
from geco_core.evaluate.crm_truth import CrmHeldOut
from geco_core.evaluate.geometry import constant_iou, volume_iou
from geco_core.evaluate.image import psnr
from geco_core.evaluate.mesh_quality import mesh_scores, true_renders
from geco_core.evaluate.summary import Summary, summarise
from geco_core.fields.crm_frame import canonical_to_world
from geco_core.multiview.crm import CrmDiffusion, CrmFrames
from geco_core.multiview.ortho_views import AXES, VIEW_NAMES
from geco_core.reconstruct.crm import CrmReconstructor
from geco_core.reconstruct.crm_input import frame_values, network_input
from geco_core.reconstruct.extraction import SurfaceMesh
from geco_core.shapes.canonical import BACKGROUND, MESH_SCALE
from geco_core.shapes.views import ORTHO_HALF_EXTENT

TRUE, GENERATED = "true views", "generated views"
STAGES = ("views", "ccm", "reconstruct", "extract")
METRICS = ("iou", "chamfer", "render_psnr", "view_psnr", "depth_error")
_ROUNDING = 1.5 / 255  # what a coordinate map may differ from its background where nothing is

Row = dict[str, Any]
Clock = Callable[[], float]


@dataclass(frozen=True)
class CrmChain:
    """What is measured: both halves, in evaluation mode, and how meshes are extracted."""

    diffusion: CrmDiffusion
    reconstructor: CrmReconstructor
    extraction: ExtractionConfig


@dataclass(frozen=True)
class Made:
    """What a chain made of one object.

    Attributes:
        condition: the prepared image, uint8 [N, N, 3].
        frames: what the reconstructor read.
        planes: [1, 3, C, S, S].
        mesh: world frame and size.
        seconds: by stage.
    """

    condition: np.ndarray
    frames: CrmFrames
    planes: Tensor
    mesh: SurfaceMesh | BadItem
    seconds: dict[str, float]


@torch.inference_mode()
def from_image(
    chain: CrmChain, rgba: np.ndarray, seed: int, clock: Clock = time.perf_counter
) -> Made:
    """The chain on a cut-out uint8 [H, W, 4]; all noise comes from the seed."""
    seconds: dict[str, float] = {}
    condition, noise = chain.diffusion.prepare(rgba), ItemNoise([seed])
    with _timed(seconds, "views", clock):
        views = chain.diffusion.make_views([condition], noise)
    with _timed(seconds, "ccm", clock):
        ccms = chain.diffusion.make_ccms([condition], views, noise)
    return _reconstructed(chain, condition, CrmFrames(views, ccms), seed, seconds, clock)


@torch.inference_mode()
def from_views(
    chain: CrmChain,
    rgba: np.ndarray,
    frames: CrmFrames,
    seed: int,
    clock: Clock = time.perf_counter,
) -> Made:
    """The second half of the chain on given frames of one object."""
    return _reconstructed(chain, chain.diffusion.prepare(rgba), frames, seed, {}, clock)


def measure_chain(
    chain: CrmChain,
    truth: CrmHeldOut,
    rig: ViewRigConfig,
    heard: Callable[[int, Made], None],
    clock: Clock = time.perf_counter,
) -> list[Row]:
    """Two rows per object: `source` is `TRUE` or `GENERATED`.

    Args:
        chain: the models.
        truth: held-out objects; their seeds draw all noise.
        rig: size and lens of the renders that are compared.
        heard: gets what came out of the condition image, object by object.
        clock: seconds.

    Returns:
        Rows with `object`, `class_name`, `source`, the `METRICS` that apply (`iou` of the field,
        `chamfer`, `render_psnr` in dB, `view_psnr` of stage 1 in dB on grey, `depth_error` of stage
        2 on the views of the source) and, of `GENERATED`, `<stage>_s`: seconds.
    """
    rows: list[Row] = []
    for index, (seed, rgba) in enumerate(zip(truth.seeds, truth.conditions, strict=True)):
        frames = true_frames(chain.diffusion, truth, index)
        known = from_views(chain, rgba, frames, seed, clock)
        made = from_image(chain, rgba, seed, clock)
        wanted = true_renders([seed], rig)[0]
        with torch.inference_mode():
            told = chain.diffusion.make_ccms([made.condition], frames.views, ItemNoise([seed]))
        for source, result, ccms in ((TRUE, known, told), (GENERATED, made, made.frames.ccms)):
            row = {"object": index, "class_name": truth.names[index], "source": source}
            row |= _scores(chain, result, truth, index, rig, wanted)
            rows.append(row | {"depth_error": _depth_error_of(ccms, truth, index)})
        views = truth.examples.views(torch.tensor([index]))
        rows[-1]["view_psnr"] = float(psnr(frame_values(made.frames.views), views))
        rows[-1] |= {f"{stage}_s": made.seconds[stage] for stage in STAGES}
        heard(index, made)
    return rows


def summarise_chain(rows: Sequence[Row]) -> dict[str, dict[str, Summary]]:
    """Source -> metric or seconds -> mean over objects with its 95% interval."""
    names = (*METRICS, *(f"{stage}_s" for stage in STAGES))
    return {
        source: {
            name: summarise([row[name] for row in mine], 0) for name in names if name in mine[0]
        }
        for source in dict.fromkeys(row["source"] for row in rows)
        for mine in [[row for row in rows if row["source"] == source]]
    }


def chain_floors(truth: CrmHeldOut, rig: ViewRigConfig) -> dict[str, float]:
    """What knowing nothing scores: empty pictures, the mean object, the best constant occupancy."""
    rows = torch.arange(len(truth))
    views, ccms = truth.examples.views(rows), truth.examples.ccms(rows)
    renders = true_renders(truth.seeds, rig)
    return {
        "view_psnr_grey": float(psnr(torch.full_like(views, BACKGROUND), views).mean()),
        "view_psnr_mean_object": float(psnr(_mean_object(views), views).mean()),
        "render_psnr_white": float(psnr(torch.ones_like(renders), renders).mean()),
        "render_psnr_mean_object": float(psnr(_mean_object(renders), renders).mean()),
        "iou_best_constant": constant_iou(truth.inside),
        "depth_error_mean_object": float(depth_error(_mean_object(ccms), ccms).mean()),
    }


def depth_error(ccms_BV3SS: Tensor, truth_BV3SS: Tensor) -> Tensor:
    """Mean distance [B] along the view axes between coordinate maps, in world units.

    Over the pixels that show the object in the true maps. Depth is what the reconstructor reads of
    a map.

    Args:
        ccms_BV3SS: maps in [0, 1], in view order.
        truth_BV3SS: true ones, grey where nothing is.
    """
    along = torch.tensor([AXES[view].towards[0] for view in range(len(VIEW_NAMES))])
    shown = (truth_BV3SS - BACKGROUND).abs().amax(2) > _ROUNDING  # [B, V, S, S]
    off = torch.stack([(ccms_BV3SS - truth_BV3SS)[:, v, axis] for v, axis in enumerate(along)], 1)
    share = (off.abs() * shown).flatten(1).sum(1) / shown.flatten(1).sum(1).clamp(min=1)
    return share * (2.0 * MESH_SCALE * ORTHO_HALF_EXTENT)


def true_frames(diffusion: CrmDiffusion, truth: CrmHeldOut, index: int) -> CrmFrames:
    """The true views and coordinate maps of an object, in the order of the rig's frames."""
    order, here = list(diffusion.config.views.rig.views), torch.tensor([index])
    pictures = (truth.examples.views(here), truth.examples.ccms(here))
    views, ccms = ((p[:, order] * 255.0).round().byte().movedim(-3, -1) for p in pictures)
    return CrmFrames(views, ccms)


def world_size(mesh: SurfaceMesh | BadItem) -> SurfaceMesh | BadItem:
    """A mesh of CRM's scale, in which objects are smaller by 1 / 1.05, at the size of the world."""
    if isinstance(mesh, BadItem):
        return mesh
    return replace(mesh, vertices=mesh.vertices * ORTHO_HALF_EXTENT)


def _reconstructed(
    chain: CrmChain,
    condition: np.ndarray,
    frames: CrmFrames,
    seed: int,
    seconds: dict[str, float],
    clock: Clock,
) -> Made:
    model = chain.reconstructor
    images = network_input(frame_values(frames.views), frame_values(frames.ccms))
    with _timed(seconds, "reconstruct", clock):
        planes = model.forward_planes(images, model.input_noise.draw(ItemNoise([seed])))
    with _timed(seconds, "extract", clock):
        (mesh,) = model.extract(planes, chain.extraction)
    return Made(condition, frames, planes, world_size(mesh), seconds)


@torch.inference_mode()
def _scores(
    chain: CrmChain,
    made: Made,
    truth: CrmHeldOut,
    index: int,
    rig: ViewRigConfig,
    wanted_V3SS: Tensor,
) -> dict[str, float]:
    inside_1P = chain.reconstructor.decoder.field(made.planes, truth.points[None]) > 0
    columns = torch.arange(truth.examples.spec.color_points)
    surface, _ = truth.examples.colors(torch.tensor([index]), columns)
    surface_Q3 = canonical_to_world(surface[0]) * ORTHO_HALF_EXTENT
    iou = float(volume_iou(inside_1P, truth.inside[index : index + 1]))
    return {"iou": iou} | mesh_scores(made.mesh, surface_Q3, wanted_V3SS, rig)


def _depth_error_of(ccms_1FSS3: Tensor, truth: CrmHeldOut, index: int) -> float:
    wanted = truth.examples.ccms(torch.tensor([index]))
    return float(depth_error(frame_values(ccms_1FSS3), wanted))


def _mean_object(pictures_B: Tensor) -> Tensor:
    return pictures_B.mean(0, keepdim=True).expand_as(pictures_B)


@contextmanager
def _timed(seconds: dict[str, float], stage: str, clock: Clock) -> Iterator[None]:
    begun = clock()
    yield
    seconds[stage] = clock() - begun
