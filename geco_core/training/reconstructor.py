"""The micro reconstructor's training task: triplanes from six views, supervised at points.

Points carry signed distances (half of them near the surface) and surface colours; no rendering is
involved, which is what makes 2-core training feasible. The views may be true renders, degraded
ones, or a teacher's (`teacher_views`), so that the reconstructor meets at training time what it
will meet behind the diffusion model.

Legend: B batch, V views, P points.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from geco_core.cameras import encoder_cameras, rig_poses
from geco_core.config.models import ViewRigConfig
from geco_core.reconstruct.instantmesh import InstantMesh
from geco_core.training.cache import ExampleCache, epoch_rows
from geco_core.training.degrade import degrade_views
from geco_core.training.point_loss import point_loss


@dataclass(frozen=True)
class ReconstructorTaskConfig:
    """Loss weights of the point supervision, and how inputs are degraded.

    `degrade_share` of the samples get blurred and noisy views, `camera_jitter` is the half-width of
    the uniform noise on all 16 camera numbers (InstantMesh's training does the same).
    """

    batch_size: int = 8
    sdf_points: int = 512
    color_points: int = 256
    sdf_clamp: float = 0.25
    sdf_weight: float = 4.0
    occupancy_weight: float = 0.5
    occupancy_width: float = 0.03
    surface_weight: float = 1.0
    color_l1_weight: float = 1.0
    color_mse_weight: float = 2.0
    degrade_share: float = 0.25
    degrade_noise: float = 0.08
    camera_jitter: float = 0.02
    seed: int = 0
    evaluate_objects: int = 96


class ReconstructorTask:
    """Loss and evaluation of an `InstantMesh` on cached examples.

    `teacher_views`, when given, is uint8 [n, V, S, S, 3]: a teacher's samples for the first n
    training rows. A share `teacher_share` of every batch is then drawn from those rows and uses
    them.
    """

    def __init__(
        self,
        model: InstantMesh,
        rig: ViewRigConfig,
        train: ExampleCache,
        heldout: ExampleCache,
        config: ReconstructorTaskConfig,
        teacher_views: Tensor | None = None,
        teacher_share: float = 0.0,
    ) -> None:
        self.model = model
        self._train, self._heldout, self._config = train, heldout, config
        self._teacher, self._teacher_share = teacher_views, teacher_share
        self._cameras_V16 = encoder_cameras(rig_poses(rig), rig.fov_deg)

    def loss(self, step: int, generator: torch.Generator) -> tuple[Tensor, Mapping[str, float]]:
        """See `point_loss`."""
        cfg = self._config
        rows, views = self._batch(step)
        views = degrade_views(views, cfg.degrade_share, cfg.degrade_noise, generator)
        jitter = torch.rand(len(rows), len(self._cameras_V16), 16, generator=generator) * 2 - 1
        cameras = self._cameras_V16[None] + cfg.camera_jitter * jitter
        planes = self.model.forward_planes(views, cameras)
        spec = self._train.spec
        sdf_columns = torch.randperm(spec.sdf_points, generator=generator)[: cfg.sdf_points]
        color_columns = torch.randperm(spec.color_points, generator=generator)[: cfg.color_points]
        points_BP3, target_BP = self._train.points("sdf", rows, sdf_columns)
        surface_BP3, color_BP3 = self._train.points("color", rows, color_columns)
        everywhere_BP3 = torch.cat([points_BP3, surface_BP3], dim=1)
        sdf_BP = self.model.decoder.sdf(planes, everywhere_BP3).squeeze(-1).float()
        rgb_BP3 = self.model.decoder.rgb(planes, surface_BP3).float()
        return point_loss(cfg, sdf_BP, target_BP, rgb_BP3, color_BP3)

    def evaluate(self, step: int, folder: Path) -> Mapping[str, float]:
        """IoU on uniform held-out points and surface-colour PSNR (dB), from true views."""
        del step, folder  # nothing to draw
        rows = torch.arange(self._config.evaluate_objects)
        ious, errors = [], []
        for chunk in rows.split(16):
            views = self._heldout.images("views", chunk)
            planes = self.model.forward_planes(views, self._cameras_V16.expand(len(chunk), -1, -1))
            # the second half of the sdf columns is uniform in the box (shapes.sample)
            half = self._heldout.spec.sdf_points // 2
            points, target = self._heldout.points("sdf", chunk, torch.arange(half, 2 * half))
            inside = self.model.decoder.sdf(planes, points).squeeze(-1) < 0
            both, either = inside & (target < 0), inside | (target < 0)
            ious.append(both.sum(1) / either.sum(1).clamp(min=1))
            surface, color = self._heldout.points("color", chunk, torch.arange(256))
            errors.append(
                (self.model.decoder.rgb(planes, surface) - color).square().mean(dim=(1, 2))
            )
        return {
            "iou": float(torch.cat(ious).mean()),
            "color_psnr": float(-10 * torch.cat(errors).mean().log10()),
        }

    def _batch(self, step: int) -> tuple[Tensor, Tensor]:
        """Rows of a step and their views; the first `teacher_share` of them are the teacher's."""
        cfg = self._config
        rows = epoch_rows(len(self._train), cfg.batch_size, step, cfg.seed)
        if self._teacher is None:
            return rows, self._train.images("views", rows)
        count = round(self._teacher_share * cfg.batch_size)
        sampled = epoch_rows(len(self._teacher), count, step, cfg.seed + 1)
        rows = torch.cat([sampled, rows[count:]])
        views = self._train.images("views", rows)
        views[:count] = self._teacher[sampled].movedim(-1, -3).float() / 255.0
        return rows, views
