"""CRM's diffusion half: an image in, six views and their coordinate maps out.

Follows CRM (arXiv 2403.05034, section 3.1): two networks over one set of encoders. The
reconstructor, which reads what comes out here, is not part of it.

Legend: B objects, F frames, S image pixels.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from geco_core.config.crm import CrmDiffusionConfig, ImageDreamConfig
from geco_core.diffusion.codec import codec_stride
from geco_core.diffusion.noise import NoiseSource
from geco_core.diffusion.noise_prediction import ddim_steps
from geco_core.errors import ConfigError
from geco_core.imaging.content import prepare_image
from geco_core.imaging.framing import resize_foreground
from geco_core.multiview.ccm import generate_ccms
from geco_core.multiview.condition_encoders import ConditionEncoders
from geco_core.multiview.crm_views import generate_views
from geco_core.multiview.imagedream import ImageDream


@dataclass(frozen=True)
class CrmFrames:
    """What both stages made, uint8 [B, F, S, S, 3] on the CPU, in the order of the rig's views."""

    views: Tensor
    ccms: Tensor


class CrmDiffusion(nn.Module):
    """`.encoders`, `.views` (stage 1), `.ccm` (stage 2).

    Raises:
        ConfigError: the parts do not fit together.
    """

    def __init__(self, config: CrmDiffusionConfig) -> None:
        super().__init__()
        check_diffusion(config)
        self.config = config
        self.encoders = ConditionEncoders(config.encoders)
        self.views = ImageDream(config.views)
        self.ccm = ImageDream(config.ccm)

    def prepare(self, rgba: np.ndarray) -> np.ndarray:
        """The condition image uint8 [N, N, 3] of a cut-out uint8 [H, W, 4]."""
        return self.composite(self.frame(rgba))

    def frame(self, rgba: np.ndarray) -> np.ndarray:
        """The cut-out, cropped and framed where the configuration says so, uint8 [H, W, 4]."""
        ratio = self.config.foreground_ratio
        return resize_foreground(rgba, ratio) if ratio else rgba

    def composite(self, rgba: np.ndarray) -> np.ndarray:
        """The condition image uint8 [N, N, 3] of a framed cut-out."""
        level = self.config.background
        return prepare_image(rgba, self.config.content_ratio, (level, level, level))

    def generate(self, images: Sequence[np.ndarray], noise: NoiseSource) -> CrmFrames:
        """Both stages on B prepared images."""
        views = self.make_views(images, noise)
        return CrmFrames(views, self.make_ccms(images, views, noise))

    def make_views(self, images: Sequence[np.ndarray], noise: NoiseSource) -> Tensor:
        """Stage 1 on B prepared images, see `crm_views.generate_views`."""
        sampler = self.config.views_sampler
        return generate_views(self.views, self.encoders, images, noise, sampler)

    def make_ccms(
        self, images: Sequence[np.ndarray], views_BFSS3: Tensor, noise: NoiseSource
    ) -> Tensor:
        """Stage 2 on them and their views, see `ccm.generate_ccms`."""
        sampler = self.config.ccm_sampler
        return generate_ccms(self.ccm, self.encoders, images, views_BFSS3, noise, sampler)


def check_diffusion(config: CrmDiffusionConfig) -> None:
    """Refuse sizes that do not fit together, and samplers that the schedules can not take.

    Raises:
        ConfigError: naming the numbers and what to set.
    """
    encoders = config.encoders
    for name, stage, sampler in (
        ("views", config.views, config.views_sampler),
        ("ccm", config.ccm, config.ccm_sampler),
    ):
        _check_stage(name, stage, config)
        with torch.device("cpu"):  # a skeleton is built on the meta device, which has no values
            ddim_steps(stage.schedule, sampler)
    if config.views.rig.views != config.ccm.rig.views or config.ccm.rig.reference:
        raise ConfigError(
            f"stage 1 makes the views {config.views.rig.views}, stage 2 wants "
            f"{config.ccm.rig.views} and reference={config.ccm.rig.reference}",
            remedy="make ccm.rig.views equal to views.rig.views, without a reference frame",
        )
    if config.views.pixel_latents or not config.ccm.pixel_latents:
        raise ConfigError(
            "stage 1 takes no pixel latents and stage 2 needs them",
            remedy="set views.pixel_latents=false, ccm.pixel_latents=true",
        )
    deepest = max(len(s.unet.block_out_channels) for s in (config.views, config.ccm)) - 1
    factor = codec_stride(encoders.codec) * 2**deepest
    if encoders.image_size % factor:
        raise ConfigError(
            f"encoders.image_size {encoders.image_size} is not a multiple of {factor}, the "
            "codec's stride times the U-Net's",
            remedy="choose a multiple",
        )


def _check_stage(name: str, stage: ImageDreamConfig, config: CrmDiffusionConfig) -> None:
    encoders, unet = config.encoders, stage.unet
    pairs = (
        ("unet.cross_attention_dim", unet.cross_attention_dim, encoders.text.hidden_size),
        ("resampler.input_width", stage.resampler.input_width, encoders.vision.hidden_size),
        ("unet.out_channels", unet.out_channels, encoders.codec.latent_channels),
    )
    for field, found, wanted in pairs:
        if found != wanted:
            raise ConfigError(
                f"{name}.{field} is {found}, the encoders give {wanted}",
                remedy=f"set {name}.{field}={wanted}",
            )
    if stage.rig.kind != "ortho" or not unet.image_tokens:
        raise ConfigError(
            f"{name} needs axis-parallel views and image tokens",
            remedy=f"set {name}.rig.kind=ortho and {name}.unet.image_tokens to 16",
        )
