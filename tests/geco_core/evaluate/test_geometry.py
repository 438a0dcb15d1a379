"""F-score, nearest neighbours and Chamfer distances against values worked out by hand."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from geco_core.evaluate.geometry import chamfer_distance, nearest_distances, point_scores

POINTS = np.array([[0.0, 0, 0], [1, 0, 0], [5, 0, 0]])
REFERENCE = np.array([[0.0, 0, 0.5], [1, 0, 0]])


def test_scores_by_hand() -> None:
    found = point_scores(POINTS, REFERENCE, 0.5)
    assert found.chamfer == pytest.approx(0.5 * ((0.5 + 0 + 4) / 3 + (0.5 + 0) / 2))
    assert found.precision == pytest.approx(2 / 3)  # a distance equal to the threshold counts
    assert found.recall == pytest.approx(1.0)
    assert found.f_score == pytest.approx(2 * (2 / 3) / (5 / 3))


def test_nothing_within_the_threshold_scores_zero() -> None:
    assert point_scores(POINTS, REFERENCE + 100, 0.01).f_score == 0.0


def test_the_tree_agrees_with_all_pairs() -> None:
    generator = np.random.default_rng(0)
    a, b = generator.normal(size=(2, 300, 3))
    full = torch.cdist(torch.from_numpy(a), torch.from_numpy(b))
    np.testing.assert_allclose(nearest_distances(a, b), full.amin(1).numpy(), atol=1e-12)
    ours = point_scores(a, b, 0.1).chamfer
    assert ours == pytest.approx(
        float(chamfer_distance(torch.from_numpy(a), torch.from_numpy(b))), abs=1e-9
    )


def test_refusals() -> None:
    with pytest.raises(ValueError, match="no points"):
        nearest_distances(POINTS, REFERENCE[:0])
    with pytest.raises(ValueError, match="positive"):
        point_scores(POINTS, REFERENCE, 0.0)
