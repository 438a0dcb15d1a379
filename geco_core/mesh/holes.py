"""Closing small holes: a fan over every short boundary loop.

Surfaces extracted on a grid are open only where they leave it, so holes are rare and small; large
ones are openings that belong to the object and stay.

Legend: N vertices, F faces, L corners of a loop.
"""

from __future__ import annotations

import numpy as np

from geco_core.types import Mesh


def boundary_loops(faces_F3: np.ndarray) -> list[list[int]]:
    """Closed loops of directed edges without a partner, each in the direction that closes it.

    Vertices where several loops touch are ambiguous: loops through them are left out.
    """
    directed = {
        (int(a), int(b))
        for face in (faces_F3[:, [0, 1]], faces_F3[:, [1, 2]], faces_F3[:, [2, 0]])
        for a, b in _unpaired(faces_F3, face)
    }
    following: dict[int, list[int]] = {}
    for a, b in directed:
        following.setdefault(b, []).append(a)  # the missing face runs against its neighbours
    loops, seen = [], set()
    for start in sorted(following):
        loop = _walk(start, following, seen)
        if loop is not None:
            loops.append(loop)
    return loops


def fill_small_holes(mesh: Mesh, max_edges: int) -> tuple[Mesh, int]:
    """The mesh with holes of at most `max_edges` edges closed.

    Triangles get the one missing face; longer loops a new vertex at their centre, with the mean
    colour of the loop. Meshes with texture coordinates are returned as they are: their seams are no
    holes.

    Returns:
        The mesh and how many holes were closed.
    """
    if max_edges < 3 or mesh.uvs is not None:
        return mesh, 0
    loops = [loop for loop in boundary_loops(mesh.faces) if 3 <= len(loop) <= max_edges]
    if not loops:
        return mesh, 0
    vertices, faces = [mesh.vertices], [mesh.faces]
    colors = None if mesh.colors is None else [mesh.colors]
    count = len(mesh.vertices)
    for loop in loops:
        if len(loop) == 3:
            faces.append(np.array([loop], dtype=mesh.faces.dtype))
            continue
        faces.append(_fan(loop, count).astype(mesh.faces.dtype))
        vertices.append(mesh.vertices[loop].mean(axis=0, dtype=np.float64)[None].astype(np.float32))
        if colors is not None and mesh.colors is not None:
            mean_3 = mesh.colors[loop].mean(axis=0)
            colors.append(np.rint(mean_3)[None].astype(np.uint8))
        count += 1
    filled = Mesh(
        np.concatenate(vertices),
        np.concatenate(faces),
        None if colors is None else np.concatenate(colors),
    )
    return filled, len(loops)


def _unpaired(faces_F3: np.ndarray, edges_F2: np.ndarray) -> np.ndarray:
    """The directed edges of `edges_F2` whose reverse no face has."""
    base = int(faces_F3.max(initial=0)) + 1
    wide_F3 = faces_F3.astype(np.int64)
    every = np.concatenate([wide_F3[:, [0, 1]], wide_F3[:, [1, 2]], wide_F3[:, [2, 0]]])
    reverse = every[:, 1] * base + every[:, 0]
    own = edges_F2[:, 0].astype(np.int64) * base + edges_F2[:, 1]
    return edges_F2[~np.isin(own, reverse)]


def _walk(start: int, following: dict[int, list[int]], seen: set[int]) -> list[int] | None:
    loop, vertex = [], start
    while vertex not in seen:
        seen.add(vertex)
        loop.append(vertex)
        onward = following.get(vertex, [])
        if len(onward) != 1:
            return None
        vertex = onward[0]
    return loop if loop and vertex == start else None


def _fan(loop: list[int], centre: int) -> np.ndarray:
    first_L = np.array(loop, dtype=np.int64)
    second_L = np.roll(first_L, -1)
    return np.stack([first_L, second_L, np.full(len(loop), centre)], axis=1)
