"""Name tables: examples, and both directions on whole models."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from geco_core.checkpoints.ldm_names import (
    fuse,
    text_table,
    unet_table,
    unfuse,
    vae_table,
    vision_table,
)
from geco_core.config.crm import MultiViewUNetConfig
from geco_core.config.models import CodecConfig


@pytest.mark.parametrize(
    ("theirs", "ours"),
    [
        ("time_embed.2.bias", "unet.time_embedding.linear_2.bias"),
        ("camera_embed.0.weight", "unet.class_embedding.linear_1.weight"),
        ("input_blocks.0.0.weight", "unet.conv_in.weight"),
        ("input_blocks.4.0.in_layers.0.weight", "unet.down_blocks.1.resnets.0.norm1.weight"),
        ("input_blocks.3.0.op.bias", "unet.down_blocks.0.downsamplers.0.conv.bias"),
        ("output_blocks.2.1.conv.bias", "unet.up_blocks.0.upsamplers.0.conv.bias"),
        ("output_blocks.5.2.conv.bias", "unet.up_blocks.1.upsamplers.0.conv.bias"),
        ("middle_block.1.proj_in.weight", "unet.mid_block.attentions.0.proj_in.weight"),
        (
            "input_blocks.1.1.transformer_blocks.0.attn2.to_k_ip.weight",
            "unet.down_blocks.0.attentions.0.transformer_blocks.0.attn2.processor.to_k_ip.weight",
        ),
        ("image_embed.layers.3.1.0.bias", "resampler.layers.3.1.0.bias"),
    ],
)
def test_unet_names(theirs: str, ours: str) -> None:
    table = unet_table(MultiViewUNetConfig())
    assert table.ours(theirs) == ours
    assert table.published(ours) == theirs


@pytest.mark.parametrize(
    ("theirs", "ours"),
    [
        ("decoder.up.3.upsample.conv.bias", "decoder.up_blocks.0.upsamplers.0.conv.bias"),
        ("encoder.down.0.downsample.conv.bias", "encoder.down_blocks.0.downsamplers.0.conv.bias"),
        ("encoder.down.2.block.0.nin_shortcut.bias",
         "encoder.down_blocks.2.resnets.0.conv_shortcut.bias"),
        ("decoder.mid.attn_1.proj_out.bias", "decoder.mid_block.attentions.0.to_out.0.bias"),
        ("quant_conv.bias", "quant_conv.bias"),
    ],
)  # fmt: skip
def test_autoencoder_names(theirs: str, ours: str) -> None:
    table = vae_table(CodecConfig())
    assert table.ours(theirs) == ours
    assert table.published(ours) == theirs


def test_tower_names() -> None:
    piece = "transformer.resblocks.1.attn.in_proj_weight@k"
    assert text_table(2).ours(piece) == "encoder.layers.1.self_attn.k_proj.weight"
    assert text_table(2).ours("positional_embedding") == "embeddings.position_embedding.weight"
    assert vision_table(2).ours(f"visual.{piece}") == "encoder.layers.1.self_attn.k_proj.weight"
    assert vision_table(2).ours("visual.conv1.weight") == "embeddings.patch_embedding.weight"


def test_deeper_transformers_have_their_image_projections() -> None:
    name = "middle_block.1.transformer_blocks.1.attn2.to_v_ip.weight"
    deep = unet_table(replace(MultiViewUNetConfig(), transformer_layers=2))
    assert ".processor." in deep.ours(name)
    assert ".processor." not in unet_table(MultiViewUNetConfig()).ours(name)


def test_fused_tensors_come_apart_and_together() -> None:
    state = {
        "a.attn.in_proj_weight": torch.arange(12.0).reshape(6, 2),
        "a.attn.in_proj_bias": torch.arange(6.0),
        "encoder.mid.attn_1.q.weight": torch.arange(4.0).reshape(2, 2, 1, 1),
        "encoder.mid.attn_1.q.bias": torch.arange(2.0),
        "encoder.conv_in.weight": torch.zeros(2, 2, 1, 1),
    }
    pieces = unfuse(state)
    assert pieces["a.attn.in_proj_weight@k"].tolist() == [[4.0, 5.0], [6.0, 7.0]]
    assert pieces["encoder.mid.attn_1.q.weight"].shape == (2, 2)
    assert pieces["encoder.conv_in.weight"].shape == (2, 2, 1, 1)
    again = fuse(pieces)
    assert again.keys() == state.keys()
    assert all(torch.equal(again[name], state[name]) for name in state)
