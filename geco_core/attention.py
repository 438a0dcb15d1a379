"""Scaled dot-product attention with the kernel chosen by device and dtype.

On CPUs in bfloat16 the product is written out at the sizes of the micro models (under about 1k
tokens): the fused CPU kernel does not use the bfloat16 units and takes 1.5 times as long there. In
float32, and on accelerators, the fused kernel wins.

Legend: B batch, L query tokens, S key tokens, D width of all heads, h heads, d head width.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

# More scores per head than this are a matrix too large to hold; the fused kernel streams them.
_EXPLICIT_LIMIT = 2048 * 2048


def attend(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
    """softmax(q k^T / sqrt(d)) v over [B, h, L, d], [B, h, S, d], [B, h, S, d] -> [B, h, L, d]."""
    on_cpu_in_bf16 = query.device.type == "cpu" and query.dtype == torch.bfloat16
    if on_cpu_in_bf16 and query.shape[-2] * key.shape[-2] <= _EXPLICIT_LIMIT:
        scores = (query * query.shape[-1] ** -0.5) @ key.transpose(-1, -2)  # [B, h, L, S]
        return scores.softmax(-1).to(value.dtype) @ value
    return F.scaled_dot_product_attention(query, key, value)


def split_heads(tokens: Tensor, heads: int) -> Tensor:
    """[B, L, D] -> [B, h, L, d]."""
    return tokens.unflatten(-1, (heads, -1)).transpose(1, 2)


def merge_heads(tokens: Tensor) -> Tensor:
    """[B, h, L, d] -> [B, L, D]."""
    return tokens.transpose(1, 2).flatten(2)


def multi_head_attention(query: Tensor, key: Tensor, value: Tensor, heads: int) -> Tensor:
    """`attend` per head: [B, L, D], [B, S, D], [B, S, D] -> [B, L, D]; `heads` divides D."""
    parts = (split_heads(tokens, heads) for tokens in (query, key, value))
    return merge_heads(attend(*parts))
