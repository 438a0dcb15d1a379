"""Triplane transformer: learned plane tokens read image features and become planes.

Same function and state-dict names as InstantMesh's (arXiv 2404.07191, after LRM, arXiv 2311.04400).
What differs: the deconvolution's kernel and stride follow `high / low` instead of the fixed 2, so
small presets can jump from 8 to 40 in one step; attention kernels are chosen by device and dtype.

Legend: B batch, T = 3 * low * low plane tokens (plane, row, column), S image tokens, D width, C
plane channels.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from geco_core.config.models import ReconstructorConfig
from geco_core.reconstruct.attention import MultiheadAttention

LAYER_NORM_EPS = 1e-5
FINAL_NORM_EPS = 1e-6


class TriplaneLayer(nn.Module):
    """Cross-attention to the image features, self-attention, MLP; pre-norm, residual."""

    def __init__(self, dim: int, heads: int, context_dim: int) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(dim, LAYER_NORM_EPS)
        self.cross_attn = MultiheadAttention(dim, heads, context_dim)
        self.norm2 = nn.LayerNorm(dim, LAYER_NORM_EPS)
        self.self_attn = MultiheadAttention(dim, heads)
        self.norm3 = nn.LayerNorm(dim, LAYER_NORM_EPS)
        # Identities stand for the published dropout layers: the linear layers are named 0 and 3.
        self.mlp = nn.Sequential(
            nn.Linear(dim, 4 * dim),
            nn.GELU(),
            nn.Identity(),
            nn.Linear(4 * dim, dim),
            nn.Identity(),
        )

    def forward(self, tokens: Tensor, features: Tensor) -> Tensor:
        """Tokens [B, T, D] and image features [B, S, context_dim] -> [B, T, D]."""
        tokens = tokens + self.cross_attn(self.norm1(tokens), features)
        tokens = tokens + self.self_attn(self.norm2(tokens))
        return tokens + self.mlp(self.norm3(tokens))


class TriplaneTransformer(nn.Module):
    """`transformer.*` of the published checkpoints."""

    def __init__(self, config: ReconstructorConfig) -> None:
        super().__init__()
        dim, low = config.transformer_dim, config.triplane_low_res
        stride, rest = divmod(config.triplane_high_res, low)
        if rest:
            raise ValueError(f"triplane_high_res must be a multiple of triplane_low_res {low}")
        self.low = low
        self.pos_embed = nn.Parameter(torch.randn(1, 3 * low * low, dim) * dim**-0.5)
        self.layers = nn.ModuleList(
            TriplaneLayer(dim, config.transformer_heads, config.encoder.hidden_size)
            for _ in range(config.transformer_layers)
        )
        self.norm = nn.LayerNorm(dim, FINAL_NORM_EPS)
        self.deconv = nn.ConvTranspose2d(dim, config.triplane_dim, stride, stride)

    @property
    def blocks(self) -> list[TriplaneLayer]:
        """The layers, first to last."""
        return [layer for layer in self.layers if isinstance(layer, TriplaneLayer)]

    def forward(self, features: Tensor) -> Tensor:
        """Image features [B, S, context_dim] -> planes [B, 3, C, high, high]."""
        batch = features.shape[0]
        tokens = self.pos_embed.expand(batch, -1, -1)
        for layer in self.blocks:
            tokens = layer(tokens, features)
        tokens = self.norm(tokens)
        grid = tokens.reshape(batch * 3, self.low, self.low, -1).permute(0, 3, 1, 2)
        return self.deconv(grid).unflatten(0, (batch, 3))
