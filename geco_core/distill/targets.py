"""Teacher targets: what a teacher chain makes of a condition, and renders of its mesh.

Follows GECO (arXiv 2405.20327, section 3.3): a deterministic DDIM sample from a known noise goes
through the frozen reconstructor, and its mesh is rendered from many cameras for the one-step chain
to match. What differs: every draw comes from the item's seed, those of the reference passes and of
the two posteriors too, because without them the sample is not a function of its noise; and the
teacher reads the very pixels that are stored, so that a target can be made again from its own row.

Legend: B conditions, S condition pixels, c H W tile latents, V views, K renders of side R.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor

from geco_core.cameras import projection
from geco_core.config.distill import TargetsConfig
from geco_core.config.models import InstantMeshConfig
from geco_core.distill.target_address import (
    condition_digest,
    noise_seeds,
    settings_digest,
    target_cameras,
    target_condition,
    target_key,
    teacher_digest,
)
from geco_core.distill.target_images import over_white, straight_rgba
from geco_core.errors import BadItem, ConfigError
from geco_core.imaging.framing import condition_pixels
from geco_core.imaging.views import resize_views
from geco_core.mesh.frames import world_to_gltf
from geco_core.multiview.generate import sample_latents
from geco_core.multiview.zero123plus import Zero123Plus
from geco_core.reconstruct.extraction import SurfaceMesh
from geco_core.reconstruct.instantmesh import InstantMesh
from geco_core.reconstruct.instantnerf import InstantNeRF
from geco_core.render.mesh import render_mesh
from geco_core.render.protocol import Rasterizer
from geco_core.render.registry import get_rasterizer
from geco_core.systems.device import precision, tf32
from geco_core.types import Mesh, Target

__all__ = [
    "MadeTarget",
    "Target",
    "TargetMaker",
    "TeacherChain",
    "check_teacher",
    "make_target",
    "noise_seeds",
    "over_white",
    "target_cameras",
    "target_condition",
    "target_key",
    "teacher_digest",
]

PIXELS_AT_ONCE = 1 << 21


class TeacherChain(Protocol):
    """What a target is made with: `geco_core.systems.instantmesh.InstantMeshSystem`."""

    config: InstantMeshConfig

    @property
    def models(self) -> tuple[Zero123Plus, InstantMesh | InstantNeRF]:
        """The multi-view model and the reconstructor."""
        ...

    @property
    def rig_cameras(self) -> Tensor:
        """Encoder cameras of the rig, float [V, 16]."""
        ...

    def provenance(self) -> Mapping[str, Any]:
        """At least `weights_digest`."""
        ...


@dataclass(frozen=True)
class MadeTarget:
    """A target and the teacher's mesh it shows (glTF frame, vertex colours)."""

    target: Target
    mesh: Mesh


def make_target(
    teacher: TeacherChain, condition: np.ndarray, seed: int, settings: TargetsConfig
) -> Target | BadItem:
    """The target of one condition, or why there is none.

    Args:
        teacher: loaded.
        condition: uint8 [S, S, 3], see `target_condition`.
        seed: of every draw.
        settings: of the renders.
    """
    (made,) = TargetMaker(teacher, settings).make([condition], [seed])
    return made if isinstance(made, BadItem) else made.target


