"""How far the mesh of a procedural object is from the object: its surface and its renders.

Renders are compared from cameras of their own, on white, so that a mesh is judged from where no
network has looked.

Legend: B objects, V views, S pixels per side, P surface points.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from geco_core.cameras import orbit_poses, projection, world_to_camera
from geco_core.config.models import ViewRigConfig
from geco_core.errors import BadItem
from geco_core.evaluate.geometry import chamfer_distance
from geco_core.evaluate.image import psnr
from geco_core.evaluate.surface_points import sample_surface
from geco_core.reconstruct.extraction import SurfaceMesh
from geco_core.render.mesh import render_mesh
from geco_core.render.registry import get_rasterizer
from geco_core.shapes.object import make_object
from geco_core.shapes.views import orbit_views, over_white

SURFACE_POINTS = 2048
RENDER_VIEWS, RENDER_ELEVATION_DEG = 6, 5.0
NO_MESH_CHAMFER = 2.0  # about the size of an object: what an empty mesh counts as


def render_poses(rig: ViewRigConfig) -> Tensor:
    """Cameras no model has seen: azimuths half-way between those of Zero123++, c2w [V, 4, 4]."""
    return orbit_poses(RENDER_VIEWS, RENDER_ELEVATION_DEG, rig.radius)


def true_renders(seeds: Sequence[int], rig: ViewRigConfig, poses: Tensor | None = None) -> Tensor:
    """Objects from `poses` (`render_poses` when None), [B, V, 3, S, S] in [0, 1].

    Of `rig`, radius, field of view and view size are read.
    """
    c2w = render_poses(rig) if poses is None else poses
    made = [
        over_white(orbit_views(make_object(seed), c2w, rig.fov_deg, rig.view_size))
        for seed in seeds
    ]
    return torch.from_numpy(np.stack(made)).movedim(-1, -3).float()


def mesh_renders(
    mesh: SurfaceMesh | BadItem, rig: ViewRigConfig, poses: Tensor | None = None
) -> Tensor:
    """The same of a mesh, [V, 3, S, S]; white where there is none."""
    c2w = render_poses(rig) if poses is None else poses
    if isinstance(mesh, BadItem):
        return torch.ones(len(c2w), 3, rig.view_size, rig.view_size)
    render = render_mesh(
        get_rasterizer("torch"),
        mesh.vertices.float().cpu(),
        mesh.faces.cpu(),
        world_to_camera(c2w),
        projection(rig.fov_deg),
        rig.view_size,
        vertex_colors=mesh.vertex_rgb.float().cpu(),
        supersample=2,
    )
    return render.rgb.clamp(0, 1)


def mesh_scores(
    mesh: SurfaceMesh | BadItem, surface_P3: Tensor, wanted_V3SS: Tensor, rig: ViewRigConfig
) -> dict[str, float]:
    """`chamfer` (world units) to the visible surface and `render_psnr` (dB).

    Args:
        mesh: in the world frame.
        surface_P3: points of the true visible surface.
        wanted_V3SS: of `true_renders`.
        rig: the same.
    """
    chamfer = NO_MESH_CHAMFER
    if not isinstance(mesh, BadItem):
        vertices, faces = mesh.vertices.float().cpu().numpy(), mesh.faces.cpu().numpy()
        points = sample_surface(vertices, faces, SURFACE_POINTS, 0)
        chamfer = float(chamfer_distance(torch.from_numpy(points).float(), surface_P3))
    renders = mesh_renders(mesh, rig)
    return {"chamfer": chamfer, "render_psnr": float(psnr(renders[None], wanted_V3SS[None]))}
