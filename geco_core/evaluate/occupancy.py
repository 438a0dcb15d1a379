"""Which points of a regular grid lie inside a mesh, also when the mesh is not closed.

Rays run through the grid along each axis. Where all crossings of a ray cancel (as many ways in as
out), a point is inside if the signed crossings before it do not: this joins overlapping parts and
ignores double-sided sheets. Where they do not cancel but are even in number (faces turned the wrong
way), parity decides. Where they are odd in number the ray went through a hole and says nothing. The
rays of the three axes vote: a point is inside if more say so than not. On a closed, consistently
oriented mesh the votes agree, up to rays that graze an edge.

Legend: F faces, G cells per axis, C pairs of a face and a ray.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

# Rays run off the centres of their cells by this share of a cell, along the two axes across them:
# meshes of boxes would else have edges exactly on rays.
_OFFSET = (0.00131071, 0.00254803)
_PAIRS_AT_ONCE = 2_000_000


@dataclass(frozen=True)
class Grid:
    """A cube of cells.

    Attributes:
        low: the corner with the smallest coordinates.
        cell: side of a cell.
        cells: per axis.
    """

    low: tuple[float, float, float]
    cell: float
    cells: int


def grid_around(boxes: list[np.ndarray], cell: float, max_cells: int) -> Grid:
    """A grid that covers boxes with at least one cell of margin.

    Args:
        boxes: [2, 3] each, low and high corner.
        cell: wanted side of a cell; larger where more than `max_cells` would be needed.
        max_cells: per axis.
    """
    low_3 = np.min([box[0] for box in boxes], axis=0)
    high_3 = np.max([box[1] for box in boxes], axis=0)
    side = float((high_3 - low_3).max())
    cells = min(int(np.ceil(side / cell)) + 2, max_cells)
    cell = max(cell, side / (cells - 2))
    start_3 = 0.5 * (low_3 + high_3) - 0.5 * cells * cell
    return Grid((float(start_3[0]), float(start_3[1]), float(start_3[2])), cell, cells)


def occupancy(vertices_N3: np.ndarray, faces_F3: np.ndarray, grid: Grid) -> np.ndarray:
    """Whether the centre of each cell is inside: bool [G, G, G] indexed x, y, z.

    Meshes without volume (sheets, empty meshes) give False everywhere.
    """
    votes_GGG = np.zeros((grid.cells,) * 3, dtype=np.int8)
    points_N3 = (np.asarray(vertices_N3, dtype=np.float64) - np.asarray(grid.low)) / grid.cell
    for axis in range(3):
        across = ((axis + 1) % 3, (axis + 2) % 3)
        turned_N3 = points_N3[:, [*across, axis]]
        votes = _votes(turned_N3[faces_F3], grid.cells)  # indexed: across 0, across 1, along
        votes_GGG += np.transpose(votes, np.argsort([*across, axis]))
    return votes_GGG > 0


def _votes(corners_F33: np.ndarray, cells: int) -> np.ndarray:
    """int8 [G, G, G]: 1 inside, -1 outside, 0 where a ray along the last axis says nothing."""
    signed = np.zeros((cells * cells, cells + 1), dtype=np.int32)
    count = np.zeros_like(signed)
    for ray_C, height_C, sign_C in _crossings(corners_F33, cells):
        # A crossing counts for the centres above it; centre k lies at k + 0.5.
        first_C = np.clip(np.ceil(height_C - 0.5), 0, cells).astype(np.int64)
        slot_C = ray_C * (cells + 1) + first_C
        size = signed.size
        signed += np.bincount(slot_C, sign_C, size).reshape(signed.shape).astype(np.int32)
        count += np.bincount(slot_C, minlength=size).reshape(signed.shape).astype(np.int32)
    winding = np.cumsum(signed, axis=1)
    crossed = np.cumsum(count, axis=1)
    by_winding = np.where(winding != 0, 1, -1)
    by_parity = np.where(crossed % 2 == 1, 1, -1)
    closed, even = winding[:, -1:] == 0, crossed[:, -1:] % 2 == 0
    votes = np.where(closed, by_winding, np.where(even, by_parity, 0))
    return votes[:, :cells].astype(np.int8).reshape(cells, cells, cells)


def _crossings(
    corners_F33: np.ndarray, cells: int
) -> list[tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """Where rays cross faces, in portions: ray number, height, direction (+1 upwards) [C] each."""
    flat_F32 = corners_F33[:, :, :2]
    centre_2 = 0.5 + np.asarray(_OFFSET)
    low_F2 = np.ceil(flat_F32.min(axis=1) - centre_2).clip(0, cells).astype(np.int64)
    high_F2 = (np.floor(flat_F32.max(axis=1) - centre_2).astype(np.int64) + 1).clip(0, cells)
    span_F2 = np.maximum(high_F2 - low_F2, 0)
    pairs_F = span_F2[:, 0] * span_F2[:, 1]
    touched = np.flatnonzero(pairs_F)
    if not len(touched):
        return []
    parts = np.cumsum(pairs_F[touched]) // _PAIRS_AT_ONCE
    found = []
    for faces in np.split(touched, np.flatnonzero(np.diff(parts)) + 1):
        face_C = np.repeat(faces, pairs_F[faces])
        starts = np.cumsum(pairs_F[faces]) - pairs_F[faces]
        place_C = np.arange(len(face_C)) - np.repeat(starts, pairs_F[faces])
        row_C = low_F2[face_C, 0] + place_C // span_F2[face_C, 1]
        column_C = low_F2[face_C, 1] + place_C % span_F2[face_C, 1]
        spot_C2 = np.stack([row_C, column_C], axis=1) + centre_2
        hit_C, height_C, sign_C = _hits(corners_F33[face_C], spot_C2)
        found.append(((row_C * cells + column_C)[hit_C], height_C[hit_C], sign_C[hit_C]))
    return found


def _hits(
    corners_C33: np.ndarray, spot_C2: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Whether the ray at a spot meets its face, at which height, and the face's direction."""
    a, b, c = (corners_C33[:, k, :2] - spot_C2 for k in range(3))
    # Twice the areas of the triangles that the spot makes with each edge.
    of_a, of_b, of_c = _cross(b, c), _cross(c, a), _cross(a, b)
    area_C = of_a + of_b + of_c
    inside_C = ((of_a > 0) & (of_b > 0) & (of_c > 0)) | ((of_a < 0) & (of_b < 0) & (of_c < 0))
    safe_C = np.where(area_C == 0, 1.0, area_C)
    heights = corners_C33[:, :, 2]
    height_C = (of_a * heights[:, 0] + of_b * heights[:, 1] + of_c * heights[:, 2]) / safe_C
    return inside_C, height_C, np.sign(area_C)


def _cross(a_C2: np.ndarray, b_C2: np.ndarray) -> np.ndarray:
    return a_C2[:, 0] * b_C2[:, 1] - a_C2[:, 1] * b_C2[:, 0]
