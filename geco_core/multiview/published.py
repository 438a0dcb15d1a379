"""Published Zero123++ state dicts, part by part, into and out of `Zero123Plus`.

The published folder holds one file per part (`unet`, `vae`, `text_encoder`, `vision_encoder`);
InstantMesh's fine-tune is a bare U-Net file. Every renamed, dropped and missing key is listed; a
surprise is refused.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from geco_core.checkpoints.adapter import LoadReport, adapt
from geco_core.diffusion.codec import AutoencoderKLCodec
from geco_core.errors import Fatal
from geco_core.multiview.zero123plus import Zero123Plus

# transformers 5 drops this prefix from the text tower; the published files carry it.
_TEXT_PREFIX = "text_model."
# The U-Net alone, as a distillation writes it, carries the name it has in our model.
_UNET_PREFIX = "unet."
# Index buffers that old releases stored and that are computed now.
_DROPPED = ("embeddings.position_ids",)
# Autoencoders saved before diffusers 0.17 name their attention so.
_OLD_ATTENTION = {"query": "to_q", "key": "to_k", "value": "to_v", "proj_attn": "to_out.0"}


def part_modules(model: Zero123Plus) -> dict[str, nn.Module]:
    """Folder name of the published pipeline -> our module.

    The patch codec has no published counterpart.
    """
    parts: dict[str, nn.Module] = {
        "unet": model.unet,
        "text_encoder": model.text,
        "vision_encoder": model.vision,
    }
    if isinstance(model.codec, AutoencoderKLCodec):
        parts["vae"] = model.codec.vae
    return parts


def published_shapes(model: Zero123Plus, part: str) -> dict[str, tuple[int, ...]]:
    """Published name -> shape of every tensor of one part of our model (also on meta)."""
    module = part_modules(model)[part]
    prefix = _published_prefix(module, part)
    return {prefix + name: tuple(value.shape) for name, value in module.state_dict().items()}


def load_part(
    model: Zero123Plus,
    part: str,
    state: Mapping[str, Tensor],
    *,
    dtype: torch.dtype | None = None,
    assign: bool = False,
) -> LoadReport:
    """Put one published part's state dict into the model.

    Args:
        model: ours.
        part: folder name of the part.
        state: published name -> tensor.
        dtype: of floating tensors; the file's when None.
        assign: the tensors become the parameters instead of being copied into them.

    Raises:
        Fatal: a tensor is missing, unknown or of another shape.
    """
    module = part_modules(model)[part]
    prefix = _published_prefix(module, part)
    if part == "unet" and all(name.startswith(_UNET_PREFIX) for name in state):
        prefix = _UNET_PREFIX

    def names(name: str) -> str | None:
        return None if name.endswith(_DROPPED) else _current(name.removeprefix(prefix))

    return adapt(module, state, names, part=part, dtype=dtype, assign=assign)


def load_ramp(model: Zero123Plus, ramp: list[float]) -> None:
    """Set the ramping coefficients of `model_index.json`.

    Raises `Fatal` when their number is wrong.
    """
    if len(ramp) != len(model.ramp):
        raise Fatal(
            f"{len(ramp)} ramping coefficients for {len(model.ramp)} text tokens",
            stage="load",
            remedy="take the model_index.json that was published with these weights",
        )
    with torch.no_grad():
        model.ramp.copy_(torch.tensor(ramp))


def _current(name: str) -> str:
    """The name that attention blocks of the autoencoder have since diffusers 0.17."""
    head, dot, tail = name.partition(".mid_block.attentions.0.")
    if not dot or head not in ("encoder", "decoder"):
        return name
    layer, _, kind = tail.partition(".")
    return f"{head}{dot}{_OLD_ATTENTION.get(layer, layer)}.{kind}"


def _published_prefix(module: nn.Module, part: str) -> str:
    if part != "text_encoder" or any(name.startswith(_TEXT_PREFIX) for name in module.state_dict()):
        return ""
    return _TEXT_PREFIX
