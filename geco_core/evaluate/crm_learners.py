"""CRM's reconstructor, the same without coordinate maps, and InstantMesh's, on the same data.

CRM (arXiv 2403.05034) claims that pixel-aligned planes and coordinate maps learn faster than a
transformer over camera-conditioned tokens (arXiv 2404.07191). All three learn from the same six
axis-parallel pictures, points, batches and draws, and the same loss. The transformer reads pictures
and cameras, as it is published; what it needs and CRM does not:

- cameras: it is told of pinhole cameras that see the same square from `CAMERA_DISTANCE`, the same
  for every object. The pictures are parallel projections, from which such pictures would differ by
  less than an eighth of a patch.
- its geometric start, as the micro recipe gives it (`geco_core.reconstruct.initialise`), which
  expects white where nothing is: grey is moved there;
- the colour weights of its recipe: under CRM's, colour owns its gradient and shapes stand still.

It works in the world frame at CRM's scale, without the degraded views and the camera jitter of its
own recipe.

Legend: B batch, b rows, P points.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import replace

import torch
from torch import Tensor

from geco_core.cameras import encoder_cameras, rig_poses
from geco_core.config.load import load, preset_path
from geco_core.config.models import InstantMeshConfig, ViewRigConfig
from geco_core.diffusion.noise import ItemNoise
from geco_core.evaluate.convergence import Learner
from geco_core.evaluate.crm_truth import CrmHeldOut, Inside, field_iou
from geco_core.fields.crm_frame import canonical_to_world
from geco_core.reconstruct.crm import CrmReconstructor
from geco_core.reconstruct.initialise import fourier_init
from geco_core.reconstruct.instantmesh import InstantMesh
from geco_core.shapes.canonical import BACKGROUND
from geco_core.training.cache import epoch_rows
from geco_core.training.crm_batches import draw_points
from geco_core.training.crm_examples import CrmExamples
from geco_core.training.crm_reconstructor import (
    CrmReconstructorTask,
    CrmTaskConfig,
    without_maps,
)
from geco_core.training.crm_workspace import CrmWorkspace
from geco_core.training.point_loss import point_loss
from geco_core.training.recipe import RecipeConfig
from geco_core.training.rng import seed_torch

MAPS, NO_MAPS, TRANSFORMER = "CRM", "CRM without coordinate maps", "InstantMesh's transformer"
CAMERA_DISTANCE = 12.0
_POLE_DEG = 89.99  # at 90 "up" is undefined


def crm_learners(
    space: CrmWorkspace, train: CrmExamples, truth: CrmHeldOut, at_marks: int = 64
) -> list[Learner]:
    """The three learners of micro size, each at the rate and colour weights of its recipe.

    Scores are volume IoU: of the first `at_marks` held-out objects, at the end of all.
    """
    loop = space.recipe.reconstructor
    task = replace(
        space.recipe.reconstructor_task, batch_size=loop.batch_size, seed=space.recipe.seed
    )
    learners: list[Learner] = []
    for name, maps in ((MAPS, True), (NO_MAPS, False)):
        model = space.new_reconstructor()
        trained = CrmReconstructorTask(
            model, train, truth.examples, replace(task, coordinate_maps=maps)
        )
        score = _scorer(crm_inside(model, truth, coordinate_maps=maps), truth, at_marks)
        learners.append(Learner(name, trained, loop, score))
    rig = ortho_rig(train.spec.view_size)
    config = load(InstantMeshConfig, preset_path("instantmesh", "micro"))
    model = new_ortho_transformer(config, rig, space.recipe.seed + 1)
    recipe = RecipeConfig()
    own = recipe.reconstructor_task
    task = replace(task, color_l1_weight=own.color_l1_weight, color_mse_weight=own.color_mse_weight)
    other = OrthoTransformerTask(model, rig, train, task)
    score = _scorer(other.inside(truth), truth, at_marks)
    return [*learners, Learner(TRANSFORMER, other, recipe.reconstructor, score)]


def _scorer(inside: Inside, truth: CrmHeldOut, at_marks: int) -> Callable[[bool], Tensor]:
    return lambda last: field_iou(inside, truth, None if last else at_marks)


def ortho_rig(view_size: int) -> ViewRigConfig:
    """Pinhole cameras near CRM's six parallel ones, in view order; they see [-1, 1]."""
    return ViewRigConfig(
        azimuths_deg=(0.0, -90.0, 0.0, 180.0, 90.0, 0.0),
        elevations_deg=(0.0, 0.0, -_POLE_DEG, 0.0, 0.0, _POLE_DEG),
        fov_deg=2 * math.degrees(math.atan(1 / CAMERA_DISTANCE)),
        radius=CAMERA_DISTANCE,
        view_size=view_size,
    )


def new_ortho_transformer(config: InstantMeshConfig, rig: ViewRigConfig, seed: int) -> InstantMesh:
    """A fresh InstantMesh with the geometric start for the cameras of `rig`."""
    seed_torch(seed)
    model = InstantMesh(config.reconstructor)
    fourier_init(model, rig)
    return model


class OrthoTransformerTask:
    """`CrmReconstructorTask` for an `InstantMesh`: same rows, points and loss at every step."""

    def __init__(
        self, model: InstantMesh, rig: ViewRigConfig, train: CrmExamples, config: CrmTaskConfig
    ) -> None:
        self.model = model
        self._train, self._config = train, config
        self._cameras_V16 = encoder_cameras(rig_poses(rig), rig.fov_deg)

    def loss(self, step: int, generator: torch.Generator) -> tuple[Tensor, Mapping[str, float]]:
        """See `point_loss`."""
        cfg, data = self._config, self._train
        rows = epoch_rows(len(data), cfg.batch_size, step, cfg.seed)
        targets = draw_points(data, rows, cfg.sdf_points, cfg.color_points, generator)
        planes = self.planes(data, rows)
        everywhere_BP3 = canonical_to_world(torch.cat([targets.points, targets.surface], dim=1))
        sdf_BP = self.model.decoder.sdf(planes, everywhere_BP3).squeeze(-1).float()
        rgb_BP3 = self.model.decoder.rgb(planes, canonical_to_world(targets.surface)).float()
        return point_loss(cfg, sdf_BP, targets.distances, rgb_BP3, targets.colors)

    def planes(self, data: CrmExamples, rows: Tensor) -> Tensor:
        """Planes [b, 3, C, h, h] of examples."""
        views = data.views(rows) + (1.0 - BACKGROUND)
        return self.model.forward_planes(views, self._cameras_V16.expand(len(rows), -1, -1))

    def inside(self, truth: CrmHeldOut) -> Inside:
        """What the model takes for inside on held-out objects."""

        def of(rows: Tensor, points: Tensor) -> Tensor:
            planes = self.planes(truth.examples, rows).float()
            return self.model.decoder.sdf(planes, canonical_to_world(points)).squeeze(-1) < 0

        return of


def crm_inside(model: CrmReconstructor, truth: CrmHeldOut, *, coordinate_maps: bool) -> Inside:
    """What CRM's reconstructor takes for inside on held-out objects; noise by their seeds."""

    def of(rows: Tensor, points: Tensor) -> Tensor:
        images = truth.examples.inputs(rows)
        if not coordinate_maps:
            images = without_maps(images)
        noise = model.input_noise.draw(ItemNoise([truth.seeds[int(row)] for row in rows]))
        return model.decoder.field(model.forward_planes(images, noise), points) > 0

    return of
