"""Small meshes with known area and volume, as vertices and faces."""

from __future__ import annotations

import numpy as np
import trimesh

from geco_core.mesh.frames import world_to_gltf
from geco_core.types import Mesh


def box(
    sides: tuple[float, float, float] = (1, 1, 1), centre: tuple[float, float, float] = (0, 0, 0)
) -> tuple[np.ndarray, np.ndarray]:
    made = trimesh.creation.box(sides)
    return np.asarray(made.vertices) + centre, np.asarray(made.faces)


def sphere(radius: float = 0.5, fineness: int = 4) -> tuple[np.ndarray, np.ndarray]:
    made = trimesh.creation.icosphere(fineness, radius)
    return np.asarray(made.vertices), np.asarray(made.faces)


def joined(
    *parts: tuple[np.ndarray, np.ndarray],
) -> tuple[np.ndarray, np.ndarray]:
    vertices, faces, first = [], [], 0
    for part_vertices, part_faces in parts:
        vertices.append(part_vertices)
        faces.append(part_faces + first)
        first += len(part_vertices)
    return np.concatenate(vertices), np.concatenate(faces)


def chair() -> tuple[np.ndarray, np.ndarray]:
    """A shape without symmetry about the vertical axis, world frame."""
    seat = box((0.6, 0.5, 0.1))
    back = box((0.1, 0.5, 0.6), (-0.25, 0, 0.3))
    arm = box((0.5, 0.1, 0.25), (0, 0.2, 0.15))
    return joined(seat, back, arm)


def as_mesh(parts: tuple[np.ndarray, np.ndarray]) -> Mesh:
    """Of world-frame vertices, coloured by height."""
    vertices, faces = parts
    height = (vertices[:, 2] - vertices[:, 2].min()) / np.ptp(vertices[:, 2])
    colors = np.stack([height, 1 - height, 0.5 * np.ones_like(height)], 1)
    points = np.ascontiguousarray(world_to_gltf(vertices), dtype=np.float32)
    return Mesh(points, faces.astype(np.int32), colors=(colors * 255).astype(np.uint8))
