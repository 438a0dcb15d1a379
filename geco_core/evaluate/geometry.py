"""Geometry metrics on occupancies and point sets.

Legend: B batch, P Q points.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from scipy.spatial import KDTree
from torch import Tensor


@dataclass(frozen=True)
class PointScores:
    """How two point sets lie to each other.

    Attributes:
        chamfer: mean of the two directed mean nearest-neighbour distances, not squared, in the
            unit of the points.
        f_score: harmonic mean of precision and recall.
        precision: share of the points nearer to the reference than the threshold.
        recall: share of the reference nearer to the points than the threshold.
    """

    chamfer: float
    f_score: float
    precision: float
    recall: float


def volume_iou(inside: Tensor, reference: Tensor) -> Tensor:
    """Intersection over union of two occupancies sampled at the same points.

    Args:
        inside: bool [B, P].
        reference: bool [B, P].

    Returns:
        float [B]; 1 where both are empty.
    """
    both = (inside & reference).sum(-1).float()
    either = (inside | reference).sum(-1).float()
    return torch.where(either > 0, both / either.clamp(min=1), torch.ones_like(either))


def constant_iou(reference: Tensor) -> float:
    """The best mean IoU that one occupancy for all objects [B, P] gets: what knowing nothing does.

    Of the occupancies tried, each holds the points that more than a share of the objects hold.
    """
    share_P = reference.float().mean(0)
    levels = torch.arange(0.05, 0.6, 0.05)
    ious = [volume_iou((share_P > v).expand_as(reference), reference).mean() for v in levels]
    return float(torch.stack(ious).max())


def chamfer_distance(points: Tensor, reference: Tensor) -> Tensor:
    """Mean of the two directed mean nearest-neighbour distances; differentiable, P x Q memory.

    Not squared, in the unit of the points. `point_scores` serves large sets.

    Args:
        points: [P, 3].
        reference: [Q, 3].
    """
    distances = torch.cdist(points, reference)
    return 0.5 * (distances.amin(1).mean() + distances.amin(0).mean())


def nearest_distances(points_P3: np.ndarray, reference_Q3: np.ndarray) -> np.ndarray:
    """Distance from every point to its nearest reference point, float64 [P], by a k-d tree.

    Raises:
        ValueError: an empty reference.
    """
    if len(reference_Q3) == 0:
        raise ValueError("there are no points to be near to")
    return np.asarray(KDTree(reference_Q3).query(points_P3)[0])


def point_scores(points_P3: np.ndarray, reference_Q3: np.ndarray, threshold: float) -> PointScores:
    """Chamfer distance and F-score of two point sets (Knapitsch et al. 2017 for the latter).

    Args:
        points_P3: of the mesh that is scored.
        reference_Q3: of the reference.
        threshold: of the F-score, in the unit of the points; a distance equal to it counts.

    Raises:
        ValueError: an empty set, or a threshold that is not positive.
    """
    if threshold <= 0:
        raise ValueError(f"threshold must be positive, got {threshold}")
    to_reference = nearest_distances(points_P3, reference_Q3)
    to_points = nearest_distances(reference_Q3, points_P3)
    precision = float((to_reference <= threshold).mean())
    recall = float((to_points <= threshold).mean())
    total = precision + recall
    return PointScores(
        chamfer=0.5 * float(to_reference.mean() + to_points.mean()),
        f_score=2 * precision * recall / total if total > 0 else 0.0,
        precision=precision,
        recall=recall,
    )
