"""Cube topology, derived at import from the geometry of a cube; nothing here is typed in by hand.

Follows the definitions of FlexiCubes (Shen et al., "Flexible Isosurface Extraction for
Gradient-Based Mesh Optimization", 2023, section 4.1 and its supplement) and of dual marching cubes
(Nielson 2004). The published look-up tables are not copied: every entry follows from one walk
around the six faces of the cube, and the same walk yields the triangle table of marching cubes, so
both extractors agree on the topology.

Conventions. Corner c sits at (c & 1, c >> 1 & 1, c >> 2 & 1). A corner is inside where the scalar
is negative. The case of a cube is the sum of 2**c over its inside corners. Edges are ordered corner
pairs; all edges along one axis run the same way, so an edge shared by several cubes has the same
first and second vertex in each of them.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from itertools import pairwise

import numpy as np
import torch

CORNER_OFFSETS = np.array(
    [[c & 1, c >> 1 & 1, c >> 2 & 1] for c in range(8)], dtype=np.int64
)  # [8, 3]

# The published models fix the numbering: beta has one column per edge.
EDGE_CORNERS = np.array(
    [
        (0, 1),
        (1, 5),
        (4, 5),
        (0, 4),
        (2, 3),
        (3, 7),
        (6, 7),
        (2, 6),
        (2, 0),
        (3, 1),
        (7, 5),
        (6, 4),
    ],
    dtype=np.int64,
)  # [12, 2]

NUM_CASES = 256
MAX_LOOPS = 4
MAX_LOOP_EDGES = 7

Loop = tuple[int, ...]


@dataclass(frozen=True)
class Face:
    """One face of the cube: outward direction, and corners counter-clockwise from outside."""

    direction: tuple[int, ...]
    ring: tuple[int, ...]


def _make_faces() -> tuple[Face, ...]:
    """The six faces in the order -x, +x, -y, +y, -z, +z."""
    faces = []
    for axis in range(3):
        u, v = 1 << (axis + 1) % 3, 1 << (axis + 2) % 3
        for side in (0, 1):
            direction = [0, 0, 0]
            direction[axis] = 2 * side - 1
            base = side << axis
            ring = (base, base + u, base + u + v, base + v)
            faces.append(Face(tuple(direction), ring if side else ring[::-1]))
    return tuple(faces)


FACES = _make_faces()
FACE_DIRECTIONS = np.array([face.direction for face in FACES], dtype=np.int64)  # [6, 3]
FACE_CORNERS = np.array([face.ring for face in FACES], dtype=np.int64)  # [6, 4]
_EDGE_OF = {frozenset(pair): number for number, pair in enumerate(EDGE_CORNERS.tolist())}
_RING_EDGES = [
    [_EDGE_OF[frozenset((face.ring[i], face.ring[(i + 1) % 4]))] for i in range(4)]
    for face in FACES
]


def _face_links(ring: tuple[int, ...], edges: list[int], case: int) -> list[tuple[int, int]]:
    """Directed links between the cut edges of one face.

    One per run of inside corners along the ring.

    On a face with two opposite inside corners each of them is a run of its own, which is the rule
    that isolates inside corners. Walking with the inside on the same hand everywhere makes the
    links of the two faces at an edge run through it head to tail.
    """
    inside = [case >> corner & 1 for corner in ring]
    links = []
    for start in range(4):
        if inside[start] and not inside[start - 1]:
            stop = start
            while inside[(stop + 1) % 4]:
                stop = (stop + 1) % 4
            links.append((edges[stop], edges[start - 1]))
    return links


def _loops_of(case: int) -> list[Loop]:
    """Closed loops of cut edges, each oriented counter-clockwise seen from its inside corners."""
    following: dict[int, int] = {}
    for face, edges in zip(FACES, _RING_EDGES, strict=True):
        following.update(_face_links(face.ring, edges, case))
    loops = []
    while following:
        first = min(following)
        loop, edge = [], first
        while edge in following:
            loop.append(edge)
            edge = following.pop(edge)
        loops.append(tuple(loop))
    return sorted(loops, key=lambda loop: _smallest_corner(loop, case))


def _smallest_corner(loop: Loop, case: int) -> int:
    """The sort key of a loop: the smallest inside corner it touches.

    The smallest outside corner where the inside is connected.
    """
    wanted = 1 if _num_inside_parts(case) > 1 else 0
    corners = EDGE_CORNERS[list(loop)].ravel().tolist()
    return min(corner for corner in corners if (case >> corner & 1) == wanted)


@cache
def _num_inside_parts(case: int) -> int:
    """Number of components of the inside corners, connected along cube edges."""
    left = {corner for corner in range(8) if case >> corner & 1}
    parts = 0
    while left:
        parts += 1
        stack = [left.pop()]
        while stack:
            corner = stack.pop()
            for axis in range(3):
                if corner ^ (1 << axis) in left:
                    left.remove(corner ^ (1 << axis))
                    stack.append(corner ^ (1 << axis))
    return parts


def _ambiguous_faces(case: int) -> list[int]:
    """Faces whose inside corners are exactly two opposite ones."""
    patterns = (tuple(case >> corner & 1 for corner in face.ring) for face in FACES)
    return [number for number, bits in enumerate(patterns) if bits in ((0, 1, 0, 1), (1, 0, 1, 0))]


def _fan(loop: Loop) -> list[tuple[int, int, int]]:
    """Triangles of a loop, as a fan.

    Its diagonals cross the cube rather than lie in one of its faces.

    A diagonal within a face could coincide with one of the neighbouring cube and join four
    triangles in one edge.
    """
    turns = [loop[shift:] + loop[:shift] for shift in range(len(loop))]
    first, *others = next((turn for turn in turns if not _has_face_diagonal(turn)), loop)
    return [(first, a, b) for a, b in pairwise(others)]


def _has_face_diagonal(turn: Loop) -> bool:
    """Whether a fan from the first edge of a loop has a diagonal within a face of the cube."""
    return any(turn[0] in edges and b in edges for b in turn[2:-1] for edges in _RING_EDGES)


LOOPS: tuple[tuple[Loop, ...], ...] = tuple(tuple(_loops_of(case)) for case in range(NUM_CASES))


def _make_tables() -> dict[str, np.ndarray]:
    tables = {
        "num_loops": np.array([len(loops) for loops in LOOPS], dtype=np.int64),
        "loop_edges": np.full((NUM_CASES, MAX_LOOPS, MAX_LOOP_EDGES), -1, dtype=np.int64),
        "edge_loop": np.full((NUM_CASES, 12), -1, dtype=np.int64),
        "flagged": np.zeros(NUM_CASES, dtype=bool),
        "flip_direction": np.zeros((NUM_CASES, 3), dtype=np.int64),
    }
    for case, loops in enumerate(LOOPS):
        for number, loop in enumerate(loops):
            tables["loop_edges"][case, number, : len(loop)] = sorted(loop)
            tables["edge_loop"][case, list(loop)] = number
        ambiguous = _ambiguous_faces(case)
        if len(ambiguous) == 1 and len(loops) == 1:
            tables["flagged"][case] = True
            tables["flip_direction"][case] = FACES[ambiguous[0]].direction
    return tables


def _make_triangles() -> np.ndarray:
    fans = [[triangle for loop in loops for triangle in _fan(loop)] for loops in LOOPS]
    triangles = np.full((NUM_CASES, max(map(len, fans)), 3), -1, dtype=np.int64)
    for case, fan in enumerate(fans):
        triangles[case, : len(fan)] = np.array(fan, dtype=np.int64).reshape(-1, 3)
    return triangles


_TABLES = _make_tables()
NUM_LOOPS = _TABLES["num_loops"]  # [256] dual vertices of a case
LOOP_EDGES = _TABLES["loop_edges"]  # [256, 4, 7] ascending edge numbers, padded with -1
EDGE_LOOP = _TABLES["edge_loop"]  # [256, 12] the loop an edge belongs to, -1 where it is not cut
FLAGGED = _TABLES["flagged"]  # [256] cases that may be exchanged for their complement
FLIP_DIRECTION = _TABLES["flip_direction"]  # [256, 3] step to the cube behind the ambiguous face
TRIANGLES = _make_triangles()  # [256, T, 3] edge numbers, padded with -1


@dataclass(frozen=True)
class DeviceTables:
    """The tables as int64 (flags: bool) tensors on one device."""

    corner_offsets: torch.Tensor  # [8, 3]
    edge_corners: torch.Tensor  # [12, 2]
    face_corners: torch.Tensor  # [6, 4]
    face_directions: torch.Tensor  # [6, 3]
    num_loops: torch.Tensor  # [256]
    loop_edges: torch.Tensor  # [256, 4, 7]
    edge_loop: torch.Tensor  # [256, 12]
    flagged: torch.Tensor  # [256]
    flip_direction: torch.Tensor  # [256, 3]
    triangles: torch.Tensor  # [256, T, 3]


@cache
def tables_on(device: torch.device) -> DeviceTables:
    """The tables on `device`; copied there once."""
    arrays = (
        CORNER_OFFSETS,
        EDGE_CORNERS,
        FACE_CORNERS,
        FACE_DIRECTIONS,
        NUM_LOOPS,
        LOOP_EDGES,
        EDGE_LOOP,
        FLAGGED,
        FLIP_DIRECTION,
        TRIANGLES,
    )
    with torch.inference_mode(mode=False):  # they outlive the mode they are first asked for in
        return DeviceTables(*(torch.from_numpy(array).to(device) for array in arrays))
