"""What supervises a reconstructor through renders: pictures, masks and depths of true objects.

Follows CRM (arXiv 2403.05034, section 4.1): objects rendered from many cameras around them, some of
which are looked at in a step. Where the cameras stood is published as a distance and a lens alone;
elevations are ours.

Targets have the scale of the model's meshes, which fill [-0.95, 0.95] of the world frame.

Legend: B objects, K renders, V stored renders of an object, R pixels per side, S side of the
network's pictures, P signed-distance points, Q surface points.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from geco_core.cameras import orbit_pose
from geco_core.shapes.object import Split, make_object, object_seed
from geco_core.shapes.views import ORTHO_HALF_EXTENT, orbit_surface

PUBLISHED_FOV_DEG = math.degrees(0.6911)


@dataclass(frozen=True)
class RenderCameras:
    """Where an object is looked at from. The defaults are the published numbers.

    Attributes:
        views: V.
        distance: to the origin, in the scale of the model's meshes.
        fov_deg: vertical field of view, degrees.
        elevation_low_deg: cameras are spread evenly over the part of the sphere between this
            elevation and the next.
        elevation_high_deg: see `elevation_low_deg`.
        background: grey level behind the object.
    """

    views: int = 16
    distance: float = 3.0
    fov_deg: float = PUBLISHED_FOV_DEG
    elevation_low_deg: float = -60.0
    elevation_high_deg: float = 80.0
    background: float = 1.0

    def __post_init__(self) -> None:
        if self.views < 1:
            raise ValueError(f"views must be positive, got {self.views}")
        if not -90.0 < self.elevation_low_deg <= self.elevation_high_deg < 90.0:
            raise ValueError("elevations must rise, strictly between -90 and 90 degrees")


@dataclass(frozen=True)
class Renders:
    """Renders of B objects.

    Attributes:
        images: [B, K, 3, R, R] in [0, 1], over the background.
        masks: [B, K, R, R] in [0, 1], how much of a pixel is covered.
        depths: [B, K, R, R], distance along the camera's axis; 0 where there is no surface.
        c2w: [B, K, 4, 4] camera-to-world, OpenGL axes, world frame.
        fov_deg: vertical field of view, degrees.
        background: grey level behind the objects.
    """

    images: Tensor
    masks: Tensor
    depths: Tensor
    c2w: Tensor
    fov_deg: float = PUBLISHED_FOV_DEG
    background: float = 1.0

    def to(self, device: torch.device | str) -> Renders:
        """The same renders on a device."""
        names = ("images", "masks", "depths", "c2w")
        return replace(self, **{name: getattr(self, name).to(device) for name in names})


@dataclass(frozen=True)
class PointTargets:
    """Truth at points, in CRM's frame and scale.

    Attributes:
        points: [B, P, 3].
        distances: [B, P], negative inside.
        surface: [B, Q, 3].
        colors: [B, Q, 3] in [0, 1].
    """

    points: Tensor
    distances: Tensor
    surface: Tensor
    colors: Tensor

    def to(self, device: torch.device | str) -> PointTargets:
        """The same targets on a device."""
        names = ("points", "distances", "surface", "colors")
        return replace(self, **{name: getattr(self, name).to(device) for name in names})


@dataclass(frozen=True)
class RenderedBatch:
    """What one step is supervised by.

    Attributes:
        inputs: the network's clean input [B, 12, S, 3 S] in [0, 1], see `crm_input.network_input`.
        renders: of the same objects.
        points: of the same objects, where point supervision is wanted.
    """

    inputs: Tensor
    renders: Renders
    points: PointTargets | None = None

    def to(self, device: torch.device | str) -> RenderedBatch:
        """The same batch on a device."""
        points = None if self.points is None else self.points.to(device)
        return RenderedBatch(self.inputs.to(device), self.renders.to(device), points)


class RenderSource(Protocol):
    """Renders of objects by row number."""

    @property
    def views(self) -> int:
        """V, renders that every object has."""
        ...

    def renders(self, rows: Tensor, views_BK: Tensor) -> Renders:
        """Chosen renders of some objects.

        Args:
            rows: int64 [B].
            views_BK: which renders of each, int64 [B, K], below `views`.
        """
        ...


class ShapeRenders:
    """Renders of procedural objects, made when they are asked for.

    An object's cameras are a pure function of its seed.

    Args:
        split: of the objects; a row's object is that of the same row of `CrmExamples`.
        size: R.
        cameras: where they stand.
    """

    def __init__(self, split: Split, size: int, cameras: RenderCameras) -> None:
        self.size, self.cameras = size, cameras
        self._split: Split = split

    @property
    def views(self) -> int:
        """See `RenderSource.views`."""
        return self.cameras.views

    def poses(self, row: int) -> Tensor:
        """All cameras of an object [V, 4, 4], camera-to-world."""
        return camera_poses(object_seed(self._split, row), self.cameras)

    def renders(self, rows: Tensor, views_BK: Tensor) -> Renders:
        """See `RenderSource.renders`."""
        made = [self._render(int(row), at) for row, at in zip(rows, views_BK, strict=True)]
        images, masks, depths, c2w = (torch.stack(part) for part in zip(*made, strict=True))
        cameras = self.cameras
        return Renders(images, masks, depths, c2w, cameras.fov_deg, cameras.background)

    def _render(self, row: int, views_K: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        c2w = self.poses(row)[views_K]
        # The object itself is larger than the model's mesh of it: seen from farther away by the
        # same factor it looks the same.
        far = c2w.clone()
        far[:, :3, 3] *= ORTHO_HALF_EXTENT
        made = make_object(object_seed(self._split, row))
        rgba, depths = orbit_surface(made, far, self.cameras.fov_deg, self.size)
        pixels = torch.from_numpy(rgba).movedim(-1, 1).float() / 255.0
        masks = pixels[:, 3]
        images = pixels[:, :3].sub(self.cameras.background).mul(masks[:, None])
        distances = torch.from_numpy(depths) / ORTHO_HALF_EXTENT
        return images + self.cameras.background, masks, distances, c2w


def camera_poses(seed: int, cameras: RenderCameras) -> Tensor:
    """Camera-to-world [V, 4, 4] of random cameras that look at the origin.

    Args:
        seed: 0 <= seed < 2**63.
        cameras: how many, and where.
    """
    # Apart from the streams of the object's own draws and of its examples.
    stream = np.random.Generator(np.random.PCG64(np.random.SeedSequence([seed, 4])))
    azimuths = torch.from_numpy(stream.random(cameras.views) * 360.0)
    low, high = (
        math.sin(math.radians(angle))
        for angle in (cameras.elevation_low_deg, cameras.elevation_high_deg)
    )
    heights = torch.from_numpy(low + (high - low) * stream.random(cameras.views))
    return orbit_pose(azimuths, torch.rad2deg(torch.asin(heights)), cameras.distance)


def draw_views(objects: int, views: int, stored: int, generator: torch.Generator) -> Tensor:
    """Which renders a step looks at: int64 [objects, views], of each object without repetition.

    Raises ValueError where more are wanted than there are.
    """
    if not 1 <= views <= stored:
        raise ValueError(f"{views} views of {stored} renders")
    # A random order per object: its first places are a draw without replacement.
    return torch.rand(objects, stored, generator=generator).argsort(dim=1)[:, :views]
