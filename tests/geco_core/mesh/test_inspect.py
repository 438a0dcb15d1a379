from __future__ import annotations

import math

import numpy as np
import pytest

from geco_core.mesh.inspect import mesh_stats
from geco_core.types import Mesh
from tests.geco_core.mesh.meshes import box, sphere, textured_box


def test_box_numbers() -> None:
    stats = mesh_stats(box((1, 2, 3), centre=(0, 0, 1)))
    assert (stats["n_vertices"], stats["n_faces"], stats["components"]) == (8, 12, 1)
    assert stats["bounds"] == [-0.5, -1.0, -0.5, 0.5, 1.0, 2.5]
    assert stats["watertight"] is True
    assert stats["surface_area"] == pytest.approx(22.0)
    assert stats["volume"] == pytest.approx(6.0)


def test_sphere_converges_to_the_closed_form() -> None:
    stats = mesh_stats(sphere(rings=48, segments=96))
    assert stats["volume"] == pytest.approx(4 / 3 * math.pi, rel=5e-3)
    assert stats["surface_area"] == pytest.approx(4 * math.pi, rel=5e-3)


def test_inside_out_has_negative_volume() -> None:
    mesh = box()
    mesh.faces = mesh.faces[:, ::-1].copy()
    assert mesh_stats(mesh)["volume"] == pytest.approx(-1.0)


def test_a_hole_a_flipped_face_and_a_doubled_face_are_not_watertight() -> None:
    hole, flipped, doubled = box(), box(), box()
    hole.faces = hole.faces[1:]
    flipped.faces[0] = flipped.faces[0, ::-1]
    doubled.faces = np.concatenate([doubled.faces, doubled.faces[:1]])
    for mesh in (hole, flipped, doubled):
        stats = mesh_stats(mesh)
        assert stats["watertight"] is False
        assert stats["volume"] is None


def test_texture_seams_do_not_open_the_surface() -> None:
    stats = mesh_stats(textured_box())
    assert (stats["n_vertices"], stats["components"], stats["watertight"]) == (24, 1, True)
    assert stats["volume"] == pytest.approx(1.0)


def test_components_are_counted() -> None:
    a, b = box(), box(centre=(3, 0, 0))
    both = Mesh(np.concatenate([a.vertices, b.vertices]), np.concatenate([a.faces, b.faces + 8]))
    assert mesh_stats(both)["components"] == 2
    assert mesh_stats(both)["watertight"] is True
