"""The schedule of noise-predicting networks and the sampler over it."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from geco_core.config.crm import DdimConfig, FrameRigConfig, NoiseTablesConfig
from geco_core.diffusion.noise_prediction import abar_table, beta_table, ddim_steps
from geco_core.imaging.content import codec_pixels
from geco_core.multiview.crm_views import frame_levels
from geco_core.multiview.imagedream import FrameRows, ImageDream, ObjectCondition
from geco_core.multiview.ortho_views import frame_cameras
from tests.golden.adapters import _crm
from tests.golden.registry import Adapter, Case, adapter


@adapter("ddim_schedule")
class DdimSchedule(Adapter):
    """`{zsnr,plain}[_half]_TABLE` and `{zsnr,plain}[_half]_ddimS_TABLE`."""

    def run(self, case: Case) -> dict[str, Tensor]:
        """Every output, by its name."""
        given = case.meta["config"]
        base = NoiseTablesConfig(
            num_train_timesteps=int(given["timesteps"]),
            beta_start=float(given["linear_start"]),
            beta_end=float(given["linear_end"]),
        )
        out: dict[str, Tensor] = {}
        for name in case.outputs:
            found = re.fullmatch(r"(zsnr|plain)(_half)?(?:_ddim(\d+))?_(\w+)", name)
            if found is None:
                continue
            config = dataclasses.replace(
                base,
                zero_terminal_snr=found[1] == "zsnr",
                tables="float16" if found[2] else "float32",
            )
            tables = _step_tables(config, int(found[3])) if found[3] else _tables(config)
            if found[4] in tables:
                out[name] = tables[found[4]]
        return out


def _tables(config: NoiseTablesConfig) -> dict[str, Tensor]:
    betas = beta_table(config)
    abar = abar_table(config)
    exact = (1.0 - betas).cumprod(0)
    return {
        "betas": betas.float(),
        "alphas_cumprod": abar,
        "sqrt_alphas_cumprod": exact.sqrt().float(),
        "sqrt_one_minus_alphas_cumprod": (1.0 - exact).sqrt().float(),
    }


def _step_tables(config: NoiseTablesConfig, steps: int) -> dict[str, Tensor]:
    found = ddim_steps(config, DdimConfig(steps=steps, spacing="stride"))
    return {
        "timesteps": found.timesteps,
        "alphas": found.abar,
        "alphas_prev": found.abar_before,
        "sqrt_one_minus_alphas": found.sigma,
    }


@adapter("ddim_sampler_trajectory")
class DdimTrajectory(Adapter):
    """Every state of a sampling with the stored network."""

    @torch.no_grad()
    def run(self, case: Case) -> dict[str, Tensor]:
        """`x_inter` starts with the start; `eps_raw_step0` is the first call before guidance."""
        given, sampler = case.inputs, _crm.sampler(case)
        model = _crm.network(_crm.source(case, "model."), schedule=_crm.schedule(case))
        guided = sampler.guidance_scale != 1.0
        rows = _rows(model, given, guided=guided)
        states, cleans = [given["x_T"]], []

        def observe(_: int, x: Tensor, clean: Tensor) -> None:
            states.append(x)
            cleans.append(clean)

        model.denoise(rows, given["x_T"], sampler, observe=observe)
        times = ddim_steps(model.config.schedule, sampler).timesteps.flip(0)
        start = given["x_T"].repeat(2 if guided else 1, 1, 1, 1)
        return {
            "x_inter": torch.stack(states),
            "pred_x0": torch.stack(cleans),
            "timesteps": times,
            "eps_raw_step0": model.predict(start, times[0], rows),
        }


def _rows(model: ImageDream, given: Mapping[str, Tensor], *, guided: bool) -> FrameRows:
    """The stored conditions differ from frame to frame, so rows are made here."""
    ip, reference, text = given["ip"], given.get("ip_img"), given["context"]
    tokens = model.image_tokens(ip)
    if not guided:
        return FrameRows(text, given["camera"], len(text), tokens, reference)
    zeros = model.image_tokens(torch.zeros_like(ip))
    return FrameRows(
        text=torch.cat([given["uncond_context"], text]),
        cameras=given["camera"].repeat(2, 1),
        frames=len(text),
        image_tokens=torch.cat([zeros, tokens]),
        reference=None if reference is None else torch.cat([reference * 0.0, reference]),
    )


@adapter("stage1_i2i")
class Stage1(Adapter):
    """CRM stage 1 from a picture, with the stored draws."""

    @torch.no_grad()
    def run(self, case: Case) -> dict[str, Tensor]:
        """Latents and frames in model order, the reference frame included."""
        given = case.inputs
        size = int(case.meta["config"]["image_size"])
        return {
            "vae_input": codec_pixels(given["image"].numpy(), size),
            **_stage(case, reference=given["ip_img_latent"]),
        }

    def tolerance(self, case: Case, output: str) -> tuple[float, float]:
        """As stated: frames within two levels; the input, which is one resize, 1e-6."""
        if output == "vae_input":
            return 0.0, 1e-6
        return (0.0, 2.0) if output == "frames" else super().tolerance(case, output)


@adapter("stage2_i2i")
class Stage2(Adapter):
    """CRM stage 2 from the latents of six frames, with the stored draws."""

    @torch.no_grad()
    def run(self, case: Case) -> dict[str, Tensor]:
        """Latents and frames."""
        return _stage(case, pixel_latents=case.inputs["pixel_latents"][None])

    def tolerance(self, case: Case, output: str) -> tuple[float, float]:
        """As stated: frames within two levels."""
        return (0.0, 2.0) if output == "frames" else super().tolerance(case, output)


def _stage(
    case: Case, *, reference: Tensor | None = None, pixel_latents: Tensor | None = None
) -> dict[str, Tensor]:
    given, stated = case.inputs, case.meta["config"]
    model = _crm.network(_crm.source(case, "model."), _rig(stated), schedule=_crm.schedule(case))
    encoders = _crm.autoencoder(_crm.source(case, "vae_model."), int(stated["image_size"]))
    condition = ObjectCondition(
        text=given["context"],
        negative_text=given["uncond_context"],
        image_states=given["clip_image_tokens"],
        reference=reference,
        pixel_latents=pixel_latents,
    )
    latents = model.sample(
        condition, frame_cameras(model.config.rig), given["x_T"][None], _crm.sampler(case)
    )
    return {"latents": latents[0], "frames": frame_levels(encoders, latents)[0]}


def _rig(stated: dict[str, Any]) -> FrameRigConfig:
    position, views = stated.get("ref_position"), list(stated["camera_views"])
    if position is not None:
        del views[position]
    return FrameRigConfig(views=tuple(views), reference=position is not None)
