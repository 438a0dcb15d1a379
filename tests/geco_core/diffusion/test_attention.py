"""The explicit attention path equals the fused one."""

from __future__ import annotations

import torch

from geco_core.diffusion.attention import multi_head_attention


def test_bfloat16_path_equals_float32_within_its_precision(generator: torch.Generator) -> None:
    query = torch.randn(2, 7, 24, generator=generator)
    key, value = torch.randn(2, 2, 11, 24, generator=generator)
    exact = multi_head_attention(query, key, value, heads=3)
    rounded = multi_head_attention(query.bfloat16(), key.bfloat16(), value.bfloat16(), heads=3)
    assert rounded.dtype == torch.bfloat16
    torch.testing.assert_close(rounded.float(), exact, rtol=0, atol=3e-2)


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
