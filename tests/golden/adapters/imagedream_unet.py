"""ImageDream's U-Net: whole calls with and without reference, and its blocks."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import torch
from diffusers.models.resnet import ResnetBlock2D
from diffusers.models.transformers.transformer_2d import Transformer2DModel
from torch import Tensor

from geco_core.checkpoints.ldm_names import unet_table
from geco_core.config.crm import MultiViewUNetConfig
from geco_core.diffusion.multiview_attention import (
    FRAMES,
    FrameAttnProcessor,
    ImageTokenAttnProcessor,
)
from geco_core.multiview.imagedream import FrameRows, ImageDream
from tests.golden.adapters import _crm
from tests.golden.registry import Adapter, Case, adapter


@adapter("imagedream_unet")
class ImageDreamUNet(Adapter):
    """`y*`: calls on rows of the stored inputs; `ip_tokens`: the resampler's."""

    @torch.no_grad()
    def run(self, case: Case) -> dict[str, Tensor]:
        """Which rows a call takes follows from its name and the stored cameras."""
        given, model = case.inputs, _crm.network(case)
        objects = len(given["ip_img"])
        frames = len(given["x"]) // objects
        everything = slice(0, len(given["x"]))
        out = {
            "y": _call(model, case, everything, everything, frames, reference=given["ip_img"]),
            "y_no_ip_img": _call(model, case, everything, everything, frames),
            "y_frames1": _call(model, case, everything, everything, 1),
            "ip_tokens": model.image_tokens(given["ip"][::frames]),
        }
        for name in case.outputs:
            if found := re.fullmatch(r"y_(imagedream|local)(\d+)", name):
                count = int(found[2])
                out[name] = _call(
                    model,
                    case,
                    slice(0, count),
                    slice(frames, frames + count),
                    count,
                    reference=given["ip_img"][1:] if found[1] == "imagedream" else None,
                    cameras=given[f"camera_{found[1]}{count}"],
                )
        return out


def _call(
    model: ImageDream,
    case: Case,
    rows: slice,
    image_rows: slice,
    frames: int,
    *,
    reference: Tensor | None = None,
    cameras: Tensor | None = None,
) -> Tensor:
    given = case.inputs
    condition = FrameRows(
        text=given["context"][rows],
        cameras=given["camera"][rows] if cameras is None else cameras,
        frames=frames,
        image_tokens=model.image_tokens(given["ip"][image_rows]),
        reference=reference,
    )
    return model.predict(given["x"][rows], given["timesteps"][rows], condition)


@adapter("ccm_unet")
class CcmUNet(Adapter):
    """Stage 2's network: latents of the views as further input channels."""

    @torch.no_grad()
    def run(self, case: Case) -> dict[str, Tensor]:
        """One call on all rows; six frames per object unless the configuration says otherwise."""
        given, model = case.inputs, _crm.network(case)
        rows = FrameRows(
            text=given["context"],
            cameras=given["camera"],
            frames=int(case.meta["config"].get("num_frames", _frames(given["camera"]))),
            image_tokens=model.image_tokens(given["ip"]),
            channels=given["pixel_images"],
        )
        return {"y": model.predict(given["x"], given["timesteps"], rows)}


def _frames(cameras: Tensor) -> int:
    """Frames per object: the cameras of one object come again for the next."""
    again = (cameras[1:] == cameras[0]).all(dim=1).nonzero().flatten().tolist()
    return again[0] + 1 if again else len(cameras)


@adapter("imagedream_blocks")
class ImageDreamBlocks(Adapter):
    """One residual block and one transformer, each a part of our U-Net."""

    @torch.no_grad()
    def run(self, case: Case) -> dict[str, Tensor]:
        """`y_transformer` with the configured frames, `y_transformer_fN` with N."""
        given, sizes = case.inputs, case.meta["config"]
        groups = int(case.meta["norm_num_groups"])
        resnet = _resnet(sizes["resblock"], groups)
        _fill(resnet, case, "resblock.", "input_blocks.1.0.", "unet.down_blocks.0.resnets.0.")
        transformer = _transformer(sizes["transformer"], groups)
        _fill(
            transformer,
            case,
            "transformer.",
            "input_blocks.1.1.",
            "unet.down_blocks.0.attentions.0.",
        )
        out = {"y_resblock": resnet(given["x"], given["emb"])}
        for name in case.outputs:
            if found := re.fullmatch(r"y_transformer(?:_f(\d+))?", name):
                frames = int(found[1] or sizes["transformer"]["num_frames"])
                out[name] = transformer(
                    given["x"],
                    encoder_hidden_states=given["context"],
                    cross_attention_kwargs={FRAMES: frames},
                    return_dict=False,
                )[0]
        return out


def _resnet(sizes: dict[str, Any], groups: int) -> ResnetBlock2D:
    return ResnetBlock2D(
        in_channels=sizes["channels"],
        out_channels=sizes["out_channels"],
        temb_channels=sizes["emb_channels"],
        groups=groups,
        eps=1e-5,
    ).eval()


def _transformer(sizes: dict[str, Any], groups: int) -> Transformer2DModel:
    model = Transformer2DModel(
        num_attention_heads=sizes["n_heads"],
        attention_head_dim=sizes["d_head"],
        in_channels=sizes["in_channels"],
        cross_attention_dim=sizes["context_dim"],
        norm_num_groups=groups,
        use_linear_projection=True,
    )
    width = sizes["n_heads"] * sizes["d_head"]
    for block in model.transformer_blocks:
        layers: Any = block
        layers.attn1.set_processor(FrameAttnProcessor())
        layers.attn2.set_processor(
            ImageTokenAttnProcessor(width, sizes["context_dim"], sizes["ip_dim"])
        )
    return model.eval()


def _fill(module: torch.nn.Module, case: Case, prefix: str, theirs: str, ours: str) -> None:
    """Through the table of the whole U-Net, as if the block were its first."""
    table = unet_table(
        MultiViewUNetConfig(block_out_channels=(8,), attention_levels=(True,), attention_heads=(1,))
    )
    rename: Callable[[str], str] = lambda n: table.ours(theirs + n).removeprefix(ours)  # noqa: E731
    module.load_state_dict({rename(n): v for n, v in case.weights(prefix).items()})
