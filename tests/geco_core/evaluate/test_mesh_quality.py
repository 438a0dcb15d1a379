"""Meshes against their object: its own mesh scores well, nothing scores as nothing."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from geco_core.cameras import orbit_pose
from geco_core.config.models import ViewRigConfig
from geco_core.errors import BadItem, Reason
from geco_core.evaluate.image import psnr
from geco_core.evaluate.mesh_quality import (
    NO_MESH_CHAMFER,
    mesh_renders,
    mesh_scores,
    render_poses,
    true_renders,
)
from geco_core.reconstruct.extraction import SurfaceMesh
from geco_core.shapes.dataset import surface_cloud
from geco_core.shapes.object import make_object, object_seed

RIG = ViewRigConfig(view_size=48)
SEED = object_seed("heldout", 3)


@pytest.fixture(scope="module")
def own_mesh() -> SurfaceMesh:
    made = make_object(SEED)
    corners = torch.from_numpy(made.vertices[made.faces]).flatten(0, 1)
    colors = torch.from_numpy(made.face_colors).repeat_interleave(3, 0)
    return SurfaceMesh(corners, torch.arange(len(corners)).view(-1, 3), colors)


@pytest.fixture(scope="module")
def surface() -> Tensor:
    return torch.from_numpy(surface_cloud(make_object(SEED), 512))


def test_the_objects_own_mesh_is_all_but_perfect(own_mesh: SurfaceMesh, surface: Tensor) -> None:
    scores = mesh_scores(own_mesh, surface, true_renders([SEED], RIG)[0], RIG)
    assert scores["render_psnr"] > 35.0
    assert scores["chamfer"] < 0.06  # two clouds of the same surface
    smaller = SurfaceMesh(own_mesh.vertices * 0.9, own_mesh.faces, own_mesh.vertex_rgb)
    worse = mesh_scores(smaller, surface, true_renders([SEED], RIG)[0], RIG)
    assert worse["render_psnr"] < scores["render_psnr"] - 5.0
    assert worse["chamfer"] > scores["chamfer"]


def test_no_mesh_counts_as_an_empty_picture(surface: Tensor) -> None:
    nothing, wanted = BadItem("empty", reason=Reason.EMPTY_MESH), true_renders([SEED], RIG)[0]
    scores = mesh_scores(nothing, surface, wanted, RIG)
    assert scores["chamfer"] == NO_MESH_CHAMFER
    white = psnr(torch.ones_like(wanted)[None], wanted[None])
    assert scores["render_psnr"] == pytest.approx(float(white))


def test_other_cameras_can_be_asked_for(own_mesh: SurfaceMesh) -> None:
    pose = orbit_pose(40.0, 25.0, RIG.radius)[None]
    assert mesh_renders(own_mesh, RIG).shape == (len(render_poses(RIG)), 3, 48, 48)
    ours, truth = mesh_renders(own_mesh, RIG, pose), true_renders([SEED], RIG, pose)[0]
    assert ours.shape == truth.shape == (1, 3, 48, 48)
    assert float(psnr(ours, truth)) > 30.0
