"""Our reconstructors built from the configurations that the golden cases carry."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from geco_core.config.models import EncoderConfig, ReconstructorConfig


def encoder_config(vit: Mapping[str, Any]) -> EncoderConfig:
    """From the `vit_config` (or `dino`) block."""
    return EncoderConfig(
        hidden_size=vit["hidden_size"],
        num_hidden_layers=vit["num_hidden_layers"],
        num_attention_heads=vit["num_attention_heads"],
        intermediate_size=vit["intermediate_size"],
        image_size=vit["image_size"],
        patch_size=vit["patch_size"],
        layer_norm_eps=vit["layer_norm_eps"],
    )


def reconstructor_config(
    kind: str, model: Mapping[str, Any], vit: Mapping[str, Any]
) -> ReconstructorConfig:
    """From the `model_config` (or `config`) and `vit_config` (or `dino`) blocks."""
    return ReconstructorConfig(
        kind="nerf" if kind == "nerf" else "mesh",
        encoder=encoder_config(vit),
        transformer_dim=model["transformer_dim"],
        transformer_layers=model["transformer_layers"],
        transformer_heads=model["transformer_heads"],
        triplane_low_res=model["triplane_low_res"],
        triplane_high_res=model["triplane_high_res"],
        triplane_dim=model["triplane_dim"],
        samples_per_ray=model.get("rendering_samples_per_ray", 128),
        grid_res=model.get("grid_res", 128),
        grid_scale=model.get("grid_scale", 2.0),
    )
