"""The U-Net builder: published size, level layout, refused configurations."""

from __future__ import annotations

import pytest
import torch

from geco_core.config.models import UNetConfig
from geco_core.diffusion.reference_attention import self_attention_names
from geco_core.diffusion.unet import build_unet
from geco_core.errors import ConfigError
from tests.support.tiny_models import TINY_UNET


def test_full_size_parameter_count_and_layers() -> None:
    with torch.device("meta"):
        unet = build_unet(UNetConfig())
    assert sum(p.numel() for p in unet.parameters()) == 865_910_724
    assert len(self_attention_names(unet)) == 16


def test_attention_sits_where_the_levels_say() -> None:
    names = self_attention_names(build_unet(TINY_UNET))
    assert any(n.startswith("down_blocks.1.") for n in names)
    assert any(n.startswith("up_blocks.0.") for n in names)
    assert any(n.startswith("mid_block.") for n in names)
    assert not any(n.startswith(("down_blocks.0.", "up_blocks.1.")) for n in names)


def test_attention_heads_count_heads() -> None:
    block = build_unet(TINY_UNET).down_blocks[1].attentions[0].transformer_blocks[0]
    assert block.attn1.heads == 2


@pytest.mark.parametrize(
    "wrong",
    [
        {"attention_levels": (True,)},
        {"attention_heads": (1, 3)},
        {"norm_num_groups": 5},
    ],
)
def test_sizes_that_do_not_fit_are_refused(wrong: dict[str, object]) -> None:
    fields = {**TINY_UNET.__dict__, **wrong}
    with pytest.raises(ConfigError, match=r"unet|U-Net"):
        build_unet(UNetConfig(**fields))
