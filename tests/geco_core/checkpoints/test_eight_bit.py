"""Rows in 8 bits: how far off, and rows that are hard to encode."""

from __future__ import annotations

import pytest
import torch

from geco_core.checkpoints.eight_bit import LARGEST, decode_rows, encode_rows


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_no_number_is_off_by_more_than_half_a_step(
    dtype: torch.dtype, generator: torch.Generator
) -> None:
    rows = torch.randn(300, 40, generator=generator) * torch.logspace(-30, 30, 300)[:, None]
    steps, scale = encode_rows(rows, dtype)
    assert (steps.dtype, scale.dtype, scale.shape) == (torch.int8, dtype, (300,))
    error = (decode_rows(steps, scale) - rows).abs().amax(1)
    half_step = rows.abs().amax(1) / LARGEST / 2
    assert bool((error <= 1.005 * half_step).all())  # a scale in bfloat16 is off by 1/256
    assert float((error / half_step).max()) > 0.9
    assert int(steps.abs().max()) == LARGEST


def test_signs_zeros_and_the_largest_number_come_back() -> None:
    rows = torch.tensor([[0.0, 0.0, 0.0], [2.0, -1.0, 0.0], [1e-45, 0.0, 0.0], [3e38, -3e38, 0.0]])
    steps, scale = encode_rows(rows)
    assert steps.tolist() == [[0, 0, 0], [127, -64, 0], [0, 0, 0], [127, -127, 0]]
    found = decode_rows(steps, scale)
    torch.testing.assert_close(found[[0, 1, 3]], rows[[0, 1, 3]], rtol=0.01, atol=0)
    assert bool(torch.isfinite(found).all())
