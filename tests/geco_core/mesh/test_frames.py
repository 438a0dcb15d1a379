from __future__ import annotations

import numpy as np
import pytest
import torch

from geco_core.mesh.frames import gltf_to_world, world_to_gltf


def test_axes_land_where_the_frames_say() -> None:
    front, left, up = np.eye(3)
    assert world_to_gltf(front).tolist() == [0, 0, 1]  # the front faces +z
    assert world_to_gltf(up).tolist() == [0, 1, 0]  # y is up
    assert world_to_gltf(left).tolist() == [1, 0, 0]


@pytest.mark.parametrize("convert", [world_to_gltf, gltf_to_world])
def test_both_maps_are_proper_rotations(convert) -> None:
    matrix = convert(np.eye(3))
    assert np.linalg.det(matrix) == pytest.approx(1.0)
    assert np.array_equal(matrix @ matrix.T, np.eye(3))


def test_maps_are_inverse_for_arrays_and_tensors() -> None:
    points = np.random.default_rng(0).normal(size=(2, 5, 3))
    assert np.array_equal(gltf_to_world(world_to_gltf(points)), points)
    tensor = torch.from_numpy(points)
    assert torch.equal(world_to_gltf(gltf_to_world(tensor)), tensor)
    assert np.array_equal(world_to_gltf(tensor).numpy(), world_to_gltf(points))


def test_other_widths_are_refused() -> None:
    with pytest.raises(ValueError, match="3"):
        world_to_gltf(np.zeros((4, 4)))
