"""The perceiver that turns the vision tower's states into a few image tokens.

Follows ImageDream's local mode (arXiv 2312.02201), which takes it from IP-Adapter
(arXiv 2308.06721); names in the state dict are the published ones. Learned queries attend, four
times, to the states and to themselves.

Legend: B batch, N vision states of width V, Q queries, W width, I inner width of all heads.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from geco_core.attention import multi_head_attention
from geco_core.config.crm import ResamplerConfig


class Resampler(nn.Module):
    """[B, N, V] -> [B, Q, W].

    Args:
        config: sizes.
        tokens: Q.
        width: W, the width of the U-Net's cross-attention states.
    """

    def __init__(self, config: ResamplerConfig, tokens: int, width: int) -> None:
        super().__init__()
        self.latents = nn.Parameter(torch.empty(1, tokens, width))
        nn.init.normal_(self.latents, std=width**-0.5)
        self.proj_in = nn.Linear(config.input_width, width)
        self.proj_out = nn.Linear(width, width)
        self.norm_out = nn.LayerNorm(width)
        self.layers = nn.ModuleList(
            nn.ModuleList(
                [
                    _PerceiverAttention(width, config.heads, config.head_width),
                    _feed_forward(width, config.feed_forward),
                ]
            )
            for _ in range(config.layers)
        )

    def forward(self, states_BNV: Tensor) -> Tensor:
        """Image tokens [B, Q, W]. Zero states give tokens too: they are not zero."""
        states_BNW = self.proj_in(states_BNV.to(self.latents.dtype))
        tokens_BQW = self.latents.expand(len(states_BNW), -1, -1)
        for attention, feed_forward in self.layers:  # pyright: ignore[reportGeneralTypeIssues]
            tokens_BQW = tokens_BQW + attention(states_BNW, tokens_BQW)
            tokens_BQW = tokens_BQW + feed_forward(tokens_BQW)
        return self.norm_out(self.proj_out(tokens_BQW))


class _PerceiverAttention(nn.Module):
    """Queries attend to [states, queries], each behind its own norm."""

    def __init__(self, width: int, heads: int, head_width: int) -> None:
        super().__init__()
        inner = heads * head_width
        self.heads = heads
        self.norm1 = nn.LayerNorm(width)
        self.norm2 = nn.LayerNorm(width)
        self.to_q = nn.Linear(width, inner, bias=False)
        self.to_kv = nn.Linear(width, 2 * inner, bias=False)
        self.to_out = nn.Linear(inner, width, bias=False)

    def forward(self, states_BNW: Tensor, tokens_BQW: Tensor) -> Tensor:
        states_BNW, tokens_BQW = self.norm1(states_BNW), self.norm2(tokens_BQW)
        key, value = self.to_kv(torch.cat([states_BNW, tokens_BQW], dim=1)).chunk(2, dim=-1)
        return self.to_out(multi_head_attention(self.to_q(tokens_BQW), key, value, self.heads))


def _feed_forward(width: int, factor: int) -> nn.Sequential:
    return nn.Sequential(
        nn.LayerNorm(width),
        nn.Linear(width, width * factor, bias=False),
        nn.GELU(),
        nn.Linear(width * factor, width, bias=False),
    )
