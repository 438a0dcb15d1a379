"""Bias-free multi-head attention with torch's parameter names.

`MultiheadAttention` is state-dict compatible with `torch.nn.MultiheadAttention(bias=False,
batch_first=True)`, including its rule that the three input projections are packed when key and
query widths agree. What differs: the kernel is chosen by `geco_core.attention`.

Legend: B batch, L query tokens, S key tokens, D width.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from geco_core.attention import multi_head_attention


class MultiheadAttention(nn.Module):
    """Bias-free multi-head attention of `dim` queries on `context_dim` keys and values."""

    def __init__(self, dim: int, heads: int, context_dim: int | None = None) -> None:
        super().__init__()
        if dim % heads:
            raise ValueError(f"attention width {dim} is not divisible by {heads} heads")
        self.heads = heads
        context_dim = dim if context_dim is None else context_dim
        if context_dim == dim:
            self.in_proj_weight = nn.Parameter(torch.empty(3 * dim, dim))
            nn.init.xavier_uniform_(self.in_proj_weight)
        else:
            self.register_parameter("in_proj_weight", None)
            self.q_proj_weight = nn.Parameter(torch.empty(dim, dim))
            self.k_proj_weight = nn.Parameter(torch.empty(dim, context_dim))
            self.v_proj_weight = nn.Parameter(torch.empty(dim, context_dim))
            for weight in (self.q_proj_weight, self.k_proj_weight, self.v_proj_weight):
                nn.init.xavier_uniform_(weight)
        self.out_proj = nn.Linear(dim, dim, bias=False)

    def query_weight(self) -> Tensor:
        """The query projection [D, D] (a view, also when packed)."""
        packed = self.in_proj_weight
        return self.q_proj_weight if packed is None else packed[: packed.shape[1]]

    def key_weight(self) -> Tensor:
        """The key projection [D, context] (a view, also when packed)."""
        packed = self.in_proj_weight
        return (
            self.k_proj_weight if packed is None else packed[packed.shape[1] : 2 * packed.shape[1]]
        )

    def _project(self, tokens: Tensor, context: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        packed = self.in_proj_weight
        if packed is None:
            query = F.linear(tokens, self.q_proj_weight)
            key, value = (
                F.linear(context, self.k_proj_weight),
                F.linear(context, self.v_proj_weight),
            )
        elif tokens is context:
            query, key, value = F.linear(tokens, packed).chunk(3, -1)
        else:
            width = packed.shape[1]
            query = F.linear(tokens, packed[:width])
            key, value = F.linear(context, packed[width:]).chunk(2, -1)
        return query, key, value

    def forward(self, tokens: Tensor, context: Tensor | None = None) -> Tensor:
        """Tokens [B, L, D] attend to context [B, S, context_dim], or to themselves -> [B, L, D]."""
        query, key, value = self._project(tokens, tokens if context is None else context)
        return self.out_proj(multi_head_attention(query, key, value, self.heads))
