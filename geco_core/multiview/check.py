"""Do the parts of a multi-view configuration fit together?"""

from __future__ import annotations

from geco_core.config.models import MultiViewConfig
from geco_core.diffusion.codec import codec_stride
from geco_core.errors import ConfigError


def check_parts(config: MultiViewConfig) -> None:
    """Refuse sizes that do not fit together.

    Raises:
        ConfigError: naming the numbers and what to set.
    """
    latent = config.codec.latent_channels
    views = config.rig.rows * config.rig.columns
    wanted = 2 * latent + 2 + views if config.condition_channels else latent
    if config.unet.in_channels != wanted or config.unet.out_channels != latent:
        raise ConfigError(
            f"the U-Net has {config.unet.in_channels} input and {config.unet.out_channels} output "
            f"channels; this codec and condition_channels={config.condition_channels} need "
            f"{wanted} and {latent}",
            remedy=f"set multiview.unet.in_channels={wanted}, multiview.unet.out_channels={latent}",
        )
    if config.condition_channels and config.condition_size != config.rig.view_size:
        raise ConfigError(
            f"condition_size {config.condition_size} differs from rig.view_size "
            f"{config.rig.view_size}, and condition_channels is on",
            remedy="make them equal: condition latents are repeated into view cells",
        )
    stride = codec_stride(config.codec)
    if config.condition_size % stride or config.rig.view_size % stride:
        raise ConfigError(
            f"condition_size {config.condition_size} and rig.view_size {config.rig.view_size} are "
            f"not both multiples of the codec's stride {stride}",
            remedy="choose multiples",
        )
    width = config.unet.cross_attention_dim
    if config.vision.projection_dim != width or config.text.hidden_size != width:
        raise ConfigError(
            f"text.hidden_size {config.text.hidden_size}, vision.projection_dim "
            f"{config.vision.projection_dim} and unet.cross_attention_dim {width} differ",
            remedy="make the three equal",
        )
    if len(config.rig.azimuths_deg) != views or len(config.rig.elevations_deg) != views:
        raise ConfigError(
            f"the rig lists {len(config.rig.azimuths_deg)} azimuths and "
            f"{len(config.rig.elevations_deg)} elevations for {views} views",
            remedy="give one of each per view, rows times columns of them",
        )
