"""Frechet distance of feature statistics, and FID on top of it (Heusel et al., arXiv 1706.08500).

The distance treats the features of two sets of images as Gaussians:
|m1 - m2|^2 + tr(S1 + S2 - 2 (S1^1/2 S2 S1^1/2)^1/2). With the pooled features of the Inception
network that the authors used it is called FID. It falls with the number of images: compare only
values of equally many images, and expect nothing of fewer than a few thousand. Below 2048 images
the covariances have no full rank; the formula above still holds.

Legend: K images, E features.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from geco_core.evaluate.inception import FEATURES, FidInception
from geco_core.evaluate.metric_weights import WeightsFile, curl, load_part, require

FILE = "pt_inception-2015-12-05-6726825d.pth"
FILES = [
    WeightsFile(
        FILE,
        "Inception network of the FID authors, as converted by pytorch-fid",
        "Apache-2.0",
        curl(f"https://github.com/mseitzer/pytorch-fid/releases/download/fid_weights/{FILE}", FILE),
    )
]
_BATCH = 16


@dataclass
class Statistics:
    """Running mean and covariance of features, in float64."""

    count: int = 0
    total: np.ndarray = field(default_factory=lambda: np.zeros(FEATURES))
    products: np.ndarray = field(default_factory=lambda: np.zeros((FEATURES, FEATURES)))

    def add(self, features_KE: np.ndarray) -> None:
        """Count the features of further images."""
        features_KE = np.asarray(features_KE, dtype=np.float64)
        if not self.count:
            width = features_KE.shape[1]
            self.total, self.products = np.zeros(width), np.zeros((width, width))
        self.count += len(features_KE)
        self.total = self.total + features_KE.sum(axis=0)
        self.products = self.products + features_KE.T @ features_KE

    @property
    def mean(self) -> np.ndarray:
        """[E]."""
        return self.total / self.count

    @property
    def covariance(self) -> np.ndarray:
        """[E, E], with K - 1 in the denominator. Raises `ValueError` for fewer than two images."""
        if self.count < 2:
            raise ValueError(f"a covariance needs two images, got {self.count}")
        outer = np.outer(self.mean, self.mean) * self.count
        return (self.products - outer) / (self.count - 1)


def frechet_distance(
    mean_E: np.ndarray, covariance_EE: np.ndarray, other_E: np.ndarray, other_EE: np.ndarray
) -> float:
    """Squared Frechet distance of two Gaussians; at least 0.

    The trace of the root is taken by two symmetric eigendecompositions, which singular covariances
    do not disturb.
    """
    root = _root(covariance_EE)
    middle = root @ other_EE @ root
    eigenvalues = np.linalg.eigvalsh(0.5 * (middle + middle.T))
    cross = float(np.sqrt(eigenvalues.clip(min=0)).sum())
    apart = float(np.square(mean_E - other_E).sum())
    return max(0.0, apart + float(np.trace(covariance_EE) + np.trace(other_EE)) - 2.0 * cross)


class Fid:
    """FID of two growing sets of images.

    Args:
        network: whose features are compared.
    """

    def __init__(self, network: FidInception) -> None:
        self._network = network
        self._ours, self._theirs = Statistics(), Statistics()

    def add(self, images: Tensor, reference: Tensor) -> None:
        """Count images [K, 3, H, W] in [0, 1] and the images they are compared with."""
        for statistics, batch in ((self._ours, images), (self._theirs, reference)):
            for chunk in batch.split(_BATCH):
                with torch.no_grad():
                    statistics.add(self._network(chunk).numpy())

    def fresh(self) -> Fid:
        """The same network with no images counted."""
        return Fid(self._network)

    @property
    def images(self) -> int:
        """How many images each set has, at least."""
        return min(self._ours.count, self._theirs.count)

    def value(self) -> float:
        """The distance so far. Raises `ValueError` for fewer than two images."""
        ours, theirs = self._ours, self._theirs
        return frechet_distance(ours.mean, ours.covariance, theirs.mean, theirs.covariance)


def load_fid(folder: Path) -> Fid:
    """FID with the weights in a folder of metric weights.

    Raises:
        ConfigError: the file is missing (the remedy gets it) or damaged.
        Fatal: it is of another model.
    """
    (path,) = require("fid", FILES, folder)
    network = FidInception()
    load_part(network, path, "", "the Inception network of FID")
    return Fid(network)


def _root(matrix_EE: np.ndarray) -> np.ndarray:
    """Symmetric root of a symmetric matrix; tiny negative eigenvalues count as 0."""
    values, vectors = np.linalg.eigh(0.5 * (matrix_EE + matrix_EE.T))
    return (vectors * np.sqrt(values.clip(min=0))) @ vectors.T
