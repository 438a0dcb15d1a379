"""Point heads: the sphere bias, colour range, float32 outputs."""

from __future__ import annotations

import torch

from geco_core.fields.decoders import WEIGHTS_PER_CUBE, MeshDecoder, NerfDecoder


def test_sphere_bias_and_scale() -> None:
    plain = MeshDecoder(4, 16)
    biased = MeshDecoder(4, 16, sphere_radius=0.4, sdf_scale=0.2)
    biased.load_state_dict(plain.state_dict())
    planes, points = torch.randn(1, 3, 4, 8, 8), torch.rand(1, 20, 3) * 2 - 1
    raw = plain.sdf(planes, points)
    expected = 0.2 * raw + points.norm(dim=-1, keepdim=True) - 0.4
    torch.testing.assert_close(biased.sdf(planes, points), expected)
    assert raw.abs().max() > 0


def test_colours_reach_black_and_white() -> None:
    decoder = MeshDecoder(2, 8)
    planes, points = torch.zeros(1, 3, 2, 4, 4), torch.zeros(1, 1, 3)
    last = decoder.net_rgb[6]
    with torch.no_grad():
        last.bias.copy_(torch.tensor([-50.0, 0.0, 50.0]))
    rgb = decoder.rgb(planes, points)[0, 0]
    torch.testing.assert_close(rgb, torch.tensor([-0.001, 0.5, 1.001]))


def test_weights_are_one_row_per_cube_and_small() -> None:
    decoder = MeshDecoder(3, 16)
    corners = torch.randn(5, 8 * 9)
    weights = decoder.weights(corners)
    assert weights.shape == (5, WEIGHTS_PER_CUBE)
    torch.testing.assert_close(weights, decoder.net_weight(corners) * 0.1)


def test_last_layers_stay_in_float32_under_autocast() -> None:
    decoder, nerf = MeshDecoder(4, 16), NerfDecoder(4, 16)
    planes, points = torch.randn(1, 3, 4, 8, 8), torch.rand(1, 64, 3) * 2 - 1
    exact = decoder.sdf(planes, points)
    with torch.autocast("cpu", torch.bfloat16):
        sdf, (rgb, raw) = decoder.sdf(planes, points), nerf(planes, points)
    assert sdf.dtype == rgb.dtype == raw.dtype == torch.float32
    # Values that fit bfloat16 would show that the last product was rounded.
    assert not torch.equal(sdf, sdf.bfloat16().float())
    torch.testing.assert_close(sdf, exact, atol=0.02, rtol=0.05)
