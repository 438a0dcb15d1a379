"""Heads on a grid: chunks change nothing, and signs already known hold."""

from __future__ import annotations

import torch

from geco_core.reconstruct.grid_heads import cube_weights, dense_values, with_signs_of
from geco_core.surface.grid import RegularGrid


def test_chunked_weights_match_unchunked(tiny, monkeypatch) -> None:
    features = torch.randn(50, 18, requires_grad=True)
    corners = torch.randint(0, 50, (70, 8), generator=torch.Generator().manual_seed(0))
    whole = cube_weights(tiny.decoder, features, corners)
    (expected,) = torch.autograd.grad(whole.square().sum(), features)
    monkeypatch.setattr("geco_core.reconstruct.grid_heads.CUBES_PER_CHUNK", 16)
    parts = cube_weights(tiny.decoder, features, corners)
    torch.testing.assert_close(parts, whole, atol=1e-6, rtol=1e-5)
    (gradient,) = torch.autograd.grad(parts.square().sum(), features)
    torch.testing.assert_close(gradient, expected, atol=1e-6, rtol=1e-4)


def test_a_dense_pass_visits_every_node_once_in_chunks() -> None:
    grid, sizes = RegularGrid.cubic(5, 2.0), []

    def field(planes: torch.Tensor, points: torch.Tensor) -> torch.Tensor:
        sizes.append(points.shape)
        return points.norm(dim=-1) - planes[:, :1, 0, 0, 0]

    radii = torch.tensor([0.5, 0.8])
    values = dense_values(field, radii.view(2, 1, 1, 1, 1).expand(2, 3, 1, 1, 1), grid, 100)
    assert sizes == [(2, 100, 3), (2, 100, 3), (2, 16, 3)]
    torch.testing.assert_close(values, grid.points().norm(dim=-1) - radii[:, None])


def test_known_signs_hold_and_gradients_pass() -> None:
    values = torch.tensor([-0.25, 0.5, -0.75, 1.0], requires_grad=True)
    signed = with_signs_of(values, torch.tensor([-1.0, 1.0, 0.25, -0.5]))
    assert signed.tolist() == [-0.25, 0.5, 0.25, -0.5]
    signed.sum().backward()
    assert values.grad is not None
    assert values.grad.tolist() == [1.0] * 4
