"""Laying a generated mesh onto its reference before the two are compared, by a stated rule.

| kind | what is free | how |
|---|---|---|
| `none` | nothing | the generated mesh stays where it is |
| `box` | scale, translation | centre and longest side of the bounding boxes agree |
| `centroid` | scale, translation | centroid and mean square radius of the surfaces agree |
| `icp` | scale, rotation, translation | search about the vertical axis, then ICP |

`icp` starts from `box` at evenly spaced angles about the vertical axis, refines the best few by
iterated closest points (Besl and McKay 1992) with the similarity of Umeyama (1991), and keeps the
one with the smallest Chamfer distance. Pairs are taken in both directions: with pairs from the
generated points alone the scale collapses. `box` itself is among the candidates, so the result is
never worse. All of it is a function of the points.

Everything happens in the world frame (z up). Legend: P points.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.spatial import KDTree

from geco_core.evaluate.protocol import Alignment

SEARCH_POINTS = 1024
REFINE_POINTS = 2048
REFINED = 3
MAX_ITERATIONS = 40
STOP_BELOW = 1e-5


@dataclass(frozen=True)
class Similarity:
    """x -> scale * rotation @ x + translation."""

    scale: float
    rotation: np.ndarray
    translation: np.ndarray

    def apply(self, points_P3: np.ndarray) -> np.ndarray:
        """Moved points float64 [P, 3]."""
        turned_P3 = np.asarray(points_P3, dtype=np.float64) @ self.rotation.T
        return self.scale * turned_P3 + self.translation

    def after(self, first: Similarity) -> Similarity:
        """The map that does `first`, then this."""
        return Similarity(
            self.scale * first.scale,
            self.rotation @ first.rotation,
            self.scale * self.rotation @ first.translation + self.translation,
        )

    def matrix(self) -> list[list[float]]:
        """Rows of the homogeneous 4x4 matrix."""
        rows = np.eye(4)
        rows[:3, :3] = self.scale * self.rotation
        rows[:3, 3] = self.translation
        return rows.tolist()


@dataclass(frozen=True)
class Aligned:
    """What an alignment found.

    Attributes:
        kind: of the alignment.
        transform: from the generated mesh's own coordinates (world axes) to those of the
            normalised reference.
        residual_before: Chamfer distance of about `REFINE_POINTS` points under `box` (under `none`,
            as they are).
        residual_after: under `transform`.
    """

    kind: Alignment
    transform: Similarity
    residual_before: float
    residual_after: float

    def to_json(self) -> dict[str, Any]:
        """Plain data: kind, scale, yaw and total rotation in degrees, matrix, residuals."""
        rotation = self.transform.rotation
        cosine = (float(np.trace(rotation)) - 1.0) / 2.0
        return {
            "kind": self.kind,
            "scale": self.transform.scale,
            "yaw_deg": math.degrees(math.atan2(rotation[1, 0], rotation[0, 0])),
            "rotation_deg": math.degrees(math.acos(min(1.0, max(-1.0, cosine)))),
            "translation": [float(value) for value in self.transform.translation],
            "matrix": self.transform.matrix(),
            "residual_before": self.residual_before,
            "residual_after": self.residual_after,
        }


def normalisation(vertices_N3: np.ndarray, kind: str) -> Similarity:
    """The scale and translation that bring a mesh into the unit `cube` or the unit-wide `sphere`.

    `cube`: bounding box centred, longest side 1. `sphere`: the same centre, farthest vertex at
    radius 0.5.

    Raises:
        ValueError: a mesh without extent, or an unknown kind.
    """
    if kind not in {"cube", "sphere"}:
        raise ValueError(f"normalisation {kind!r} is neither cube nor sphere")
    points_N3 = np.asarray(vertices_N3, dtype=np.float64)
    centre_3 = 0.5 * (points_N3.min(axis=0) + points_N3.max(axis=0))
    side = float(np.ptp(points_N3, axis=0).max())
    if kind == "sphere":
        side = 2.0 * float(np.linalg.norm(points_N3 - centre_3, axis=1).max())
    if not 0.0 < side < math.inf:
        raise ValueError(f"a mesh of size {side} can not be normalised")
    return Similarity(1.0 / side, np.eye(3), -centre_3 / side)


def align(
    kind: Alignment,
    vertices_N3: np.ndarray,
    points_P3: np.ndarray,
    reference_P3: np.ndarray,
    reference_box_23: np.ndarray,
    unmoved: Similarity,
    yaw_steps: int,
) -> Aligned:
    """Lay a mesh onto a normalised reference.

    Args:
        kind: see the table above.
        vertices_N3: of the generated mesh, world axes.
        points_P3: sampled on its surface.
        reference_P3: sampled on the normalised reference.
        reference_box_23: low and high corner of the normalised reference.
        unmoved: what `none` applies: the normalisation of the reference.
        yaw_steps: starting angles of `icp`.
    """
    start = unmoved if kind == "none" else _to_box(vertices_N3, np.eye(3), reference_box_23)
    fine, tree = _thinned(points_P3, REFINE_POINTS), KDTree(_thinned(reference_P3, REFINE_POINTS))
    before = _chamfer(start.apply(fine), tree)
    found = start
    if kind == "centroid":
        found = _by_moments(points_P3, reference_P3)
    elif kind == "icp":
        found = _search(vertices_N3, points_P3, reference_P3, reference_box_23, yaw_steps)
        if _chamfer(found.apply(fine), tree) > before:
            found = start
    return Aligned(kind, found, before, _chamfer(found.apply(fine), tree))


def about_vertical(angle_deg: float) -> np.ndarray:
    """Rotation [3, 3] about z, from +x to +y."""
    c, s = math.cos(math.radians(angle_deg)), math.sin(math.radians(angle_deg))
    return np.array([[c, -s, 0.0], [s, c, 0.0], [0.0, 0.0, 1.0]])


def umeyama(points_P3: np.ndarray, targets_P3: np.ndarray) -> Similarity:
    """The similarity with the least sum of squares that takes points to targets (Umeyama 1991).

    Never a reflection. Points without extent keep scale 1.
    """
    mean_3, target_3 = points_P3.mean(axis=0), targets_P3.mean(axis=0)
    centred, aims = points_P3 - mean_3, targets_P3 - target_3
    u_33, values_3, vt_33 = np.linalg.svd(aims.T @ centred / len(centred))
    signs_3 = np.array([1.0, 1.0, np.sign(np.linalg.det(u_33) * np.linalg.det(vt_33))])
    rotation = u_33 @ np.diag(signs_3) @ vt_33
    variance = float(np.square(centred).sum() / len(centred))
    scale = float(values_3 @ signs_3) / variance if variance > 0 else 1.0
    return Similarity(scale, rotation, target_3 - scale * rotation @ mean_3)


def _to_box(vertices_N3: np.ndarray, rotation: np.ndarray, box_23: np.ndarray) -> Similarity:
    """Rotation, then the scale and translation that make centres and longest sides agree."""
    turned = Similarity(1.0, rotation, np.zeros(3))
    unit = normalisation(turned.apply(vertices_N3), "cube")
    side = float((box_23[1] - box_23[0]).max())
    return Similarity(side, np.eye(3), 0.5 * (box_23[0] + box_23[1])).after(unit).after(turned)


def _by_moments(points_P3: np.ndarray, reference_P3: np.ndarray) -> Similarity:
    centre_3, target_3 = points_P3.mean(axis=0), reference_P3.mean(axis=0)
    spread = float(np.square(points_P3 - centre_3).sum() / len(points_P3))
    wanted = float(np.square(reference_P3 - target_3).sum() / len(reference_P3))
    scale = math.sqrt(wanted / spread)
    return Similarity(scale, np.eye(3), target_3 - scale * centre_3)


def _search(
    vertices_N3: np.ndarray,
    points_P3: np.ndarray,
    reference_P3: np.ndarray,
    box_23: np.ndarray,
    yaw_steps: int,
) -> Similarity:
    coarse, tree = (
        _thinned(points_P3, SEARCH_POINTS),
        KDTree(_thinned(reference_P3, SEARCH_POINTS)),
    )
    starts = [
        _to_box(vertices_N3, about_vertical(360.0 * step / yaw_steps), box_23)
        for step in range(yaw_steps)
    ]
    ranked = sorted(starts, key=lambda start: _chamfer(start.apply(coarse), tree))[:REFINED]
    fine, target = _thinned(points_P3, REFINE_POINTS), _thinned(reference_P3, REFINE_POINTS)
    refined = [_icp(fine, target, start) for start in ranked]
    tree = KDTree(target)
    return min([*ranked, *refined], key=lambda found: _chamfer(found.apply(fine), tree))


def _icp(points_P3: np.ndarray, target_P3: np.ndarray, start: Similarity) -> Similarity:
    tree, found = KDTree(target_P3), start
    moved = found.apply(points_P3)
    for _ in range(MAX_ITERATIONS):
        to_target = tree.query(moved)[1]
        to_points = KDTree(moved).query(target_P3)[1]
        pairs = np.concatenate([moved, moved[to_points]])
        aims = np.concatenate([target_P3[to_target], target_P3])
        found = umeyama(pairs, aims).after(found)
        before, moved = moved, found.apply(points_P3)
        if float(np.abs(moved - before).max()) < STOP_BELOW:
            break
    return found


def _chamfer(points_P3: np.ndarray, tree: KDTree) -> float:
    there = np.asarray(tree.query(points_P3)[0]).mean()
    back = np.asarray(KDTree(points_P3).query(tree.data)[0]).mean()
    return 0.5 * float(there + back)


def _thinned(points_P3: np.ndarray, count: int) -> np.ndarray:
    """About `count` of the points, evenly through their order."""
    return points_P3[:: max(1, len(points_P3) // count)]
