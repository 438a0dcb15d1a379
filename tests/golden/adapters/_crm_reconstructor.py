"""CRM's reconstruction cases: our models from their configurations, weights of sibling files."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from geco_core.checkpoints.crm import our_name
from geco_core.config.crm_reconstructor import CrmReconstructorConfig, CrmUNetConfig
from geco_core.fields.crm_decoder import CrmDecoder
from geco_core.reconstruct.crm_unet import CrmUNet
from tests.golden.registry import Case, GoldenError, load_case


def sibling(case: Case, name: str) -> Case:
    """Another case of the same folder, by file name with or without suffix."""
    return load_case(case.folder / f"{Path(name).name.removesuffix('.safetensors')}.json")


def sources(case: Case) -> list[Case]:
    """The cases that hold the weights: itself, or those that `state_dict_from` names."""
    named = case.meta.get("state_dict_from")
    if named is None:
        return [case]
    return [sibling(case, name) for name in ([named] if isinstance(named, str) else named)]


def state_of(case: Case, ours: str) -> dict[str, Tensor]:
    """Stored weights below one of our prefixes, which is cut off."""
    found: dict[str, Tensor] = {}
    for source in sources(case):
        for published, tensor in source.weights().items():
            name = our_name(published)
            if name is None:
                raise GoldenError(f"{source.name}: {published} is not a name of CRM.pth")
            if name.startswith(ours):
                found[name.removeprefix(ours)] = tensor
    return found


def unet_config(config: Mapping[str, Any], image_channels: int) -> CrmUNetConfig:
    """From the `config` block of a U-Net case and the channels of its input."""
    down = tuple(name.startswith("Attn") for name in config["down_block_types"])
    up = tuple(name.startswith("Attn") for name in config["up_block_types"])
    if up != down[::-1]:
        raise GoldenError("the up path does not mirror the down path")
    return CrmUNetConfig(
        image_channels=image_channels,
        learned_channels=config["in_channels"] - image_channels,
        out_channels=config["out_channels"],
        plane_size=config["sample_size"][0],
        block_out_channels=tuple(config["block_out_channels"]),
        attention_levels=down,
        layers_per_block=config["layers_per_block"],
        attention_head_dim=config.get("attention_head_dim", 8),
        mid_attention=config.get("mid_attention", True),
        norm_num_groups=config.get("norm_num_groups", 32),
    )


def build_unet(case: Case, image_channels: int) -> CrmUNet:
    """The network of the first source that describes one, with its weights."""
    source = next(s for s in sources(case) if "down_block_types" in s.meta["config"])
    model = CrmUNet(unet_config(source.meta["config"], image_channels)).eval()
    model.load_state_dict(state_of(source, "unet."))
    return model


def build_decoder(case: Case, radius: float) -> CrmDecoder:
    """The point heads; their sizes are those of the stored weights."""
    state = state_of(case, "decoder.")
    hidden, channels = state["geometry_head.0.weight"].shape
    decoder = CrmDecoder(channels, hidden, sphere_radius=radius).eval()
    decoder.load_state_dict(state)
    return decoder


def reconstructor_config(config: Mapping[str, Any]) -> CrmReconstructorConfig:
    """What extraction reads, from the `config` block of a geometry case."""
    return CrmReconstructorConfig(grid_res=config["grid"], mesh_scale=config.get("scale", 0.95))


def raw_color(decoder: CrmDecoder, planes: Tensor, points_N3: Tensor) -> Tensor:
    """The colour head's output [N, 3] before it is stretched to [0, 1]."""
    with torch.no_grad():
        return decoder.color_head(decoder.features(planes, points_N3[None]))[0]
