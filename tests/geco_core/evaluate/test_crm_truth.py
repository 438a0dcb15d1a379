"""Held-out objects in CRM's frame: what is inside lies where the pictures show something."""

from __future__ import annotations

import pytest
import torch

from geco_core.evaluate.crm_truth import CrmHeldOut, field_iou, load_crm_heldout
from geco_core.multiview.ortho_views import AXES
from geco_core.shapes.canonical import BACKGROUND
from geco_core.shapes.object import object_seed


@pytest.fixture(scope="module")
def truth() -> CrmHeldOut:
    return load_crm_heldout(3, first=1000, view_size=32, points=4000)


def test_objects_are_the_asked_ones(truth: CrmHeldOut) -> None:
    assert truth.seeds == tuple(object_seed("heldout", i) for i in (1000, 1001, 1002))
    assert len(truth) == len(truth.names) == len(truth.conditions) == len(truth.examples) == 3
    assert truth.conditions[0].shape == (128, 128, 4)
    assert float(truth.points.abs().max()) <= 1.0


@pytest.mark.parametrize("view", range(6))
def test_inside_points_are_seen_in_every_view(truth: CrmHeldOut, view: int) -> None:
    maps = truth.examples.ccms(torch.arange(3))[:, view]
    shown = (maps - BACKGROUND).abs().amax(1) > 0.01
    axes = AXES[view]
    spots = [(truth.points[:, axis] * sign + 1) * 16 for axis, sign in (axes.right, axes.down)]
    column, row = (spot.long().clamp(0, 31) for spot in spots)
    for index in range(3):
        inside = truth.inside[index]
        assert inside.sum() > 50
        # A silhouette pixel that is covered by less than half counts as background.
        assert shown[index, row[inside], column[inside]].float().mean() > 0.9
        assert shown[index, row, column].float().mean() < 0.7


def test_iou_is_of_the_objects_asked_for(truth: CrmHeldOut) -> None:
    assert field_iou(lambda rows, _: truth.inside[rows], truth).tolist() == [1.0] * 3
    assert field_iou(lambda rows, _: truth.inside[rows], truth, 2).tolist() == [1.0] * 2
    swapped = field_iou(lambda rows, _: truth.inside[(rows + 1) % 3], truth)
    assert float(swapped.max()) < 0.9
