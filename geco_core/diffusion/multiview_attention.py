"""Attention across the frames of an object, and cross-attention with image tokens.

Follows MVDream (arXiv 2308.16512): self-attention joins the tokens of all frames of one object; and
ImageDream (arXiv 2312.02201): the last cross-attention states are image tokens with key and value
projections of their own, a separate softmax, and the sum of both results. What differs from the
originals: these are processors of diffusers' U-Net, and the number of frames travels with the call.

Legend: R rows = B objects x F frames (frame fastest), T tokens per frame, D channels, S states, Q
image tokens, W width of the states.
"""

from __future__ import annotations

from typing import Any

import torch
from diffusers.models.unets.unet_2d_condition import UNet2DConditionModel
from torch import Tensor, nn

from geco_core.attention import multi_head_attention

# Key under which the number of frames travels in diffusers' `cross_attention_kwargs`.
FRAMES = "frames"


class FrameAttnProcessor:
    """Self-attention over the tokens of all frames of an object."""

    def __call__(
        self,
        attn: Any,  # the Attention layer, whose parts diffusers types as optional
        hidden_states: Tensor,
        encoder_hidden_states: Tensor | None = None,
        attention_mask: Tensor | None = None,
        temb: Tensor | None = None,  # noqa: ARG002  (diffusers calls processors with it)
        frames: int = 1,
    ) -> Tensor:
        """hidden_states [R, T, D] -> [R, T, D].

        Raises ValueError for masks and for rows that are not whole objects.
        """
        _refuse(attention_mask)
        if encoder_hidden_states is not None:
            raise ValueError("a self-attention layer was given states to attend to")
        rows, tokens, _ = hidden_states.shape
        if rows % frames:
            raise ValueError(f"{rows} rows are not objects of {frames} frames")
        joined = hidden_states.reshape(rows // frames, frames * tokens, -1)  # [B, F T, D]
        out = multi_head_attention(
            attn.to_q(joined), attn.to_k(joined), attn.to_v(joined), attn.heads
        )
        return _project(attn, out.reshape(rows, tokens, -1))


class ImageTokenAttnProcessor(nn.Module):
    """Cross-attention whose last `tokens` states are image tokens.

    Args:
        width: D of the layer's queries (all heads).
        state_width: W.
        tokens: Q; 0 makes plain cross-attention without parameters.
        weight: of the image half.
    """

    def __init__(self, width: int, state_width: int, tokens: int, weight: float = 1.0) -> None:
        super().__init__()
        self.tokens = tokens
        self.weight = weight
        if tokens:
            self.to_k_ip = nn.Linear(state_width, width, bias=False)
            self.to_v_ip = nn.Linear(state_width, width, bias=False)

    def __call__(
        self,
        attn: Any,
        hidden_states: Tensor,
        encoder_hidden_states: Tensor | None = None,
        attention_mask: Tensor | None = None,
        temb: Tensor | None = None,  # noqa: ARG002
        frames: int = 1,  # noqa: ARG002  (states belong to one frame)
    ) -> Tensor:
        """hidden_states [R, T, D], encoder_hidden_states [R, S, W] -> [R, T, D].

        Raises ValueError for masks and when no text states are left beside the image tokens.
        """
        _refuse(attention_mask)
        if encoder_hidden_states is None or encoder_hidden_states.shape[1] <= self.tokens:
            found = 0 if encoder_hidden_states is None else encoder_hidden_states.shape[1]
            raise ValueError(f"{found} states can not hold text and {self.tokens} image tokens")
        texts = encoder_hidden_states.shape[1] - self.tokens
        text, image = encoder_hidden_states[:, :texts], encoder_hidden_states[:, texts:]
        query = attn.to_q(hidden_states)
        out = multi_head_attention(query, attn.to_k(text), attn.to_v(text), attn.heads)
        if self.tokens:
            key, value = self.to_k_ip(image), self.to_v_ip(image)
            out = out + self.weight * multi_head_attention(query, key, value, attn.heads)
        return _project(attn, out)


def install_multiview_processors(
    unet: UNet2DConditionModel, state_width: int, tokens: int, weight: float = 1.0
) -> None:
    """Give every attention layer of `unet` its processor: attn1 frames, attn2 image tokens."""
    processors: dict[str, Any] = {}
    for name in unet.attn_processors:
        if name.endswith("attn1.processor"):
            processors[name] = FrameAttnProcessor()
            continue
        layer: Any = unet.get_submodule(name.removesuffix(".processor"))
        width = layer.to_q.out_features
        processors[name] = ImageTokenAttnProcessor(width, state_width, tokens, weight)
    unet.set_attn_processor(processors)


def _project(attn: Any, out: Tensor) -> Tensor:
    projection, dropout = attn.to_out
    return dropout(projection(out))


def _refuse(mask: torch.Tensor | None) -> None:
    if mask is not None:
        raise ValueError("attention masks are not supported")
