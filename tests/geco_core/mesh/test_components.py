"""Small parts of a surface are found by area and dropped; the object stays."""

from __future__ import annotations

import numpy as np
import pytest
import trimesh

from geco_core.mesh.clean import clean
from geco_core.mesh.components import drop_small_components
from geco_core.mesh.inspect import mesh_stats
from geco_core.mesh.surface import face_areas, face_components
from geco_core.types import Mesh


def ball(radius: float, at: float) -> Mesh:
    sphere = trimesh.creation.icosphere(2, radius)
    vertices = (sphere.vertices + np.array([at, 0, 0])).astype(np.float32)
    return Mesh(vertices, sphere.faces.astype(np.int32), np.full((len(vertices), 3), 7, np.uint8))


def joined(*meshes: Mesh) -> Mesh:
    starts = np.cumsum([0, *[len(m.vertices) for m in meshes[:-1]]])
    return Mesh(
        np.concatenate([m.vertices for m in meshes]),
        np.concatenate([m.faces + s for m, s in zip(meshes, starts, strict=True)]),
        np.concatenate([m.colors for m in meshes]),
    )


def test_parts_are_numbered_by_connection() -> None:
    labels = face_components(joined(ball(1, 0), ball(1, 5)).faces)
    assert len(np.unique(labels)) == 2
    assert len(np.unique(labels[:320])) == 1
    assert labels[0] != labels[320]


def test_areas_are_those_of_trimesh() -> None:
    mesh = ball(2.0, 0)
    expected = trimesh.Trimesh(mesh.vertices, mesh.faces, process=False).area_faces
    np.testing.assert_allclose(face_areas(mesh), expected, rtol=1e-6)


def test_a_floater_goes_and_the_object_stays() -> None:
    both = joined(ball(0.05, 5), ball(1, 0))
    kept, dropped = drop_small_components(both, 0.01)
    assert dropped == 1
    stats = mesh_stats(clean(kept))
    assert stats["components"] == 1
    assert stats["bounds"][3] < 1.01
    assert stats["watertight"]


def test_parts_above_the_share_stay() -> None:
    both = joined(ball(0.5, 5), ball(1, 0))
    assert drop_small_components(both, 0.1)[1] == 0
    assert drop_small_components(both, 0.3)[1] == 1


def test_the_largest_part_always_stays() -> None:
    many = joined(*[ball(1 + 0.01 * k, 5 * k) for k in range(8)])
    kept, dropped = drop_small_components(many, 0.9)
    assert dropped == 7
    assert kept.vertices[kept.faces][..., 0].min() > 30


@pytest.mark.parametrize("share", [0.0, -1.0])
def test_zero_keeps_everything(share: float) -> None:
    both = joined(ball(1e-4, 5), ball(1, 0))
    assert drop_small_components(both, share)[0] is both


def test_texture_seams_do_not_separate_parts() -> None:
    mesh = ball(1, 0)
    split = Mesh(mesh.vertices[mesh.faces].reshape(-1, 3), np.arange(960).reshape(-1, 3))
    split.uvs = np.zeros((960, 2), np.float32)
    assert drop_small_components(split, 0.5)[1] == 0
