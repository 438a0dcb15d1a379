"""How meshes are scored: everything that moves a number, in one frozen object.

Two papers' protocols as presets; where a paper is silent the choice is ours, and
docs/guide/evaluation.md says which is which.

- `geco` (arXiv 2405.20327v2, section 5.2 and appendix A): 30 Google Scanned Objects, the ones of
  SyncDreamer (arXiv 2309.03453); 15 renders around the object at elevation 0. `geco-six` scores
  its other set of renders, the six views of the multi-view model.
- `crm` (arXiv 2403.05034, section 4): 30 Google Scanned Objects, meshes scaled into [-0.5, 0.5]
  with their poses adjusted, F-score at 0.05, 24 renders of 512 pixels at elevations 0, 15 and 30.

Legend: V views.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

import torch

from geco_core.cameras import orbit_pose, projection, world_to_camera
from geco_core.config.convert import suggest
from geco_core.config.load import load, to_dict
from geco_core.errors import ConfigError

Alignment = Literal["none", "box", "centroid", "icp"]


@dataclass(frozen=True)
class Protocol:
    """A protocol.

    Attributes:
        name: of the preset it came from; names the file of the results.
        objects: how many objects it takes.
        normalise: `cube` puts the reference's bounding box around the origin with longest side 1,
            `sphere` puts the reference into the sphere of radius 0.5. All distances are in that
            unit.
        align: how the generated mesh is laid onto the reference: see
            `geco_core.evaluate.alignment`.
        yaw_steps: starting angles of the search about the vertical axis, for `icp`.
        reference_up: `y`: references are in the glTF frame (y up, front +z); `z`: in the world
            frame (z up, front +x).
        points: sampled on each surface.
        f_score_threshold: in the normalised unit.
        cells: of the occupancy grid along a side of length 1.
        azimuths_deg, elevations_deg: of the cameras, which look at the origin; azimuth 0 sees the
            front.
        radius: of the cameras, in the normalised unit.
        fov_deg: vertical field of view.
        resolution: side of the renders in pixels.
        supersample: renders are made this much larger and averaged.
        seed: of sampled points and of the bootstrap.
    """

    name: str = "custom"
    objects: int = 30
    normalise: Literal["cube", "sphere"] = "cube"
    align: Alignment = "box"
    yaw_steps: int = 24
    reference_up: Literal["y", "z"] = "y"
    points: int = 65536
    f_score_threshold: float = 0.05
    cells: int = 64
    azimuths_deg: tuple[float, ...] = (0.0,)
    elevations_deg: tuple[float, ...] = (0.0,)
    radius: float = 1.5
    fov_deg: float = 49.1
    resolution: int = 512
    supersample: int = 2
    seed: int = 0

    def __post_init__(self) -> None:
        for name in ("objects", "yaw_steps", "points", "cells", "supersample"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be positive, got {getattr(self, name)}")
        if self.resolution < 16:
            raise ValueError(f"resolution must be at least 16, got {self.resolution}")
        if self.f_score_threshold <= 0 or self.radius <= 0:
            raise ValueError("f_score_threshold and radius must be positive")
        if not 0 < self.fov_deg < 180:
            raise ValueError(f"fov_deg must lie between 0 and 180, got {self.fov_deg}")
        if not self.azimuths_deg or len(self.azimuths_deg) != len(self.elevations_deg):
            raise ValueError("azimuths_deg and elevations_deg must pair up, at least one of each")
        if any(abs(elevation) >= 90 for elevation in self.elevations_deg):
            raise ValueError("elevations_deg must lie strictly between -90 and 90")

    @property
    def views(self) -> int:
        """How many renders there are."""
        return len(self.azimuths_deg)

    def cameras(self) -> tuple[torch.Tensor, torch.Tensor]:
        """World-to-camera [V, 4, 4] and the projection [4, 4] of the renders."""
        azimuths = torch.tensor(self.azimuths_deg, dtype=torch.float64)
        elevations = torch.tensor(self.elevations_deg, dtype=torch.float64)
        poses = orbit_pose(azimuths, elevations, self.radius)
        return world_to_camera(poses), projection(self.fov_deg)


def rings(
    elevations_deg: Iterable[float], views: int
) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Azimuths and elevations of `views` cameras per elevation, spaced evenly from azimuth 0."""
    pairs = [(360.0 * k / views, elevation) for elevation in elevations_deg for k in range(views)]
    return tuple(a for a, _ in pairs), tuple(e for _, e in pairs)


_GECO_AZIMUTHS, _GECO_ELEVATIONS = rings((0.0,), 15)
_CRM_AZIMUTHS, _CRM_ELEVATIONS = rings((0.0, 15.0, 30.0), 8)

PROTOCOLS = {
    "geco": Protocol(
        name="geco", azimuths_deg=_GECO_AZIMUTHS, elevations_deg=_GECO_ELEVATIONS, align="box"
    ),
    "geco-six": Protocol(
        name="geco-six",
        azimuths_deg=(30.0, 90.0, 150.0, 210.0, 270.0, 330.0),
        elevations_deg=(20.0, -10.0, 20.0, -10.0, 20.0, -10.0),
        resolution=320,
    ),
    "crm": Protocol(
        name="crm", azimuths_deg=_CRM_AZIMUTHS, elevations_deg=_CRM_ELEVATIONS, align="icp"
    ),
}


def get_protocol(name: str, overrides: Iterable[str] = ()) -> Protocol:
    """A preset with `key=value` words over it.

    Raises:
        ConfigError: no such preset, an unknown key, or a value out of range.
    """
    if name not in PROTOCOLS:
        raise ConfigError(
            f"there is no protocol {name!r}", remedy=suggest(name, list(PROTOCOLS), "protocols")
        )
    return load(Protocol, to_dict(PROTOCOLS[name]), overrides)
