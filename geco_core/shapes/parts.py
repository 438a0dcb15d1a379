"""Short constructors that place primitives, and the blueprint a class builder returns.

World frame: +x front, +y left, +z up. `axis` names the world direction of a primitive's own z;
points are (x, y, z) tuples. Lengths are in the free units of a builder (objects about 2 across);
`object.py` normalises afterwards.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from geco_core.shapes.primitives import Box, Capsule, Ellipsoid, Frustum, Primitive, Prism, Torus

Vec = tuple[float, float, float]
X: Vec = (1.0, 0.0, 0.0)
Y: Vec = (0.0, 1.0, 0.0)
Z: Vec = (0.0, 0.0, 1.0)


@dataclass
class Blueprint:
    """What a class builder returns: painted solids and a sentence about them.

    Attributes:
        caption: e.g. "a cyan chair with red legs".
        solids: the primitives, in builder units.
        colors: one colour name per solid.
    """

    caption: str = ""
    solids: list[Primitive] = field(default_factory=list)
    colors: list[str] = field(default_factory=list)

    def add(self, color: str, *solids: Primitive) -> None:
        """Append solids of one colour."""
        self.solids.extend(solids)
        self.colors.extend([color] * len(solids))


def box(center: Vec, half: Vec, *, rounding: float = 0.0, turn: np.ndarray | None = None) -> Box:
    """Box of half sizes `half`, optionally turned by a rotation matrix about its centre."""
    rotation = np.eye(3) if turn is None else turn
    half_3 = np.array(half)
    rounding = min(rounding, 0.9 * float(half_3.min()))
    return Box(rotation=rotation, translation=np.array(center), half=half_3, rounding=rounding)


def ball(center: Vec, radius: float) -> Ellipsoid:
    """Sphere."""
    return ellipsoid(center, (radius, radius, radius))


def ellipsoid(center: Vec, radii: Vec, *, turn: np.ndarray | None = None) -> Ellipsoid:
    """Ellipsoid of semi-axes `radii`, optionally turned."""
    rotation = np.eye(3) if turn is None else turn
    return Ellipsoid(rotation=rotation, translation=np.array(center), radii=np.array(radii))


def frustum(center: Vec, bottom: float, top: float, height: float, *, axis: Vec = Z) -> Frustum:
    """Round frustum about `axis`: radius `bottom` behind, `top` ahead, full length `height`."""
    return Frustum(
        rotation=frame(axis),
        translation=np.array(center),
        bottom=bottom,
        top=top,
        half_height=0.5 * height,
    )


def cylinder(center: Vec, radius: float, height: float, *, axis: Vec = Z) -> Frustum:
    """Cylinder about `axis`; `height` is the full length."""
    return frustum(center, radius, radius, height, axis=axis)


def cone(center: Vec, radius: float, height: float, *, axis: Vec = Z) -> Frustum:
    """Cone about `axis`, tip ahead; `center` is half way up the full `height`."""
    return frustum(center, radius, 0.0, height, axis=axis)


def torus(center: Vec, ring: float, tube: float, *, axis: Vec = Z) -> Torus:
    """Torus about `axis`."""
    return Torus(rotation=frame(axis), translation=np.array(center), ring=ring, tube=tube)


def capsule(start: Vec, end: Vec, radius: float) -> Capsule:
    """Thick segment between two points (the ends of its centre line)."""
    a, b = np.array(start), np.array(end)
    length = float(np.linalg.norm(b - a))
    direction = (b - a) / length
    axis = (float(direction[0]), float(direction[1]), float(direction[2]))
    return Capsule(
        rotation=frame(axis), translation=0.5 * (a + b), radius=radius, half_length=0.5 * length
    )


def prism(
    center: Vec,
    corners: Sequence[tuple[float, float]],
    depth: float,
    *,
    plane: str,
    turn: np.ndarray | None = None,
) -> Prism:
    """Convex polygon extruded across its plane.

    Args:
        center: where the polygon's origin goes.
        corners: counter-clockwise (first, second) coordinates in the named plane.
        depth: full thickness across the plane.
        plane: "xy", "yz" or "xz"; in "xz" the extrusion runs along y.
        turn: rotation matrix about `center`, applied afterwards.
    """
    columns = {"xy": (X, Y, Z), "yz": (Y, Z, X), "xz": (X, Z, (0.0, -1.0, 0.0))}[plane]
    rotation = np.array(columns).T
    return Prism(
        rotation=rotation if turn is None else turn @ rotation,
        translation=np.array(center),
        corners=np.array(corners, dtype=np.float64),
        half_depth=0.5 * depth,
    )


def frame(axis: Vec) -> np.ndarray:
    """A rotation [3, 3] whose third column is the unit vector `axis`."""
    z = np.array(axis, dtype=np.float64)
    z /= np.linalg.norm(z)
    # The helper direction only has to be far from `axis`; x keeps the seam of upright solids on +x.
    helper = np.array(X) if abs(z[0]) < 0.9 else np.array(Y)
    x = helper - z * (helper @ z)
    x /= np.linalg.norm(x)
    return np.stack([x, np.cross(z, x), z], axis=1)


def turn_about(axis: str, degrees: float) -> np.ndarray:
    """Right-handed rotation [3, 3] about a world axis "x", "y" or "z"."""
    c, s = math.cos(math.radians(degrees)), math.sin(math.radians(degrees))
    i, j = {"x": (1, 2), "y": (2, 0), "z": (0, 1)}[axis]
    rotation = np.eye(3)
    rotation[i, i], rotation[i, j], rotation[j, i], rotation[j, j] = c, -s, s, c
    return rotation


def a(phrase: str) -> str:
    """The phrase with its indefinite article."""
    return ("an " if phrase[0] in "aeiou" else "a ") + phrase
