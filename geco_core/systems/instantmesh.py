"""Zero123++ views -> InstantMesh triplane -> FlexiCubes -> coloured mesh: the teacher chain.

Follows InstantMesh (Xu et al. 2024) at any size; with the one-step sampler and distilled weights
the same chain is GECO (arXiv 2405.20327), with an InstantNeRF reconstructor it ends in marching
cubes.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import torch
from torch import Tensor

from geco_core.cameras import encoder_cameras, rig_poses
from geco_core.config import load as config_load
from geco_core.config.models import InstantMeshConfig
from geco_core.errors import BadItem
from geco_core.fields.color import DeviceColor, TriplaneColor
from geco_core.imaging.framing import composite, condition_pixels, resize_foreground
from geco_core.imaging.views import resize_views
from geco_core.multiview.generate import sample_latents
from geco_core.multiview.zero123plus import Zero123Plus
from geco_core.reconstruct.extraction import SurfaceMesh
from geco_core.reconstruct.instantmesh import InstantMesh
from geco_core.reconstruct.instantnerf import InstantNeRF
from geco_core.systems.chain import load_chain
from geco_core.systems.device import (
    Networks,
    check_device,
    codec_halves,
    device_named,
    precision,
)
from geco_core.systems.images import ImageSystem, image_of
from geco_core.systems.meshes import meshes_of
from geco_core.systems.student import StudentViews, decode_each
from geco_core.types import Condition, Generated, MultiView


class InstantMeshSystem(ImageSystem[InstantMeshConfig]):
    """`System` and `Teacher` of the InstantMesh chain.

    Args:
        config: models, sampler, extraction and weights.
        multiview: the view diffusion model, loaded.
        reconstructor: the reconstructor, loaded.
        weights_digest: recorded in every row.
        device: where the networks are.
        licences: of the weights; the configured one when None.
    """

    def __init__(
        self,
        config: InstantMeshConfig,
        multiview: Zero123Plus,
        reconstructor: InstantMesh | InstantNeRF,
        weights_digest: str,
        device: torch.device,
        licences: Sequence[str] | None = None,
    ) -> None:
        networks = networks_of(multiview, reconstructor)
        super().__init__(
            config, networks, weights_digest, device, licences or [config.weights.licence]
        )
        self._multiview = multiview
        self._reconstructor = reconstructor
        self._student = StudentViews(multiview, config.sampler, config.reference_cache)
        rig = config.multiview.rig
        self._cameras_V16 = encoder_cameras(rig_poses(rig), rig.fov_deg)

    @torch.inference_mode()
    def multiview(self, conditions: Sequence[Condition], seeds: Sequence[int]) -> MultiView:
        """Six views per condition; item i depends on (conditions[i], seeds[i]) alone."""
        images = [self._condition_rgb(c) for c in conditions]
        with self._timed("multiview"), self._precision():
            views = self._per_item(lambda i: self._views(images[i], seeds[i]), len(images))
        cameras = self._cameras_V16.to(self._device).expand(len(conditions), -1, -1)
        return MultiView(torch.cat(views), cameras)

    @torch.inference_mode()
    def reconstruct(self, views: MultiView) -> list[Generated]:
        """One mesh (glTF frame, vertex colours) per row of `views`.

        An empty surface becomes a `BadItem`.
        """
        images = resize_views(views.images.to(self._device), self.config.reconstructor.input_size)
        cameras = views.cameras.to(self._device)
        return self._reconstructed(
            lambda i: self._reconstructor.forward_planes(images[i], cameras[i]), len(images)
        )

    @property
    def models(self) -> tuple[Zero123Plus, InstantMesh | InstantNeRF]:
        """The multi-view model and the reconstructor, for evaluation."""
        return self._multiview, self._reconstructor

    @property
    def rig_cameras(self) -> Tensor:
        """Encoder cameras of the rig, float [V, 16]."""
        return self._cameras_V16

    def _framed(self, rgba: np.ndarray) -> np.ndarray:
        return resize_foreground(rgba, self.config.multiview.foreground_ratio)

    def _generated(self, conditions: Sequence[Condition], seeds: Sequence[int]) -> list[Generated]:
        return self.reconstruct(self.multiview(conditions, seeds))

    def _condition_rgb(self, condition: Condition) -> np.ndarray:
        return composite(image_of(condition), self.config.multiview.background)

    def _views(self, images: Sequence[np.ndarray], seeds: Sequence[int]) -> Tensor:
        """Views [B, V, 3, view, view] of composited images."""
        if self.config.sampler.kind == "one_step":
            return self._student(images, seeds)
        pixels = condition_pixels(images, self.config.multiview)
        latents = sample_latents(self._multiview, pixels, seeds, self.config.sampler)
        return decode_each(self._multiview, latents)

    def _meshes(self, planes_B3CHW: Tensor) -> list[Generated]:
        return meshes_of(self._surfaces(planes_B3CHW), planes_B3CHW, self._color)

    def _surfaces(self, planes_B3CHW: Tensor) -> Iterator[SurfaceMesh | BadItem]:
        """One result per object, each when it is made."""
        if isinstance(self._reconstructor, InstantMesh):
            return self._reconstructor.extract_each(planes_B3CHW, self.config.extraction)
        nerf = self._reconstructor
        return (surface for planes in planes_B3CHW.split(1) for surface in nerf.extract(planes))

    def _color(self, planes_13CHW: Tensor) -> DeviceColor | None:
        model = self._reconstructor
        if not isinstance(model, InstantMesh):
            return None
        return DeviceColor(TriplaneColor, planes_13CHW, model.decoder.net_rgb)


def networks_of(multiview: Zero123Plus, reconstructor: InstantMesh | InstantNeRF) -> Networks:
    """What goes to the device; the towers run once per condition and are not worth compiling."""
    halves = codec_halves(multiview.codec)
    return Networks(
        models=(multiview, reconstructor),
        convolutions=(multiview.unet, multiview.codec),
        compiled=(multiview.unet, *halves, reconstructor.encoder, reconstructor.transformer),
    )


def build_instantmesh(preset: str, overrides: Sequence[str] = ()) -> InstantMeshSystem:
    """Build the system from its preset and `key.sub=value` overrides, weights loaded.

    Raises:
        ConfigError: unknown preset or key.
        Fatal: weights missing, of another digest or shape, or a device that is not there.
    """
    return build_chain("instantmesh", preset, overrides)


def build_chain(name: str, preset: str, overrides: Sequence[str]) -> InstantMeshSystem:
    """Build a system of this family by its name; see `build_instantmesh`."""
    config = config_load.load(InstantMeshConfig, config_load.preset_path(name, preset), overrides)
    device = device_named(config.device)
    check_device(config, device)
    chain = load_chain(config, precision(config.dtype, device))
    return InstantMeshSystem(
        config, chain.multiview, chain.reconstructor, chain.digest, device, chain.licences
    )
