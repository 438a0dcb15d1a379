"""The loss of a multi-view network: denoise all frames of an object, the reference excepted.

Follows CRM (arXiv 2403.05034, section 4.1) and ImageDream (arXiv 2312.02201): plain squared error
of what the network predicts; the reference frame enters clean and its term is left out. Published
training draws a timestep for every frame; `per_frame_times` says so.

Legend: B objects, F generated frames, c latent channels, h w latent size.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from geco_core.diffusion.noise_prediction import abar_table
from geco_core.multiview.imagedream import ImageDream, ObjectCondition
from geco_core.multiview.ortho_views import frame_cameras


@dataclass(frozen=True)
class FrameLossConfig:
    """How timesteps and conditions are drawn. The defaults are the published recipe.

    Attributes:
        per_frame_times: every frame, the reference included, has its own timestep; else all of an
            object share one.
        last_step_share: share of the objects noised to the last timestep, the others uniformly. Of
            use to networks that predict the velocity.
        condition_dropout: share of the objects whose condition is dropped, for guidance.
    """

    per_frame_times: bool = True
    last_step_share: float = 0.0
    condition_dropout: float = 0.0

    def __post_init__(self) -> None:
        for name in ("last_step_share", "condition_dropout"):
            if not 0.0 <= getattr(self, name) <= 1.0:
                raise ValueError(f"{name} must be within 0 and 1, got {getattr(self, name)}")


@dataclass(frozen=True)
class FrameBatch:
    """What one step trains on.

    Attributes:
        targets: clean latents [B, F, c, h, w] of the generated frames.
        condition: of the same objects, see `ImageDream.rows`.
    """

    targets: Tensor
    condition: ObjectCondition


@dataclass(frozen=True)
class FrameErrors:
    """Mean squared errors, [B] each object's mean over its frames.

    Attributes:
        per_object: [B], differentiable.
        last: how many of the first objects were noised to the last timestep.
    """

    per_object: Tensor
    last: int


@dataclass(frozen=True)
class FrameDraws:
    """What one step draws.

    Attributes:
        times: of every frame, int64 on the CPU: [B, F], or [B, F + 1] where the reference has its
            own; it shares the last frame's otherwise.
        noise: N(0, 1), like the targets.
        dropped: objects without their condition, bool [B] on the CPU.
        last: how many of the first objects stand at the last timestep.
    """

    times: Tensor
    noise: Tensor
    dropped: Tensor
    last: int = 0


def frame_loss(
    model: ImageDream, batch: FrameBatch, config: FrameLossConfig, generator: torch.Generator
) -> FrameErrors:
    """Errors of one batch.

    Args:
        model: the network.
        batch: of B objects, on the network's device.
        config: what is drawn.
        generator: on the CPU; the draws depend on it and on the batch's shape alone.
    """
    clean = batch.targets
    objects = len(clean)
    t_BF, last = _times(model, objects, config, generator)
    noise = torch.randn(clean.shape, generator=generator)
    dropped_B = torch.rand(objects, generator=generator) < config.condition_dropout
    return frame_errors(model, batch, FrameDraws(t_BF, noise, dropped_B, last))


def frame_errors(model: ImageDream, batch: FrameBatch, draws: FrameDraws) -> FrameErrors:
    """Errors of one batch with draws in hand.

    Args:
        model: the network.
        batch: of B objects, on the network's device.
        draws: of the same shape.
    """
    clean, dropped_B = batch.targets.float(), draws.dropped
    frames = clean.shape[1]
    t_BF = draws.times[:, :frames]
    noise = draws.noise.to(clean)
    condition = drop_conditions(batch.condition, dropped_B) if dropped_B.any() else batch.condition
    schedule = model.config.schedule
    abar = abar_table(schedule)[t_BF][..., None, None, None].to(clean)
    a, s = abar.sqrt(), (1.0 - abar).sqrt()
    noisy = a * clean + s * noise
    target = noise if schedule.prediction == "epsilon" else a * noise - s * clean
    if model.config.rig.reference:  # its own state is replaced; its time is read
        noisy = torch.cat([noisy, torch.zeros_like(noisy[:, :1])], dim=1)
        t_BF = torch.cat([t_BF, draws.times[:, -1:]], dim=1)
    rows = model.rows(condition, frame_cameras(model.config.rig).to(clean), guidance=False)
    found = model.predict(noisy.flatten(0, 1), t_BF.flatten().to(clean.device), rows)
    errors = (found.unflatten(0, t_BF.shape)[:, :frames] - target).square()
    return FrameErrors(errors.mean(dim=(1, 2, 3, 4)), draws.last)


def drop_conditions(condition: ObjectCondition, dropped_B: Tensor) -> ObjectCondition:
    """The condition with the rows of `dropped_B` as the half of a guided call without it."""

    def zeroed(value: Tensor | None) -> Tensor | None:
        if value is None:
            return None
        return torch.where(_column(dropped_B, value), torch.zeros_like(value), value)

    text = condition.text.expand(len(dropped_B), -1, -1)
    return replace(
        condition,
        text=torch.where(_column(dropped_B, text), condition.negative_text, text),
        image_states=zeroed(condition.image_states),
        reference=zeroed(condition.reference),
        pixel_latents=zeroed(condition.pixel_latents),
        reference_channels=zeroed(condition.reference_channels),
    )


def _times(
    model: ImageDream,
    objects: int,
    config: FrameLossConfig,
    generator: torch.Generator,
) -> tuple[Tensor, int]:
    total, frames = model.config.schedule.num_train_timesteps, model.config.rig.frames
    columns = frames if config.per_frame_times else 1
    t_BF = torch.randint(0, total, (objects, columns), generator=generator).repeat(
        1, frames // columns
    )
    last = round(config.last_step_share * objects)
    t_BF[:last] = total - 1
    return t_BF, last


def _column(mask_B: Tensor, like: Tensor) -> Tensor:
    return mask_B.to(like.device).reshape(-1, *([1] * (like.ndim - 1)))
