"""What a multi-view model is conditioned on, as tensors.

Legend: B batch, c latent channels, h w condition latent size, L text tokens, D cross-attention
width.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class ViewCondition:
    """One condition per batch row.

    Attributes:
        latents: clean raw condition latents [B, c, h, w]. They carry neither the scaling factor nor
            the shift of the target latents (Zero123++), only `condition_latent_gain`.
        states: cross-attention states [B, L, D].
    """

    latents: Tensor
    states: Tensor

    @property
    def batch(self) -> int:
        """Number of rows."""
        return self.latents.shape[0]

    def expand(self, batch: int) -> ViewCondition:
        """A single row repeated to `batch` rows."""
        return ViewCondition(
            self.latents.expand(batch, -1, -1, -1), self.states.expand(batch, -1, -1)
        )

    def replace_rows(self, rows_B: Tensor, other: ViewCondition) -> ViewCondition:
        """Rows where `rows_B` (bool [B]) is True come from `other` (condition dropout)."""
        other = other.expand(self.batch) if other.batch == 1 else other
        return ViewCondition(
            torch.where(rows_B[:, None, None, None], other.latents.to(self.latents), self.latents),
            torch.where(rows_B[:, None, None], other.states.to(self.states), self.states),
        )

    def detach(self) -> ViewCondition:
        """The same condition, cut from the graph."""
        return ViewCondition(self.latents.detach(), self.states.detach())


def concatenate(*conditions: ViewCondition) -> ViewCondition:
    """Rows of all conditions in order; guidance batches are [negative, positive]."""
    return ViewCondition(
        torch.cat([c.latents for c in conditions]),
        torch.cat([c.states for c in conditions]),
    )


def guidance_rows(
    condition: ViewCondition, negative: ViewCondition | None, guidance_scale: float
) -> ViewCondition:
    """The rows a guided pass runs: [negative, positive], or the positive ones alone at scale 1.

    Args:
        condition: [B] rows.
        negative: [1] or [B] rows; None only at scale 1.
        guidance_scale: classifier-free guidance scale.

    Raises:
        ValueError: a negative condition is needed and missing.
    """
    if guidance_scale == 1.0:
        return condition
    if negative is None:
        raise ValueError(f"guidance scale {guidance_scale} needs a negative condition")
    rows = negative.expand(condition.batch) if negative.batch == 1 else negative
    return concatenate(rows, condition)
