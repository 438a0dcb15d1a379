"""Names of latent diffusion's modules, and of the modules they are here.

MVDream, ImageDream and CRM publish their networks under the names of the original latent diffusion
code: `input_blocks.4.0.in_layers.0` is diffusers' `down_blocks.1.resnets.0.norm1`. A table maps
published module (or tensor) names to ours; what a name has beyond its longest entry stays.
Projections that the original fuses are taken apart first, and 1 x 1 convolutions over tokens become
linear layers, see `unfuse` and `fuse`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from geco_core.config.crm import MultiViewUNetConfig
from geco_core.config.models import CodecConfig

_RESNET = {
    "in_layers.0": "norm1",
    "in_layers.2": "conv1",
    "emb_layers.1": "time_emb_proj",
    "out_layers.0": "norm2",
    "out_layers.3": "conv2",
    "skip_connection": "conv_shortcut",
}
_ATTENTION = {
    "norm": "group_norm",
    "q": "to_q",
    "k": "to_k",
    "v": "to_v",
    "proj_out": "to_out.0",
}
_BLOCK = {
    "ln_1": "layer_norm1",
    "ln_2": "layer_norm2",
    "attn.out_proj": "self_attn.out_proj",
    "mlp.c_fc": "mlp.fc1",
    "mlp.c_proj": "mlp.fc2",
}
_THIRDS = ("q", "k", "v")
_FUSED = ("in_proj_weight", "in_proj_bias")
# Suffix of the pieces that `unfuse` makes of a fused projection.
_PIECE = "@"


@dataclass(frozen=True)
class NameTable:
    """Published name -> our name, by the longest entry that begins a name at a dot.

    Names that no entry begins stay as they are, so an inventory check must follow.
    """

    entries: Mapping[str, str]

    def ours(self, name: str) -> str:
        """Our name of a published tensor."""
        return _replace_head(name, self.entries)

    def published(self, name: str) -> str:
        """The published name of our tensor."""
        return _replace_head(name, {ours: name for name, ours in self.entries.items()})


def unet_table(config: MultiViewUNetConfig) -> NameTable:
    """The U-Net with its resampler; ours are those of `ImageDream`."""
    table = {
        "time_embed.0": "unet.time_embedding.linear_1",
        "time_embed.2": "unet.time_embedding.linear_2",
        "camera_embed.0": "unet.class_embedding.linear_1",
        "camera_embed.2": "unet.class_embedding.linear_2",
        "input_blocks.0.0": "unet.conv_in",
        "out.0": "unet.conv_norm_out",
        "out.2": "unet.conv_out",
        "image_embed": "resampler",
    }
    levels, layers = len(config.block_out_channels), config.layers_per_block
    for level in range(levels):
        ours = f"unet.down_blocks.{level}"
        first = 1 + level * (layers + 1)
        for layer in range(layers):
            theirs = f"input_blocks.{first + layer}"
            attends = config.attention_levels[level]
            _add_layer(table, theirs, ours, layer, config, attends=attends)
        if level < levels - 1:
            table[f"input_blocks.{first + layers}.0.op"] = f"{ours}.downsamplers.0.conv"
    _add_resnet(table, "middle_block.0", "unet.mid_block.resnets.0")
    _add_transformer(table, "middle_block.1", "unet.mid_block.attentions.0", config)
    _add_resnet(table, "middle_block.2", "unet.mid_block.resnets.1")
    for up in range(levels):
        ours, attends = f"unet.up_blocks.{up}", config.attention_levels[levels - 1 - up]
        for layer in range(layers + 1):
            theirs = f"output_blocks.{up * (layers + 1) + layer}"
            _add_layer(table, theirs, ours, layer, config, attends=attends)
        if up < levels - 1:
            last = f"output_blocks.{up * (layers + 1) + layers}"
            table[f"{last}.{1 + int(attends)}.conv"] = f"{ours}.upsamplers.0.conv"
    return NameTable(table)


def vae_table(config: CodecConfig) -> NameTable:
    """The autoencoder; ours are those of diffusers' `AutoencoderKL`."""
    table: dict[str, str] = {}
    levels, layers = len(config.block_out_channels), config.layers_per_block
    for side, down, count in (("encoder", "down", layers), ("decoder", "up", layers + 1)):
        sample = f"{down}sample"
        for level in range(levels):
            # Published decoder levels count from the fine end, diffusers' from the coarse one.
            at = level if side == "encoder" else levels - 1 - level
            theirs, ours = f"{side}.{down}.{level}", f"{side}.{down}_blocks.{at}"
            for layer in range(count):
                block = f"{ours}.resnets.{layer}"
                table[f"{theirs}.block.{layer}.nin_shortcut"] = f"{block}.conv_shortcut"
                table[f"{theirs}.block.{layer}"] = block
            table[f"{theirs}.{sample}.conv"] = f"{ours}.{sample}rs.0.conv"
        for number in (1, 2):
            table[f"{side}.mid.block_{number}"] = f"{side}.mid_block.resnets.{number - 1}"
        for name, ours in _ATTENTION.items():
            table[f"{side}.mid.attn_1.{name}"] = f"{side}.mid_block.attentions.0.{ours}"
        table[f"{side}.norm_out"] = f"{side}.conv_norm_out"
    return NameTable(table)


