"""Score distillation: gradients for a generator from networks that predict velocities.

Variational score distillation (ProlificDreamer, arXiv 2305.16213) as GECO uses it (arXiv
2405.20327, Stage I): a generator's output x0 is noised to x_t, and moves along the difference
between the score of a frozen teacher and the score of a student that is trained on the generator's
own outputs,

    grad = E[ w(t) (e_teacher - e_student) dx0/dtheta ],

while score distillation sampling (DreamFusion, arXiv 2209.14988) puts the drawn noise in the
student's place. Everything is written in x0 space, where e1 - e2 = (a / s) (x0_2 - x0_1): with
velocity networks x0 = a x_t - s v divides by nothing, so the last timestep is as good as any other.

Legend: B batch; x any latents [B, ...]; a, s the schedule's coefficients at t.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import torch
from torch import Tensor

from geco_core.diffusion.schedule import NoiseSchedule

VelocityFn = Callable[[Tensor, Tensor], Tensor]
"""(x_t [B, ...], t int64 [B]) -> v [B, ...]."""

Weighting = Literal["sigma2", "uniform", "normalised"]
Reduction = Literal["sum", "mean"]


def timestep_range(bounds: tuple[float, float], schedule: NoiseSchedule) -> tuple[int, int]:
    """First and last timestep within two shares of the schedule's length.

    (0.02, 0.98) in the paper; a high of 1 includes the last timestep.
    """
    length = schedule.config.num_train_timesteps
    low = round(bounds[0] * length)
    return low, max(low, min(round(bounds[1] * length), length - 1))


def vsd_gradient(
    x0: Tensor,
    teacher_x0: Tensor,
    student_x0: Tensor,
    coefficients: tuple[Tensor, Tensor],
    weighting: Weighting,
) -> Tensor:
    """Gradient of the distillation with respect to x0, detached, float32.

    Args:
        x0: the generator's output.
        teacher_x0: what the teacher makes of its noised version.
        student_x0: what the student makes of it.
        coefficients: a and s at t, broadcasting against x0.
        weighting: `sigma2`: w = s^2, so a s (x0_student - x0_teacher), as threestudio has it.
            `uniform`: w = 1. `normalised`: the difference over the teacher's mean correction of the
            sample, scale-free over t and over training (DMD, arXiv 2311.18828, equation 8).
    """
    a, s = coefficients
    difference = student_x0.detach().float() - teacher_x0.detach().float()
    if weighting == "sigma2":
        return a * s * difference
    if weighting == "uniform":
        return a / s * difference
    correction = (x0.detach().float() - teacher_x0.detach().float()).abs()
    scale = correction.flatten(1).mean(dim=1).view(-1, *([1] * (x0.ndim - 1)))
    return torch.nan_to_num(difference / scale, nan=0.0, posinf=0.0, neginf=0.0)


def with_gradient(x0: Tensor, gradient: Tensor, reduction: Reduction) -> Tensor:
    """A loss whose gradient with respect to x0 is `gradient` over the batch size.

    With `mean` also over the elements of a sample: same direction, another scale.
    """
    target = (x0 - gradient).detach()
    squared = 0.5 * (x0.float() - target.float()).square()
    return squared.mean() if reduction == "mean" else squared.sum() / x0.shape[0]


def vsd_loss(
    x0: Tensor,
    teacher: VelocityFn,
    student: VelocityFn,
    schedule: NoiseSchedule,
    t_B: Tensor,
    noise: Tensor,
    *,
    weighting: Weighting = "normalised",
    reduction: Reduction = "mean",
) -> Tensor:
    """Variational score distillation of a generator's outputs.

    Neither network gets a gradient; the loss value itself means nothing but its gradient.

    Args:
        x0: the generator's outputs, with their graph.
        teacher: guided velocity of the frozen teacher.
        student: velocity of the score network that follows the generator.
        schedule: of both networks.
        t_B: timesteps.
        noise: N(0, 1), like x0.
        weighting: see `vsd_gradient`.
        reduction: see `with_gradient`; the paper's is `sum`.
    """
    return _distilled(x0, teacher, student, schedule, t_B, noise, weighting, reduction)


def sds_loss(
    x0: Tensor,
    teacher: VelocityFn,
    schedule: NoiseSchedule,
    t_B: Tensor,
    noise: Tensor,
    *,
    weighting: Weighting = "sigma2",
    reduction: Reduction = "sum",
) -> Tensor:
    """Score distillation sampling: `vsd_loss` with the drawn noise instead of a student.

    e_teacher - e is (a / s) (x0 - x0_teacher): the student's clean prediction becomes x0 itself.
    """
    return _distilled(x0, teacher, None, schedule, t_B, noise, weighting, reduction)


def _distilled(
    x0: Tensor,
    teacher: VelocityFn,
    student: VelocityFn | None,
    schedule: NoiseSchedule,
    t_B: Tensor,
    noise: Tensor,
    weighting: Weighting,
    reduction: Reduction,
) -> Tensor:
    """Both distillations; without a student its clean prediction is x0 itself."""
    with torch.no_grad():
        noisy = schedule.add_noise(x0.detach(), noise, t_B)
        teacher_x0 = schedule.clean_from_velocity(noisy, teacher(noisy, t_B), t_B)
        student_x0 = x0.detach()
        if student is not None:
            student_x0 = schedule.clean_from_velocity(noisy, student(noisy, t_B), t_B)
        coefficients = schedule.coefficients(t_B, noisy)
        gradient = vsd_gradient(x0, teacher_x0, student_x0, coefficients, weighting)
    return with_gradient(x0, gradient, reduction)


def student_loss(
    x0: Tensor,
    student: VelocityFn,
    schedule: NoiseSchedule,
    t_B: Tensor,
    noise: Tensor,
    *,
    min_snr: float | None = None,
) -> Tensor:
    """Denoising loss of the student on the generator's outputs: mean squared velocity error.

    Args:
        x0: the generator's outputs; their graph is cut.
        student: its velocity.
        schedule: of the student.
        t_B: timesteps.
        noise: N(0, 1), like x0.
        min_snr: caps the low-noise side by min(SNR, cap) / (SNR + 1), the velocity form of Min-SNR
            (arXiv 2303.09556); None weights every t alike.
    """
    clean = x0.detach()
    noisy = schedule.add_noise(clean, noise, t_B)
    wanted = schedule.velocity(clean, noise, t_B)
    errors_B = (student(noisy, t_B).float() - wanted).square().flatten(1).mean(dim=1)
    if min_snr is not None:
        snr_B = schedule.snr(t_B).to(errors_B)
        errors_B = errors_B * snr_B.clamp(max=min_snr) / (snr_B + 1.0)
    return errors_B.mean()
