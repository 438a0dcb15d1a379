"""The loss of point supervision on cases that can be checked by hand."""

from __future__ import annotations

import pytest
import torch

from geco_core.training.crm_reconstructor import CrmTaskConfig
from geco_core.training.point_loss import point_loss


def test_parts_and_their_weights() -> None:
    config = CrmTaskConfig(
        sdf_clamp=0.2,
        sdf_weight=2.0,
        occupancy_weight=0.0,
        surface_weight=3.0,
        color_l1_weight=5.0,
        color_mse_weight=7.0,
    )
    sdf = torch.tensor([[0.5, 0.1, -0.03]], requires_grad=True)  # two in space, one on the surface
    rgb, color = torch.tensor([[[0.5, 0.5, 0.5]]]), torch.tensor([[[0.5, 0.5, 0.2]]])
    total, parts = point_loss(config, sdf, torch.tensor([[0.3, -0.1]]), rgb, color)
    assert parts["sdf"] == pytest.approx(0.1)  # the first is clamped to the same value
    assert parts["surface"] == pytest.approx(0.03)
    assert parts["color_l1"] == pytest.approx(0.1)
    assert parts["color_mse"] == pytest.approx(0.03)
    expected = 2 * 0.1 + 3 * 0.03 + 5 * 0.1 + 7 * 0.03
    assert float(total.detach()) == pytest.approx(expected)
    total.backward()
    assert sdf.grad is not None
    assert sdf.grad[0, 0] == 0


def test_occupancy_counts_inside_as_negative() -> None:
    config = CrmTaskConfig()
    none = torch.zeros(1, 0, 3)
    target = torch.tensor([[-0.2]])
    right, wrong = (
        point_loss(config, torch.tensor([[s]]), target, none, none)[1]["occupancy"]
        for s in (-0.1, 0.1)
    )
    assert right < 0.1 < wrong
