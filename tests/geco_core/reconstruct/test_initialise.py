"""Geometric initialisation: deterministic, keeps the architecture, moves the right tables."""

from __future__ import annotations

import torch

from geco_core.config.models import ViewRigConfig
from geco_core.reconstruct.initialise import fourier_init
from geco_core.reconstruct.instantmesh import InstantMesh


def test_same_seed_same_weights_and_no_ambient_randomness(tiny_config) -> None:
    states = []
    for _ in range(2):
        torch.manual_seed(0)
        model = InstantMesh(tiny_config)
        shapes = {name: value.shape for name, value in model.state_dict().items()}
        before = torch.get_rng_state()
        fourier_init(model, ViewRigConfig(), seed=4)
        assert torch.equal(torch.get_rng_state(), before)
        states.append(model.state_dict())
    assert {name: value.shape for name, value in states[1].items()} == shapes
    for name, value in states[0].items():
        assert torch.equal(value, states[1][name]), name
        assert value.isfinite().all(), name


def test_planes_start_with_unit_variance(tiny_config) -> None:
    torch.manual_seed(0)
    model = InstantMesh(tiny_config)
    fourier_init(model, ViewRigConfig(), align=False)
    with torch.no_grad():
        planes = model.forward_planes(torch.rand(2, 6, 3, 32, 32), torch.randn(2, 6, 16))
    assert 0.6 < float(planes.std()) < 1.5


def test_neighbouring_cells_are_more_alike_than_far_ones(tiny_config) -> None:
    torch.manual_seed(0)
    model = InstantMesh(tiny_config)
    fourier_init(model, ViewRigConfig(), align=False)
    table = model.transformer.pos_embed[0].view(3, 4, 4, -1)
    near = (table[:, :, 1:] - table[:, :, :-1]).square().mean()
    far = (table[:, :, 3:] - table[:, :, :1]).square().mean()
    assert float(near) < 0.8 * float(far)
