"""Quality numbers say what was done to a mesh, and nothing when nothing was."""

from __future__ import annotations

import numpy as np
import pytest

from geco_core.mesh.qc import mesh_qc
from geco_core.types import Mesh
from tests.geco_core.mesh.meshes import box, sphere, textured_box
from tests.geco_core.mesh.test_finish import joined

FLAWS = (
    "collapsed_faces",
    "degenerate_faces",
    "boundary_edges",
    "holes",
    "non_manifold_edges",
    "flipped_edges",
)


@pytest.mark.parametrize("mesh", [box(), sphere(), textured_box()])
def test_a_sound_mesh_has_no_flaws(mesh: Mesh) -> None:
    qc = mesh_qc(mesh)
    assert [qc[name] for name in FLAWS] == [0] * 6
    assert (qc["euler"], qc["inward_share"], qc["thin_share"]) == (2, 0.0, 0.0)
    assert qc["largest_part_share"] == pytest.approx(1.0)


def test_edges_are_measured() -> None:
    qc = mesh_qc(box((1, 2, 3)))
    assert (qc["edge_min"], qc["edge_max"]) == pytest.approx((1.0, 13**0.5))


def test_holes_are_counted_by_their_loops() -> None:
    ball = sphere()
    ball.faces = np.delete(ball.faces, [100, 300, 301], axis=0)  # one triangle, one quad
    qc = mesh_qc(ball)
    assert (qc["holes"], qc["boundary_edges"], qc["euler"]) == (2, 7, 0)


def test_a_face_turned_over_disagrees_with_its_neighbours() -> None:
    ball = sphere()
    ball.faces[200] = ball.faces[200][::-1]
    qc = mesh_qc(ball)
    assert (qc["flipped_edges"], qc["boundary_edges"]) == (3, 0)


def test_a_fin_makes_an_edge_of_three_faces() -> None:
    ball = sphere()
    tip = np.float32([[0, 3, 0]])
    a, b = ball.faces[150][:2]
    fin = Mesh(
        np.concatenate([ball.vertices, tip]),
        np.concatenate([ball.faces, [[a, b, len(ball.vertices)]]]).astype(np.int32),
    )
    qc = mesh_qc(fin)
    assert (qc["non_manifold_edges"], qc["boundary_edges"], qc["holes"]) == (1, 2, 1)


def test_parts_are_weighed_and_those_inside_out_are_found() -> None:
    hollow = sphere(radius=0.5)
    hollow.faces = np.ascontiguousarray(hollow.faces[:, ::-1])
    qc = mesh_qc(joined(sphere(), hollow))
    assert qc["inward_share"] == pytest.approx(0.2)  # a quarter of the area of the outer one
    assert qc["largest_part_share"] == pytest.approx(0.8)
    assert qc["euler"] == 4
    hollow.vertices += np.float32([9, 0, 0])
    away = joined(sphere(), hollow)
    assert mesh_qc(away)["inward_share"] == pytest.approx(0.2)  # wherever it lies


def test_thin_and_empty_faces_are_told_apart() -> None:
    vertices = np.float32([[0, 0, 0], [1, 0, 0], [0.5, 0.02, 0], [0.5, 1, 0], [2, 0, 0]])
    faces = np.int32([[0, 1, 2], [2, 1, 3], [0, 1, 4], [3, 3, 1]])
    qc = mesh_qc(Mesh(vertices, faces), collapsed_faces=5)
    assert qc["thin_share"] == pytest.approx(3 / 4)
    assert qc["degenerate_faces"] == 2  # three corners on a line; a corner twice
    assert qc["collapsed_faces"] == 5


def test_colours_are_weighed_by_area() -> None:
    plain = box()
    plain.colors = None
    assert mesh_qc(plain)["color_mean"] is None
    blank = box()
    blank.colors = np.full((8, 3), 51, np.uint8)
    qc = mesh_qc(blank)
    assert (qc["color_mean"], qc["color_std"]) == pytest.approx((0.2, 0.0))
    halves = joined(sphere(), sphere(radius=0.001))
    halves.colors = np.repeat(np.uint8([[255], [0]]), [len(sphere().vertices)] * 2, 0).repeat(3, 1)
    assert mesh_qc(halves)["color_mean"] == pytest.approx(1.0, abs=1e-4)


def test_textures_are_looked_up_and_their_charts_measured() -> None:
    mesh = textured_box()
    qc = mesh_qc(mesh)
    shades = [np.array([40 * side + 20, 255 - 40 * side, 90]) / 255 for side in range(6)]
    assert qc["color_mean"] == pytest.approx(np.mean(shades), abs=1e-3)
    assert qc["color_std"] == pytest.approx(np.sqrt(np.var(shades, axis=0).mean()), abs=1e-3)
    assert qc["texture_coverage"] == pytest.approx(6 * 14 / 96 * 0.8, abs=1e-4)
    assert mesh_qc(box())["texture_coverage"] is None
