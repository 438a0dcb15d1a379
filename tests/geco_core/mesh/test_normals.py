from __future__ import annotations

import numpy as np

from geco_core.mesh.normals import vertex_normals
from geco_core.types import Mesh
from tests.geco_core.mesh.meshes import sphere, textured_box


def test_sphere_normals_are_its_positions() -> None:
    mesh = sphere(rings=24, segments=48)
    normals = vertex_normals(mesh)
    assert normals.dtype == np.float32
    assert (np.sum(normals * mesh.vertices, axis=1) > 0.995).all()


def test_vertices_across_a_seam_share_their_normal() -> None:
    mesh = textured_box()
    normals = vertex_normals(mesh)
    for corner in np.unique(mesh.vertices, axis=0):
        at_corner = normals[(mesh.vertices == corner).all(axis=1)]
        assert len(at_corner) == 3
        assert (at_corner == at_corner[0]).all()


def test_vertices_without_direction_still_get_unit_normals() -> None:
    vertices = np.array([[0, 0, 0], [1, 0, 0], [0, 1, 0], [5, 5, 5]], dtype=np.float32)
    mesh = Mesh(vertices, np.array([[0, 1, 2], [0, 2, 1]], dtype=np.int32))  # two faces that cancel
    np.testing.assert_array_equal(vertex_normals(mesh), np.tile([0, 1, 0], (4, 1)))
