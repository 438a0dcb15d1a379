"""Builder of the multi-view U-Net: `UNet2DConditionModel` with camera vectors as class embedding.

Follows ImageDream (arXiv 2312.02201), whose network CRM (arXiv 2403.05034) keeps; MVDream
(arXiv 2308.16512) is the same without image tokens. What differs: the module is diffusers' own, so
its tools (adapters, checkpointing, compilation) apply; `geco_core.checkpoints.ldm_names` maps the
published names.
"""

from __future__ import annotations

from diffusers.models.unets.unet_2d_condition import UNet2DConditionModel

from geco_core.config.crm import MultiViewUNetConfig
from geco_core.diffusion.multiview_attention import install_multiview_processors
from geco_core.diffusion.unet import check_levels


def build_multiview_unet(config: MultiViewUNetConfig) -> UNet2DConditionModel:
    """A U-Net with random weights and the multi-view processors installed.

    Called with `class_labels` = camera vectors [R, camera_width] and
    `cross_attention_kwargs={FRAMES: frames}`.

    Raises:
        ConfigError: the per-level tuples do not fit together.
    """
    check_levels(config)
    attends = config.attention_levels
    down = tuple("CrossAttnDownBlock2D" if level else "DownBlock2D" for level in attends)
    up = tuple("CrossAttnUpBlock2D" if level else "UpBlock2D" for level in reversed(attends))
    unet = UNet2DConditionModel(
        sample_size=config.sample_size,
        in_channels=config.in_channels,
        out_channels=config.out_channels,
        block_out_channels=config.block_out_channels,
        down_block_types=down,
        up_block_types=up,
        layers_per_block=config.layers_per_block,
        transformer_layers_per_block=config.transformer_layers,
        attention_head_dim=config.attention_heads,  # pyright: ignore[reportArgumentType]
        cross_attention_dim=config.cross_attention_dim,
        norm_num_groups=config.norm_num_groups,
        use_linear_projection=config.use_linear_projection,
        class_embed_type="projection",
        projection_class_embeddings_input_dim=config.camera_width,
    )
    install_multiview_processors(
        unet, config.cross_attention_dim, config.image_tokens, config.image_token_weight
    )
    return unet
