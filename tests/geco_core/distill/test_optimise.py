"""Optimiser steps: a gradient that is no number changes nothing."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from geco_core.distill.optimise import OptimiseConfig, Stepper
from geco_core.distill.world import World
from geco_core.errors import Fatal


def test_a_gradient_without_end_is_refused_before_it_is_used() -> None:
    weight = nn.Parameter(torch.tensor([2.0, 0.0]))
    stepper = Stepper([([weight], 0.1)], OptimiseConfig(steps=2), World())
    stepper.backward(weight[0].square(), 1.0, 0)
    assert stepper.update(0) == pytest.approx(4.0)
    before = weight.detach().clone()
    stepper.backward(weight.abs().sqrt().sum(), 1.0, 1)  # its slope at 0 is infinite
    with pytest.raises(Fatal, match="norm is"):
        stepper.update(1)
    assert torch.equal(weight.detach(), before)


def test_a_loss_that_is_no_number_is_refused() -> None:
    weight = nn.Parameter(torch.ones(1))
    stepper = Stepper([([weight], 0.1)], OptimiseConfig(steps=1), World())
    with pytest.raises(Fatal, match="loss is nan"):
        stepper.backward(weight.sum() * float("nan"), 1.0, 0)
