"""Alignments undo what they promise to undo, report it, and never make things worse."""

from __future__ import annotations

import numpy as np
import pytest

from geco_core.evaluate.alignment import (
    Aligned,
    Similarity,
    about_vertical,
    align,
    normalisation,
    umeyama,
)
from geco_core.evaluate.surface_points import sample_surface
from tests.geco_core.evaluate.meshes import chair


def laid(kind: str, moved: Similarity) -> Aligned:
    """A moved chair laid onto the chair, from points of another seed."""
    vertices, faces = chair()
    unit = normalisation(vertices, "cube")
    reference = unit.apply(vertices)
    ours = moved.apply(vertices)
    box = np.array([reference.min(axis=0), reference.max(axis=0)])
    return align(
        kind,  # pyright: ignore[reportArgumentType]
        ours,
        sample_surface(ours, faces, 1000, 1),
        sample_surface(reference, faces, 1000, 2),
        box,
        unit,
        12,
    )


def corner_error(found: Aligned, moved: Similarity) -> float:
    """Largest distance between a vertex laid onto the reference and where it belongs."""
    vertices, _ = chair()
    there = normalisation(vertices, "cube").apply(vertices)
    return float(np.abs(found.transform.apply(moved.apply(vertices)) - there).max())


SCALED = Similarity(3.0, np.eye(3), np.array([1.0, -2.0, 0.5]))
TURNED = Similarity(0.4, about_vertical(77.0), np.array([0.2, 0.0, 3.0]))


def test_box_and_centroid_undo_scale_and_translation() -> None:
    assert corner_error(laid("box", SCALED), SCALED) < 1e-9
    assert corner_error(laid("centroid", SCALED), SCALED) < 0.02
    assert corner_error(laid("none", SCALED), SCALED) > 1.0


def test_none_leaves_an_unmoved_mesh_in_its_place() -> None:
    still = Similarity(1.0, np.eye(3), np.zeros(3))
    assert corner_error(laid("none", still), still) < 1e-9


def test_icp_finds_turn_scale_and_translation_and_reports_them() -> None:
    found = laid("icp", TURNED)
    assert corner_error(found, TURNED) < 0.02
    report = found.to_json()
    assert report["yaw_deg"] == pytest.approx(-77.0, abs=1.0)
    assert report["rotation_deg"] == pytest.approx(77.0, abs=1.0)
    assert report["residual_after"] < 0.5 * report["residual_before"]
    matrix = np.array(report["matrix"])
    np.testing.assert_allclose(
        matrix[:3, :3] @ [1, 2, 3] + matrix[:3, 3], found.transform.apply(np.array([[1, 2, 3]]))[0]
    )


def test_icp_also_undoes_a_tilt() -> None:
    c, s = np.cos(np.radians(12)), np.sin(np.radians(12))
    tilt = np.array([[1, 0, 0], [0, c, -s], [0, s, c]])
    tilted = Similarity(1.5, tilt @ about_vertical(-140.0), np.zeros(3))
    assert corner_error(laid("icp", tilted), tilted) < 0.02
    assert corner_error(laid("box", tilted), tilted) > 0.2


def test_icp_is_never_worse_than_box_and_the_same_every_time() -> None:
    found, again = laid("icp", SCALED), laid("icp", SCALED)
    assert found.residual_after <= found.residual_before
    assert found.to_json() == again.to_json()


def test_umeyama_recovers_a_similarity_and_never_mirrors() -> None:
    points = np.random.default_rng(0).normal(size=(40, 3))
    found = umeyama(points, TURNED.apply(points))
    assert found.scale == pytest.approx(0.4)
    np.testing.assert_allclose(found.rotation, TURNED.rotation, atol=1e-12)
    mirrored = umeyama(points, points * [1, 1, -1])
    assert np.linalg.det(mirrored.rotation) == pytest.approx(1.0)


def test_normalisation_by_hand() -> None:
    corners = np.array([[0.0, 0, 0], [4, 2, 0]])
    cube = normalisation(corners, "cube").apply(corners)
    np.testing.assert_allclose(cube, [[-0.5, -0.25, 0], [0.5, 0.25, 0]])
    sphere = normalisation(corners, "sphere").apply(corners)
    np.testing.assert_allclose(np.linalg.norm(sphere, axis=1), 0.5)
    with pytest.raises(ValueError, match="size 0"):
        normalisation(np.zeros((2, 3)), "cube")
    with pytest.raises(ValueError, match="neither"):
        normalisation(corners, "ball")
