"""Published Zero123++ state dicts, part by part, into and out of `Zero123Plus`.

The published folder holds one file per part (`unet`, `vae`, `text_encoder`, `vision_encoder`);
InstantMesh's fine-tune is a bare U-Net file. Every renamed, dropped and missing key is listed; a
surprise is refused.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from geco_core.diffusion.codec import AutoencoderKLCodec
from geco_core.errors import Fatal
from geco_core.multiview.zero123plus import Zero123Plus

# transformers 5 drops this prefix from the text tower; the published files carry it.
_TEXT_PREFIX = "text_model."
# Index buffers that old releases stored and that are computed now.
_DROPPED = ("embeddings.position_ids",)


@dataclass(frozen=True)
class LoadReport:
    """What loading one part did.

    Attributes:
        part: the part's folder name.
        loaded: number of tensors copied.
        renamed: published name -> our name, where they differ.
        dropped: published names that carry no weights.
    """

    part: str
    loaded: int
    renamed: Mapping[str, str]
    dropped: tuple[str, ...]


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


def load_part(model: Zero123Plus, part: str, state: Mapping[str, Tensor]) -> LoadReport:
    """Copy one published part's state dict into the model.

    Raises:
        Fatal: a tensor is missing, unknown or of another shape.
    """
    module = part_modules(model)[part]
    prefix = _published_prefix(module, part)
    dropped = tuple(name for name in state if name.endswith(_DROPPED))
    renamed = {name: name.removeprefix(prefix) for name in state if name not in dropped}
    expected = {name: value.shape for name, value in module.state_dict().items()}
    found = {renamed[name]: state[name] for name in renamed}
    problems = [f"{name} is missing" for name in expected if name not in found]
    problems += [f"{name} is unknown" for name in found if name not in expected]
    problems += [
        f"{name} has shape {list(found[name].shape)}, not {list(shape)}"
        for name, shape in expected.items()
        if name in found and found[name].shape != shape
    ]
    if problems:
        more = f" and {len(problems) - 3} more" if len(problems) > 3 else ""
        raise Fatal(
            f"{part}: {'; '.join(problems[:3])}{more}",
            remedy="check that the weights belong to the configured preset",
        )
    module.load_state_dict(found, strict=True)
    changed = {name: ours for name, ours in renamed.items() if name != ours}
    return LoadReport(part, len(found), changed, dropped)


def load_ramp(model: Zero123Plus, ramp: list[float]) -> None:
    """Set the ramping coefficients of `model_index.json`.

    Raises `Fatal` when their number is wrong.
    """
    if len(ramp) != len(model.ramp):
        raise Fatal(f"{len(ramp)} ramping coefficients for {len(model.ramp)} text tokens")
    with torch.no_grad():
        model.ramp.copy_(torch.tensor(ramp))


def _published_prefix(module: nn.Module, part: str) -> str:
    if part != "text_encoder" or any(name.startswith(_TEXT_PREFIX) for name in module.state_dict()):
        return ""
    return _TEXT_PREFIX
