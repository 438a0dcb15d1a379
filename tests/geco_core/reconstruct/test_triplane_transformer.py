"""Triplane transformer: layout of tokens and planes."""

from __future__ import annotations

import dataclasses

import pytest
import torch

from geco_core.reconstruct.triplane_transformer import TriplaneTransformer


def test_a_token_becomes_its_block_of_its_plane(tiny_config) -> None:
    torch.manual_seed(0)
    transformer = TriplaneTransformer(tiny_config)
    transformer.layers = torch.nn.ModuleList()  # tokens go straight to the upsampling
    features = torch.zeros(1, 1, 64)
    before = transformer(features)
    plane, row, column = 1, 2, 3
    with torch.no_grad():
        transformer.pos_embed[0, (plane * 4 + row) * 4 + column] *= -1.0
    changed = (transformer(features) - before).abs().sum((0, 2)) > 0
    expected = torch.zeros(3, 12, 12, dtype=torch.bool)
    expected[plane, row * 3 : row * 3 + 3, column * 3 : column * 3 + 3] = True
    assert torch.equal(changed, expected)


def test_image_features_reach_every_plane(tiny_config) -> None:
    torch.manual_seed(0)
    transformer = TriplaneTransformer(tiny_config)
    one = transformer(torch.randn(1, 9, 64))
    other = transformer(torch.randn(1, 9, 64))
    assert one.shape == (1, 3, 6, 12, 12)
    assert ((one - other).abs().amax((0, 2)) > 0).all()


def test_uneven_upsampling_is_refused(tiny_config) -> None:
    with pytest.raises(ValueError, match="multiple"):
        TriplaneTransformer(dataclasses.replace(tiny_config, triplane_high_res=10))
