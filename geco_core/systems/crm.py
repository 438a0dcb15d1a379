"""Six axis-parallel views -> coordinate maps -> triplanes -> FlexiCubes -> coloured mesh: CRM.

Follows CRM (arXiv 2403.05034) at any size. What differs: every draw comes from the item's seed, the
noise that the reconstructor's input is given included; frames of another size than the planes are
resized; the mesh keeps vertex colours and takes its colour field along, from which finishing bakes
a texture.

Legend: B items, F frames, N frame pixels, S plane side.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from geco_core.config import load as config_load
from geco_core.config.crm_system import CrmConfig
from geco_core.diffusion.noise import ItemNoise
from geco_core.fields.color import DeviceColor
from geco_core.fields.rolled_color import RolledColor
from geco_core.multiview.crm import CrmDiffusion, CrmFrames
from geco_core.reconstruct.crm import CrmReconstructor
from geco_core.reconstruct.crm_input import frame_values, network_input
from geco_core.systems.chain import load_crm_chain
from geco_core.systems.device import (
    Networks,
    check_device,
    codec_halves,
    device_named,
    precision,
)
from geco_core.systems.images import ImageSystem, image_of
from geco_core.systems.meshes import meshes_of
from geco_core.types import Condition, Generated

VIEWS, CCM = "views", "ccm"


class CrmSystem(ImageSystem[CrmConfig]):
    """`System` of CRM, its two halves callable apart.

    Args:
        config: models, samplers, extraction and weights.
        diffusion: both stages and their encoders, loaded.
        reconstructor: loaded.
        weights_digest: recorded in every row.
        device: where the networks are.
        licences: of the weights; the configured one when None.
    """

    def __init__(
        self,
        config: CrmConfig,
        diffusion: CrmDiffusion,
        reconstructor: CrmReconstructor,
        weights_digest: str,
        device: torch.device,
        licences: Sequence[str] | None = None,
    ) -> None:
        networks = networks_of(diffusion, reconstructor)
        super().__init__(
            config, networks, weights_digest, device, licences or [config.weights.licence]
        )
        self._diffusion = diffusion
        self._reconstructor = reconstructor

    @torch.inference_mode()
    def frames(self, conditions: Sequence[Condition], seeds: Sequence[int]) -> CrmFrames:
        """Views and coordinate maps of every condition.

        Item i depends on (conditions[i], seeds[i]) alone.

        Raises:
            BadItem: a prompt, or non-finite frames.
        """
        model = self._diffusion
        images = [model.composite(image_of(condition)) for condition in conditions]
        with self._timed(VIEWS), self._precision():
            views = torch.cat(
                self._per_item(
                    lambda i: model.make_views(images[i], ItemNoise(seeds[i])), len(images)
                )
            )
        with self._timed(CCM), self._precision():
            ccms = torch.cat(
                self._per_item(
                    lambda i: model.make_ccms(images[i], views[i], ItemNoise(seeds[i])),
                    len(images),
                )
            )
        return CrmFrames(views, ccms)

    @torch.inference_mode()
    def reconstruct(self, frames: CrmFrames, seeds: Sequence[int]) -> list[Generated]:
        """One mesh (glTF frame, vertex colours) per row of `frames`.

        An empty surface becomes a `BadItem`. The seeds draw the noise of the input.
        """
        model, size = self._reconstructor, self.config.reconstructor.unet.plane_size

        def planes(rows: slice) -> Tensor:
            views, ccms = (
                resize_frames(frame_values(x[rows].to(self._device)), size)
                for x in (frames.views, frames.ccms)
            )
            noise = model.input_noise.draw(ItemNoise(seeds[rows]))
            return model.forward_planes(network_input(views, ccms), noise)

        return self._reconstructed(planes, len(seeds))

    @property
    def models(self) -> tuple[CrmDiffusion, CrmReconstructor]:
        """The diffusion half and the reconstructor, for evaluation."""
        return self._diffusion, self._reconstructor

    def timing(self) -> Mapping[str, float]:
        """Seconds of the last `generate` call: views, ccm, both as multiview, reconstruct, extract.

        Rows have columns for the last three.
        """
        timing = dict(super().timing())
        both = [timing[stage] for stage in (VIEWS, CCM) if stage in timing]
        return {**timing, "multiview": sum(both)} if both else timing

    def _framed(self, rgba: np.ndarray) -> np.ndarray:
        return self._diffusion.frame(rgba)

    def _generated(self, conditions: Sequence[Condition], seeds: Sequence[int]) -> list[Generated]:
        return self.reconstruct(self.frames(conditions, seeds), seeds)

    def _meshes(self, planes_B3CHW: Tensor) -> list[Generated]:
        surfaces = self._reconstructor.extract_each(planes_B3CHW, self.config.extraction)
        return meshes_of(surfaces, planes_B3CHW, self._color)

    def _color(self, planes_13CHW: Tensor) -> DeviceColor:
        return DeviceColor(RolledColor, planes_13CHW, self._reconstructor.decoder.color_head)


def resize_frames(values_BFCNN: Tensor, size: int) -> Tensor:
    """Values [B, F, C, S, S]: bilinear with antialiasing; frames of that size are unchanged."""
    if values_BFCNN.shape[-2:] == (size, size):
        return values_BFCNN
    flat = values_BFCNN.flatten(0, 1)
    resized = F.interpolate(
        flat, (size, size), mode="bilinear", align_corners=False, antialias=True
    )
    return resized.unflatten(0, values_BFCNN.shape[:2])


def networks_of(diffusion: CrmDiffusion, reconstructor: CrmReconstructor) -> Networks:
    """What goes to the device; the towers run once per condition and are not worth compiling."""
    codec, network = diffusion.encoders.codec, reconstructor.unet.network
    unets = (diffusion.views.unet, diffusion.ccm.unet)
    return Networks(
        models=(diffusion, reconstructor),
        convolutions=(*unets, codec, network),
        compiled=(*unets, *codec_halves(codec), network),
    )


def build_crm(preset: str, overrides: Sequence[str] = ()) -> CrmSystem:
    """Build the system from its preset and `key.sub=value` overrides, weights loaded.

    Raises:
        ConfigError: unknown preset or key.
        Fatal: weights missing, of another digest or shape, or a device that is not there.
    """
    config = config_load.load(CrmConfig, config_load.preset_path("crm", preset), overrides)
    device = device_named(config.device)
    check_device(config, device)
    chain = load_crm_chain(config, precision(config.dtype, device))
    return CrmSystem(
        config, chain.multiview, chain.reconstructor, chain.digest, device, chain.licences
    )
