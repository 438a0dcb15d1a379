"""CRM's end-to-end loss: what it reaches, what it adds up, and what it does without a surface."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch

from geco_core.cameras import orbit_poses, projection, world_to_camera
from geco_core.evaluate.perceptual import RandomFeatures
from geco_core.reconstruct.crm import CrmReconstructor
from geco_core.reconstruct.crm_geometry import CrmGeometry
from geco_core.render.mesh import render_mesh
from geco_core.render.registry import get_rasterizer
from geco_core.training.crm_reconstructor import neutral_heads
from geco_core.training.crm_render import CrmRenderConfig, crm_render_loss, sphere_error
from geco_core.training.rendered import PUBLISHED_FOV_DEG, PointTargets, RenderedBatch, Renders
from tests.geco_core.mesh.meshes import sphere
from tests.geco_core.reconstruct.crm_models import TINY, tiny_crm

SIZE = 24
CONFIG = CrmRenderConfig(render_size=SIZE, views_per_step=3, sphere_points=64)
PERCEPTUAL = RandomFeatures((4, 8))


def ball_batch(radius: float = 0.7, objects: int = 2, views: int = 3) -> RenderedBatch:
    """A red ball from orbiting cameras, for random inputs."""
    ball = sphere(16, 32, radius)
    c2w = orbit_poses(views, 20.0, 3.0)
    made = render_mesh(
        get_rasterizer("auto", "cpu"),
        torch.from_numpy(ball.vertices),
        torch.from_numpy(ball.faces).long(),
        world_to_camera(c2w),
        projection(PUBLISHED_FOV_DEG),
        SIZE,
        color_fn=lambda p: torch.tensor([0.9, 0.1, 0.1]).expand(len(p), 3),
        antialias_color=True,
    )
    g = torch.Generator().manual_seed(0)
    points = torch.rand(objects, 32, 3, generator=g) * 2 - 1
    return RenderedBatch(
        torch.rand(objects, 12, 16, 48, generator=g),
        Renders(
            made.rgb.expand(objects, -1, -1, -1, -1),
            made.mask[:, 0].expand(objects, -1, -1, -1),
            made.depth[:, 0].expand(objects, -1, -1, -1),
            c2w.expand(objects, -1, -1, -1),
        ),
        PointTargets(
            points,
            points.norm(dim=-1) - radius,
            torch.nn.functional.normalize(points, dim=-1) * radius,
            torch.tensor([0.9, 0.1, 0.1]).expand(objects, 32, 3),
        ),
    )


def loss_of(
    model: CrmReconstructor,
    config: CrmRenderConfig = CONFIG,
    batch: RenderedBatch | None = None,
    seed: int = 0,
) -> tuple[torch.Tensor, dict[str, float]]:
    loss, parts = crm_render_loss(
        model,
        batch or ball_batch(),
        config,
        torch.Generator().manual_seed(seed),
        PERCEPTUAL,
        get_rasterizer("auto", "cpu"),
    )
    return loss, dict(parts)


def slope(parameter: torch.Tensor) -> torch.Tensor:
    assert parameter.grad is not None
    return parameter.grad


def hollow(model: CrmReconstructor) -> CrmReconstructor:
    """With a field that is outside everywhere."""
    with torch.no_grad():
        model.decoder.geometry_head.last.bias[0] = -10.0
    return model


@pytest.mark.parametrize("weights_on", ["surface", "all"])
def test_gradients_reach_every_head_and_the_network(weights_on: str) -> None:
    model = tiny_crm().train()
    loss_of(model, replace(CONFIG, weights_on=weights_on))[0].backward()
    decoder = model.decoder
    geometry, weights = slope(decoder.geometry_head.last.weight), decoder.weight_head.last.weight
    reached = {
        "field": geometry[0],
        "deformation": geometry[1:],
        "weights": slope(weights),
        # Gamma moves only the centres that training's triangulation adds.
        "gamma": slope(weights)[20],
        "color": slope(decoder.color_head.last.weight),
        "first convolution": slope(model.unet.network.conv_in.weight),
        "learned plane": slope(model.unet.learned_plane),
    }
    assert not [name for name, grad in reached.items() if not grad.any()]


def test_training_moves_the_renders_to_their_targets() -> None:
    model = tiny_crm(replace(TINY, field_scale=0.2)).train()
    neutral_heads(model)
    adam = torch.optim.Adam(model.parameters(), lr=1e-2)
    history, batch = [], ball_batch(objects=1)
    for step in range(16):
        loss, parts = loss_of(model, seed=step, batch=batch)
        adam.zero_grad()
        loss.backward()
        adam.step()
        history.append(parts)
    assert history[-1]["image"] < 0.3 * history[0]["image"]
    assert history[-1]["depth"] < 0.5 * history[0]["depth"]
    assert history[-1]["mask"] < 0.5 * history[0]["mask"]
    assert history[-1]["lpips"] < 0.7 * history[0]["lpips"]


def test_the_first_sphere_against_itself_is_nearly_free() -> None:
    """Frames, cameras, signs and scales: one that were wrong would show in mask or depth."""
    config = replace(CONFIG, grid_res=24)
    model = tiny_crm()
    neutral_heads(model)
    _, same = loss_of(model, config, ball_batch(0.5))
    _, larger = loss_of(model, config, ball_batch(0.6))
    assert same["mask"] < 1e-3 < 0.1 * larger["mask"]
    assert same["depth"] < 1e-4 < 0.1 * larger["depth"]
    assert same["sphere"] == same["empty"] == 0.0


def test_the_loss_is_the_weighted_sum_of_its_parts() -> None:
    config = replace(
        CONFIG,
        image_weight=1.1,
        lpips_weight=0.7,
        depth_weight=0.3,
        mask_weight=0.9,
        regularisation_weight=2.0,
        deviation_factor=0.25,
        weights_factor=4.0,
        point_weight=0.6,
    )
    loss, parts = loss_of(tiny_crm(), config)
    wanted = (
        1.1 * parts["image"]
        + 0.7 * parts["lpips"]
        + 0.3 * parts["depth"]
        + 0.9 * parts["mask"]
        + 0.5 * parts["deviation"]
        + 8.0 * parts["weights"]
        + 0.6 * parts["points"]
    )
    used = ("image", "lpips", "depth", "mask", "deviation", "weights", "points")
    assert all(parts[name] > 0 for name in used)
    assert float(loss.detach()) == pytest.approx(wanted, rel=1e-5)


def test_the_defaults_are_the_published_weights() -> None:
    weights = CrmRenderConfig().weights()
    assert weights["image"] == 1.0
    assert weights["lpips"] == 0.1
    assert weights["depth"] == weights["mask"] == 0.5
    assert weights["deviation"] == weights["weights"] == 0.005
    assert weights["points"] == 0.0
    assert (CrmRenderConfig().render_size, CrmRenderConfig().views_per_step) == (256, 8)


def test_an_object_without_a_surface_is_pulled_to_the_sphere() -> None:
    model = hollow(tiny_crm()).train()
    loss, parts = loss_of(model)
    assert parts["empty"] == 1.0
    assert parts["image"] == parts["mask"] == parts["deviation"] == 0.0
    assert float(loss.detach()) == pytest.approx(parts["sphere"])
    adam = torch.optim.Adam([model.decoder.geometry_head.last.bias], lr=1.0)
    for step in range(20):
        loss, parts = loss_of(model, seed=step)
        if parts["empty"] == 0.0:
            break
        adam.zero_grad()
        loss.backward()
        adam.step()
    assert parts["empty"] == 0.0


def test_an_empty_neighbour_leaves_an_object_its_loss() -> None:
    model, batch = tiny_crm(), ball_batch(objects=2)
    grid = model.geometry

    def second_is_empty(planes: torch.Tensor, *args: Any, **options: Any) -> CrmGeometry:
        shape = grid(planes, *args, **options)
        calls.append(None)
        return replace(shape, empty=torch.tensor([len(calls) == 2]))

    _, both = loss_of(model, CONFIG, batch)
    calls: list[None] = []
    model.geometry = second_is_empty
    _, one = loss_of(model, CONFIG, batch)
    assert one["empty"] == 0.5
    assert 0 < one["mask"] < both["mask"]
    assert one["sphere"] > 0


def test_the_sphere_error_is_that_of_the_head_alone() -> None:
    model = tiny_crm()
    points = torch.rand(50, 3)
    planes = torch.randn(1, 3, 8, 16, 16)
    assert sphere_error(model, planes, points) > 0
    neutral_heads(model)
    assert sphere_error(model, planes, points) == 0


def test_the_loss_depends_on_weights_batch_and_generator_alone() -> None:
    first, again, other = (float(loss_of(tiny_crm(), seed=s)[0].detach()) for s in (3, 3, 4))
    assert first == again != other


def test_colours_beyond_their_range_come_back() -> None:
    model = tiny_crm().train()
    with torch.no_grad():
        model.decoder.color_head.last.bias.fill_(5.0)
    loss_of(model)[0].backward()
    # Green and blue are too high everywhere: their slope survives the clamp.
    assert (slope(model.decoder.color_head.last.bias)[1:] > 0).all()


def test_what_does_not_fit_is_refused() -> None:
    batch = ball_batch()
    with pytest.raises(ValueError, match="24 pixels for renders of 32"):
        loss_of(tiny_crm(), replace(CONFIG, render_size=32), batch)
    with pytest.raises(ValueError, match="no points"):
        loss_of(tiny_crm(), replace(CONFIG, point_weight=1.0), replace(batch, points=None))
    with pytest.raises(ValueError, match="positive"):
        CrmRenderConfig(views_per_step=0)
