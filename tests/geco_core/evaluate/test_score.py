"""All numbers of one pair: perfect for itself, and each for what it measures."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from geco_core.evaluate.protocol import Protocol, rings
from geco_core.evaluate.score import METRICS, Reference, Scored, score_mesh
from geco_core.mesh.frames import gltf_to_world, world_to_gltf
from geco_core.render import get_rasterizer
from geco_core.types import Mesh
from tests.geco_core.evaluate.meshes import as_mesh, box, chair, sphere

RASTERIZER = get_rasterizer("auto", "cpu")
AZIMUTHS, ELEVATIONS = rings((0.0,), 3)
SMALL = Protocol(
    azimuths_deg=AZIMUTHS, elevations_deg=ELEVATIONS, resolution=32, points=2000, cells=24
)


def score(mesh: Mesh, reference: Reference | Mesh, **changes: object) -> Scored:
    given = reference if isinstance(reference, Reference) else Reference(reference)
    return score_mesh(mesh, given, replace(SMALL, **changes), RASTERIZER)


def turned(mesh: Mesh, degrees: float) -> Mesh:
    """About the vertical axis."""
    angle = np.radians(degrees)
    c, s = np.cos(angle), np.sin(angle)
    world = gltf_to_world(mesh.vertices) @ np.array([[c, -s, 0], [s, c, 0], [0, 0, 1.0]]).T
    return replace(mesh, vertices=world_to_gltf(world).astype(np.float32))


PERFECT = {
    "psnr": 100.0, "ssim": 1.0, "silhouette_iou": 1.0, "chamfer": 0.0, "f_score": 1.0,
    "volume_iou": 1.0,
}  # fmt: skip


@pytest.mark.parametrize("align", ["none", "box", "centroid", "icp"])
def test_a_mesh_and_itself_are_perfect(align: str) -> None:
    mesh = as_mesh(chair())
    found = score(mesh, mesh, align=align, yaw_steps=4)
    assert dict(found.metrics) == pytest.approx(PERFECT, abs=1e-3)
    assert list(found.metrics) == [name for name in METRICS if name in found.metrics]
    assert found.details["chamfer_floor"] > 0.005


def test_alignment_decides_what_a_moved_copy_scores() -> None:
    mesh = as_mesh(chair())
    scaled = replace(mesh, vertices=mesh.vertices * 2 + 1)
    assert score(scaled, mesh, align="box").metrics["volume_iou"] == pytest.approx(1.0, abs=0.02)
    assert score(scaled, mesh, align="none").metrics["volume_iou"] < 0.2
    away = turned(mesh, 100)
    lost = score(away, mesh, align="box").metrics
    found = score(away, mesh, align="icp", yaw_steps=12).metrics
    assert found["volume_iou"] > 0.9
    assert lost["volume_iou"] < 0.6
    assert found["psnr"] > lost["psnr"] + 5
    assert found["chamfer"] < 0.2 * lost["chamfer"]


def test_the_angle_of_the_input_view_turns_the_reference() -> None:
    mesh = as_mesh(chair())
    seen_from_the_side = turned(mesh, -90)
    told = score(seen_from_the_side, Reference(mesh, azimuth_deg=90.0)).metrics
    assert told["volume_iou"] > 0.95 > score(seen_from_the_side, mesh).metrics["volume_iou"]


def test_references_may_be_z_up() -> None:
    mesh = as_mesh(chair())
    z_up = replace(mesh, vertices=gltf_to_world(mesh.vertices))
    assert score(mesh, z_up, reference_up="z").metrics["volume_iou"] == pytest.approx(1.0)
    assert score(mesh, z_up).metrics["volume_iou"] < 0.8


def test_volumes_and_distances_by_hand() -> None:
    small, large = as_mesh(box((0.5, 0.5, 0.5))), as_mesh(box())
    metrics = score(small, large, align="none", points=20_000, cells=32).metrics
    assert metrics["volume_iou"] == pytest.approx(1 / 8, rel=0.02)
    assert metrics["chamfer"] == pytest.approx(0.267, abs=0.02)
    assert metrics["f_score"] == 0.0
    ball = score(as_mesh(sphere()), large, align="none").metrics
    assert ball["volume_iou"] == pytest.approx(np.pi / 6, rel=0.03)


def test_colours_move_images_only() -> None:
    mesh = as_mesh(chair())
    assert mesh.colors is not None
    other = score(replace(mesh, colors=255 - mesh.colors), mesh).metrics
    assert other["psnr"] < 20
    assert other["ssim"] < 0.95
    assert other["silhouette_iou"] == 1.0
    assert other["volume_iou"] == 1.0


def test_given_renders_take_the_place_of_ours() -> None:
    mesh = as_mesh(chair())
    white = torch.ones(3, 3, 32, 32)
    found = score(mesh, Reference(mesh, images=white))
    assert np.isnan(found.metrics["silhouette_iou"])
    assert found.metrics["psnr"] < 20
    assert found.metrics["volume_iou"] == 1.0
    assert torch.equal(found.reference_renders.rgb, white)


def test_extra_metrics_see_both_images_per_view() -> None:
    mesh = as_mesh(chair())
    found = score_mesh(
        mesh,
        Reference(mesh),
        SMALL,
        RASTERIZER,
        {"lpips": lambda a, b: (a - b).abs().flatten(1).sum(1) + torch.arange(3)},
    )
    assert found.metrics["lpips"] == pytest.approx(1.0)


def test_a_reference_without_volume_has_no_volume_iou() -> None:
    world = np.array([[0, -0.5, -0.5], [0, 0.5, -0.5], [0, 0.5, 0.5], [0, -0.5, 0.5]])
    sheet = as_mesh((world, np.array([[0, 1, 2], [0, 2, 3]])))
    assert np.isnan(score(sheet, sheet).metrics["volume_iou"])
