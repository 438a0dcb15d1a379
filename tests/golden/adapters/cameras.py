"""InstantMesh's cameras: poses, encoder vectors, projections, rays."""

from __future__ import annotations

import torch
from torch import Tensor

from geco_core import cameras
from geco_core.config.models import ViewRigConfig
from tests.golden.registry import Adapter, Case, adapter

_WIDE_FOV = 50.0


@adapter("cameras")
class CamerasAdapter(Adapter):
    """Every output from the angles, radii and sizes in the JSON."""

    def run(self, case: Case) -> dict[str, Tensor]:
        """Our matrices; projected points and rays use as many of the orbit's cameras as stored."""
        meta, fov = case.meta, float(case.meta["fov"])
        rig = cameras.rig_poses(ViewRigConfig(fov_deg=fov, radius=meta["radius"]))
        orbit = meta["orbit"]
        c2w = cameras.orbit_poses(orbit["M"], orbit["elevation"], orbit["radius"])
        w2c = cameras.world_to_camera(c2w)
        ball = meta["spherical"]
        points = case.inputs["points"][0]
        seen = w2c[: len(case.outputs["view_points"])]
        lens = cameras.intrinsics(fov)
        origins, directions = cameras.rays(
            c2w[: len(case.outputs["ray_origins"])], lens, meta["render_size"]
        )
        return {
            "zero123plus_cameras_16": cameras.encoder_cameras(rig, fov)[None],
            "zero123plus_c2w": rig,
            "intrinsics": lens,
            "intrinsics_50": cameras.intrinsics(_WIDE_FOV),
            "orbit_c2w": c2w,
            "orbit_w2c_flexicubes": w2c,
            "orbit_nerf_25": cameras.nerf_cameras(c2w, fov),
            "spherical_c2w": cameras.orbit_pose(
                torch.tensor(ball["azimuths"], dtype=torch.float64),
                torch.tensor(ball["elevations"], dtype=torch.float64),
                ball["radius"],
            ),
            "proj_30": cameras.projection(fov),
            "proj_50": cameras.projection(_WIDE_FOV),
            "view_points": cameras.view_from_world(points, seen),
            "clip_points": cameras.clip_from_world(points, seen, cameras.projection(fov)),
            "ray_origins": origins,
            "ray_dirs": directions,
        }

    def tolerance(self, case: Case, output: str) -> tuple[float, float]:
        """1e-6; inverses, which the original solves for numerically, and what follows 5e-6."""
        if output in {"orbit_w2c_flexicubes", "view_points", "clip_points"}:
            return 1e-6, 5e-6
        return 1e-6, 1e-6
