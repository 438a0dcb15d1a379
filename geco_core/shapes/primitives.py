"""Solid primitives: a triangle mesh and a signed distance for each, from the same few lengths.

A primitive lives in its own frame and is placed by a rotation and a translation; its size is only
ever changed through its lengths, so distances stay true after placement. Signed distances follow
the well-known closed forms (Quilez, "distance functions"): exact for box, frustum (cylinder,
cone), torus, capsule and prism; the ellipsoid divides its level set by the length of its gradient:
right sign and surface, first-order distances near it, too small ones far from flat ellipsoids
(about 10 % short at 0.1 to 0.25 from a bird's wings). Meshes are inscribed: every vertex lies on
the exact surface, faces sag by 0.01 to 0.02 for objects about 2 across.

Legend: P points, N vertices, F faces, K corners of a polygon. All lengths in the units of the
caller.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, fields, replace
from typing import Self

import numpy as np

from geco_core.shapes.templates import (
    cube_grid,
    revolve,
    segments_for,
    sphere_profile,
    unit_sphere,
    wrapped_quads,
)

Array = np.ndarray
_PLACEMENT = ("rotation", "translation")


@dataclass(frozen=True, eq=False, kw_only=True)
class Primitive:
    """Base: placement of a solid.

    Subclasses add lengths, `_distance` and `_surface` in their own frame.

    Attributes:
        rotation: float64 [3, 3], columns are the own axes seen from outside.
        translation: float64 [3], position of the own origin.
    """

    rotation: Array
    translation: Array

    def sdf(self, points_P3: Array) -> Array:
        """Signed distance [P] of outside points [P, 3], negative inside; dtype of the points."""
        rotation = self.rotation.astype(points_P3.dtype)
        local_P3 = (points_P3 - self.translation.astype(points_P3.dtype)) @ rotation
        return self._distance(local_P3)

    def mesh(self) -> tuple[Array, Array]:
        """Vertices float64 [N, 3] in the outer frame, faces int64 [F, 3].

        Faces are counter-clockwise seen from outside the solid.
        """
        vertices_N3, faces_F3 = self._surface()
        return vertices_N3 @ self.rotation.T + self.translation, faces_F3

    def scaled(self, factor: float, centre: Array) -> Self:
        """The primitive after p -> factor (p - centre); `factor` > 0 multiplies all lengths."""
        lengths = {
            field.name: getattr(self, field.name) * factor
            for field in fields(self)
            if field.name not in _PLACEMENT
        }
        return replace(self, translation=(self.translation - centre) * factor, **lengths)

    def _distance(self, p: Array) -> Array:
        raise NotImplementedError

    def _surface(self) -> tuple[Array, Array]:
        raise NotImplementedError


@dataclass(frozen=True, eq=False, kw_only=True)
class Box(Primitive):
    """Box of half sizes `half` [3] (outer), its edges rounded by `rounding` (0 for sharp ones)."""

    half: Array
    rounding: float = 0.0

    def _distance(self, p: Array) -> Array:
        q = np.abs(p) - (self.half - self.rounding).astype(p.dtype)
        inside = np.minimum(q.max(axis=1), 0.0)
        return _length(np.maximum(q, 0.0)) + inside - p.dtype.type(self.rounding)

    def _surface(self) -> tuple[Array, Array]:
        vertices_N3, faces_F3 = cube_grid(1 if self.rounding == 0.0 else 3)
        core = self.half - self.rounding
        if self.rounding == 0.0:
            return vertices_N3 * self.half, faces_F3
        # Of three cells per side the outer ones become the rounding, the middle one stays flat.
        centres = np.sign(vertices_N3) * core
        outward = np.where(np.abs(vertices_N3) == 1.0, np.sign(vertices_N3), 0.0)
        return centres + self.rounding * outward / _length(outward)[:, None], faces_F3


@dataclass(frozen=True, eq=False, kw_only=True)
class Ellipsoid(Primitive):
    """Ellipsoid of semi-axes `radii` [3]."""

    radii: Array

    def _distance(self, p: Array) -> Array:
        radii = self.radii.astype(p.dtype)
        level = _length(p / radii)
        slope = _length(p / (radii * radii))
        # At the centre level / slope is 0 / 0; its smallest limit is the shortest semi-axis.
        ratio = np.where(slope > 1e-12, level / np.maximum(slope, 1e-12), radii.min())
        return ((level - 1.0) * ratio).astype(p.dtype, copy=False)

    def _surface(self) -> tuple[Array, Array]:
        vertices_N3, faces_F3 = unit_sphere(segments_for(float(self.radii.max())))
        return vertices_N3 * self.radii, faces_F3


@dataclass(frozen=True, eq=False, kw_only=True)
class Frustum(Primitive):
    """Solid of revolution about the own z.

    Radius `bottom` at -`half_height`, `top` at +`half_height`.

    Equal radii make a cylinder, `top` = 0 a cone.
    """

    bottom: float
    top: float
    half_height: float

    def _distance(self, p: Array) -> Array:
        h, slope_r, slope_z = self.half_height, self.top - self.bottom, 2.0 * self.half_height
        radius, z = np.hypot(p[:, 0], p[:, 1]), p[:, 2]
        cap_r = radius - np.minimum(
            radius, np.where(z < 0.0, self.bottom, self.top).astype(p.dtype)
        )
        cap_z = np.abs(z) - h
        along = ((self.top - radius) * slope_r + (h - z) * slope_z) / (slope_r**2 + slope_z**2)
        along = np.clip(along, 0.0, 1.0)
        side_r = radius - self.top + slope_r * along
        side_z = z - h + slope_z * along
        nearest = np.sqrt(np.minimum(cap_r**2 + cap_z**2, side_r**2 + side_z**2))
        inside = (side_r < 0.0) & (cap_z < 0.0)
        return np.where(inside, -nearest, nearest).astype(p.dtype, copy=False)

    def _surface(self) -> tuple[Array, Array]:
        h = self.half_height
        profile = [(0.0, -h), (self.bottom, -h), (self.top, h), (0.0, h)]
        if self.bottom == 0.0:
            profile = profile[1:]
        if self.top == 0.0:
            profile = profile[:-1]
        return revolve(np.array(profile), segments_for(max(self.bottom, self.top)))


@dataclass(frozen=True, eq=False, kw_only=True)
class Torus(Primitive):
    """Torus about the own z: centre circle of radius `ring`, tube of radius `tube`."""

    ring: float
    tube: float

    def _distance(self, p: Array) -> Array:
        across = np.hypot(p[:, 0], p[:, 1]) - p.dtype.type(self.ring)
        return np.hypot(across, p[:, 2]) - p.dtype.type(self.tube)

    def _surface(self) -> tuple[Array, Array]:
        n_ring, n_tube = segments_for(self.ring + self.tube), 12 if self.tube > 0.12 else 8
        angle = np.arange(n_ring) * (2.0 * math.pi / n_ring)
        turn = np.arange(n_tube) * (2.0 * math.pi / n_tube)
        radius = self.ring + self.tube * np.cos(turn)
        x, y = radius * np.cos(angle)[:, None], radius * np.sin(angle)[:, None]
        z = np.broadcast_to(self.tube * np.sin(turn), x.shape)
        return np.stack([x, y, z], axis=-1).reshape(-1, 3), wrapped_quads(n_ring, n_tube)


@dataclass(frozen=True, eq=False, kw_only=True)
class Capsule(Primitive):
    """Segment of half length `half_length` along the own z, thickened by `radius`."""

    radius: float
    half_length: float

    def _distance(self, p: Array) -> Array:
        z = np.maximum(np.abs(p[:, 2]) - p.dtype.type(self.half_length), 0.0)
        return np.sqrt(p[:, 0] ** 2 + p[:, 1] ** 2 + z**2) - p.dtype.type(self.radius)

    def _surface(self) -> tuple[Array, Array]:
        segments = segments_for(self.radius)
        sphere_K2 = sphere_profile(segments) * self.radius
        half = len(sphere_K2) // 2
        lower, upper = sphere_K2[: half + 1], sphere_K2[half:]
        shift = np.array([0.0, self.half_length])
        profile = np.concatenate([lower - shift, upper + shift])
        return revolve(profile, segments)


@dataclass(frozen=True, eq=False, kw_only=True)
class Prism(Primitive):
    """Convex polygon extruded by `half_depth` to both sides of own z.

    `corners` is [K, 2], counter-clockwise in own xy.
    """

    corners: Array
    half_depth: float

    def _distance(self, p: Array) -> Array:
        flat_P2 = p[:, :2]
        nearest = np.full(len(p), np.inf, dtype=p.dtype)
        outside = np.zeros(len(p), dtype=bool)
        for start, end in zip(self.corners, np.roll(self.corners, -1, axis=0), strict=True):
            edge = (end - start).astype(p.dtype)
            offset = flat_P2 - start.astype(p.dtype)
            along = np.clip(offset @ edge / (edge @ edge), 0.0, 1.0)
            nearest = np.minimum(nearest, ((offset - along[:, None] * edge) ** 2).sum(axis=1))
            outside |= edge[0] * offset[:, 1] < edge[1] * offset[:, 0]
        across = np.where(outside, 1.0, -1.0).astype(p.dtype) * np.sqrt(nearest)
        depth = np.abs(p[:, 2]) - p.dtype.type(self.half_depth)
        outer = np.hypot(np.maximum(across, 0.0), np.maximum(depth, 0.0))
        return outer + np.minimum(np.maximum(across, depth), 0.0)

    def _surface(self) -> tuple[Array, Array]:
        k = len(self.corners)
        low = np.column_stack([self.corners, np.full(k, -self.half_depth)])
        high = np.column_stack([self.corners, np.full(k, self.half_depth)])
        i = np.arange(k)
        j = (i + 1) % k
        fan = np.stack([np.zeros(k - 2, dtype=np.int64), i[1:-1], i[2:]], axis=1)
        sides = np.concatenate([np.stack([i, j, j + k], 1), np.stack([i, j + k, i + k], 1)])
        return np.concatenate([low, high]), np.concatenate([fan[:, ::-1], fan + k, sides])


def _length(vectors: Array) -> Array:
    return np.sqrt(np.einsum("pi,pi->p", vectors, vectors))
