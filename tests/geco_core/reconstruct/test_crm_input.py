"""The twelve channels: blocks along the triplane's axes, depth alone kept, little noise."""

from __future__ import annotations

import pytest
import torch

from geco_core.config.crm_reconstructor import CrmReconstructorConfig
from geco_core.multiview.ortho_views import AXES, plane_coordinates
from geco_core.reconstruct.crm_input import (
    frame_values,
    keep_depth,
    network_input,
    plane_blocks,
    shrink_content,
    strip_views,
)
from geco_core.reconstruct.crm_unet import InputNoise

N = 6
NOISE = InputNoise(CrmReconstructorConfig())
PLANES = ((0, 1), (1, 2), (2, 0))  # xy, yz, zx


def coordinate_maps() -> torch.Tensor:
    """[6, 3, N, N] of a cube's faces, in [0, 1]."""
    maps = []
    for view, axes in enumerate(AXES):
        points = plane_coordinates(view, N)
        points[..., axes.towards[0]] = float(axes.towards[1])
        maps.append((points.permute(2, 0, 1) + 1.0) / 2.0)
    return torch.stack(maps)


@pytest.mark.parametrize("group", [0, 1])
def test_columns_and_rows_are_the_planes_axes(group: int) -> None:
    blocks = plane_blocks(coordinate_maps())[3 * group : 3 * group + 3]
    rising = ((torch.arange(N) + 0.5) / N)[None].expand(N, N)
    for plane, (column, row) in enumerate(PLANES):
        block = blocks[:, :, plane * N : (plane + 1) * N]
        torch.testing.assert_close(block[column], rising)
        torch.testing.assert_close(block[row], rising.T)
        depth = block[3 - column - row]
        # Opposite faces: the first group sees the low side of its axis but for the front.
        assert depth.unique().tolist() == [float(group if plane < 2 else 1 - group)]


def test_only_depth_is_kept() -> None:
    clean = network_input(torch.rand(2, 6, 3, N, N), coordinate_maps().expand(2, -1, -1, -1, -1))
    assert clean.shape == (2, 12, N, 3 * N)
    for plane, channel in enumerate((0, 2, 1)):
        columns = slice(plane * N, (plane + 1) * N)
        for group in (6, 9):
            others = [group + c for c in range(3) if c != channel]
            assert clean[:, others, :, columns].abs().max() == 0
    assert keep_depth(torch.ones(6, N, 3 * N)).sum() == 2 * 3 * N * N


def test_strips_and_frames_come_in_frame_order() -> None:
    frames = torch.stack([torch.full((N, N, 3), 10 * v) for v in (1, 2, 3, 4, 5, 0)]).byte()
    strip = torch.cat(list(frames), dim=1)
    for values in (strip_views(strip), frame_values(frames), frame_values(frames[None])[0]):
        assert values.shape == (6, 3, N, N)
        torch.testing.assert_close(values[:, 0, 0, 0] * 255.0, torch.arange(6) * 10.0)


def test_noise_is_shifted_and_small() -> None:
    clean = torch.rand(1, 12, N, 3 * N)
    still = NOISE.add(clean, torch.zeros_like(clean))
    torch.testing.assert_close(still, 0.9906131 * clean + 0.5 * 0.1366956, rtol=0, atol=1e-6)
    moved = NOISE.add(clean, torch.ones_like(clean))
    torch.testing.assert_close(moved - still, torch.full_like(clean, 0.5 * 0.1366956))


def test_content_shrinks_over_its_background() -> None:
    found = shrink_content(torch.ones(2, 6, 3, N, N), 0.7, 0.25)
    assert found.shape == (2, 6, 3, N, N)
    assert found[0, 0, 0, 0].tolist() == [0.25] * N
    assert found[1, 5, 2, 1].tolist() == [0.25, 1.0, 1.0, 1.0, 1.0, 0.25]
    with pytest.raises(ValueError, match="not within its frame"):
        shrink_content(torch.ones(6, 3, N, N), 1.2, 0.0)
