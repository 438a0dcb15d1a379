"""Stage II: the chain generator -> reconstructor learns to give the teacher chain's renders.

Follows GECO (arXiv 2405.20327, section 3.3): from the same condition and noise the teacher chain's
mesh was rendered from many cameras; the one-step chain is trained so that its own renders match,
through the differentiable renderer, with MSE and a perceptual distance. The mask, deviation and
weight terms are those of InstantMesh's own mesh training (arXiv 2404.07191, section 3.3). Whether
the generator learns along is a setting: the paper's text is ambiguous.

Legend: B batch, V input views, K target views, H W pixels of a render.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from geco_core.cameras import encoder_cameras, projection, rig_poses
from geco_core.evaluate.perceptual import Perceptual
from geco_core.imaging.framing import condition_pixels_from_tensor
from geco_core.imaging.views import resize_views
from geco_core.multiview.zero123plus import Zero123Plus
from geco_core.reconstruct.geometry import Geometry
from geco_core.reconstruct.grid_heads import WeightsOn
from geco_core.reconstruct.instantmesh import InstantMesh
from geco_core.render.mesh import render_mesh
from geco_core.render.protocol import Rasterizer


@dataclass(frozen=True)
class Stage2Config:
    """Numbers of Stage II.

    Attributes:
        train_generator: the generator's U-Net learns along; else its views are fixed inputs.
        reference_t, generator_guidance: of the one-step generator, as in Stage I.
        grid_res: cubes per axis while training; None takes the reconstructor's own.
        render_size: side of the renders in pixels; targets must have it.
        supersample: renders are made this much larger and averaged.
        mse_weight: on colours in [-1, 1].
        perceptual_weight: lambda; 2.0 in InstantMesh's training.
        perceptual_folder: LPIPS weights (`geco evaluate` says which); without, fixed random
            features take their place.
        mask_weight, entropy_weight, deviation_weight, regularise_weight: see InstantMesh.
        weights_on: see `geco_core.reconstruct.geometry.geometry`.
    """

    train_generator: bool = False
    reference_t: int = 0
    generator_guidance: float = 1.0
    grid_res: int | None = None
    render_size: int = 64
    supersample: int = 1
    mse_weight: float = 1.0
    perceptual_weight: float = 2.0
    perceptual_folder: str = ""
    mask_weight: float = 1.0
    entropy_weight: float = 0.01
    deviation_weight: float = 0.5
    regularise_weight: float = 0.1
    weights_on: WeightsOn = "surface"

    def __post_init__(self) -> None:
        for name in ("render_size", "supersample"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be positive, got {getattr(self, name)}")


@dataclass(frozen=True)
class Stage2Batch:
    """Conditions, the noise of the teacher's samples, and renders of the teacher's meshes.

    Attributes:
        images: framed conditions [B, 3, S, S] in [0, 1].
        z: initial noise of the tile latents [B, c, h, w].
        renders: [B, K, 3, H, W] in [0, 1], white background.
        masks: [B, K, 1, H, W] in [0, 1].
        w2c: world-to-camera of the renders [B, K, 4, 4], OpenGL axes.
        fov_deg: vertical field of view of the renders, degrees.
    """

    images: Tensor
    z: Tensor
    renders: Tensor
    masks: Tensor
    w2c: Tensor
    fov_deg: float


class Stage2:
    """The chain under training and its loss."""

    def __init__(
        self,
        generator: Zero123Plus,
        reconstructor: InstantMesh,
        rasterizer: Rasterizer,
        perceptual: Perceptual,
        config: Stage2Config,
    ) -> None:
        self.generator, self.reconstructor, self.config = generator, reconstructor, config
        self._rasterizer, self._perceptual = rasterizer, perceptual
        generator.requires_grad_(False)
        generator.unet.requires_grad_(config.train_generator)
        rig = generator.config.rig
        self._cameras_V16 = encoder_cameras(rig_poses(rig), rig.fov_deg)

    def views(self, batch: Stage2Batch) -> Tensor:
        """The generator's views [B, V, 3, view, view] in [0, 1], with their graph if it learns."""
        model = self.generator
        vae, clip = condition_pixels_from_tensor(batch.images, model.config)
        scale = self.config.generator_guidance
        with torch.no_grad():
            condition = model.encode_condition(vae.to(batch.z), clip.to(batch.z))
            negative = None if scale == 1.0 else model.negative_condition(len(batch.z))
        with torch.set_grad_enabled(self.config.train_generator and torch.is_grad_enabled()):
            latents = model.one_step(
                batch.z,
                condition,
                reference_t=self.config.reference_t,
                negative=negative,
                guidance_scale=scale,
            )
            return model.decode(latents)

    def loss(self, batch: Stage2Batch) -> tuple[Tensor, Mapping[str, float]]:
        """Loss of a batch, the mean of its rows' losses, and its parts.

        Every row gets a geometry of its own: regularisers averaged over the cubes of a whole batch
        would make the loss depend on how a batch is cut into pieces and dealt to processes.
        """
        cfg = self.config
        planes, shapes = self._surfaces(batch)
        rgb, masks = self.renders(planes, shapes, batch)
        wanted, wanted_masks = batch.renders.flatten(0, 1), batch.masks.flatten(0, 1)
        parts = {
            "mse": (2.0 * (rgb - wanted)).square().mean(),
            "perceptual": self._perceptual(rgb, wanted).mean(),
            "mask": (masks - wanted_masks).square().mean(),
            "entropy": torch.stack([shape.sdf_entropy for shape in shapes]).mean(),
            "deviation": torch.stack([shape.surface_reg for shape in shapes]).mean(),
            "regularise": torch.stack([shape.weight_reg for shape in shapes]).mean(),
        }
        total = sum(
            (getattr(cfg, f"{name}_weight") * value for name, value in parts.items()),
            start=torch.cat([shape.sdf_reg for shape in shapes]).mean(),
        )
        assert isinstance(total, Tensor)
        numbers = {name: float(value.detach()) for name, value in parts.items()}
        numbers["repaired"] = float(torch.cat([s.repaired for s in shapes]).float().mean())
        return total, numbers

    def look(self, batch: Stage2Batch) -> Tensor:
        """The chain's renders of a batch from its cameras, [B, K, 3, H, W] in [0, 1]."""
        rgb, _ = self.renders(*self._surfaces(batch), batch)
        return rgb.unflatten(0, batch.w2c.shape[:2])

    def _surfaces(self, batch: Stage2Batch) -> tuple[Tensor, list[Geometry]]:
        """Planes [B, 3, C, h, w] and the surface in each."""
        cfg = self.config
        images = resize_views(self.views(batch), self.reconstructor.config.input_size)
        cameras = self._cameras_V16.to(images).expand(len(images), -1, -1)
        planes = self.reconstructor.forward_planes(images, cameras).float()
        return planes, [
            self.reconstructor.geometry(row, True, grid_res=cfg.grid_res, weights_on=cfg.weights_on)
            for row in planes.split(1)
        ]

    def renders(
        self, planes: Tensor, shapes: Sequence[Geometry], batch: Stage2Batch
    ) -> tuple[Tensor, Tensor]:
        """Colours [B K, 3, H, W] and masks [B K, 1, H, W] of the batch's meshes, one per shape."""
        proj = projection(batch.fov_deg).to(planes)
        colors, masks = [], []
        for b, shape in enumerate(shapes):
            mine = planes[b : b + 1]

            def color_of(points: Tensor, mine: Tensor = mine) -> Tensor:
                return self.reconstructor.decoder.rgb(mine, points[None])[0].clamp(0, 1)

            made = render_mesh(
                self._rasterizer,
                shape.vertices[0],
                shape.faces[0],
                batch.w2c[b],
                proj,
                self.config.render_size,
                color_fn=color_of,
                supersample=self.config.supersample,
                antialias_color=True,
            )
            colors.append(made.rgb)
            masks.append(made.mask)
        return torch.cat(colors), torch.cat(masks)