def text_table(layers: int) -> NameTable:
    """OpenCLIP's text tower; ours are those of transformers' `CLIPTextModel`."""
    return NameTable(
        {
            "token_embedding": "embeddings.token_embedding",
            "positional_embedding": "embeddings.position_embedding.weight",
            "ln_final": "final_layer_norm",
            **_tower("", layers),
        }
    )


def vision_table(layers: int) -> NameTable:
    """OpenCLIP's image tower; ours are those of transformers' `CLIPVisionModel`."""
    return NameTable(
        {
            "visual.class_embedding": "embeddings.class_embedding",
            "visual.positional_embedding": "embeddings.position_embedding.weight",
            "visual.conv1": "embeddings.patch_embedding",
            "visual.ln_pre": "pre_layrnorm",
            "visual.ln_post": "post_layernorm",
            **_tower("visual.", layers),
        }
    )


def unfuse(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Fused projections in three pieces, and 1 x 1 kernels of token projections as matrices."""
    found: dict[str, Tensor] = {}
    for name, tensor in state.items():
        if name.endswith(_FUSED):
            thirds = zip(_THIRDS, tensor.chunk(3), strict=True)
            found.update({f"{name}{_PIECE}{third}": piece for third, piece in thirds})
        elif _is_kernel(name) and tensor.ndim == 4:
            found[name] = tensor[..., 0, 0]
        else:
            found[name] = tensor
    return found


def fuse(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Inverse of `unfuse`, on published names."""
    found: dict[str, Tensor] = {}
    for name, tensor in state.items():
        head, piece, third = name.partition(_PIECE)
        if not piece:
            found[name] = tensor[..., None, None] if _is_kernel(name) else tensor
        elif third == _THIRDS[0]:
            found[head] = torch.cat([state[f"{head}{_PIECE}{part}"] for part in _THIRDS])
    return found


def _is_kernel(name: str) -> bool:
    head, _, tail = name.rpartition(".mid.attn_1.")
    return bool(head) and tail in {f"{part}.weight" for part in ("q", "k", "v", "proj_out")}


def _tower(prefix: str, layers: int) -> dict[str, str]:
    table: dict[str, str] = {}
    for layer in range(layers):
        theirs, ours = f"{prefix}transformer.resblocks.{layer}", f"encoder.layers.{layer}"
        table.update({f"{theirs}.{name}": f"{ours}.{to}" for name, to in _BLOCK.items()})
        for third in _THIRDS:
            for kind in ("weight", "bias"):
                piece = f"{theirs}.attn.in_proj_{kind}{_PIECE}{third}"
                table[piece] = f"{ours}.self_attn.{third}_proj.{kind}"
    return table


def _add_layer(
    table: dict[str, str],
    theirs: str,
    ours: str,
    layer: int,
    config: MultiViewUNetConfig,
    *,
    attends: bool,
) -> None:
    _add_resnet(table, f"{theirs}.0", f"{ours}.resnets.{layer}")
    if attends:
        _add_transformer(table, f"{theirs}.1", f"{ours}.attentions.{layer}", config)


def _add_resnet(table: dict[str, str], theirs: str, ours: str) -> None:
    table.update({f"{theirs}.{name}": f"{ours}.{to}" for name, to in _RESNET.items()})


def _add_transformer(
    table: dict[str, str], theirs: str, ours: str, config: MultiViewUNetConfig
) -> None:
    table[theirs] = ours
    for layer in range(config.transformer_layers):
        for name in ("to_k_ip", "to_v_ip"):
            inside = f"transformer_blocks.{layer}.attn2"
            table[f"{theirs}.{inside}.{name}"] = f"{ours}.{inside}.processor.{name}"


def _replace_head(name: str, table: Mapping[str, str]) -> str:
    parts = name.split(".")
    for length in range(len(parts), 0, -1):
        head = ".".join(parts[:length])
        if head in table:
            return ".".join([table[head], *parts[length:]])
    return name
