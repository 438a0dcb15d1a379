"""Edges, parts and volumes of small meshes, counted by hand or by the library they replace."""

from __future__ import annotations

import numpy as np
import trimesh

from geco_core.mesh.surface import edges_of, measured
from geco_core.types import Mesh
from tests.geco_core.mesh.meshes import box, sphere, textured_box


def test_edges_of_two_triangles() -> None:
    edges = edges_of(np.array([[0, 1, 2], [2, 1, 3], [4, 4, 5]]))
    assert edges.low.tolist() == [0, 0, 1, 1, 2]
    assert edges.high.tolist() == [1, 2, 2, 3, 3]
    assert edges.faces.tolist() == [1, 1, 2, 1, 1]
    assert edges.turns[2] == 0
    assert len(edges_of(np.zeros((0, 3), np.int32)).faces) == 0
    same_way = edges_of(np.array([[0, 1, 2], [1, 2, 3]]))
    assert same_way.turns[same_way.faces == 2].tolist() == [2]


def test_areas_parts_and_volumes() -> None:
    one, two = sphere(), box((1, 2, 3), centre=(5, 0, 0))
    both = Mesh(
        np.concatenate([one.vertices, two.vertices]),
        np.concatenate([one.faces, two.faces + len(one.vertices)]).astype(np.int32),
    )
    surface = measured(both)
    assert surface.count == 2
    assert surface.watertight
    library = trimesh.Trimesh(one.vertices, one.faces, process=False)
    np.testing.assert_allclose(surface.part_volumes(), [library.volume, 6.0], rtol=1e-5)
    areas = np.bincount(surface.parts, weights=surface.areas)
    np.testing.assert_allclose(areas, [library.area, 22.0], rtol=1e-5)


def test_seams_are_joined_and_holes_are_not() -> None:
    assert measured(textured_box()).watertight
    torn = box()
    torn.faces = torn.faces[1:]
    assert not measured(torn).watertight
