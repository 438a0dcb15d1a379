from __future__ import annotations

import numpy as np

from geco_core.mesh.clean import centred, clean
from geco_core.types import Mesh
from tests.geco_core.mesh.meshes import box


def test_collapsed_faces_and_unused_vertices_go() -> None:
    plain = box()
    assert plain.colors is not None
    mesh = Mesh(
        np.concatenate([[[9, 9, 9]], plain.vertices]).astype(np.float64),
        np.concatenate([plain.faces + 1, [[1, 1, 2]]]).astype(np.int64),
        colors=np.concatenate([[[1, 2, 3]], plain.colors]).astype(np.uint8),
    )
    result = clean(mesh)
    assert result.vertices.dtype == np.float32
    assert result.faces.dtype == np.int32
    np.testing.assert_array_equal(result.vertices, plain.vertices)
    np.testing.assert_array_equal(result.faces, plain.faces)
    np.testing.assert_array_equal(result.colors, plain.colors)


def test_a_clean_mesh_is_unchanged() -> None:
    plain, result = box(), clean(box())
    np.testing.assert_array_equal(result.vertices, plain.vertices)
    np.testing.assert_array_equal(result.faces, plain.faces)


def test_centring_returns_what_it_subtracted() -> None:
    mesh = box((2, 4, 6), centre=(1, -2, 0.5))
    moved, centre = centred(mesh)
    assert centre == (1.0, -2.0, 0.5)
    np.testing.assert_allclose(moved.vertices.min(axis=0), [-1, -2, -3])
    np.testing.assert_allclose(moved.vertices + np.float32(centre), mesh.vertices)
