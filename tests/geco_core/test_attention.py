"""Attention: the definition, and both kernels agree."""

from __future__ import annotations

import pytest
import torch

from geco_core import attention
from geco_core.attention import attend, merge_heads, multi_head_attention, split_heads


def test_against_the_definition(generator: torch.Generator) -> None:
    query = torch.randn(1, 3, 4, generator=generator)
    key, value = torch.randn(2, 1, 5, 4, generator=generator)
    heads = []
    for h in (slice(0, 2), slice(2, 4)):
        scores = query[..., h] @ key[..., h].transpose(1, 2) / 2**0.5
        heads.append(scores.softmax(-1) @ value[..., h])
    torch.testing.assert_close(
        multi_head_attention(query, key, value, heads=2), torch.cat(heads, dim=-1)
    )


def test_merging_undoes_splitting(generator: torch.Generator) -> None:
    tokens = torch.randn(2, 5, 12, generator=generator)
    assert split_heads(tokens, 3).shape == (2, 3, 5, 4)
    assert torch.equal(merge_heads(split_heads(tokens, 3)), tokens)


@pytest.mark.parametrize("limit", [0, 10_000])
def test_bfloat16_equals_float32_within_its_precision(
    generator: torch.Generator, monkeypatch: pytest.MonkeyPatch, limit: int
) -> None:
    monkeypatch.setattr(attention, "_EXPLICIT_LIMIT", limit)
    query = torch.randn(2, 3, 7, 8, generator=generator)
    key, value = torch.randn(2, 2, 3, 11, 8, generator=generator)
    rounded = attend(query.bfloat16(), key.bfloat16(), value.bfloat16())
    assert rounded.dtype == torch.bfloat16
    torch.testing.assert_close(rounded.float(), attend(query, key, value), rtol=0, atol=3e-2)
