from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from geco_core.render.texture import sample_texture


def test_texel_centres_return_the_texels():
    tex = torch.rand(4, 6, 3)
    v, u = torch.meshgrid((torch.arange(4) + 0.5) / 4, (torch.arange(6) + 0.5) / 6, indexing="ij")
    torch.testing.assert_close(sample_texture(tex, torch.stack([u, v], -1)), tex)


def test_clamp_agrees_with_grid_sample():
    tex, uv = torch.rand(5, 7, 2, dtype=torch.float64), torch.rand(1, 9, 11, 2).double() * 1.6 - 0.3
    ours = sample_texture(tex, uv, boundary="clamp")
    theirs = F.grid_sample(
        tex.permute(2, 0, 1)[None], uv * 2 - 1, padding_mode="border", align_corners=False
    )
    torch.testing.assert_close(ours, theirs.permute(0, 2, 3, 1))


def test_wrap_is_periodic():
    tex, uv = torch.rand(4, 4, 3, dtype=torch.float64), torch.rand(50, 2, dtype=torch.float64)
    shifted = uv + torch.tensor([3.0, -2.0], dtype=torch.float64)
    torch.testing.assert_close(sample_texture(tex, uv), sample_texture(tex, shifted))
    clamped = sample_texture(tex, shifted, boundary="clamp")
    assert not torch.allclose(clamped, sample_texture(tex, uv))


@pytest.mark.parametrize("boundary", ["wrap", "clamp"])
@pytest.mark.parametrize("mips", [False, True])
def test_gradients_match_finite_differences(boundary, mips):
    tex = torch.rand(4, 8, 2, dtype=torch.float64, requires_grad=True)
    uv = (torch.rand(20, 2, dtype=torch.float64) * 1.4 - 0.2).requires_grad_()
    uv_da = 0.2 * torch.randn(20, 4, dtype=torch.float64) if mips else None
    assert torch.autograd.gradcheck(
        lambda t, c: sample_texture(t, c, uv_da, boundary=boundary), (tex, uv), fast_mode=True
    )


def footprint(size):
    return torch.tensor([[size, 0.0, 0.0, size]])


def test_level_follows_the_footprint():
    tex, uv = torch.rand(16, 16, 1), torch.tensor([[0.4, 0.7]])
    fine = sample_texture(tex, uv)
    torch.testing.assert_close(sample_texture(tex, uv, footprint(0.5 / 16)), fine)
    torch.testing.assert_close(sample_texture(tex, uv, footprint(1 / 16)), fine)
    half = F.avg_pool2d(tex.permute(2, 0, 1), 2).permute(1, 2, 0)
    coarse = sample_texture(half, uv)
    torch.testing.assert_close(sample_texture(tex, uv, footprint(2 / 16)), coarse)
    between = sample_texture(tex, uv, footprint(2**0.5 / 16))
    torch.testing.assert_close(between, (fine + coarse) / 2)
    torch.testing.assert_close(sample_texture(tex, uv, footprint(9.0)), tex.mean().view(1, 1))
    torch.testing.assert_close(sample_texture(tex, uv, footprint(9.0), max_mip_level=1), coarse)


def test_long_axis_of_a_slanted_footprint_decides():
    tex, uv = torch.rand(16, 16, 1), torch.tensor([[0.4, 0.7]])
    turned = torch.tensor([[2.0, -0.1, 2.0, 0.1]]) / 16 / 2**0.5
    torch.testing.assert_close(
        sample_texture(tex, uv, turned), sample_texture(tex, uv, footprint(2 / 16))
    )


def test_odd_texture_has_a_single_level():
    tex, uv = torch.rand(5, 5, 1), torch.rand(7, 2)
    torch.testing.assert_close(sample_texture(tex, uv, torch.ones(7, 4)), sample_texture(tex, uv))


def test_unknown_boundary_is_refused():
    with pytest.raises(ValueError, match="mirror"):
        sample_texture(torch.rand(2, 2, 1), torch.rand(1, 2), boundary="mirror")
