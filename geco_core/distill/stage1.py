"""Stage I: a one-step multi-view generator by variational score distillation.

Follows GECO (arXiv 2405.20327, section 3.2): the generator's six views are noised and pulled
towards the teacher's score and away from that of a student which keeps learning what the generator
makes now. What differs from the paper, each a setting: the gradient is normalised per sample (DMD,
arXiv 2311.18828), the student takes several steps per generator step (DMD2, arXiv 2405.14867), the
generator runs without guidance of its own, and a regression on stored teacher samples may warm it
up. `PAPER` holds the published choices.

Legend: B batch, c latent channels, h w condition latents, H W tile latents, S condition pixels.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from geco_core.distill.draws import RowDraws
from geco_core.distill.networks import ConditionBatch, Stage1Networks, guided_velocity
from geco_core.distill.score import (
    Reduction,
    VelocityFn,
    Weighting,
    student_loss,
    timestep_range,
    vsd_loss,
)
from geco_core.imaging.framing import condition_pixels_from_tensor
from geco_core.multiview.zero123plus import Zero123Plus


@dataclass(frozen=True)
class Stage1Config:
    """Numbers of Stage I.

    Attributes:
        teacher_guidance: classifier-free guidance of the teacher's score.
        generator_guidance: of the generator's own step; 1 runs no negative rows.
        reference_t: time embedding of the generator's clean reference pass.
        student_steps: student updates per generator update.
        weighting, reduction: of the score distillation, see `geco_core.distill.score`.
        t_bounds: timesteps of the generator's loss, as shares of the schedule.
        student_t_bounds: of the student's; up to 1 so that its score is never extrapolated.
        student_dropout: share of student rows whose condition is dropped.
        min_snr: cap of the student's loss weights; None for none.
        vsd_weight: of the score distillation; 0 leaves the regression alone.
        regression_weight: of the squared error to stored teacher samples.
        warm_steps: first steps in which the regression alone trains.
    """

    teacher_guidance: float = 4.0
    generator_guidance: float = 1.0
    reference_t: int = 0
    student_steps: int = 5
    weighting: Weighting = "normalised"
    reduction: Reduction = "mean"
    t_bounds: tuple[float, float] = (0.02, 0.98)
    student_t_bounds: tuple[float, float] = (0.02, 1.0)
    student_dropout: float = 0.1
    min_snr: float | None = None
    vsd_weight: float = 1.0
    regression_weight: float = 0.0
    warm_steps: int = 0

    def __post_init__(self) -> None:
        for name in ("t_bounds", "student_t_bounds"):
            low, high = getattr(self, name)
            if not 0.0 <= low < high <= 1.0:
                raise ValueError(f"{name} must rise within 0 and 1, got ({low}, {high})")
        if self.student_steps < 0:
            raise ValueError(f"student_steps must not be negative, got {self.student_steps}")
        if not self.vsd_weight and not self.regression_weight:
            raise ValueError("vsd_weight and regression_weight are both 0: nothing to train on")
        if self.warm_steps < 0:
            raise ValueError(f"warm_steps must not be negative, got {self.warm_steps}")
        if self.warm_steps and not self.regression_weight:
            raise ValueError("warm_steps needs a regression_weight: there is nothing to warm up on")

    def distils(self, step: int) -> bool:
        """Whether the score distillation acts at `step` (0-based)."""
        return bool(self.vsd_weight) and step >= self.warm_steps

    def student_turns(self, step: int) -> int:
        """Student updates per generator update: none where only the regression trains."""
        return self.student_steps if self.distils(step) else 0


PAPER = Stage1Config(
    generator_guidance=4.0,
    student_steps=1,
    weighting="sigma2",
    reduction="sum",
    student_t_bounds=(0.02, 0.98),
    student_dropout=0.0,
)


@dataclass(frozen=True)
class TeacherPairs:
    """Stored teacher samples of a batch: the noise they started from and where they ended.

    Attributes:
        z: [B, c, H, W].
        latents: [B, c, H, W], tile latents as the U-Net sees them.
    """

    z: Tensor
    latents: Tensor


class Stage1:
    """Losses of the generator and of the student; every draw comes from the caller."""

    def __init__(self, networks: Stage1Networks, config: Stage1Config) -> None:
        self.networks = networks
        self.config = config

    @torch.no_grad()
    def conditions(self, images_B3SS: Tensor, draws: RowDraws) -> ConditionBatch:
        """Encode framed condition images in [0, 1], on the teacher's background."""
        teacher = self.networks.teacher
        vae, clip = condition_pixels_from_tensor(images_B3SS, teacher.config)
        noise = draws.normal(teacher.condition_shape)
        positive = teacher.encode_condition(vae.to(noise), clip.to(noise), noise)
        gray = draws.normal(teacher.condition_shape)
        return ConditionBatch(positive, teacher.negative_condition(draws.batch, gray))

    def generate(self, z_BcHW: Tensor, conditions: ConditionBatch) -> Tensor:
        """The generator's tile latents, with their graph."""
        return self.networks.generator.one_step(
            z_BcHW,
            conditions.positive,
            reference_t=self.config.reference_t,
            negative=conditions.negative,
            guidance_scale=self.config.generator_guidance,
        )

    def generator_loss(
        self,
        conditions: ConditionBatch,
        draws: RowDraws,
        pairs: TeacherPairs | None = None,
        *,
        step: int = 0,
    ) -> tuple[Tensor, Tensor, Mapping[str, float]]:
        """Loss of the generator's step.

        Args:
            conditions: of the batch.
            draws: source of z, t and noise.
            pairs: teacher samples of the same conditions; needed where `regression_weight` is set.
            step: 0-based, decides what trains, see `Stage1Config.distils`.

        Returns:
            The loss, the generated latents (detached) for the student, and numbers to log.

        Raises:
            ValueError: pairs are needed and missing.
        """
        cfg, nets = self.config, self.networks
        total = torch.zeros((), device=nets.teacher.device)
        numbers: dict[str, float] = {}
        x0 = torch.empty(0)
        if cfg.regression_weight:
            if pairs is None:
                raise ValueError("regression_weight is set, but there are no teacher samples")
            x0 = self.generate(pairs.z, conditions)
            regression = (x0 - pairs.latents).square().mean()
            total = total + cfg.regression_weight * regression
            numbers["regression"] = float(regression.detach())
        if cfg.distils(step):
            x0 = self.generate(draws.normal(nets.teacher.latent_shape), conditions)
            schedule = nets.teacher.schedule
            score = vsd_loss(
                x0,
                self._velocity(nets.teacher, conditions, draws, cfg.teacher_guidance),
                self._velocity(nets.student, conditions, draws, 1.0),
                schedule,
                draws.integers(*timestep_range(cfg.t_bounds, schedule)),
                draws.normal(nets.teacher.latent_shape),
                weighting=cfg.weighting,
                reduction=cfg.reduction,
            )
            total = total + cfg.vsd_weight * score
            numbers["vsd"] = float(score.detach())
        return total, x0.detach(), numbers

    def student_loss(
        self, x0_BcHW: Tensor, conditions: ConditionBatch, draws: RowDraws
    ) -> tuple[Tensor, Mapping[str, float]]:
        """Loss of one student step on generated latents: positive rows, some of them dropped."""
        cfg, student = self.config, self.networks.student
        dropped_B = draws.below(cfg.student_dropout)
        positive = conditions.positive.replace_rows(dropped_B, conditions.negative)
        rows = ConditionBatch(positive, conditions.negative)
        loss = student_loss(
            x0_BcHW,
            self._velocity(student, rows, draws, 1.0),
            student.schedule,
            draws.integers(*timestep_range(cfg.student_t_bounds, student.schedule)),
            draws.normal(student.latent_shape),
            min_snr=cfg.min_snr,
        )
        return loss, {"student": float(loss.detach())}

    def _velocity(
        self, model: Zero123Plus, conditions: ConditionBatch, draws: RowDraws, scale: float
    ) -> VelocityFn:
        noise = (draws.normal(model.condition_shape), draws.normal(model.condition_shape))

        def velocity(x: Tensor, t_B: Tensor) -> Tensor:
            return guided_velocity(model, x, t_B, conditions, noise, scale)

        return velocity