class TargetMaker:
    """Makes targets one after the other; a pure function of (condition, seed, teacher, settings).

    Attributes:
        digest: of the teacher.
        timing: seconds spent since it was last cleared: multiview, reconstruct, extract (the
            surface and its renders).
    """

    def __init__(
        self,
        teacher: TeacherChain,
        settings: TargetsConfig,
        rasterizer: Rasterizer | None = None,
    ) -> None:
        """Take a teacher.

        Args:
            teacher: loaded.
            settings: of the renders.
            rasterizer: None takes the fastest one of the teacher's device.

        Raises:
            ConfigError: the teacher can not give targets.
        """
        model, reconstructor = teacher.models
        check_teacher(teacher.config)
        assert isinstance(reconstructor, InstantMesh)
        self._model, self._reconstructor = model, reconstructor
        self._teacher, self._settings = teacher, settings
        self._device = model.device
        self._dtype = precision(teacher.config.dtype, self._device)
        self._rasterizer = rasterizer or get_rasterizer("auto", self._device)
        weights = str(teacher.provenance()["weights_digest"])
        self.digest = teacher_digest(teacher.config, weights, self._dtype)
        self._weights = weights
        self.timing: dict[str, float] = {}

    def key(self, condition: np.ndarray, seed: int) -> str:
        """Content address of the target of a condition and seed."""
        return target_key(condition_digest(condition), seed, self.digest, self._settings)

    def make(
        self, conditions: Sequence[np.ndarray], seeds: Sequence[int]
    ) -> Iterator[MadeTarget | BadItem]:
        """One result per condition, in order, each as soon as it is there.

        On a CPU items go through the networks alone, so that their bytes do not depend on the
        batch; elsewhere the views of all are sampled together.
        """
        size = 1 if self._device.type == "cpu" else max(1, len(conditions))
        for first in range(0, len(conditions), size):
            some, their = conditions[first : first + size], seeds[first : first + size]
            latents, views = self._views(some, their)
            for i, (condition, seed) in enumerate(zip(some, their, strict=True)):
                yield self._finish(condition, seed, latents[i], views[i : i + 1])

    @torch.inference_mode()
    def _views(
        self, conditions: Sequence[np.ndarray], seeds: Sequence[int]
    ) -> tuple[Tensor, Tensor]:
        """Latents [B, c, H, W] and views [B, V, 3, h, w] in [0, 1]."""
        begun = time.perf_counter()
        pixels = condition_pixels(conditions, self._model.config)
        with self._precision():
            latents = sample_latents(self._model, pixels, seeds, self._teacher.config.sampler)
            views = self._model.decode(latents)
        self._spent("multiview", begun)
        return latents, views

    @torch.inference_mode()
    def _finish(
        self, condition: np.ndarray, seed: int, latents: Tensor, views_1V3hw: Tensor
    ) -> MadeTarget | BadItem:
        begun = time.perf_counter()
        images = resize_views(views_1V3hw, self._reconstructor.config.input_size)
        with self._precision():
            planes = self._reconstructor.forward_planes(
                images, self._teacher.rig_cameras.to(self._device)[None]
            ).float()
        begun = self._spent("reconstruct", begun)
        (surface,) = self._reconstructor.extract(planes, self._teacher.config.extraction)
        if isinstance(surface, BadItem):
            self._spent("extract", begun)
            return surface
        w2c = target_cameras(seed, self._settings)
        renders = self._renders(planes, surface, w2c)
        self._spent("extract", begun)
        target = Target(
            item_id="",
            seed=seed,
            condition=condition,
            latents=latents.to(torch.float16).cpu().numpy(),
            renders=renders,
            w2c=w2c.numpy(),
            fov_deg=self._settings.fov_deg,
            key=self.key(condition, seed),
            teacher_digest=self.digest,
            digests={
                "condition": condition_digest(condition),
                "settings": settings_digest(self._settings),
                "weights": self._weights,
            },
        )
        return MadeTarget(target, _mesh(surface))

    def _renders(self, planes: Tensor, surface: SurfaceMesh, w2c: Tensor) -> np.ndarray:
        """uint8 [K, R, R, 4]; colours from the field at the surface, as Stage II renders."""
        settings = self._settings
        proj = projection(settings.fov_deg).to(planes)
        side = settings.render_size * settings.supersample
        views = max(1, PIXELS_AT_ONCE // side**2)

        def color_of(points: Tensor) -> Tensor:
            return self._reconstructor.decoder.rgb(planes, points[None])[0].clamp(0, 1)

        images = []
        for some in w2c.to(planes).split(views):
            made = render_mesh(
                self._rasterizer,
                surface.vertices,
                surface.faces,
                some,
                proj,
                settings.render_size,
                color_fn=color_of,
                supersample=settings.supersample,
                antialias_color=True,
            )
            images.append(straight_rgba(made.rgb, made.mask))
        return np.concatenate(images)

    @contextmanager
    def _precision(self) -> Iterator[None]:
        """The configured precision, for the networks alone."""
        autocast = torch.autocast(
            self._device.type, self._dtype, enabled=self._dtype != torch.float32
        )
        with autocast, tf32(allowed=self._teacher.config.tf32):
            yield

    def _spent(self, stage: str, begun: float) -> float:
        if self._device.type == "cuda":
            torch.cuda.synchronize(self._device)
        now = time.perf_counter()
        self.timing[stage] = self.timing.get(stage, 0.0) + now - begun
        return now


def check_teacher(config: InstantMeshConfig) -> None:
    """Raises `ConfigError` when a chain can not give targets."""
    if config.reconstructor.kind != "mesh":
        raise ConfigError(
            f"a teacher with a {config.reconstructor.kind!r} reconstructor has no colour field at "
            "its surface to render",
            remedy="choose a teacher with a mesh reconstructor",
        )
    if config.sampler.kind != "ddim":
        raise ConfigError(
            f"targets need a sample that its noise decides, not sampler {config.sampler.kind!r}",
            remedy="set teacher.model.sampler.kind=ddim",
        )


def _mesh(surface: SurfaceMesh) -> Mesh:
    return Mesh(
        vertices=world_to_gltf(surface.vertices.float().cpu().numpy()).astype(np.float32),
        faces=surface.faces.cpu().numpy().astype(np.int32),
        colors=surface.vertex_rgb.clamp(0, 1).mul(255).to(torch.uint8).cpu().numpy(),
    )
