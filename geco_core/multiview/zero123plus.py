"""Zero123++: one image in, a tile of six views out.

Follows Zero123++ v1.2 (arXiv 2310.15110): reference attention and a CLIP image embedding carry the
condition. InstantMesh's white-background use of it (arXiv 2404.07191) is the default; GECO's
one-step use (arXiv 2405.20327) is added: clean condition latents in the reference pass and
x0 = a_T z - s_T v. What differs: every random draw is an argument; passes are explicit methods;
`condition_channels` optionally repeats the condition latents into every view cell as further input
channels (off in the published model; micro models need it to learn in minutes).

Length: conditions, passes, sampling and decoding of one model are read together.

Legend: B batch, c latent channels, h w condition latents, H W tile latents, L text tokens, D state
width, V views, S condition pixels, P vision-tower pixels.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from transformers import (
    CLIPTextConfig,
    CLIPTextModel,
    CLIPVisionConfig,
    CLIPVisionModelWithProjection,
)

from geco_core.config.models import MultiViewConfig, SamplerConfig
from geco_core.diffusion import noise as streams
from geco_core.diffusion.affine import LatentAffine
from geco_core.diffusion.codec import build_codec
from geco_core.diffusion.noise import NoiseSource
from geco_core.diffusion.reference_attention import (
    ARGUMENT,
    ReferenceFeatures,
    ReferenceReader,
    ReferenceWriter,
)
from geco_core.diffusion.samplers import (
    VelocityFn,
    sample_ddim,
    sample_euler_ancestral,
    sample_one_step,
)
from geco_core.diffusion.schedule import NoiseSchedule
from geco_core.diffusion.unet import build_unet
from geco_core.errors import ConfigError
from geco_core.imaging.views import merge_views, split_views
from geco_core.multiview.check import check_parts
from geco_core.multiview.condition import ViewCondition, guidance_rows
from geco_core.multiview.grid import reference_planes, tile_planes


class Zero123Plus(nn.Module):
    """The multi-view model: `.unet`, `.codec`, `.vision`, `.text`, buffer `.ramp` [L].

    Args:
        config: sizes of every part.
        ramp: per-token weights of the image embedding; None puts a line from 0 to 1 until a
            checkpoint is loaded.

    Raises:
        ConfigError: the parts do not fit together.
    """

    ramp: Tensor

    def __init__(self, config: MultiViewConfig, ramp: Sequence[float] | None = None) -> None:
        super().__init__()
        check_parts(config)
        self.config = config
        self.unet = build_unet(config.unet)
        self.codec = build_codec(config.codec)
        self.vision = CLIPVisionModelWithProjection(
            CLIPVisionConfig(**dataclasses.asdict(config.vision), hidden_act="gelu")
        )
        self.text = CLIPTextModel(
            CLIPTextConfig(**dataclasses.asdict(config.text), hidden_act="gelu")
        )
        length = config.text.max_position_embeddings
        weights = torch.linspace(0.0, 1.0, length) if ramp is None else torch.tensor(list(ramp))
        if weights.shape != (length,):
            raise ConfigError(f"the ramp has {len(weights)} weights for {length} text tokens")
        self.register_buffer("ramp", weights)
        self.affine = LatentAffine(config.codec)
        self.schedule = NoiseSchedule(config.schedule)

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return self.ramp.device

    @property
    def latent_shape(self) -> tuple[int, int, int]:
        """(c, H, W) of the tile latents."""
        rig, stride = self.config.rig, self.codec.stride
        return (
            self.config.unet.out_channels,
            rig.rows * rig.view_size // stride,
            rig.columns * rig.view_size // stride,
        )

    @property
    def condition_shape(self) -> tuple[int, int, int]:
        """(c, h, w) of the condition latents."""
        side = self.config.condition_size // self.codec.stride
        return (self.codec.latent_channels, side, side)

    # -- conditions --

    def encode_condition(
        self, vae_pixels_B3SS: Tensor, clip_pixels_B3PP: Tensor, noise_Bchw: Tensor | None = None
    ) -> ViewCondition:
        """Condition latents and states of B images.

        Args:
            vae_pixels_B3SS: (u - condition_mean) / condition_std of the framed image, see
                `imaging.framing`.
            clip_pixels_B3PP: the vision tower's normalised pixels.
            noise_Bchw: the draw of the codec's posterior; None takes its mean.
        """
        embeds_BD = self.image_embeds(clip_pixels_B3PP)
        states_BLD = self.empty_states() + self.ramp[:, None].to(embeds_BD) * embeds_BD[:, None, :]
        return ViewCondition(self._condition_latents(vae_pixels_B3SS, noise_Bchw), states_BLD)

    def negative_condition(self, batch: int = 1, noise_Bchw: Tensor | None = None) -> ViewCondition:
        """A mid-gray image and the empty prompt.

        Guidance leads away from it, and dropped conditions become it.
        """
        side = self.config.condition_size
        gray = torch.zeros(batch, 3, side, side, device=self.device)
        states_1LD = self.empty_states()
        return ViewCondition(
            self._condition_latents(gray, noise_Bchw), states_1LD.expand(batch, -1, -1)
        )

    def image_embeds(self, clip_pixels_B3PP: Tensor) -> Tensor:
        """Projected embedding of the vision tower, [B, D]."""
        return self.vision(pixel_values=clip_pixels_B3PP.to(self.vision.dtype)).image_embeds

    def empty_states(self, ids_1L: Tensor | None = None) -> Tensor:
        """Text states of the empty prompt, [1, L, D].

        `ids_1L` overrides the token ids made from the configuration.
        """
        if ids_1L is None:
            text = self.config.text
            padding = text.max_position_embeddings - 2
            ids_1L = torch.tensor(
                [[text.bos_token_id, text.eos_token_id] + [text.pad_token_id] * padding]
            )
        return self.text(input_ids=ids_1L.to(self.device)).last_hidden_state

    def _condition_latents(self, vae_pixels_B3SS: Tensor, noise_Bchw: Tensor | None) -> Tensor:
        return self.codec.encode(vae_pixels_B3SS, noise_Bchw) * self.config.condition_latent_gain

    # -- network passes --

    def reference_pass(
        self, condition: ViewCondition, t: Tensor | int, noise_Bchw: Tensor | None = None
    ) -> ReferenceFeatures:
        """Run the U-Net over the condition latents and keep what its self-attention layers saw.

        Args:
            condition: [B] rows.
            t: scalar or [B]; the time embedding, and the noise level when noise is given.
            noise_Bchw: noises the condition latents to t (teacher, score networks). None leaves
                them clean: the one-step student's mode, whose result depends on neither z nor the
                    step and may be cached.
        """
        latents_Bchw = condition.latents.float()
        if noise_Bchw is not None:
            latents_Bchw = self.schedule.add_noise(latents_Bchw, noise_Bchw.to(latents_Bchw), t)
        inputs_BCHW = latents_Bchw
        if self.config.condition_channels:
            seen_Bchw = latents_Bchw if self.config.noised_channels else condition.latents
            planes = reference_planes(self._views, *latents_Bchw.shape[-2:], like=latents_Bchw)
            inputs_BCHW = self._with_channels(latents_Bchw, seen_Bchw, planes)
        writer = ReferenceWriter()
        self._run_unet(inputs_BCHW, t, condition.states, writer)
        return writer.features(latents_Bchw)

    def main_pass(
        self,
        sample_BcHW: Tensor,
        t: Tensor | int,
        condition: ViewCondition,
        reference: ReferenceFeatures | None,
    ) -> Tensor:
        """Velocity of the tile, [B, c, H, W], float32.

        Without `reference`, attention sees the tile alone.
        """
        x_BCHW = sample_BcHW.float()
        if self.config.condition_channels:
            rows, columns = self.config.rig.rows, self.config.rig.columns
            seen_Bchw = condition.latents
            if self.config.noised_channels and reference is not None:
                seen_Bchw = reference.latents
            planes = tile_planes(rows, columns, *seen_Bchw.shape[-2:], like=x_BCHW)
            seen_BcHW = seen_Bchw.expand(len(x_BCHW), -1, -1, -1).repeat(1, 1, rows, columns)
            x_BCHW = self._with_channels(x_BCHW, seen_BcHW, planes)
        reader = None if reference is None else ReferenceReader(reference)
        return self._run_unet(x_BCHW, t, condition.states, reader).float()

    def predict_v(
        self,
        sample_BcHW: Tensor,
        t: Tensor | int,
        condition: ViewCondition,
        reference_noise_Bchw: Tensor,
    ) -> Tensor:
        """Velocity [B, c, H, W], float32, with the reference noised to the same t.

        For teachers and score networks.

        Gradients flow through both passes.
        """
        return self.main_pass(
            sample_BcHW, t, condition, self.reference_pass(condition, t, reference_noise_Bchw)
        )

    def one_step(
        self,
        z_BcHW: Tensor,
        condition: ViewCondition,
        *,
        reference: ReferenceFeatures | None = None,
        reference_t: int = 0,
        negative: ViewCondition | None = None,
        guidance_scale: float = 1.0,
    ) -> Tensor:
        """GECO's generator: tile latents x0 = a_T z - s_T v(z, T; clean reference).

        Float32 [B, c, H, W].

        Args:
            z_BcHW: N(0, 1).
            condition: [B] rows.
            reference: a cached `reference_pass` over the `guidance_rows`; computed here when
                None.
            reference_t: time embedding of the clean reference pass.
            negative: needed when `guidance_scale` is not 1; [1] or [B] rows.
            guidance_scale: 1 runs the positive rows only.
        """
        rows = guidance_rows(condition, negative, guidance_scale)
        features = self.reference_pass(rows, reference_t) if reference is None else reference

        def velocity(x: Tensor, t: Tensor) -> Tensor:
            return self._guided(x, t, rows, features, guidance_scale)

        return sample_one_step(velocity, z_BcHW, self.schedule)

    def _guided(
        self,
        x: Tensor,
        t: Tensor,
        rows: ViewCondition,
        features: ReferenceFeatures,
        guidance_scale: float,
    ) -> Tensor:
        if guidance_scale == 1.0:
            return self.main_pass(x, t, rows, features)
        v_negative, v_positive = self.main_pass(torch.cat([x, x]), t, rows, features).chunk(2)
        return v_negative + guidance_scale * (v_positive - v_negative)

    def _run_unet(
        self,
        x_BCHW: Tensor,
        t: Tensor | int,
        states_BLD: Tensor,
        hook: ReferenceWriter | ReferenceReader | None,
    ) -> Tensor:
        times_B = torch.as_tensor(t, device=x_BCHW.device).expand(x_BCHW.shape[0])
        kwargs = None if hook is None else {ARGUMENT: hook}
        dtype = self.unet.dtype
        return self.unet(
            x_BCHW.to(dtype),
            times_B,
            states_BLD.to(dtype),
            cross_attention_kwargs=kwargs,
            return_dict=False,
        )[0]

    def _with_channels(self, x_BcHW: Tensor, seen_BcHW: Tensor, planes_PHW: Tensor) -> Tensor:
        planes = planes_PHW.expand(x_BcHW.shape[0], -1, -1, -1)
        return torch.cat([x_BcHW, seen_BcHW.to(x_BcHW), planes], dim=1)

    @property
    def _views(self) -> int:
        return self.config.rig.rows * self.config.rig.columns

    # -- sampling --

    def velocity_fn(
        self,
        condition: ViewCondition,
        noise: NoiseSource,
        *,
        negative: ViewCondition | None,
        guidance_scale: float,
    ) -> VelocityFn:
        """Guided velocity with fresh reference noise per step, for the samplers.

        v = v_n + g (v_p - v_n) over the batch [negative, positive]; g = 1 runs the positive rows
        only.
        """
        rows = guidance_rows(condition, negative, guidance_scale)
        shape = condition.latents.shape[1:]

        def velocity(x: Tensor, t: Tensor) -> Tensor:
            draws = [noise.draw(streams.REFERENCE, shape)]
            if guidance_scale != 1.0:
                draws.insert(0, noise.draw(streams.REFERENCE_NEGATIVE, shape))
            features = self.reference_pass(rows, t, torch.cat(draws).to(x.device))
            return self._guided(x, t, rows, features, guidance_scale)

        return velocity

    @torch.no_grad()
    def sample(
        self,
        condition: ViewCondition,
        noise: NoiseSource,
        sampler: SamplerConfig,
        *,
        negative: ViewCondition | None = None,
        reference_t: int = 0,
    ) -> Tensor:
        """Tile latents [B, c, H, W], float32, as the U-Net sees them.

        `decode` undoes the affine.

        Args:
            condition: [B] rows.
            noise: source of every draw; `ItemNoise(seeds)` makes a row independent of its batch.
            sampler: kind, number of steps, guidance scale. `one_step` ignores `steps` and reads the
                clean reference.
            negative: the negative condition, [1] or [B] rows; required unless the guidance scale is
                1.
            reference_t: time embedding of the clean reference pass (`one_step` only).
        """
        z = noise.draw(streams.INITIAL, self.latent_shape).to(self.device)
        scale = sampler.guidance_scale
        if sampler.kind == "one_step":
            return self.one_step(
                z, condition, reference_t=reference_t, negative=negative, guidance_scale=scale
            )
        velocity = self.velocity_fn(condition, noise, negative=negative, guidance_scale=scale)
        if sampler.kind == "ddim":
            return sample_ddim(velocity, z, self.config.schedule, sampler.steps)
        return sample_euler_ancestral(
            velocity,
            z,
            self.config.schedule,
            sampler.steps,
            lambda _: noise.draw(streams.ANCESTRAL, z.shape[1:]),
        )

    # -- images --

    def decode(self, latents_BcHW: Tensor) -> Tensor:
        """Tile latents -> views [B, V, 3, view, view] in [0, 1], row 0 at the top."""
        tile_B3HW = self.affine.images(self.codec.decode(self.affine.raw(latents_BcHW)).float())
        return split_views(tile_B3HW, self.config.rig.rows, self.config.rig.columns)

    def encode_views(self, views_BV3HW: Tensor, noise_BcHW: Tensor | None = None) -> Tensor:
        """Views in [0, 1] -> tile latents [B, c, H, W], the training target."""
        tile_B3HW = merge_views(views_BV3HW, self.config.rig.rows, self.config.rig.columns)
        return self.affine.latents(
            self.codec.encode(self.affine.pixels(tile_B3HW), noise_BcHW).float()
        )
