"""One procedural object from one integer: mesh, colours, caption, signed distance.

World frame: right-handed, z up, front +x. Every object is centred at the centre of its bounding
box and scaled so that its farthest mesh vertex is 0.88 away from the origin. Light is fixed to the
world and baked into the face colours, as the micro systems learn colours, not materials: factor
0.62 + 0.38 max(0, n . l).

Legend: P points, N vertices, F faces, K solids.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

import numpy as np

from geco_core.shapes.classes import BUILDERS, CLASS_NAMES
from geco_core.shapes.palette import COLORS, Dice
from geco_core.shapes.parts import Blueprint
from geco_core.shapes.primitives import Primitive

Split = Literal["train", "heldout"]
# A bounding sphere that fills 85 % of the frame at radius 4, field of view 30 degrees: the framing
# of condition images. Frozen, like everything that shapes an object: micro weights depend on it.
RADIUS = 0.88
AMBIENT, DIFFUSE = 0.62, 0.38
LIGHT = np.array([0.5, 0.35, 0.8]) / np.linalg.norm([0.5, 0.35, 0.8])
_NAMESPACE = "geco-shapes-1"


@dataclass(frozen=True, eq=False)
class ShapeObject:
    """A finished object in the world frame.

    Attributes:
        seed: what it was made from.
        class_name: one of `CLASS_NAMES`.
        caption: e.g. "a cyan chair with red legs".
        solids: its K primitives; the object is their union.
        solid_colors: float32 [K, 3] base colours in [0, 1], before light.
        vertices: float32 [N, 3].
        faces: int32 [F, 3], counter-clockwise from outside; includes hidden faces inside other
            solids.
        face_solid: int32 [F], which solid a face belongs to.
        face_normals: float32 [F, 3], unit, outward.
        face_colors: float32 [F, 3] in [0, 1], base colour with the light baked in, one shade per
            face.
    """

    seed: int
    class_name: str
    caption: str
    solids: tuple[Primitive, ...]
    solid_colors: np.ndarray
    vertices: np.ndarray
    faces: np.ndarray
    face_solid: np.ndarray
    face_normals: np.ndarray
    face_colors: np.ndarray

    def sdf(self, points: np.ndarray) -> np.ndarray:
        """Signed distance float32 [P] at points [P, 3]: least over the solids, negative inside."""
        return self.solid_sdf(points).min(axis=0)

    def solid_sdf(self, points: np.ndarray) -> np.ndarray:
        """Signed distances float32 [K, P] to every solid apart."""
        points_P3 = np.ascontiguousarray(points, dtype=np.float32)
        return np.stack([solid.sdf(points_P3) for solid in self.solids])

    def base_color(self, points: np.ndarray) -> np.ndarray:
        """Colour float32 [P, 3] before light of the solid with the least distance at each point."""
        return self.solid_colors[self.solid_sdf(points).argmin(axis=0)]

    @cached_property
    def face_areas(self) -> np.ndarray:
        """float64 [F]."""
        return 0.5 * np.linalg.norm(_face_cross(self.vertices, self.faces), axis=1)


def make_object(seed: int) -> ShapeObject:
    """The object of a seed: class uniform over `CLASS_NAMES`, then its proportions and colours.

    Args:
        seed: 0 <= seed < 2**63, usually from `object_seed`.
    """
    dice = Dice(seed)
    class_name = dice.choice(CLASS_NAMES)
    return _assemble(seed, class_name, BUILDERS[class_name](dice))


def make_object_of_class(class_name: str, seed: int) -> ShapeObject:
    """An object of a given class; for sheets and tests, not part of the training distribution.

    Raises:
        KeyError: for a name outside `CLASS_NAMES`.
    """
    return _assemble(seed, class_name, BUILDERS[class_name](Dice(seed)))


def object_seed(split: Split, index: int) -> int:
    """Seed of the index-th object of a split: a stable hash whose lowest bit is the split.

    Train seeds are even, held-out seeds odd, so that no object can be in both; 0 <= seed < 2**63.

    Raises:
        ValueError: for an unknown split or a negative index.
    """
    if split not in ("train", "heldout") or index < 0:
        raise ValueError(f"no object {index} in split {split!r}: train or heldout, index >= 0")
    digest = hashlib.sha256(f"{_NAMESPACE}\x00{index}".encode()).digest()
    return (int.from_bytes(digest[:8], "big") >> 2) << 1 | (split == "heldout")


def _assemble(seed: int, class_name: str, made: Blueprint) -> ShapeObject:
    vertices, solids, faces, face_solid, offset = [], [], [], [], 0
    for index, solid in enumerate(made.solids):
        vertices_n3, faces_f3 = solid.mesh()
        vertices.append(vertices_n3)
        faces.append(faces_f3 + offset)
        face_solid.append(np.full(len(faces_f3), index, dtype=np.int32))
        offset += len(vertices_n3)
    vertices_N3, faces_F3 = np.concatenate(vertices), np.concatenate(faces)
    centre = 0.5 * (vertices_N3.min(axis=0) + vertices_N3.max(axis=0))
    vertices_N3 = vertices_N3 - centre
    factor = RADIUS / float(np.sqrt((vertices_N3**2).sum(axis=1).max()))
    solids = tuple(solid.scaled(factor, centre) for solid in made.solids)
    vertices_N3 *= factor

    colors_K3 = np.array([COLORS[name] for name in made.colors], dtype=np.float32)
    owner_F = np.concatenate(face_solid)
    cross_F3 = _face_cross(vertices_N3, faces_F3)
    normals_F3 = cross_F3 / np.linalg.norm(cross_F3, axis=1, keepdims=True)
    shade_F = AMBIENT + DIFFUSE * np.maximum(normals_F3 @ LIGHT, 0.0)
    return ShapeObject(
        seed=seed,
        class_name=class_name,
        caption=made.caption,
        solids=solids,
        solid_colors=colors_K3,
        vertices=vertices_N3.astype(np.float32),
        faces=faces_F3.astype(np.int32),
        face_solid=owner_F,
        face_normals=normals_F3.astype(np.float32),
        face_colors=(colors_K3[owner_F] * shade_F[:, None]).astype(np.float32),
    )


def _face_cross(vertices_N3: np.ndarray, faces_F3: np.ndarray) -> np.ndarray:
    a, b, c = (vertices_N3[faces_F3[:, k]].astype(np.float64) for k in range(3))
    return np.cross(b - a, c - a)
