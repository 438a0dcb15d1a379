"""Aligned start: views are told apart and cells look at their projections."""

from __future__ import annotations

import dataclasses

import pytest
import torch

from geco_core import cameras
from geco_core.attention import split_heads
from geco_core.config.models import ViewRigConfig
from geco_core.reconstruct.alignment import cell_positions, patch_positions
from geco_core.reconstruct.initialise import fourier_init
from geco_core.reconstruct.instantmesh import InstantMesh

RIG = ViewRigConfig()


def test_cells_lie_on_their_planes() -> None:
    cells = cell_positions(4)
    torch.testing.assert_close(cells[0, 1, 3], torch.tensor([0.75, -0.25, 0.0]))  # (x, y)
    torch.testing.assert_close(cells[1, 1, 3], torch.tensor([0.75, 0.0, -0.25]))  # (x, z)
    torch.testing.assert_close(cells[2, 1, 3], torch.tensor([0.0, -0.25, 0.75]))  # (z, y)


def test_attention_starts_at_the_projections(tiny_config) -> None:
    torch.manual_seed(0)
    model = InstantMesh(tiny_config)
    fourier_init(model, RIG)
    poses = cameras.rig_poses(RIG)
    images = torch.rand(1, 6, 3, 1, 1).expand(-1, -1, -1, 32, 32)  # plain, unlike calibration
    with torch.no_grad():
        features = model.encoder(images, cameras.encoder_cameras(poses, RIG.fov_deg)[None])
        layer = model.transformer.blocks[0]
        query = layer.norm1(model.transformer.pos_embed) @ layer.cross_attn.query_weight().T
        key = features.flatten(0, 1)[None] @ layer.cross_attn.key_weight().T
        query, key = split_heads(query, 2), split_heads(key, 2)
        scores = (query @ key.transpose(-1, -2) / query.shape[-1] ** 0.5)[0].softmax(-1)
    by_view = scores.view(2, 48, 6, 17)[..., 1:]  # heads, cells, views, patches
    looked_at = (by_view / by_view.sum(-1, keepdim=True)) @ patch_positions(4)
    # First of two layers, two heads: depths at 1/8 and 5/8 of the range, see `align_attention`.
    depths = (torch.tensor([0.25, 1.25]) / 2 * 2 - 1) * 0.75
    cells = cell_positions(4)[0].flatten(0, 1)  # plane 0 lacks z
    w2c, proj = cameras.world_to_camera(poses), cameras.projection(RIG.fov_deg)
    for head, depth in enumerate(depths):
        cells[:, 2] = depth
        clip = cameras.clip_from_world(cells, w2c, proj)
        expected = (clip[..., :2] / clip[..., 3:]).transpose(0, 1).clamp(-0.75, 0.75)
        found = looked_at[head, :16]
        error = (found - expected).norm(dim=-1)
        assert float(error.median()) < 0.25  # half a patch
    assert float(scores.view(2, 48, 6, 17)[..., 0].mean()) < 0.05  # class tokens are ignored


def test_narrow_models_are_refused(tiny_config) -> None:
    narrow = InstantMesh(dataclasses.replace(tiny_config, transformer_heads=8))
    with pytest.raises(ValueError, match="align=False"):
        fourier_init(narrow, RIG)
    fourier_init(narrow, RIG, align=False)
