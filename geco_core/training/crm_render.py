"""CRM's end-to-end loss: images -> triplanes -> FlexiCubes -> renders, against true renders.

Follows CRM (arXiv 2403.05034, sections 3.3 and 4.1): squared errors of colour, depth and mask, a
perceptual distance, FlexiCubes' regularisers. Left open by what is published, and chosen here: the
depth term counts the pixels that both surfaces cover; both regularisers have the same share;
colours are clamped to [0, 1] with the slope of unclamped ones. What differs: an object without a
surface can not be rendered and is pulled towards the sphere that every object starts as;
supervision at points can be added, which small renders need: silhouettes move no triangles smaller
than a pixel.

Legend: B objects, K renders, R pixels per side, P points, S side of the network's pictures.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import torch
import torch.nn.functional as F
from torch import Tensor

from geco_core.cameras import projection, world_to_camera
from geco_core.evaluate.perceptual import Perceptual
from geco_core.fields.crm_frame import world_to_canonical
from geco_core.reconstruct.crm import CrmReconstructor
from geco_core.reconstruct.crm_geometry import CrmGeometry
from geco_core.reconstruct.geometry import WeightsOn
from geco_core.render.mesh import MeshRender, render_mesh
from geco_core.render.protocol import Rasterizer
from geco_core.training.crm_batches import model_point_loss
from geco_core.training.point_loss import PointLossWeights
from geco_core.training.rendered import RenderedBatch, Renders


@dataclass(frozen=True)
class CrmRenderConfig:
    """Numbers of the loss. The defaults are the published ones where there are any.

    Attributes:
        render_size: R; targets must have it.
        views_per_step: renders of an object looked at in a step.
        grid_res: cubes per axis while training; None takes the model's own.
        supersample: renders are made this much larger and averaged.
        weights_on: see `geco_core.reconstruct.crm_geometry.geometry`.
        image_weight: of the squared colour error, colours in [0, 1].
        lpips_weight: of the perceptual distance.
        perceptual_folder: weights of LPIPS; without, fixed random features take their place.
        depth_weight: of the squared depth error, lengths in the scale of the meshes.
        mask_weight: of the squared error of coverage.
        regularisation_weight: of FlexiCubes' two regularisers together.
        deviation_factor: share of the mean deviation in them.
        weights_factor: share of the mean squared FlexiCubes weight in them.
        sphere_weight: of what an object without a surface contributes instead of renders: its
            field's squared distance from that of the first sphere.
        sphere_points: P at which that is measured.
        point_weight: of the supervision at points; 0 needs no points.
        points: what its parts are worth.
    """

    render_size: int = 256
    views_per_step: int = 8
    grid_res: int | None = None
    supersample: int = 1
    weights_on: WeightsOn = "surface"
    image_weight: float = 1.0
    lpips_weight: float = 0.1
    perceptual_folder: str = ""
    depth_weight: float = 0.5
    mask_weight: float = 0.5
    regularisation_weight: float = 0.005
    deviation_factor: float = 1.0
    weights_factor: float = 1.0
    sphere_weight: float = 1.0
    sphere_points: int = 2048
    point_weight: float = 0.0
    points: PointLossWeights = field(default_factory=PointLossWeights)

    def __post_init__(self) -> None:
        for name in ("render_size", "views_per_step", "supersample", "sphere_points"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be positive, got {getattr(self, name)}")

    def weights(self) -> dict[str, float]:
        """What every part is worth in the sum."""
        return {
            "image": self.image_weight,
            "lpips": self.lpips_weight,
            "depth": self.depth_weight,
            "mask": self.mask_weight,
            "deviation": self.regularisation_weight * self.deviation_factor,
            "weights": self.regularisation_weight * self.weights_factor,
            "sphere": self.sphere_weight,
            "points": self.point_weight,
        }


def crm_render_loss(
    model: CrmReconstructor,
    batch: RenderedBatch,
    config: CrmRenderConfig,
    generator: torch.Generator,
    perceptual: Perceptual,
    rasterizer: Rasterizer,
) -> tuple[Tensor, Mapping[str, float]]:
    """Loss of a batch, the mean of its objects' losses, and its parts.

    Every object gets a geometry of its own: regularisers averaged over the cubes of a whole batch
    would make the loss depend on how a batch is cut into pieces and dealt to processes.

    Args:
        model: under training.
        batch: of B objects, on the model's device.
        config: what the parts are worth.
        generator: on the CPU; of the input's noise and the points of the sphere's term. The draws
            depend on it and on the batch's shape alone.
        perceptual: distance of images, on the model's device.
        rasterizer: for that device.

    Returns:
        The loss; its parts without their weights, whose weighted sum (`CrmRenderConfig.weights`) it
        is: means over all objects, to which those without a surface add 0. Their share is `empty`.

    Raises:
        ValueError: the targets have another size, or points are wanted and missing.
    """
    _check(batch, config)
    noise = torch.randn(batch.inputs.shape, generator=generator)
    reach = model.config.grid_scale / 2
    space_P3 = (torch.rand(config.sphere_points, 3, generator=generator) * 2 - 1) * reach
    planes = model.forward_planes(batch.inputs, noise).float()
    parts: dict[str, Tensor] = {name: planes.new_zeros(()) for name in config.weights()}
    empty = 0
    for b, row in enumerate(planes.split(1)):
        shape = model.geometry(row, True, grid_res=config.grid_res, weights_on=config.weights_on)
        if bool(shape.empty[0]):
            empty += 1
            mine = {"sphere": sphere_error(model, row, space_P3.to(row))}
        else:
            mine = _object_parts(
                model, row, shape, batch.renders, b, config, perceptual, rasterizer
            )
        for name, value in mine.items():
            parts[name] = parts[name] + value / len(planes)
    if config.point_weight > 0 and batch.points is not None:
        parts["points"], _ = model_point_loss(model, planes, batch.points, config.points)
    weights = config.weights()
    total = torch.stack([weights[name] * value for name, value in parts.items()]).sum()
    numbers = {name: float(value.detach()) for name, value in parts.items()}
    return total, {**numbers, "empty": empty / len(planes)}


def render_planes(
    model: CrmReconstructor,
    planes: Tensor,
    shape: CrmGeometry,
    renders: Renders,
    b: int,
    config: CrmRenderConfig,
    rasterizer: Rasterizer,
) -> MeshRender:
    """The mesh `shape` of planes [1, 3, C, S, S] from the cameras of object `b` of `renders`."""

    def color_of(points: Tensor) -> Tensor:
        raw = model.decoder.rgb(planes, world_to_canonical(points)[None])[0]
        # The value of a clamped colour; the slope of an unclamped one, else it would stay outside.
        return raw + (raw.clamp(0, 1) - raw).detach()

    return render_mesh(
        rasterizer,
        shape.vertices[0],
        shape.faces[0],
        world_to_camera(renders.c2w[b]),
        projection(renders.fov_deg).to(planes),
        config.render_size,
        color_fn=color_of,
        supersample=config.supersample,
        antialias_color=True,
        background=renders.background,
    )


def sphere_error(model: CrmReconstructor, planes: Tensor, points_P3: Tensor) -> Tensor:
    """Mean squared difference of the field at points [P, 3] from the field of the first sphere."""
    radius = model.config.sphere_radius or 0.5
    wanted_P = radius - points_P3.norm(dim=-1)
    return (model.decoder.field(planes, points_P3[None])[0] - wanted_P).square().mean()


def _object_parts(
    model: CrmReconstructor,
    planes: Tensor,
    shape: CrmGeometry,
    renders: Renders,
    b: int,
    config: CrmRenderConfig,
    perceptual: Perceptual,
    rasterizer: Rasterizer,
) -> dict[str, Tensor]:
    made = render_planes(model, planes, shape, renders, b, config, rasterizer)
    depth, wanted = made.depth[:, 0], renders.depths[b]
    # What one surface covers alone has no depth to compare with; that is the mask's business.
    both = (depth > 0) & (wanted > 0)
    return {
        "image": F.mse_loss(made.rgb, renders.images[b]),
        "lpips": perceptual(made.rgb, renders.images[b]).mean(),
        "depth": ((depth - wanted) * both).square().mean(),
        "mask": F.mse_loss(made.mask[:, 0], renders.masks[b]),
        "deviation": shape.surface_reg,
        "weights": shape.weight_reg,
    }


def _check(batch: RenderedBatch, config: CrmRenderConfig) -> None:
    size = batch.renders.images.shape[-1]
    if size != config.render_size:
        raise ValueError(f"targets of {size} pixels for renders of {config.render_size}")
    if config.point_weight > 0 and batch.points is None:
        raise ValueError("point_weight is set, and the batch has no points")
