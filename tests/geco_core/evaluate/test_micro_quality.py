"""The quality table: a perfect reconstructor scores perfectly, and floors are floors."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from geco_core.config.load import load, preset_path
from geco_core.config.models import InstantMeshConfig
from geco_core.evaluate.micro_quality import HeldOut, floors, load_heldout, reconstruction_scores
from geco_core.shapes.object import make_object, object_seed

CONFIG = load(InstantMeshConfig, preset_path("instantmesh", "micro"))


@pytest.fixture(scope="module")
def truth() -> HeldOut:
    return load_heldout(2, CONFIG, points=500)


class Oracle(nn.Module):
    """Answers from the objects themselves; `shift` raises the distance, `tint` the colour."""

    def __init__(self, truth: HeldOut, shift: float = 0.0, tint: float = 0.0) -> None:
        super().__init__()
        self.anchor = nn.Parameter(torch.zeros(()))
        self.truth, self.shift, self.tint = truth, shift, tint
        self.decoder = self

    def forward_planes(self, images: Tensor, cameras: Tensor) -> Tensor:
        assert cameras.shape == (len(images), 6, 16)
        return images

    def sdf(self, planes: Tensor, points: Tensor) -> Tensor:
        objects = [make_object(object_seed("heldout", i)) for i in range(len(planes))]
        fields = [made.sdf(p.numpy()) for made, p in zip(objects, points, strict=True)]
        return torch.stack([torch.from_numpy(f) for f in fields])[..., None] + self.shift

    def rgb(self, planes: Tensor, points: Tensor) -> Tensor:
        return self.truth.colors + self.tint


def test_truth_has_the_sizes_of_the_configuration(truth: HeldOut) -> None:
    assert truth.conditions.shape == (2, 3, 64, 64)
    assert truth.views.shape == (2, 6, 3, 64, 64)
    assert truth.inside.shape == (2, 500)
    assert 0.01 < float(truth.inside.float().mean()) < 0.5
    assert truth.surface.shape == truth.colors.shape == (2, 512, 3)


def test_a_perfect_reconstructor_scores_perfectly(truth: HeldOut) -> None:
    scores = reconstruction_scores(Oracle(truth), CONFIG, truth, truth.views)  # pyright: ignore[reportArgumentType]
    assert scores["iou"].tolist() == [1.0, 1.0]
    assert scores["color_psnr"].tolist() == pytest.approx([100.0, 100.0])
    assert scores["color_hit"].tolist() == [1.0, 1.0]


def test_errors_lower_the_scores(truth: HeldOut) -> None:
    poor = Oracle(truth, shift=0.05, tint=0.25)
    scores = reconstruction_scores(poor, CONFIG, truth, truth.views)  # pyright: ignore[reportArgumentType]
    assert float(scores["iou"].max()) < 0.9
    assert scores["color_psnr"].tolist() == pytest.approx([12.04, 12.04], abs=0.01)
    assert scores["color_hit"].tolist() == [0.0, 0.0]


def test_floors_are_below_the_truth(truth: HeldOut) -> None:
    numbers = floors(truth)
    assert numbers["psnr_all_white"] < numbers["psnr_mean_object"] < 40.0
    assert 0.0 < numbers["iou_best_constant"] < 1.0
    assert 0.0 <= numbers["color_hit_mean_color"] < 1.0
