"""The learners of CRM's claims: same data for all, and a transformer whose cameras fit."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from geco_core.cameras import clip_from_world, projection, rig_poses, world_to_camera
from geco_core.evaluate.crm_learners import (
    MAPS,
    NO_MAPS,
    TRANSFORMER,
    OrthoTransformerTask,
    crm_inside,
    crm_learners,
    ortho_rig,
)
from geco_core.evaluate.crm_truth import CrmHeldOut, load_crm_heldout
from geco_core.fields.crm_frame import canonical_to_world
from geco_core.multiview.ortho_views import AXES
from geco_core.reconstruct.crm_input import network_input
from geco_core.shapes.object import make_object, object_seed
from geco_core.shapes.views import ORTHO_HALF_EXTENT
from geco_core.training.cache import epoch_rows
from geco_core.training.crm_examples import CrmCacheSpec, CrmExamples, make_crm_examples
from geco_core.training.crm_reconstructor import CrmTaskConfig
from geco_core.training.crm_workspace import CrmRecipeConfig, CrmWorkspace
from geco_core.training.recipe import RecipeConfig
from tests.geco_core.reconstruct.crm_models import tiny_crm

TASK = CrmTaskConfig(batch_size=2, sdf_points=64, color_points=32)


@pytest.fixture(scope="module")
def examples() -> CrmExamples:
    return make_crm_examples(CrmCacheSpec(examples=4, view_size=64, sdf_points=64, color_points=32))


@pytest.fixture(scope="module")
def truth() -> CrmHeldOut:
    return load_crm_heldout(2, view_size=16, points=200)


@pytest.mark.parametrize("view", range(6))
def test_the_pinhole_cameras_see_what_the_parallel_ones_see(view: int) -> None:
    rig, axes = ortho_rig(64), AXES[view]
    points = (torch.rand(100, 3, generator=torch.Generator().manual_seed(view)) - 0.5) * 1.6
    clip = clip_from_world(
        canonical_to_world(points), world_to_camera(rig_poses(rig)), projection(rig.fov_deg)
    )[view]
    seen = clip[:, :2] / clip[:, 3:]  # right, down
    wanted = torch.stack([points[:, a] * sign for a, sign in (axes.right, axes.down)], -1)
    assert float((seen - wanted).abs().max()) < 0.06
    nearer = points[:, axes.towards[0]] * axes.towards[1]
    assert float(torch.corrcoef(torch.stack([nearer, -clip[:, 3]]))[0, 1]) > 0.999


class Oracle(nn.Module):
    """Knows the objects of a batch; distances and colours in the transformer's frame."""

    def __init__(self, rows: Tensor) -> None:
        super().__init__()
        self.objects = [make_object(object_seed("train", int(row))) for row in rows]
        self.decoder: Any = self
        self.views = torch.zeros(0)

    def forward_planes(self, images: Tensor, cameras: Tensor) -> Tensor:
        assert cameras.shape == (len(images), 6, 16)
        self.views = images
        return images

    def sdf(self, planes: Tensor, points: Tensor) -> Tensor:
        world = (points * ORTHO_HALF_EXTENT).numpy()
        found = [made.sdf(p) for made, p in zip(self.objects, world, strict=True)]
        return torch.from_numpy(np.stack(found))[..., None] / ORTHO_HALF_EXTENT

    def rgb(self, planes: Tensor, points: Tensor) -> Tensor:
        return torch.full_like(points, 0.5)


def test_the_transformer_is_taught_the_same_objects_in_its_own_frame(
    examples: CrmExamples,
) -> None:
    model: Any = Oracle(epoch_rows(4, 2, 0, TASK.seed))
    task = OrthoTransformerTask(model, ortho_rig(64), examples, TASK)
    _, parts = task.loss(0, torch.Generator().manual_seed(0))
    assert parts["sdf"] < 1e-3  # stored in half precision
    assert parts["surface"] < 2e-3
    assert parts["color_l1"] > 0.02
    assert model.views.amax() > 1.0
    assert float(model.views.flatten().mode().values) == pytest.approx(1.0)  # nothing is white


def test_without_maps_the_reconstructor_reads_pictures_alone(truth: CrmHeldOut) -> None:
    read: list[Tensor] = []
    model = tiny_crm()
    real = model.forward_planes
    seen: Any = SimpleNamespace(
        forward_planes=lambda images, noise: (read.append(images), real(images, noise))[1],
        input_noise=model.input_noise,
        decoder=model.decoder,
    )
    rows, points = torch.tensor([1]), truth.points[None]
    found = [crm_inside(seen, truth, coordinate_maps=maps)(rows, points) for maps in (True, False)]
    clean = network_input(truth.examples.views(rows), truth.examples.ccms(rows))
    assert torch.equal(read[0], clean)
    assert torch.equal(read[1][:, :6], clean[:, :6])
    assert not read[1][:, 6:].any()
    assert [inside.shape for inside in found] == [(1, 200)] * 2
    assert all(inside.dtype == torch.bool for inside in found)


def test_the_three_learners_start_alike_and_keep_their_rates(
    examples: CrmExamples, truth: CrmHeldOut, tmp_path: Any
) -> None:
    space = CrmWorkspace(tmp_path, CrmRecipeConfig())
    learners = crm_learners(space, examples, truth)
    assert [x.name for x in learners] == [MAPS, NO_MAPS, TRANSFORMER]
    first, second = (x.task.model.state_dict() for x in learners[:2])
    assert all(torch.equal(first[key], second[key]) for key in first)
    assert learners[0].task.model is not learners[1].task.model
    assert learners[0].loop == learners[1].loop == space.recipe.reconstructor
    assert learners[2].loop == RecipeConfig().reconstructor != learners[0].loop


def test_all_learners_take_the_same_points_of_the_recipes_batches(
    examples: CrmExamples, truth: CrmHeldOut, tmp_path: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe = CrmRecipeConfig()
    recipe = replace(recipe, reconstructor=replace(recipe.reconstructor, batch_size=3))
    drawn: list[tuple[list[int], list[int]]] = []

    def sdf(_: CrmExamples, rows: Tensor, columns: Tensor) -> None:
        drawn.append((rows.tolist(), columns.tolist()))
        raise InterruptedError

    monkeypatch.setattr(CrmExamples, "sdf", sdf)
    for learner in crm_learners(CrmWorkspace(tmp_path, recipe), examples, truth):
        with pytest.raises(InterruptedError):
            learner.task.loss(5, torch.Generator().manual_seed(5))
    assert drawn[0] == drawn[1] == drawn[2]
    assert len(drawn[0][0]) == 3
