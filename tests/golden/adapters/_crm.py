"""What the adapters of CRM's diffusion cases share: configurations and models from the JSON."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from geco_core.checkpoints.imagedream import load_autoencoder, load_network
from geco_core.config.crm import (
    ConditionEncodersConfig,
    DdimConfig,
    FrameRigConfig,
    ImageDreamConfig,
    MultiViewUNetConfig,
    NoiseTablesConfig,
    ResamplerConfig,
)
from geco_core.config.models import CodecConfig, TextTowerConfig, VisionTowerConfig
from geco_core.multiview.condition_encoders import ConditionEncoders
from geco_core.multiview.imagedream import ImageDream
from tests.golden.registry import Case, GoldenError

RESAMPLER = "sd/model.diffusion_model.image_embed."


def unet_config(case: Case) -> MultiViewUNetConfig:
    """The U-Net an original's constructor arguments describe."""
    given: Mapping[str, Any] = case.meta["config"]
    channels = tuple(int(given["model_channels"]) * int(m) for m in given["channel_mult"])
    head = int(given["num_head_channels"])
    factors = [2**level for level in range(len(channels))]
    return MultiViewUNetConfig(
        in_channels=int(given["in_channels"]),
        out_channels=int(given["out_channels"]),
        block_out_channels=channels,
        attention_levels=tuple(f in given["attention_resolutions"] for f in factors),
        attention_heads=tuple(c // head for c in channels),
        layers_per_block=int(given["num_res_blocks"]),
        transformer_layers=int(given.get("transformer_depth", 1)),
        cross_attention_dim=int(given["context_dim"]),
        camera_width=int(given["camera_dim"]),
        image_tokens=int(given["ip_dim"]) if given.get("with_ip") else 0,
        image_token_weight=float(given.get("ip_weight", 1.0)),
        norm_num_groups=int(case.meta.get("norm_num_groups", 32)),
    )


def network(
    case: Case,
    rig: FrameRigConfig | None = None,
    schedule: NoiseTablesConfig | None = None,
) -> ImageDream:
    """The network whose configuration and weights a case holds."""
    unet = unet_config(case)
    config = ImageDreamConfig(
        unet=unet,
        resampler=_resampler(case, unet),
        rig=rig or FrameRigConfig(),
        schedule=schedule or NoiseTablesConfig(),
        pixel_latents=unet.in_channels != unet.out_channels,
    )
    model = ImageDream(config).eval()
    load_network(model, case.weights())
    return model


def _resampler(case: Case, unet: MultiViewUNetConfig) -> ResamplerConfig:
    """Its sizes are those of its weights; heads are 64 wide."""
    shapes = {n.removeprefix(RESAMPLER): v.shape for n, v in case.tensors.items()}
    if not unet.image_tokens:
        return ResamplerConfig()
    head = ResamplerConfig().head_width
    layers = {n.split(".")[1] for n in shapes if n.startswith("layers.")}
    return ResamplerConfig(
        input_width=shapes["proj_in.weight"][1],
        layers=len(layers),
        heads=shapes["layers.0.0.to_q.weight"][0] // head,
        head_width=head,
        feed_forward=shapes["layers.0.1.1.weight"][0] // unet.cross_attention_dim,
    )


def codec_config(case: Case) -> CodecConfig:
    """The autoencoder an original's constructor arguments describe."""
    given: Mapping[str, Any] = case.meta["config"]
    return CodecConfig(
        latent_channels=int(given["z_channels"]),
        scaling_factor=float(case.meta.get("scale_factor", 0.18215)),
        latent_shift=0.0,
        latent_scale=1.0,
        image_scale=1.0,
        condition_std=0.5,
        block_out_channels=tuple(int(given["ch"]) * int(m) for m in given["ch_mult"]),
        layers_per_block=int(given["num_res_blocks"]),
        norm_num_groups=int(case.meta.get("norm_num_groups", 32)),
    )


def autoencoder(case: Case, image_size: int = 64) -> ConditionEncoders:
    """Encoders whose codec is the case's; the towers are as small as can be."""
    config = ConditionEncodersConfig(
        codec=codec_config(case),
        text=TextTowerConfig(8, 8, 8, 1, 1, 40, bos_token_id=0, eos_token_id=1),
        vision=VisionTowerConfig(8, 8, 1, 1, image_size=8, patch_size=4, projection_dim=8),
        image_size=image_size,
    )
    encoders = ConditionEncoders(config).eval()
    load_autoencoder(encoders, case.weights())
    return encoders


def source(case: Case, marker: str) -> Case:
    """The case whose file holds weights under a prefix."""
    for found in case.sources:
        if any(name.startswith(f"sd/{marker}") for name in found.tensors):
            return found
    raise GoldenError(f"no weights under {marker} for {case.name}")


def sampler(case: Case) -> DdimConfig:
    """The published step list."""
    given: Mapping[str, Any] = case.meta["config"]
    return DdimConfig(
        steps=int(given["steps"]),
        guidance_scale=float(given["guidance_scale"]),
        spacing="stride",
    )


def schedule(case: Case) -> NoiseTablesConfig:
    """Zero terminal SNR as the case says."""
    given: Mapping[str, Any] = case.meta["config"]
    return NoiseTablesConfig(zero_terminal_snr=bool(given.get("zero_snr", True)))
