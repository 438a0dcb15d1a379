"""The autoencoder and OpenCLIP's towers under their published names."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from geco_core.checkpoints.imagedream import load_encoders, published_encoders
from geco_core.config.crm import ConditionEncodersConfig
from geco_core.config.models import CodecConfig, TextTowerConfig, VisionTowerConfig
from geco_core.multiview.condition_encoders import ConditionEncoders
from tests.golden.adapters import _crm
from tests.golden.registry import Adapter, Case, adapter

TINY_CODEC = CodecConfig(block_out_channels=(8,), layers_per_block=1, norm_num_groups=8)


@adapter("vae_tiny")
class Vae(Adapter):
    """Posterior of `in/image`, decoding of `in/z` (raw latents)."""

    @torch.no_grad()
    def run(self, case: Case) -> dict[str, Tensor]:
        """`moments` are mean and log-variance before its clamp."""
        codec: Any = _crm.autoencoder(case).codec
        mean, std = codec.moments(case.inputs["image"])
        moments = codec.vae.quant_conv(codec.vae.encoder(case.inputs["image"]))
        return {
            "mean": mean,
            "std": std,
            "moments": moments,
            "decoded": codec.decode(case.inputs["z"]),
        }


@adapter("clip_tiny")
class Clip(Adapter):
    """States before the last block of both towers."""

    @torch.no_grad()
    def run(self, case: Case) -> dict[str, Tensor]:
        """`text` and `image_tokens`."""
        encoders = ConditionEncoders(_config(case.meta["config"])).eval()
        # The case holds no autoencoder: a fresh one's weights stand in for it.
        own = {n: v for n, v in published_encoders(encoders).items() if n.startswith("vae_model.")}
        load_encoders(encoders, {**case.weights(), **own})
        return {
            "text": encoders.text_states(case.inputs["tokens"]),
            "image_tokens": encoders.image_states(case.inputs["image"]),
        }


def _config(given: Mapping[str, Any]) -> ConditionEncodersConfig:
    text, vision = given["text_cfg"], given["vision_cfg"]
    return ConditionEncodersConfig(
        codec=TINY_CODEC,
        text=TextTowerConfig(
            vocab_size=text["vocab_size"],
            hidden_size=text["width"],
            intermediate_size=4 * text["width"],
            num_hidden_layers=text["layers"],
            num_attention_heads=text["heads"],
            max_position_embeddings=text["context_length"],
            bos_token_id=0,
            eos_token_id=1,
        ),
        vision=VisionTowerConfig(
            hidden_size=vision["width"],
            intermediate_size=4 * vision["width"],
            num_hidden_layers=vision["layers"],
            num_attention_heads=vision["width"] // vision["head_width"],
            image_size=vision["image_size"],
            patch_size=vision["patch_size"],
            projection_dim=given["embed_dim"],
        ),
        prompt_ids=(1,),
        negative_ids=(2,),
    )
