"""Layouts keep every face, stay inside the square and do not overlap."""

from __future__ import annotations

import numpy as np
import trimesh

from geco_core.mesh.unwrap import unwrap
from geco_core.types import Mesh


def torus() -> Mesh:
    shape = trimesh.creation.torus(1.0, 0.4, major_sections=24, minor_sections=12)
    return Mesh(shape.vertices.astype(np.float32), shape.faces.astype(np.int32))


def test_every_face_keeps_its_corners() -> None:
    mesh = torus()
    flat = unwrap(mesh, resolution=256)
    np.testing.assert_array_equal(flat.vertices[flat.faces], mesh.vertices[mesh.faces])
    np.testing.assert_array_equal(flat.source[flat.faces], mesh.faces)
    assert flat.uvs.min() >= 0.0
    assert flat.uvs.max() <= 1.0


def test_faces_do_not_overlap_in_the_texture() -> None:
    flat = unwrap(torus(), resolution=256)
    a, b, c = (flat.uvs[flat.faces[:, k]].astype(np.float64) for k in range(3))
    area = 0.5 * np.abs((b - a)[:, 0] * (c - a)[:, 1] - (b - a)[:, 1] * (c - a)[:, 0])
    assert (area > 0).mean() > 0.99
    assert 0.3 < area.sum() <= 1.0
    # The centre of a face lies in no other face.
    centre = (a + b + c) / 3

    def side(p: np.ndarray, q: np.ndarray) -> np.ndarray:
        d = q - p
        return d[:, 0] * (centre[:, None, 1] - p[:, 1]) - d[:, 1] * (centre[:, None, 0] - p[:, 0])

    s = np.stack([side(a, b), side(b, c), side(c, a)])
    inside = (s > 1e-9).all(axis=0) | (s < -1e-9).all(axis=0)
    np.testing.assert_array_equal(inside.sum(axis=1)[area > 1e-7], 1)


def test_the_same_mesh_gives_the_same_layout() -> None:
    first, second = unwrap(torus()), unwrap(torus())
    np.testing.assert_array_equal(first.uvs, second.uvs)
    np.testing.assert_array_equal(first.faces, second.faces)
