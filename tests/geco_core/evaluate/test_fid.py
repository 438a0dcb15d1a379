"""The Frechet distance against closed forms, statistics against numpy, and FID's refusals."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from geco_core.errors import ConfigError
from geco_core.evaluate.fid import Fid, Statistics, frechet_distance, load_fid


def test_diagonal_gaussians_by_hand() -> None:
    ours = (np.array([1.0, 2.0]), np.diag([4.0, 9.0]))
    theirs = (np.array([0.0, 0.0]), np.diag([1.0, 16.0]))
    # |m|^2 plus, per axis, (s1 - s2)^2 of the deviations.
    assert frechet_distance(*ours, *theirs) == pytest.approx(5.0 + 1.0 + 1.0)


def test_a_rotation_of_both_changes_nothing_and_of_one_does() -> None:
    turn = np.linalg.qr(np.random.default_rng(0).normal(size=(3, 3)))[0]
    a, b = np.diag([1.0, 4.0, 9.0]), np.diag([2.0, 3.0, 1.0])
    zero = np.zeros(3)
    apart = frechet_distance(zero, a, zero, b)
    assert frechet_distance(zero, turn @ a @ turn.T, zero, turn @ b @ turn.T) == pytest.approx(
        apart
    )
    assert frechet_distance(zero, turn @ a @ turn.T, zero, a) > 0.1
    assert frechet_distance(zero, a, zero, a) == pytest.approx(0.0, abs=1e-9)


def test_singular_covariances_have_a_distance() -> None:
    flat = np.diag([1.0, 0.0, 0.0])
    assert frechet_distance(np.zeros(3), flat, np.zeros(3), 4 * flat) == pytest.approx(1.0)


def test_statistics_in_portions_are_numpys() -> None:
    features = np.random.default_rng(0).normal(3.0, 2.0, (50, 4))
    running = Statistics()
    for portion in np.split(features, [7, 30]):
        running.add(portion)
    np.testing.assert_allclose(running.mean, features.mean(axis=0))
    np.testing.assert_allclose(running.covariance, np.cov(features.T))
    with pytest.raises(ValueError, match="two images"):
        _ = Statistics(count=1).covariance


def test_fid_is_zero_for_the_same_images_and_starts_afresh() -> None:
    def network(images: torch.Tensor) -> torch.Tensor:
        return images.flatten(1)[:, :5]

    a = torch.rand(20, 3, 4, 4, generator=torch.Generator().manual_seed(0))
    fid = Fid(network)  # pyright: ignore[reportArgumentType]
    fid.add(a, a)
    assert fid.images == 20
    assert fid.value() == pytest.approx(0.0, abs=1e-6)
    other = fid.fresh()
    assert other.images == 0
    other.add(a, a + 2.0)
    assert other.value() == pytest.approx(5 * 4.0, rel=1e-4)


def test_missing_weights_name_the_command(tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as caught:
        load_fid(tmp_path)
    assert f"curl -L --create-dirs -o {tmp_path}/pt_inception" in caught.value.remedy
