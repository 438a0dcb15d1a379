"""A multi-view model of a few thousand weights, and conditions to train it on."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from geco_core.distill.stage1 import TeacherPairs
from geco_core.multiview.zero123plus import Zero123Plus
from tests.support.tiny_models import TINY_PATCH_VIEWS


class RandomData:
    """Sixteen random condition images, with made-up teacher samples."""

    def __init__(self, model: Zero123Plus, *, pairs: bool = False) -> None:
        g = torch.Generator().manual_seed(0)
        self._images = torch.rand(16, 3, 16, 16, generator=g)
        self._z = torch.randn(16, *model.latent_shape, generator=g)
        self._latents = torch.randn(16, *model.latent_shape, generator=g)
        self._has_pairs = pairs

    def __len__(self) -> int:
        return 16

    def images(self, rows: Tensor) -> Tensor:
        return self._images[rows]

    def pairs(self, rows: Tensor) -> TeacherPairs | None:
        return TeacherPairs(self._z[rows], self._latents[rows]) if self._has_pairs else None


@pytest.fixture
def teacher() -> Zero123Plus:
    torch.manual_seed(0)
    return Zero123Plus(TINY_PATCH_VIEWS)
