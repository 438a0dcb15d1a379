"""Small holes are closed so that the surface is whole again; large ones and seams are left."""

from __future__ import annotations

import numpy as np
import pytest
import trimesh

from geco_core.mesh.holes import boundary_loops, fill_small_holes
from geco_core.mesh.inspect import mesh_stats
from geco_core.types import Mesh


@pytest.fixture
def ball() -> Mesh:
    sphere = trimesh.creation.icosphere(3, 1.0)
    colors = np.full((len(sphere.vertices), 3), (10, 20, 30), np.uint8)
    return Mesh(sphere.vertices.astype(np.float32), sphere.faces.astype(np.int32), colors)


def without(mesh: Mesh, gone: np.ndarray) -> Mesh:
    return Mesh(mesh.vertices, mesh.faces[~gone], mesh.colors)


def test_a_closed_surface_has_no_loops(ball: Mesh) -> None:
    assert boundary_loops(ball.faces) == []
    assert fill_small_holes(ball, 8)[0] is ball


def test_single_faces_come_back(ball: Mesh) -> None:
    gone = np.isin(np.arange(len(ball.faces)), [5, 400, 900])
    filled, count = fill_small_holes(without(ball, gone), 3)
    assert count == 3
    before, after = mesh_stats(ball), mesh_stats(filled)
    assert after["watertight"]
    assert after["volume"] == pytest.approx(before["volume"], rel=1e-5)


def test_a_hole_around_a_vertex_gets_a_fan_of_the_right_side_and_colour(ball: Mesh) -> None:
    gone = (ball.faces == 77).any(axis=1)
    filled, count = fill_small_holes(without(ball, gone), 8)
    assert count == 1
    assert mesh_stats(filled)["watertight"]
    assert len(filled.vertices) == len(ball.vertices) + 1
    assert filled.colors[-1].tolist() == [10, 20, 30]


def test_large_holes_stay(ball: Mesh) -> None:
    gone = (ball.faces == 77).any(axis=1)
    assert fill_small_holes(without(ball, gone), 4)[1] == 0


def test_loops_that_touch_are_left_alone() -> None:
    # Two triangles missing at one vertex: which way round is not decided.
    sphere = trimesh.creation.icosphere(2, 1.0)
    around = np.flatnonzero((sphere.faces == 0).any(axis=1))
    first = set(sphere.faces[around[0]]) - {0}
    other = next(f for f in around[1:] if not first & set(sphere.faces[f]))
    keep = np.delete(sphere.faces, [around[0], other], axis=0)
    assert all(0 not in loop for loop in boundary_loops(keep))


def test_textured_meshes_are_returned_as_they_are(ball: Mesh) -> None:
    open_mesh = without(ball, np.arange(len(ball.faces)) == 5)
    open_mesh.uvs = np.zeros((len(ball.vertices), 2), np.float32)
    assert fill_small_holes(open_mesh, 8)[0] is open_mesh
