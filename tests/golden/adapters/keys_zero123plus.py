"""Inventories of the published Zero123++ parts at full size, against our model on meta."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any, TypeVar

import torch

from geco_core.config.models import (
    CodecConfig,
    MultiViewConfig,
    TextTowerConfig,
    UNetConfig,
    VisionTowerConfig,
)
from geco_core.multiview.published import published_shapes
from geco_core.multiview.zero123plus import Zero123Plus
from tests.golden.registry import Case, InventoryAdapter, adapter

PREFIX = "keys_zero123plus_"
C = TypeVar("C")


@adapter(PREFIX)
class Zero123PlusInventory(InventoryAdapter):
    """The case's name ends in the part's folder name: unet, vae, text_encoder or vision_encoder."""

    def shapes(self, case: Case) -> dict[str, tuple[int, ...]]:
        """Published name -> shape of one part."""
        part = case.name.removeprefix(PREFIX)
        with torch.device("meta"):
            return published_shapes(Zero123Plus(model_config(part, case.meta["config"])), part)


def model_config(part: str, published: Mapping[str, Any]) -> MultiViewConfig:
    """A model whose `part` has the published configuration; the others are as small as fits."""
    widths = {
        "unet": "cross_attention_dim",
        "text_encoder": "hidden_size",
        "vision_encoder": "projection_dim",
    }
    width = int(published.get(widths.get(part, ""), 8))
    latents = {"unet": "out_channels", "vae": "latent_channels"}
    latent = int(published.get(latents.get(part, ""), 4))
    small = MultiViewConfig(
        unet=UNetConfig(
            in_channels=latent,
            out_channels=latent,
            block_out_channels=(8,),
            attention_levels=(True,),
            attention_heads=(1,),
            norm_num_groups=1,
            layers_per_block=1,
            cross_attention_dim=width,
        ),
        codec=CodecConfig(
            kind="autoencoder_kl",
            latent_channels=latent,
            block_out_channels=(8, 8, 8, 8),
            norm_num_groups=1,
        ),
        text=TextTowerConfig(hidden_size=width, num_hidden_layers=1, num_attention_heads=1),
        vision=VisionTowerConfig(num_hidden_layers=1, projection_dim=width),
    )
    if part == "unet":
        return dataclasses.replace(small, unet=_unet(published))
    if part == "vae":
        codec = _fill(CodecConfig(kind="autoencoder_kl"), published)
        return dataclasses.replace(small, codec=codec)
    if part == "text_encoder":
        return dataclasses.replace(small, text=_fill(TextTowerConfig(), published))
    return dataclasses.replace(small, vision=_fill(VisionTowerConfig(), published))


def _unet(published: Mapping[str, Any]) -> UNetConfig:
    heads = published["attention_head_dim"]
    blocks = published["down_block_types"]
    renamed = {
        "attention_heads": (heads,) * len(blocks) if isinstance(heads, int) else heads,
        "attention_levels": tuple(b.startswith("CrossAttn") for b in blocks),
    }
    return _fill(UNetConfig(), {**published, **renamed})


def _fill(config: C, published: Mapping[str, Any]) -> C:
    """`config` with every field that the published one names; lists become tuples."""
    known = {f.name for f in dataclasses.fields(config)}  # pyright: ignore[reportArgumentType]
    values = {k: tuple(v) if isinstance(v, list) else v for k, v in published.items() if k in known}
    return dataclasses.replace(config, **values)  # pyright: ignore[reportArgumentType]
