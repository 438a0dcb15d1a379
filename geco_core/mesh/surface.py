"""What numbers about a mesh are computed from: areas, parts and edges, measured once.

Topology of a mesh with texture coordinates is judged on positions, not on indices: a seam
duplicates vertices without opening the surface.

Legend: N vertices, F faces, P parts of the surface, D directed edges, E undirected edges.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from geco_core.types import Mesh


@dataclass(frozen=True)
class Surface:
    """A checked mesh, measured.

    Attributes:
        faces: int [F, 3], the mesh's faces over distinct positions.
        parts: int64 [F], the number of the part of the surface that a face belongs to, from 0.
        corners: float64 [3, F, 3], coordinate, face, corner.
        normals: float64 [3, F], as long as twice the area of the face.
        areas: float64 [F], in squared units of the mesh.
        edges: how faces meet.
    """

    faces: np.ndarray
    parts: np.ndarray
    corners: np.ndarray
    normals: np.ndarray
    areas: np.ndarray
    edges: Edges

    @property
    def count(self) -> int:
        """Number of parts."""
        return int(self.parts.max(initial=-1)) + 1

    @property
    def watertight(self) -> bool:
        """Whether every edge joins exactly two faces, which run along it in opposite directions."""
        edges = self.edges
        return len(edges.faces) > 0 and bool(((edges.faces == 2) & (edges.turns == 0)).all())

    def part_volumes(self) -> np.ndarray:
        """Float64 [P]: signed volume between each part and its middle, positive when faces point
        outward. Exact for closed parts, wherever the middle lies.
        """
        first_3F = self.corners[:, :, 0]
        count_P = np.maximum(np.bincount(self.parts), 1)
        volume_P = np.bincount(self.parts, weights=(first_3F * self.normals).sum(axis=0))
        for axis in range(3):
            middle_P = np.bincount(self.parts, weights=first_3F[axis]) / count_P
            volume_P -= middle_P * np.bincount(self.parts, weights=self.normals[axis])
        return volume_P / 6.0


@dataclass(frozen=True)
class Edges:
    """Undirected edges of faces with three different corners.

    Attributes:
        low, high: int64 [E], the ends.
        faces: int64 [E], how many faces have the edge.
        turns: int64 [E], faces that run from low to high, less those that run back.
    """

    low: np.ndarray
    high: np.ndarray
    faces: np.ndarray
    turns: np.ndarray


def measured(mesh: Mesh) -> Surface:
    """Measure a checked mesh (`geco_core.mesh.gate.check_mesh`)."""
    faces_F3 = welded_faces(mesh)
    corners_3F3 = np.stack([mesh.vertices[:, k].astype(np.float64)[mesh.faces] for k in range(3)])
    p_3F = corners_3F3[:, :, 1] - corners_3F3[:, :, 0]
    q_3F = corners_3F3[:, :, 2] - corners_3F3[:, :, 0]
    normals_3F = np.stack(
        [
            p_3F[1] * q_3F[2] - p_3F[2] * q_3F[1],
            p_3F[2] * q_3F[0] - p_3F[0] * q_3F[2],
            p_3F[0] * q_3F[1] - p_3F[1] * q_3F[0],
        ]
    )
    return Surface(
        faces=faces_F3,
        parts=face_components(faces_F3),
        corners=corners_3F3,
        normals=normals_3F,
        areas=0.5 * np.sqrt((normals_3F * normals_3F).sum(axis=0)),
        edges=edges_of(faces_F3),
    )


def edges_of(faces_F3: np.ndarray) -> Edges:
    """The edges of faces [F, 3]; faces with a repeated corner have none."""
    faces_F3 = faces_F3[distinct_corners(faces_F3)].astype(np.int64)
    if len(faces_F3) == 0:
        none = np.zeros(0, dtype=np.int64)
        return Edges(none, none, none, none)
    start_D = faces_F3.reshape(-1)
    end_D = faces_F3[:, [1, 2, 0]].reshape(-1)
    base = int(faces_F3.max()) + 1
    keys_D = np.minimum(start_D, end_D) * base + np.maximum(start_D, end_D)
    order_D = np.argsort(keys_D, kind="stable")
    keys_D = keys_D[order_D]
    first_E = np.flatnonzero(np.concatenate([[True], keys_D[1:] != keys_D[:-1]]))
    return Edges(
        low=keys_D[first_E] // base,
        high=keys_D[first_E] % base,
        faces=np.diff(np.append(first_E, len(keys_D))),
        turns=np.add.reduceat(np.where(start_D < end_D, 1, -1)[order_D], first_E),
    )


def welded_faces(mesh: Mesh) -> np.ndarray:
    """Faces [F, 3] with the two sides of texture seams joined; as they are without texture."""
    if mesh.uvs is None:
        return mesh.faces
    return position_ids(mesh.vertices)[mesh.faces]


def position_ids(vertices_N3: np.ndarray) -> np.ndarray:
    """int64 [N]: equal numbers for bitwise equal positions (-0.0 equals 0.0)."""
    plain_N3 = np.ascontiguousarray(vertices_N3, dtype=np.float32) + np.float32(0.0)
    # Sorting one opaque 12-byte key is several times faster than unique over rows.
    keys_N = plain_N3.view(np.dtype((np.void, plain_N3.dtype.itemsize * 3))).ravel()
    return np.unique(keys_N, return_inverse=True)[1].reshape(-1).astype(np.int64)


def face_areas(mesh: Mesh) -> np.ndarray:
    """Float64 [F]: areas in squared units of the mesh."""
    vertices_N3 = mesh.vertices.astype(np.float64)
    a_F3, b_F3, c_F3 = (vertices_N3[mesh.faces[:, corner]] for corner in range(3))
    return 0.5 * np.linalg.norm(np.cross(b_F3 - a_F3, c_F3 - a_F3), axis=1)


def face_components(faces_F3: np.ndarray) -> np.ndarray:
    """Int64 [F]: number of the part each face belongs to, from 0; parts share no corner."""
    if len(faces_F3) == 0:
        return np.zeros(0, dtype=np.int64)
    used, compact = np.unique(faces_F3, return_inverse=True)
    compact_F3 = compact.reshape(-1, 3)
    rows = np.concatenate([compact_F3[:, 0], compact_F3[:, 1]])
    columns = np.concatenate([compact_F3[:, 1], compact_F3[:, 2]])
    graph = coo_array(
        (np.ones(len(rows), dtype=np.int8), (rows, columns)), shape=(len(used), len(used))
    )
    _, labels_U = connected_components(graph, directed=False)
    return labels_U[compact_F3[:, 0]].astype(np.int64)


def distinct_corners(faces_F3: np.ndarray) -> np.ndarray:
    """Bool [F]: faces whose three corners are different vertices."""
    a_F, b_F, c_F = faces_F3[:, 0], faces_F3[:, 1], faces_F3[:, 2]
    return (a_F != b_F) & (b_F != c_F) & (c_F != a_F)
