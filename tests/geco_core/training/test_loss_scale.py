"""Scaled losses give the steps of unscaled ones; overflow costs a step and halves the scale."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from geco_core.distill.optimise import OptimiseConfig, Stepper
from geco_core.distill.world import World
from geco_core.errors import Fatal
from geco_core.training import loss_scale
from geco_core.training.loss_scale import INITIAL_SCALE, ScaledStepper

CONFIG = OptimiseConfig(steps=10, clip_norm=float("inf"))


def stepper(kind: type[Stepper]) -> tuple[nn.Parameter, Stepper]:
    weight = nn.Parameter(torch.tensor([1.0, -2.0]))
    return weight, kind([([weight], 0.1)], CONFIG, World())


def test_steps_are_those_without_scaling() -> None:
    (plain, one), (scaled, other) = stepper(Stepper), stepper(ScaledStepper)
    for step in range(3):
        for weight, each in ((plain, one), (scaled, other)):
            each.backward((weight * weight).sum(), 0.5, step)
        assert other.update(step) == pytest.approx(one.update(step))
    torch.testing.assert_close(scaled, plain)


def test_an_overflow_changes_nothing_but_the_scale() -> None:
    weight, steps = stepper(ScaledStepper)
    assert isinstance(steps, ScaledStepper)
    before = weight.detach().clone()
    weight.grad = torch.tensor([float("inf"), 1.0])
    assert steps.update(0) == 0.0
    assert torch.equal(weight, before)
    assert weight.grad is None
    assert steps.scale == INITIAL_SCALE / 2
    again, resumed = stepper(ScaledStepper)
    assert isinstance(resumed, ScaledStepper)
    resumed.load_state_dict(steps.state_dict())
    assert resumed.scale == steps.scale
    assert torch.equal(again, before)


def test_the_scale_grows_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loss_scale, "WINDOW", 2)
    weight, steps = stepper(ScaledStepper)
    assert isinstance(steps, ScaledStepper)
    for step in range(2):
        steps.backward(weight.sum(), 1.0, step)
        steps.update(step)
    assert steps.scale == INITIAL_SCALE * 2


def test_an_overflow_at_scale_one_stops() -> None:
    weight, steps = stepper(ScaledStepper)
    assert isinstance(steps, ScaledStepper)
    steps.scale = 1.0
    weight.grad = torch.full((2,), float("nan"))
    with pytest.raises(Fatal, match="overflow float16"):
        steps.update(4)
