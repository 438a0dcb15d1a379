"""Builder of the denoising U-Net: `UNet2DConditionModel` in the Stable Diffusion 2 layout.

Follows the published Zero123++ v1.2 U-Net configuration; the names in the state dict are diffusers'
own. What differs: one boolean per level says whether it attends, and the block type lists are
derived from it, so that a micro preset is the same builder with other numbers.
"""

from __future__ import annotations

from diffusers.models.unets.unet_2d_condition import UNet2DConditionModel

from geco_core.config.models import UNetConfig
from geco_core.diffusion.reference_attention import install_processors
from geco_core.errors import ConfigError


def build_unet(config: UNetConfig) -> UNet2DConditionModel:
    """A U-Net with random weights and reference-attention processors installed.

    Args:
        config: `attention_heads` counts heads per level (diffusers calls this field
            `attention_head_dim`); `attention_levels` is True where a level has transformer blocks.
            The middle block always attends and uses the last level's number of heads.

    Raises:
        ConfigError: the per-level tuples differ in length, or channels do not divide into heads and
            groups.
    """
    check_levels(config)
    down = tuple(
        "CrossAttnDownBlock2D" if attends else "DownBlock2D" for attends in config.attention_levels
    )
    up = tuple(
        "CrossAttnUpBlock2D" if attends else "UpBlock2D"
        for attends in reversed(config.attention_levels)
    )
    unet = UNet2DConditionModel(
        sample_size=config.sample_size,
        in_channels=config.in_channels,
        out_channels=config.out_channels,
        block_out_channels=config.block_out_channels,
        down_block_types=down,
        up_block_types=up,
        layers_per_block=config.layers_per_block,
        attention_head_dim=config.attention_heads,  # pyright: ignore[reportArgumentType]
        cross_attention_dim=config.cross_attention_dim,
        norm_num_groups=config.norm_num_groups,
        use_linear_projection=config.use_linear_projection,
    )
    install_processors(unet)
    return unet


def check_levels(config: UNetConfig) -> None:
    """Refuse per-level tuples that do not fit together. Raises `ConfigError`."""
    levels = len(config.block_out_channels)
    for name in ("attention_levels", "attention_heads"):
        if len(getattr(config, name)) != levels:
            raise ConfigError(
                f"unet.{name} has {len(getattr(config, name))} entries, "
                f"unet.block_out_channels has {levels}",
                remedy="give one entry per level",
            )
    for channels, heads in zip(config.block_out_channels, config.attention_heads, strict=True):
        if channels % heads or channels % config.norm_num_groups:
            raise ConfigError(
                f"{channels} U-Net channels do not divide into {heads} heads and "
                f"{config.norm_num_groups} groups",
                remedy="choose unet.block_out_channels as multiples of both",
            )
