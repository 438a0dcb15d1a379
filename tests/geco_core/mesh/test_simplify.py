"""Simplified meshes keep the shape, the colours and the budget."""

from __future__ import annotations

import numpy as np
import pytest
import trimesh
from scipy.spatial import cKDTree

from geco_core.mesh.gate import check_mesh
from geco_core.mesh.inspect import mesh_stats
from geco_core.mesh.simplify import simplify
from geco_core.types import Mesh


@pytest.fixture
def blob() -> Mesh:
    sphere = trimesh.creation.icosphere(4, 1.0)
    v = sphere.vertices.astype(np.float32)
    v *= (1 + 0.2 * np.sin(5 * v[:, :1])).astype(np.float32)
    colors = np.where(v[:, :1] > 0, 250, 5).astype(np.uint8).repeat(3, axis=1)
    return Mesh(v, sphere.faces.astype(np.int32), colors)


def test_budget_shape_and_colours(blob: Mesh) -> None:
    small = simplify(blob, 1000)
    check_mesh(small)
    assert 900 <= len(small.faces) <= 1000
    before, after = mesh_stats(blob), mesh_stats(small)
    assert after["watertight"]
    assert after["volume"] == pytest.approx(before["volume"], rel=0.02)
    distance, _ = cKDTree(blob.vertices).query(small.vertices)
    assert distance.max() < 0.08  # half the spacing of the vertices
    far = np.abs(small.vertices[:, 0]) > 0.05
    expected = np.where(small.vertices[:, 0] > 0, 250, 5)
    np.testing.assert_array_equal(small.colors[far, 0], expected[far])


def test_a_mesh_within_the_budget_is_returned_as_it_is(blob: Mesh) -> None:
    assert simplify(blob, len(blob.faces)) is blob


def test_the_same_mesh_gives_the_same_result(blob: Mesh) -> None:
    first, second = simplify(blob, 500), simplify(blob, 500)
    np.testing.assert_array_equal(first.vertices, second.vertices)
    np.testing.assert_array_equal(first.faces, second.faces)


def test_wrong_use_is_refused(blob: Mesh) -> None:
    with pytest.raises(ValueError, match="at least 4"):
        simplify(blob, 3)
    blob.uvs = np.zeros((len(blob.vertices), 2), np.float32)
    with pytest.raises(ValueError, match="before unwrapping"):
        simplify(blob, 100)
