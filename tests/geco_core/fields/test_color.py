"""The portable colour head says what the decoder says, in the frame of the file."""

from __future__ import annotations

import pickle

import numpy as np
import pytest
import torch

from geco_core.fields.color import DeviceColor, TriplaneColor
from geco_core.fields.decoders import MeshDecoder
from geco_core.mesh.frames import world_to_gltf


def test_it_agrees_with_the_decoder_also_after_a_journey() -> None:
    torch.manual_seed(0)
    decoder = MeshDecoder(4, 16)
    planes = torch.randn(1, 3, 4, 8, 8)
    points = torch.rand(1, 500, 3) * 2 - 1
    with torch.no_grad():
        expected = decoder.rgb(planes, points)[0].clamp(0, 1).numpy()
    color = pickle.loads(pickle.dumps(TriplaneColor.of(planes, decoder.net_rgb)))
    made = color(world_to_gltf(points[0].numpy()))
    np.testing.assert_allclose(made, expected, atol=2e-3)  # planes travel in half precision
    assert np.ptp(expected) > 0.05


def test_no_points_are_no_colours() -> None:
    color = TriplaneColor.of(torch.zeros(1, 3, 4, 8, 8), MeshDecoder(4, 16).net_rgb)
    assert color(np.zeros((0, 3), np.float32)).shape == (0, 3)


def test_planes_stay_where_they_are_until_they_are_needed(monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(0)
    decoder, planes = MeshDecoder(4, 16), torch.randn(1, 3, 4, 8, 8)
    points = (torch.rand(50, 3) * 2 - 1).numpy()
    expected = TriplaneColor.of(planes, decoder.net_rgb)(points)
    copied = []
    original = TriplaneColor.of

    def counting(*args: object) -> TriplaneColor:
        copied.append(args)
        return original(*args)

    monkeypatch.setattr(TriplaneColor, "of", staticmethod(counting))
    color = DeviceColor(TriplaneColor, planes, decoder.net_rgb)
    planes.zero_()  # the batch's own tensor may be reused
    assert not copied
    travelled = pickle.loads(pickle.dumps(color))
    assert type(travelled) is TriplaneColor
    np.testing.assert_array_equal(travelled(points), expected)
    np.testing.assert_array_equal(color(points), expected)
    assert len(copied) == 1
