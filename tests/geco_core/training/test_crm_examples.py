"""Examples for CRM: inputs and supervision speak of one frame."""

from __future__ import annotations

import pytest
import torch

from geco_core.fields.rolled_planes import plane_features, unroll_planes
from geco_core.shapes.canonical import MESH_SCALE
from geco_core.training.crm_examples import CrmExamples, make_crm_examples

SIZE = 32
# Per block xy, yz, zx: the axis of its depth, its channel, and whether group 0 sees the far side.
BLOCKS = ((2, 0, True), (0, 2, True), (1, 1, False))


@pytest.fixture(scope="module")
def examples() -> CrmExamples:
    return make_crm_examples("train", 2, SIZE, sdf_points=64, color_points=200)


def test_sizes_and_ranges(examples: CrmExamples) -> None:
    assert examples.images.shape == (2, 12, SIZE, 3 * SIZE)
    assert examples.sdf_values.shape == (2, 64)
    assert examples.color_points.abs().max() < 1.0
    inputs = examples.inputs(torch.tensor([1]))
    assert inputs.shape == (1, 12, SIZE, 3 * SIZE)
    assert 0.4 < inputs[0, :6].mean() < 0.6


def test_points_lie_between_the_depths_of_the_two_groups(examples: CrmExamples) -> None:
    planes = unroll_planes(examples.inputs(torch.arange(2)))
    points = examples.color_points
    found = plane_features(planes, points)  # [n, 3, Q, 12]
    for block, (axis, channel, first_is_low) in enumerate(BLOCKS):
        depths = (found[:, block, :, [6 + channel, 9 + channel]] * 2 - 1) * MESH_SCALE
        low, high = depths.unbind(-1) if first_is_low else depths.flip(-1).unbind(-1)
        value = points[..., axis]
        between = (value > low - 0.08) & (value < high + 0.08)
        assert between.float().mean() > 0.85, block
        touching = ((value - low).abs() < 0.08) | ((value - high).abs() < 0.08)
        assert touching.float().mean() > 0.5, block


def test_distances_shrink_with_the_points(examples: CrmExamples) -> None:
    near = examples.sdf_values[:, :32].abs()  # the first half is near the surface
    distance = torch.cdist(examples.sdf_points[:, :32], examples.color_points).amin(-1)
    assert (distance - near).median() < 0.06
    assert bool((distance > near - 0.02).all())
