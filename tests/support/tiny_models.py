"""Configurations of the smallest models that have every part: a few thousand weights each."""

from __future__ import annotations

from dataclasses import replace

from geco_core.config.models import (
    CodecConfig,
    EncoderConfig,
    MultiViewConfig,
    ReconstructorConfig,
    ScheduleConfig,
    TextTowerConfig,
    UNetConfig,
    ViewRigConfig,
    VisionTowerConfig,
)

TINY_UNET = UNetConfig(
    block_out_channels=(8, 16),
    attention_levels=(False, True),
    attention_heads=(1, 2),
    layers_per_block=1,
    cross_attention_dim=8,
    norm_num_groups=4,
)
TINY_PATCH_UNET = replace(TINY_UNET, in_channels=3, out_channels=3)
TINY_PATCH_CODEC = CodecConfig(
    kind="patch",
    latent_channels=3,
    patch_size=4,
    scaling_factor=1.0,
    latent_shift=0.0,
    latent_scale=1.0,
    image_scale=1.0,
    condition_mean=0.5,
    condition_std=0.5,
)
# As published: autoencoder, affine constants, betas, four input channels.
TINY_VIEWS = MultiViewConfig(
    unet=TINY_UNET,
    codec=CodecConfig(block_out_channels=(8, 8), layers_per_block=1, norm_num_groups=4),
    vision=VisionTowerConfig(16, 16, 1, 2, image_size=8, patch_size=4, projection_dim=8),
    text=TextTowerConfig(
        12, 8, 16, 1, 2, max_position_embeddings=5, bos_token_id=10, eos_token_id=11
    ),
    rig=ViewRigConfig(view_size=8),
    condition_size=16,
)
# As the micro models: patch codec, zero terminal SNR.
TINY_PATCH_VIEWS = replace(
    TINY_VIEWS,
    unet=TINY_PATCH_UNET,
    codec=TINY_PATCH_CODEC,
    schedule=ScheduleConfig(rescale_betas_zero_snr=True),
)
TINY_RECONSTRUCTOR = ReconstructorConfig(
    encoder=EncoderConfig(16, 1, 2, 32, image_size=16, patch_size=8),
    input_size=16,
    transformer_dim=16,
    transformer_layers=1,
    transformer_heads=2,
    triplane_low_res=4,
    triplane_high_res=8,
    triplane_dim=4,
    decoder_hidden_dim=16,
    grid_res=12,
    sdf_sphere_radius=0.5,
    sdf_scale=0.2,
)
