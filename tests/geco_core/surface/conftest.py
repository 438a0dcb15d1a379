"""Fields and mesh measures for the surface tests."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor


@pytest.fixture
def sphere() -> Callable[[Tensor], Tensor]:
    """|p| - 0.7, negative inside."""
    return lambda points: points.norm(dim=-1) - 0.7


@pytest.fixture
def volume() -> Callable[[Tensor, Tensor], float]:
    """Signed volume of a closed mesh, positive when faces are counter-clockwise from outside."""

    def measure(vertices: Tensor, faces: Tensor) -> float:
        a, b, c = vertices[faces].double().unbind(1)
        return float((torch.linalg.cross(a, b) * c).sum() / 6)

    return measure


@pytest.fixture
def assert_closed() -> Callable[[Tensor], None]:
    """Every directed edge is met exactly once by its reverse: closed and consistently oriented."""

    def check(faces: Tensor) -> None:
        edges = torch.cat([faces[:, [0, 1]], faces[:, [1, 2]], faces[:, [2, 0]]])
        size = int(faces.max()) + 1
        forth = (edges[:, 0] * size + edges[:, 1]).sort().values
        back = (edges[:, 1] * size + edges[:, 0]).sort().values
        assert torch.equal(forth, back)

    return check
