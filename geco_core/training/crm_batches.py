"""What CRM's reconstructor reads while it trains: true inputs, and generated ones for a share.

Behind the two diffusion stages it meets their views and coordinate maps, not true ones. Training on
both keeps it sharp on what is right and makes it forgive what is not.

Legend: b batch, n generated rows, P signed-distance points, Q surface points.
"""

from __future__ import annotations

import torch
from torch import Tensor

from geco_core.multiview.crm import CrmFrames
from geco_core.reconstruct.crm import CrmReconstructor
from geco_core.reconstruct.crm_input import frame_values, network_input
from geco_core.training.cache import epoch_rows
from geco_core.training.crm_examples import CrmExamples
from geco_core.training.point_loss import PointWeights, point_loss
from geco_core.training.rendered import PointTargets


class CrmInputs:
    """Rows of a step and their clean inputs, both pure functions of the step.

    Args:
        examples: true views and maps.
        batch_size: b.
        seed: of the order of rows.
        samples: what the two stages made of the conditions of the first n rows, in the rig's order.
        sample_share: of every batch is drawn from those n rows and reads what was made of them.

    Raises:
        ValueError: the samples do not fit the examples, or are fewer than a batch draws.
    """

    def __init__(
        self,
        examples: CrmExamples,
        batch_size: int,
        seed: int,
        samples: CrmFrames | None = None,
        sample_share: float = 0.0,
    ) -> None:
        if not 0.0 <= sample_share <= 1.0:
            raise ValueError(f"sample_share must be within 0 and 1, got {sample_share}")
        count = 0 if samples is None else len(samples.views)
        self._drawn = round(sample_share * batch_size) if samples is not None else 0
        if count > len(examples) or self._drawn > count:
            raise ValueError(
                f"{self._drawn} of {count} generated rows per batch, {len(examples)} examples"
            )
        self._examples, self._batch_size, self._seed = examples, batch_size, seed
        self._samples = samples

    def batch(self, step: int) -> tuple[Tensor, Tensor]:
        """Rows int64 [b] and inputs [b, 12, S, 3 S] in [0, 1]; generated ones come first."""
        rows = epoch_rows(len(self._examples), self._batch_size, step, self._seed)
        if self._samples is None or not self._drawn:
            return rows, self._examples.inputs(rows)
        sampled = epoch_rows(len(self._samples.views), self._drawn, step, self._seed + 1)
        made = generated_inputs(self._samples, sampled)
        true = rows[self._drawn :]
        inputs = torch.cat([made, self._examples.inputs(true)]) if len(true) else made
        return torch.cat([sampled, true]), inputs


def generated_inputs(samples: CrmFrames, rows: Tensor | slice) -> Tensor:
    """Inputs [b, 12, S, 3 S] in [0, 1] of what the two stages made for some rows."""
    return network_input(frame_values(samples.views[rows]), frame_values(samples.ccms[rows]))


def draw_points(
    examples: CrmExamples, rows: Tensor, sdf: int, colors: int, generator: torch.Generator
) -> PointTargets:
    """Up to `sdf` signed-distance points and `colors` surface points of every row."""
    spec = examples.spec
    near = torch.randperm(spec.sdf_points, generator=generator)[:sdf]
    seen = torch.randperm(spec.color_points, generator=generator)[:colors]
    return PointTargets(*examples.sdf(rows, near), *examples.colors(rows, seen))


def model_point_loss(
    model: CrmReconstructor, planes: Tensor, targets: PointTargets, weights: PointWeights
) -> tuple[Tensor, dict[str, float]]:
    """See `point_loss`; planes [b, 3, C, S, S]."""
    everywhere = torch.cat([targets.points, targets.surface], dim=1)
    sdf = -model.decoder.field(planes, everywhere)
    rgb = model.decoder.rgb(planes, targets.surface)
    total, parts = point_loss(weights, sdf, targets.distances, rgb, targets.colors)
    return total, dict(parts)
