"""The micro CRM reconstructor's training task: triplanes from six views, supervised at points.

As `geco_core.training.reconstructor`, with CRM's inputs: pictures and coordinate maps, noised to
the one timestep of the model with fresh noise every step. Neither deformation nor FlexiCubes
weights are supervised: `neutral_heads` starts both without an effect.

Legend: B batch, P points.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from geco_core.multiview.crm import CrmFrames
from geco_core.reconstruct.crm import CrmReconstructor
from geco_core.training.crm_batches import CrmInputs, draw_points, model_point_loss
from geco_core.training.crm_examples import CrmExamples
from geco_core.training.point_loss import PointLossWeights


@dataclass(frozen=True)
class CrmTaskConfig(PointLossWeights):
    """Batches, and the weights of `point_loss`.

    `sample_share` of every batch reads generated inputs where there are any. `coordinate_maps` off
    zeroes them: the ablation, at the same sizes and costs.
    """

    batch_size: int = 8
    sdf_points: int = 512
    color_points: int = 256
    sample_share: float = 0.5
    coordinate_maps: bool = True
    seed: int = 0
    evaluate_objects: int = 96


def neutral_heads(model: CrmReconstructor) -> None:
    """No deformation, equal FlexiCubes weights, an unchanged sphere as the first shape."""
    for head in (model.decoder.geometry_head, model.decoder.weight_head):
        nn.init.zeros_(head.last.weight)
        nn.init.zeros_(head.last.bias)


def without_maps(images: Tensor) -> Tensor:
    """Inputs [B, 12, S, 3 S] with zeros for coordinate maps: the ablation."""
    return torch.cat([images[:, :6], torch.zeros_like(images[:, 6:])], dim=1)


class CrmReconstructorTask:
    """Loss and evaluation of a `CrmReconstructor` on procedural examples.

    `samples`, when given, are generated inputs of the first training rows, see `CrmInputs`.
    """

    def __init__(
        self,
        model: CrmReconstructor,
        train: CrmExamples,
        heldout: CrmExamples,
        config: CrmTaskConfig,
        samples: CrmFrames | None = None,
    ) -> None:
        self.model = model
        self._train, self._heldout, self._config = train, heldout, config
        self._inputs = CrmInputs(
            train, config.batch_size, config.seed, samples, config.sample_share
        )

    def loss(self, step: int, generator: torch.Generator) -> tuple[Tensor, Mapping[str, float]]:
        """See `point_loss`."""
        cfg = self._config
        rows, images = self._inputs.batch(step)
        targets = draw_points(self._train, rows, cfg.sdf_points, cfg.color_points, generator)
        images = self._masked(images)
        planes = self.model.forward_planes(images, torch.randn(images.shape, generator=generator))
        return model_point_loss(self.model, planes, targets, cfg)

    def evaluate(self, step: int, folder: Path) -> Mapping[str, float]:
        """IoU on uniform held-out points and surface-colour PSNR (dB)."""
        del step, folder  # nothing to draw
        data = self._heldout
        rows = torch.arange(min(self._config.evaluate_objects, len(data)))
        # uniform from the second half on (shapes.sample)
        half = torch.arange(data.spec.sdf_points // 2, data.spec.sdf_points)
        seen = torch.arange(data.spec.color_points)
        ious, errors = [], []
        for chunk in rows.split(16):
            images = self._masked(data.inputs(chunk))
            noise = torch.randn(
                images.shape, generator=torch.Generator().manual_seed(int(chunk[0]))
            )
            points, distances = data.sdf(chunk, half)
            surface, colors = data.colors(chunk, seen)
            with torch.no_grad():
                planes = self.model.forward_planes(images, noise)
                inside = self.model.decoder.field(planes, points) > 0
                rgb = self.model.decoder.rgb(planes, surface).clamp(0, 1)
            truth = distances < 0
            ious.append((inside & truth).sum(1) / (inside | truth).sum(1).clamp(min=1))
            errors.append((rgb - colors).square().mean(dim=(1, 2)))
        return {
            "iou": float(torch.cat(ious).mean()),
            "color_psnr": float(-10 * torch.cat(errors).mean().log10()),
        }

    def _masked(self, images: Tensor) -> Tensor:
        if self._config.coordinate_maps:
            return images
        return without_maps(images)
