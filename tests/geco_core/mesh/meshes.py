"""Small meshes the tests of this folder share."""

from __future__ import annotations

import numpy as np

from geco_core.types import Mesh


def box(
    size: tuple[float, float, float] = (1.0, 1.0, 1.0),
    centre: tuple[float, float, float] = (0, 0, 0),
) -> Mesh:
    """A closed box with 8 vertices and 12 outward faces; colours follow position."""
    corners = np.array(
        [(x, y, z) for x in (0, 1) for y in (0, 1) for z in (0, 1)], dtype=np.float32
    )
    quads = [(0, 1, 3, 2), (4, 6, 7, 5), (0, 4, 5, 1), (2, 3, 7, 6), (0, 2, 6, 4), (1, 5, 7, 3)]
    faces = np.array([t for a, b, c, d in quads for t in ((a, b, c), (a, c, d))], dtype=np.int32)
    colors = (corners * 200 + 30).astype(np.uint8)
    vertices = (corners - 0.5) * np.float32(size) + np.float32(centre)
    return Mesh(vertices.astype(np.float32), faces, colors=colors)


def sphere(rings: int = 12, segments: int = 24, radius: float = 1.0) -> Mesh:
    """A closed latitude-longitude sphere, poles on y, outward faces, coloured by normal."""
    theta = np.linspace(0, np.pi, rings + 1)[1:-1]
    phi = np.arange(segments) / segments * 2 * np.pi
    ring = np.stack(
        [
            np.outer(np.sin(theta), np.sin(phi)),
            np.repeat(np.cos(theta)[:, None], segments, axis=1),
            np.outer(np.sin(theta), np.cos(phi)),
        ],
        axis=-1,
    ).reshape(-1, 3)
    vertices = np.concatenate([[[0, 1, 0]], ring, [[0, -1, 0]]])
    faces: list[tuple[int, int, int]] = []
    for s in range(segments):
        t = (s + 1) % segments
        faces.append((0, 1 + s, 1 + t))
        for r in range(rings - 2):
            a, b = 1 + r * segments + s, 1 + r * segments + t
            faces += [(a, a + segments, b), (b, a + segments, b + segments)]
        last = 1 + (rings - 2) * segments
        faces.append((len(vertices) - 1, last + t, last + s))
    colors = ((vertices * 0.5 + 0.5) * 255).astype(np.uint8)
    return Mesh(
        (vertices * radius).astype(np.float32), np.array(faces, dtype=np.int32), colors=colors
    )


def octahedron() -> Mesh:
    """A closed octahedron with unit vertices on the axes and outward faces, without colours."""
    vertices = np.concatenate([np.eye(3), -np.eye(3)]).astype(np.float32)
    faces = [(0, 1, 2), (3, 2, 1), (0, 2, 4), (0, 5, 1), (3, 1, 5), (0, 4, 5), (3, 4, 2), (3, 5, 4)]
    return Mesh(vertices + np.float32(0.0), np.array(faces, dtype=np.int32))


def textured_box() -> Mesh:
    """The box with four vertices per side, a texture of six flat fields and seams everywhere."""
    plain = box()
    vertices, faces, uvs = [], [], []
    texture = np.zeros((32, 96, 3), dtype=np.uint8)
    for side in range(6):
        pair = plain.faces[2 * side : 2 * side + 2]
        quad = [pair[0][0], pair[0][1], pair[0][2], pair[1][2]]
        start = len(vertices)
        vertices += [plain.vertices[v] for v in quad]
        left, right = (16 * side + 1) / 96, (16 * side + 15) / 96
        uvs += [(left, 0.1), (right, 0.1), (right, 0.9), (left, 0.9)]
        faces += [(start, start + 1, start + 2), (start, start + 2, start + 3)]
        texture[:, 16 * side : 16 * side + 16] = (40 * side + 20, 255 - 40 * side, 90)
    return Mesh(
        np.array(vertices, dtype=np.float32),
        np.array(faces, dtype=np.int32),
        uvs=np.array(uvs, dtype=np.float32),
        texture=texture,
    )
