"""Stage II's loss: gradients reach what is trained, and training moves renders to their targets."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch

from geco_core.cameras import orbit_poses, projection, world_to_camera
from geco_core.distill.stage2 import Stage2, Stage2Batch, Stage2Config
from geco_core.evaluate.perceptual import RandomFeatures
from geco_core.multiview.zero123plus import Zero123Plus
from geco_core.reconstruct.instantmesh import InstantMesh
from geco_core.render.mesh import render_mesh
from geco_core.render.registry import get_rasterizer
from tests.geco_core.mesh.meshes import sphere
from tests.support.tiny_models import TINY_RECONSTRUCTOR

SIZE, FOV = 24, 40.0


def reconstructor() -> InstantMesh:
    torch.manual_seed(1)
    return InstantMesh(replace(TINY_RECONSTRUCTOR, grid_res=16))


def target_batch(model: Zero123Plus, count: int = 2, views: int = 3) -> Stage2Batch:
    """A red ball of radius 0.7 from orbiting cameras, for every condition."""
    ball = sphere(16, 32, 0.7)
    w2c = world_to_camera(orbit_poses(views, 20.0, 3.0))
    made = render_mesh(
        get_rasterizer("auto", "cpu"),
        torch.from_numpy(ball.vertices),
        torch.from_numpy(ball.faces).long(),
        w2c,
        projection(FOV),
        SIZE,
        color_fn=lambda p: torch.tensor([0.9, 0.1, 0.1]).expand(len(p), 3),
        antialias_color=True,
    )
    g = torch.Generator().manual_seed(0)
    return Stage2Batch(
        images=torch.rand(count, 3, 16, 16, generator=g),
        z=torch.randn(count, *model.latent_shape, generator=g),
        renders=made.rgb.expand(count, -1, -1, -1, -1),
        masks=made.mask.expand(count, -1, -1, -1, -1),
        w2c=w2c.expand(count, -1, -1, -1),
        fov_deg=FOV,
    )


def stage2(model: Zero123Plus, **changes: object) -> Stage2:
    config = Stage2Config(grid_res=12, render_size=SIZE, **changes)
    rasterizer = get_rasterizer("auto", "cpu")
    return Stage2(model, reconstructor(), rasterizer, RandomFeatures((4, 8)), config)


@pytest.mark.parametrize("joint", [False, True])
def test_gradients_reach_what_is_trained(teacher: Zero123Plus, joint: bool) -> None:
    chain = stage2(teacher, train_generator=joint)
    loss, numbers = chain.loss(target_batch(teacher))
    loss.backward()
    assert all(math.isfinite(value) for value in numbers.values())
    reached = [p.grad is not None and bool(p.grad.any()) for p in chain.reconstructor.parameters()]
    assert sum(reached) > 0.8 * len(reached)
    touched = [p.grad is not None and bool(p.grad.any()) for p in teacher.unet.parameters()]
    assert any(touched) == joint
    assert all(p.grad is None for p in teacher.vision.parameters())


def test_training_moves_the_renders_to_their_targets(teacher: Zero123Plus) -> None:
    chain = stage2(teacher)
    batch = target_batch(teacher)
    adam = torch.optim.Adam(chain.reconstructor.parameters(), lr=1e-2)
    history = []
    for _ in range(25):
        loss, numbers = chain.loss(batch)
        adam.zero_grad()
        loss.backward()
        adam.step()
        history.append(numbers)
    assert history[-1]["mse"] < 0.3 * history[0]["mse"]
    assert history[-1]["mask"] < 0.5 * history[0]["mask"]
    assert history[-1]["perceptual"] < 0.7 * history[0]["perceptual"]


def test_the_same_batch_gives_the_same_loss(teacher: Zero123Plus) -> None:
    batch = target_batch(teacher)
    first, _ = stage2(teacher).loss(batch)
    second, _ = stage2(teacher).loss(batch)
    assert torch.equal(first, second)


def test_an_empty_shape_is_repaired_and_counted(teacher: Zero123Plus) -> None:
    chain = stage2(teacher)
    with torch.no_grad():
        chain.reconstructor.decoder.net_sdf[-1].bias.fill_(50.0)
    loss, numbers = chain.loss(target_batch(teacher))
    assert numbers["repaired"] == 1.0
    assert torch.isfinite(loss)


@pytest.mark.parametrize("wrong", [{"render_size": 0}, {"supersample": 0}])
def test_impossible_settings_are_refused(wrong: dict) -> None:
    with pytest.raises(ValueError, match="positive"):
        Stage2Config(**wrong)
