"""CRM's heads: the sign of the field, colours, weights, float32 outputs."""

from __future__ import annotations

import torch
from torch import nn

from geco_core.fields.crm_decoder import CrmDecoder
from geco_core.fields.decoders import WEIGHTS_PER_CUBE


def test_an_untrained_field_is_a_ball_positive_inside() -> None:
    decoder = CrmDecoder(4, 8, sphere_radius=0.5)
    for parameter in decoder.parameters():
        nn.init.zeros_(parameter)
    points = torch.tensor([[[0.0, 0.0, 0.0], [0.3, 0.0, 0.4], [0.0, 0.9, 0.0]]])
    field = decoder.field(torch.randn(1, 3, 4, 4, 4), points)
    torch.testing.assert_close(field, torch.tensor([[0.5, 0.0, -0.4]]))


def test_scale_and_radius_change_the_field_alone() -> None:
    plain, scaled = CrmDecoder(4, 16, sphere_radius=0.0), CrmDecoder(4, 16, field_scale=0.2)
    scaled.load_state_dict(plain.state_dict())
    features, points = torch.randn(7, 4), torch.rand(7, 3)
    raw, moved = plain.geometry_of(features, points)
    field, moved_too = scaled.geometry_of(features, points)
    torch.testing.assert_close(field, 0.2 * raw + 0.5 - points.norm(dim=-1))
    assert torch.equal(moved, moved_too)
    assert raw.abs().max() > 0


def test_colours_are_centred_on_grey_and_not_clamped() -> None:
    decoder = CrmDecoder(2, 8)
    with torch.no_grad():
        for parameter in decoder.parameters():
            parameter.zero_()
        decoder.color_head.last.bias.copy_(torch.tensor([-3.0, 0.0, 1.0]))
    rgb = decoder.rgb(torch.zeros(1, 3, 2, 4, 4), torch.zeros(1, 1, 3))[0, 0]
    torch.testing.assert_close(rgb, torch.tensor([-1.0, 0.5, 1.0]))


def test_weights_are_one_row_per_cube_and_small() -> None:
    decoder = CrmDecoder(3, 16)
    corners = torch.randn(5, 8 * 3)
    weights = decoder.weights(corners)
    assert weights.shape == (5, WEIGHTS_PER_CUBE)
    torch.testing.assert_close(weights, decoder.weight_head(corners) * 0.1)
    assert isinstance(decoder.weight_head[1], nn.SiLU)


def test_last_layers_stay_in_float32_under_autocast() -> None:
    decoder = CrmDecoder(4, 16)
    planes, points = torch.randn(1, 3, 4, 8, 8), torch.rand(1, 64, 3) * 2 - 1
    exact = decoder.field(planes, points)
    with torch.autocast("cpu", torch.bfloat16):
        field = decoder.field(planes, points)
        raw = decoder.color_head(decoder.features(planes, points))
    assert field.dtype == raw.dtype == torch.float32
    # Values that fit bfloat16 would show that the last product was rounded.
    assert not torch.equal(raw, raw.bfloat16().float())
    torch.testing.assert_close(field, exact, atol=0.02, rtol=0.05)
