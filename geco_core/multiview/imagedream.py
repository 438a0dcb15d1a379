"""ImageDream's network: all frames of an object denoised together.

Follows ImageDream (arXiv 2312.02201); by configuration it is MVDream (arXiv 2308.16512) and either
stage of CRM (arXiv 2403.05034). What differs: the reference latent is put into its frame out of
place, image tokens are computed once per sampling rather than in every step, and a missing image is
an error instead of the last text states being read as one.

Legend: B objects, F frames, R = B F rows (frame fastest), c latent channels, h w latent size, L
text states of width D, N vision states of width V, Q image tokens.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from geco_core.config.crm import DdimConfig, ImageDreamConfig
from geco_core.diffusion.multiview_attention import FRAMES
from geco_core.diffusion.multiview_unet import build_multiview_unet
from geco_core.diffusion.noise_prediction import ObserveFn, sample_noise_prediction
from geco_core.errors import ConfigError
from geco_core.multiview.resampler import Resampler


@dataclass(frozen=True)
class FrameRows:
    """What one network call is conditioned on, a row per frame.

    Attributes:
        text: states [R, L, D].
        cameras: vectors [R, 16].
        frames: F.
        image_tokens: [R, Q, D]; None without an image.
        reference: clean latents [B, c, h, w] that replace the last frame; None keeps it.
        channels: latents [R, k, h, w] that become further input channels.
    """

    text: Tensor
    cameras: Tensor
    frames: int
    image_tokens: Tensor | None = None
    reference: Tensor | None = None
    channels: Tensor | None = None


@dataclass(frozen=True)
class ObjectCondition:
    """What sampling is conditioned on, a row per object.

    Attributes:
        text: states [B, L, D] or [1, L, D].
        negative_text: states to guide away from, [B, L, D] or [1, L, D].
        image_states: of the vision tower, [B, N, V]; None without an image.
        reference: clean latents [B, c, h, w] of the reference frame; None without one.
        pixel_latents: latents [B, F, k, h, w] of an image per frame; None without.
        reference_channels: latents [B, F, k, h, w] of the condition image as every frame gets it,
            the reference frame included; None without. See `ImageDreamConfig`.
    """

    text: Tensor
    negative_text: Tensor
    image_states: Tensor | None = None
    reference: Tensor | None = None
    pixel_latents: Tensor | None = None
    reference_channels: Tensor | None = None


class ImageDream(nn.Module):
    """`.unet`, and `.resampler` where images condition it.

    Raises:
        ConfigError: the input channels do not fit.
    """

    def __init__(self, config: ImageDreamConfig) -> None:
        super().__init__()
        unet = config.unet
        if unet.in_channels != config.input_channels:
            raise ConfigError(
                f"the U-Net has {unet.in_channels} input channels; {unet.out_channels} output "
                f"channels with pixel_latents={config.pixel_latents}, "
                f"reference_channels={config.reference_channels} and "
                f"coordinate_channels={config.coordinate_channels} need {config.input_channels}",
                remedy=f"set unet.in_channels={config.input_channels}",
            )
        self.config = config
        self.unet = build_multiview_unet(unet)
        self.resampler = None
        if unet.image_tokens:
            self.resampler = Resampler(
                config.resampler, unet.image_tokens, unet.cross_attention_dim
            )

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return self.unet.device

    def image_tokens(self, states_BNV: Tensor) -> Tensor:
        """Image tokens [B, Q, D] of vision states. Raises ValueError without a resampler."""
        if self.resampler is None:
            raise ValueError("this network takes no image")
        return self.resampler(states_BNV)

    def predict(self, x_Rchw: Tensor, t: Tensor | int, rows: FrameRows) -> Tensor:
        """What the network predicts, [R, c, h, w], float32: noise, or velocity where configured.

        Args:
            x_Rchw: noisy latents.
            t: scalar or [R].
            rows: the condition.

        Raises:
            ValueError: image tokens or channels are missing or not wanted.
        """
        self._check_rows(rows)
        x = x_Rchw.float()
        if rows.reference is not None:
            x = with_reference(x, rows.reference, rows.frames)
        if rows.channels is not None:
            x = torch.cat([x, rows.channels.to(x)], dim=1)
        if self.config.coordinate_channels:
            x = torch.cat([x, coordinates(x).expand(len(x), -1, -1, -1)], dim=1)
        states = [rows.text] if rows.image_tokens is None else [rows.text, rows.image_tokens]
        dtype = self.unet.dtype
        times_R = torch.as_tensor(t, device=x.device).expand(len(x))
        options: dict[str, Any] = {FRAMES: rows.frames}
        return self.unet(
            x.to(dtype),
            times_R,
            torch.cat([s.to(x.device, dtype) for s in states], dim=1),
            class_labels=rows.cameras.to(x.device, dtype),
            cross_attention_kwargs=options,
            return_dict=False,
        )[0].float()

    def _check_rows(self, rows: FrameRows) -> None:
        if (rows.image_tokens is None) != (self.resampler is None):
            wanted = "needs" if self.resampler is not None else "takes no"
            raise ValueError(f"this network {wanted} image tokens")
        wanted = self.config.further_channels
        found = 0 if rows.channels is None else rows.channels.shape[1]
        if found != wanted:
            raise ValueError(
                f"this network needs latents in {wanted} further input channels, not in {found}"
            )

    def rows(self, condition: ObjectCondition, cameras_F16: Tensor, guidance: bool) -> FrameRows:
        """The rows of one guided call: [without, with] the condition, or the latter alone.

        The half without has the negative text, zero vision states (their tokens are not zero), and
        zero latents; its cameras are the same.
        """
        frames = len(cameras_F16)
        reference, pixels = condition.reference, condition.pixel_latents
        given = (condition.image_states, reference, pixels, condition.reference_channels)
        objects = next((len(v) for v in given if v is not None), len(condition.text))

        def per_frame(value: Tensor) -> Tensor:
            spread = value.expand(objects, *value.shape[1:])
            return spread.repeat_interleave(frames, dim=0)

        text, latents, tokens = [condition.text], reference, None
        further: list[Tensor] = []
        if pixels is not None:
            further.append(pixels.flatten(0, 1))
        if self.config.reference_channels:
            if condition.reference_channels is None:
                raise ValueError("this network reads the condition image in its input channels")
            further.append(condition.reference_channels.flatten(0, 1))
        channels = torch.cat(further, dim=1) if further else None
        if guidance:
            text.insert(0, condition.negative_text)
            latents, channels = _zeros_first(latents), _zeros_first(channels)
        if condition.image_states is not None:
            token_rows = [self.image_tokens(condition.image_states)]
            if guidance:
                nothing = torch.zeros_like(condition.image_states[:1])
                token_rows.insert(0, self.image_tokens(nothing))
            tokens = torch.cat([per_frame(rows) for rows in token_rows])
        if not self.config.rig.reference:
            latents = None
        return FrameRows(
            text=torch.cat([per_frame(rows) for rows in text]),
            cameras=cameras_F16.repeat(objects * len(text), 1),
            frames=frames,
            image_tokens=tokens,
            reference=latents,
            channels=channels,
        )

    @torch.no_grad()
    def sample(
        self,
        condition: ObjectCondition,
        cameras_F16: Tensor,
        noise_BFchw: Tensor,
        sampler: DdimConfig,
        *,
        observe: ObserveFn | None = None,
    ) -> Tensor:
        """Latents [B, F, c, h, w] of all frames, float32, the reference frame included.

        Args:
            condition: of B objects.
            cameras_F16: camera vectors, see `ortho_views.frame_cameras`.
            noise_BFchw: N(0, 1). With zero terminal SNR nothing else starts a sampling.
            sampler: steps and guidance: e = e_u + g (e_c - e_u).
            observe: see `sample_noise_prediction`; it sees rows.
        """
        rows = self.rows(condition, cameras_F16, guidance=sampler.guidance_scale != 1.0)
        start = noise_BFchw.flatten(0, 1).to(self.device)
        latents = self.denoise(rows, start, sampler, observe=observe)
        return latents.unflatten(0, noise_BFchw.shape[:2])

    def denoise(
        self,
        rows: FrameRows,
        noise_Rchw: Tensor,
        sampler: DdimConfig,
        *,
        observe: ObserveFn | None = None,
    ) -> Tensor:
        """Latents [R, c, h, w], float32, of rows in hand.

        Args:
            rows: [without, with] the condition, 2 R of them; the R latter alone at guidance 1.
            noise_Rchw: N(0, 1).
            sampler: steps and guidance.
            observe: see `sample_noise_prediction`.
        """
        scale = sampler.guidance_scale

        def predict(x: Tensor, t: Tensor) -> Tensor:
            if scale == 1.0:
                return self.predict(x, t, rows)
            e_without, e_with = self.predict(torch.cat([x, x]), t, rows).chunk(2)
            return e_without + scale * (e_with - e_without)

        def pinned(x: Tensor) -> Tensor:
            return x if rows.reference is None else with_reference(x, rows.reference, rows.frames)

        # Without guidance the published sampler's own state takes the reference; only the result of
        # the reference frame, which is not a view, shows it.
        prepare = pinned if scale == 1.0 else None
        schedule = self.config.schedule
        return sample_noise_prediction(
            predict, noise_Rchw, schedule, sampler, prepare=prepare, observe=observe
        )


def with_reference(x_Rchw: Tensor, reference_Bchw: Tensor, frames: int) -> Tensor:
    """Rows whose last frame per object is the reference latent; a new tensor."""
    x_BFchw = x_Rchw.unflatten(0, (-1, frames))
    reference = reference_Bchw.to(x_Rchw)[:, None]
    return torch.cat([x_BFchw[:, :-1], reference], dim=1).flatten(0, 1)


def coordinates(like: Tensor) -> Tensor:
    """Column and row of every cell's centre in [-1, 1], [2, h, w], where `like` [..., h, w] is."""
    height, width = like.shape[-2:]

    def centres(count: int) -> Tensor:
        return (torch.arange(count, device=like.device) + 0.5) / count * 2.0 - 1.0

    row, column = torch.meshgrid(centres(height), centres(width), indexing="ij")
    return torch.stack([column, row]).to(like.dtype)


def _zeros_first(value: Tensor | None) -> Tensor | None:
    return None if value is None else torch.cat([torch.zeros_like(value), value])
