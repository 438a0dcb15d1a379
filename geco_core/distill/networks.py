"""The three networks of Stage I: generator, teacher and student share everything but their U-Net.

All start from the teacher (GECO, arXiv 2405.20327, section 3.2). The generator reads the clean
condition in its reference pass and predicts x0 from noise in one step; teacher and student read a
reference noised to their own timestep.

Legend: B batch, c latent channels, h w condition latents, H W tile latents.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from geco_core.diffusion.low_rank import add_low_rank
from geco_core.multiview.condition import ViewCondition, guidance_rows
from geco_core.multiview.zero123plus import Zero123Plus


def sibling(model: Zero123Plus) -> Zero123Plus:
    """A model with its own copy of the U-Net; codec and towers are the same objects."""
    other = copy.copy(model)
    other._modules = dict(model._modules)  # noqa: SLF001 - a module has no other way to share parts
    other.unet = copy.deepcopy(model.unet)
    return other


@dataclass
class Stage1Networks:
    """Generator, frozen teacher, student, and the student's trained parameters."""

    generator: Zero123Plus
    teacher: Zero123Plus
    student: Zero123Plus
    student_parameters: list[nn.Parameter]

    @property
    def generator_parameters(self) -> list[nn.Parameter]:
        """The generator's U-Net."""
        return list(self.generator.unet.parameters())


def stage1_networks(
    teacher: Zero123Plus, *, student_rank: int | None = None, checkpointing: bool = False
) -> Stage1Networks:
    """Copies of a teacher, ready to be trained.

    Args:
        teacher: frozen here, with everything it shares.
        student_rank: rank of the student's adapters; None trains all of it, as the paper does.
        checkpointing: recompute activations of generator and student in the backward pass.
    """
    teacher.requires_grad_(False).eval()
    generator, student = sibling(teacher), sibling(teacher)
    generator.unet.requires_grad_(True)
    if student_rank is None:
        student.unet.requires_grad_(True)
        parameters = list(student.unet.parameters())
    else:
        parameters = add_low_rank(student.unet, student_rank)
    if checkpointing:
        generator.unet.enable_gradient_checkpointing()
        student.unet.enable_gradient_checkpointing()
    return Stage1Networks(generator, teacher, student, parameters)


@dataclass(frozen=True)
class ConditionBatch:
    """Conditions of a batch and the one that guidance leads away from."""

    positive: ViewCondition
    negative: ViewCondition

    @property
    def batch(self) -> int:
        """Number of rows."""
        return self.positive.batch


def guided_velocity(
    model: Zero123Plus,
    noisy_BcHW: Tensor,
    t_B: Tensor,
    conditions: ConditionBatch,
    reference_noise: tuple[Tensor, Tensor],
    guidance_scale: float,
) -> Tensor:
    """Velocity with one timestep per row and the references noised to it, [B, c, H, W].

    Args:
        model: teacher or student.
        noisy_BcHW: states at t.
        t_B: int64 [B].
        conditions: [B] rows.
        reference_noise: draws [B, c, h, w] for the negative and the positive reference; the first
            is not read at scale 1.
        guidance_scale: v_n + scale (v_p - v_n); 1 runs the positive rows only.
    """
    if guidance_scale == 1.0:
        return model.predict_v(noisy_BcHW, t_B, conditions.positive, reference_noise[1])
    rows = guidance_rows(conditions.positive, conditions.negative, guidance_scale)
    both = model.predict_v(
        noisy_BcHW.repeat(2, 1, 1, 1), t_B.repeat(2), rows, torch.cat(reference_noise)
    )
    negative, positive = both.chunk(2)
    return negative + guidance_scale * (positive - negative)
