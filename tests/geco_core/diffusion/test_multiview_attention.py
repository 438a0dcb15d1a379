"""Processors: joined frames, the image half of cross-attention, refusals."""

from __future__ import annotations

import pytest
import torch
from diffusers.models.attention_processor import Attention, AttnProcessor

from geco_core.diffusion.multiview_attention import FrameAttnProcessor, ImageTokenAttnProcessor


def layer(cross: int | None = None) -> Attention:
    torch.manual_seed(0)
    return Attention(8, cross_attention_dim=cross, heads=2, dim_head=4)


@torch.no_grad()
def test_joined_frames_are_plain_attention_over_all_tokens() -> None:
    attention = layer()
    x = torch.randn(6, 5, 8)
    attention.set_processor(AttnProcessor())
    expected = attention(x.reshape(2, 15, 8)).reshape(6, 5, 8)
    alone = attention(x)
    attention.set_processor(FrameAttnProcessor())  # pyright: ignore[reportArgumentType]
    torch.testing.assert_close(attention(x, frames=3), expected, rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(attention(x, frames=1), alone, rtol=1e-5, atol=1e-6)
    with pytest.raises(ValueError, match="6 rows are not objects of 4 frames"):
        attention(x, frames=4)
    with pytest.raises(ValueError, match="masks"):
        attention(x, attention_mask=torch.zeros(6, 5, 5))
    with pytest.raises(ValueError, match="self-attention"):
        attention(x, encoder_hidden_states=x)


@torch.no_grad()
def test_image_tokens_have_their_own_softmax() -> None:
    attention = layer(6)
    x, states = torch.randn(2, 5, 8), torch.randn(2, 7, 6)
    attention.set_processor(AttnProcessor())
    text = attention(x, encoder_hidden_states=states[:, :4])
    processor = ImageTokenAttnProcessor(8, 6, tokens=3, weight=0.5)
    attention.set_processor(processor)  # pyright: ignore[reportArgumentType]
    both = attention(x, encoder_hidden_states=states, frames=2)
    heads = attention.heads
    q = attention.to_q(x).unflatten(-1, (heads, -1)).transpose(1, 2)
    k, v = (
        f(states[:, 4:]).unflatten(-1, (heads, -1)).transpose(1, 2)
        for f in (processor.to_k_ip, processor.to_v_ip)
    )
    image = ((q @ k.transpose(-1, -2) / 2.0).softmax(-1) @ v).transpose(1, 2).flatten(2)
    added = image @ attention.to_out[0].weight.T
    torch.testing.assert_close(both, text + 0.5 * added, rtol=1e-5, atol=1e-6)


def test_states_must_hold_text_beside_image_tokens() -> None:
    attention = layer(6)
    attention.set_processor(ImageTokenAttnProcessor(8, 6, tokens=3))  # pyright: ignore[reportArgumentType]
    with pytest.raises(ValueError, match="3 states can not hold text and 3"):
        attention(torch.randn(1, 5, 8), encoder_hidden_states=torch.randn(1, 3, 6))


def test_without_image_tokens_there_are_no_parameters() -> None:
    assert not list(ImageTokenAttnProcessor(8, 6, tokens=0).parameters())
