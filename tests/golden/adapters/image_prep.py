"""Condition framing, compositing, the two image processors, view tiles and the affine constants."""

from __future__ import annotations

import dataclasses

import torch
from torch import Tensor

from geco_core.config.models import CodecConfig, MultiViewConfig, VisionTowerConfig
from geco_core.diffusion.affine import LatentAffine
from geco_core.imaging.framing import composite, condition_pixels, resize_foreground
from geco_core.imaging.views import resize_views, split_views
from tests.golden.registry import Adapter, Case, adapter

ROWS, COLUMNS = 3, 2
RESIZED = "views_resized_"


@adapter("image_prep")
class ImagePrep(Adapter):
    """The stored inputs through our preparation.

    `in/rgba` through the processors (on white), `in/grid_image` into views, `in/tensor` through
    the affine constants.
    """

    def run(self, case: Case) -> dict[str, Tensor]:
        """Every output; sizes are those of the stored ones."""
        framed = resize_foreground(case.inputs["rgba"].numpy(), float(case.meta["ratio"]))
        white = composite(framed, "white")
        vae_pixels, clip_pixels = condition_pixels([white], _sizes(case))
        views = split_views(case.inputs["grid_image"][None], ROWS, COLUMNS)
        resized = {
            name: resize_views(views, int(name.removeprefix(RESIZED)))
            for name in case.outputs
            if name.startswith(RESIZED)
        }
        affine = LatentAffine(CodecConfig())
        tensor = case.inputs["tensor"]
        return {
            "resized_foreground": torch.from_numpy(framed),
            "composited_white_instantmesh": torch.from_numpy(white.copy()),
            "composited_gray_upstream": torch.from_numpy(composite(framed, "gray").copy()),
            "vae_pixels": vae_pixels,
            "clip_pixels": clip_pixels,
            "views": views[0],
            "scaled_latents": affine.scale_latents(tensor),
            "unscaled_latents": affine.unscale_latents(tensor),
            "scaled_image": affine.scale_image(tensor),
            "unscaled_image": affine.unscale_image(tensor),
            **resized,
        }

    def tolerance(self, case: Case, output: str) -> tuple[float, float]:
        """Pixels and resized views within 1e-5, as the file states; uint8 exact."""
        if output.endswith("_pixels") or output.startswith(RESIZED):
            return 0.0, 1e-5
        return super().tolerance(case, output)


def _sizes(case: Case) -> MultiViewConfig:
    return dataclasses.replace(
        MultiViewConfig(),
        condition_size=case.outputs["vae_pixels"].shape[-1],
        vision=VisionTowerConfig(image_size=case.outputs["clip_pixels"].shape[-1]),
    )
