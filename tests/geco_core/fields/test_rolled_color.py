"""The portable colour head says what the decoder says, in the frame of the file."""

from __future__ import annotations

import pickle

import numpy as np
import torch

from geco_core.fields.crm_decoder import CrmDecoder
from geco_core.fields.crm_frame import canonical_to_world
from geco_core.fields.rolled_color import RolledColor
from geco_core.mesh.frames import world_to_gltf


def test_it_agrees_with_the_decoder_also_after_a_journey() -> None:
    torch.manual_seed(0)
    decoder, planes = CrmDecoder(4, 16), torch.randn(1, 3, 4, 8, 8)
    points = torch.rand(1, 500, 3) * 2 - 1
    with torch.no_grad():
        expected = decoder.rgb(planes, points)[0].clamp(0, 1).numpy()
    color = pickle.loads(pickle.dumps(RolledColor.of(planes, decoder.color_head)))
    made = color(world_to_gltf(canonical_to_world(points[0]).numpy()))
    np.testing.assert_allclose(made, expected, atol=2e-3)  # planes travel in half precision
    assert np.ptp(expected) > 0.05


def test_no_points_are_no_colours() -> None:
    color = RolledColor.of(torch.zeros(1, 3, 4, 8, 8), CrmDecoder(4, 16).color_head)
    assert color(np.zeros((0, 3), np.float32)).shape == (0, 3)
