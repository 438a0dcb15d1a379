"""The mixture of true and generated inputs, and points drawn for it."""

from __future__ import annotations

import pytest
import torch

from geco_core.multiview.crm import CrmFrames
from geco_core.multiview.ortho_views import FRAME_VIEWS
from geco_core.training.crm_batches import CrmInputs, draw_points, model_point_loss
from geco_core.training.crm_examples import CrmCacheSpec, CrmExamples, make_crm_examples
from geco_core.training.point_loss import PointLossWeights
from tests.geco_core.reconstruct.crm_models import random_planes, tiny_crm


@pytest.fixture(scope="module")
def examples() -> CrmExamples:
    spec = CrmCacheSpec(
        examples=6,
        view_size=16,
        condition_size=16,
        render_condition_size=16,
        sdf_points=64,
        color_points=32,
    )
    return make_crm_examples(spec)


def frames(examples: CrmExamples, count: int) -> CrmFrames:
    """The true pictures in the order in which they would be generated."""
    rows = torch.arange(count)
    order = list(FRAME_VIEWS)

    def levels(pictures: torch.Tensor) -> torch.Tensor:
        return (pictures[:, order] * 255).round().byte().movedim(2, -1)

    return CrmFrames(levels(examples.views(rows)), levels(examples.ccms(rows)))


def test_generated_inputs_that_are_right_equal_true_ones(examples: CrmExamples) -> None:
    rows, inputs = CrmInputs(examples, 4, 0, frames(examples, 3), 0.5).batch(2)
    torch.testing.assert_close(inputs, examples.inputs(rows))


def test_a_share_of_every_batch_is_generated(examples: CrmExamples) -> None:
    true = frames(examples, 3)
    dark = CrmFrames(torch.zeros_like(true.views), torch.zeros_like(true.ccms))
    for step in range(5):
        rows, inputs = CrmInputs(examples, 4, 0, dark, 0.5).batch(step)
        assert len(rows) == 4
        assert (rows[:2] < 3).all()
        assert [bool(image.any()) for image in inputs] == [False, False, True, True]
    rows, inputs = CrmInputs(examples, 3, 0, dark, 1.0).batch(0)
    assert not inputs.any()
    assert sorted(rows.tolist()) == [0, 1, 2]


@pytest.mark.parametrize("share", [0.0, 0.7])
def test_without_samples_or_share_inputs_are_true(examples: CrmExamples, share: float) -> None:
    samples = frames(examples, 3) if share == 0.0 else None
    rows, inputs = CrmInputs(examples, 4, 0, samples, share).batch(0)
    assert torch.equal(inputs, examples.inputs(rows))


def test_batches_depend_on_seed_and_step_alone(examples: CrmExamples) -> None:
    def rows(seed: int, step: int) -> list[int]:
        return CrmInputs(examples, 2, seed, frames(examples, 4), 0.5).batch(step)[0].tolist()

    assert rows(0, 1) == rows(0, 1)
    assert len({tuple(rows(0, step)) for step in range(6)}) > 1
    assert [rows(0, s) for s in range(3)] != [rows(1, s) for s in range(3)]


def test_what_does_not_fit_is_refused(examples: CrmExamples) -> None:
    with pytest.raises(ValueError, match="3 of 2 generated rows"):
        CrmInputs(examples, 6, 0, frames(examples, 2), 0.5)
    with pytest.raises(ValueError, match="within 0 and 1"):
        CrmInputs(examples, 4, 0, None, 1.5)


def test_points_are_those_of_the_rows(examples: CrmExamples) -> None:
    rows = torch.tensor([4, 1])
    targets = draw_points(examples, rows, 64, 32, torch.Generator().manual_seed(0))
    whole, _ = examples.sdf(rows, torch.arange(64))
    assert targets.points.shape == (2, 64, 3)
    torch.testing.assert_close(targets.points.sum(1), whole.sum(1), atol=1e-4, rtol=0)
    few = draw_points(examples, rows, 10, 5, torch.Generator().manual_seed(0))
    assert torch.equal(few.points, targets.points[:, :10])
    assert few.colors.shape == (2, 5, 3)


def test_distances_are_negative_inside_as_the_field_is_positive(examples: CrmExamples) -> None:
    model, planes = tiny_crm(), random_planes()
    targets = draw_points(examples, torch.tensor([0, 1]), 64, 32, torch.Generator().manual_seed(0))
    own = model.decoder.field(planes, targets.points)
    colors = model.decoder.rgb(planes, targets.surface)
    exact = type(targets)(targets.points, -own.detach(), targets.surface, colors.detach())
    _, parts = model_point_loss(model, planes, exact, PointLossWeights())
    assert parts["sdf"] == parts["color_mse"] == 0.0
    inverted = type(targets)(targets.points, own.detach(), targets.surface, colors.detach())
    assert model_point_loss(model, planes, inverted, PointLossWeights())[1]["sdf"] > 0
