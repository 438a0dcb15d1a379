"""Adapter of the published Zero123++ v1.2 folder, also with InstantMesh's white-background U-Net.

The folder is a diffusers pipeline: a file of weights per part, configurations beside them, and the
ramp in `model_index.json`. Shapes do not show the number of attention heads or the noise schedule,
so the configurations are compared too.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from geco_core.checkpoints.adapter import LoadReport, check_complete, skeleton
from geco_core.checkpoints.hub import Resolver, find_file, find_optional, missing
from geco_core.checkpoints.state import open_state
from geco_core.config.models import MultiViewConfig
from geco_core.errors import Fatal
from geco_core.multiview.published import load_part, load_ramp
from geco_core.multiview.zero123plus import Zero123Plus

FAMILY, WHITE_UNET = "zero123plus-v1.2", "instantmesh-white-unet"
REPOSITORY = "sudo-ai/zero123plus-v1.2"
WHITE_UNET_REPOSITORY, WHITE_UNET_FILE = "TencentARC/InstantMesh", "diffusion_pytorch_model.bin"
_DIFFUSERS = ("diffusion_pytorch_model.safetensors", "diffusion_pytorch_model.bin")
_TRANSFORMERS = ("model.safetensors", "pytorch_model.bin")
PART_FILES: Mapping[str, tuple[str, ...]] = {
    "unet": _DIFFUSERS,
    "vae": _DIFFUSERS,
    "text_encoder": _TRANSFORMERS,
    "vision_encoder": _TRANSFORMERS,
}
_INDEX = "model_index.json"
_REMEDY = "take the published v1.2 folder, or the preset these weights belong to"


@dataclass(frozen=True)
class LoadedMultiView:
    """A model and where it came from.

    Attributes:
        model: filled, on the CPU, in evaluation mode.
        reports: one per part.
        digests: part -> sha256 of its file.
        families: keys of `licences.WEIGHTS`.
    """

    model: Zero123Plus
    reports: tuple[LoadReport, ...]
    digests: Mapping[str, str]
    families: tuple[str, ...]

    @property
    def digest(self) -> str:
        """One hex sha256 over those of the parts."""
        text = "\n".join(f"{part} {self.digests[part]}" for part in sorted(self.digests))
        return hashlib.sha256(text.encode()).hexdigest()


def load_zero123plus(
    reference: str,
    config: MultiViewConfig,
    *,
    white_unet: str = "",
    pins: Mapping[str, str] | None = None,
    dtype: torch.dtype | None = None,
    resolver: Resolver | None = None,
) -> LoadedMultiView:
    """Load a published pipeline.

    Args:
        reference: its folder, or its repository on the hub.
        config: must agree with the configurations in the folder.
        white_unet: InstantMesh's U-Net (file, folder or repository), instead of the folder's own.
        pins: part -> expected hex sha256 of its file.
        dtype: of all weights; the files' when None.
        resolver: for `s3://` references.

    Raises:
        Fatal: a file is missing, or does not fit.
    """
    files = part_files(reference, white_unet, resolver)
    _check_configurations(reference, config, resolver)
    model = skeleton(lambda: Zero123Plus(config))
    reports: list[LoadReport] = []
    digests: dict[str, str] = {}
    for part, path in files.items():
        opened = open_state(path, (pins or {}).get(part, ""))
        reports.append(load_part(model, part, opened.tensors, dtype=dtype, assign=True))
        digests[part] = opened.sha256
    load_ramp(model, read_ramp(reference, resolver))
    check_complete(model, FAMILY)
    families = (FAMILY, WHITE_UNET) if white_unet else (FAMILY,)
    return LoadedMultiView(model.eval(), tuple(reports), digests, families)


def part_files(
    reference: str, white_unet: str = "", resolver: Resolver | None = None
) -> dict[str, Path]:
    """Part -> its file. Raises `Fatal` naming every part that is missing."""
    found: dict[str, Path] = {}
    absent: list[str] = []
    for part, names in PART_FILES.items():
        if part == "unet" and white_unet:
            found[part] = find_file(white_unet, (WHITE_UNET_FILE, *_DIFFUSERS), resolver)
            continue
        inside = [f"{part}/{name}" for name in names]
        path = find_optional(reference, inside, resolver)
        if path is None:
            absent.append(inside[0])
        else:
            found[part] = path
    if absent:
        raise missing(reference, [_INDEX, *_expected(MultiViewConfig()), *absent])
    return found


def read_ramp(reference: str, resolver: Resolver | None = None) -> list[float]:
    """The ramping coefficients of `model_index.json`, one per text token. Raises `Fatal`."""
    index = _read_json(find_file(reference, [_INDEX], resolver))
    ramp = index.get("ramping_coefficients")
    if not isinstance(ramp, list) or not all(isinstance(v, (int, float)) for v in ramp):
        raise Fatal(f"{_INDEX} has no ramping_coefficients", stage="load", remedy=_REMEDY)
    return [float(value) for value in ramp]


def _check_configurations(
    reference: str, config: MultiViewConfig, resolver: Resolver | None
) -> None:
    for name, expected in _expected(config).items():
        path = find_optional(reference, [name], resolver)
        if path is None:
            continue  # weights alone may have been downloaded; their shapes are checked anyway
        found = _read_json(path)
        for key, value in expected.items():
            given = found.get(key, value)
            if _plain(given) != _plain(value):
                raise Fatal(
                    f"{name} says {key} = {given}, the configuration {_plain(value)}",
                    stage="load",
                    remedy=_REMEDY,
                )


def _expected(config: MultiViewConfig) -> dict[str, dict[str, Any]]:
    """What the folder's configurations must say, where weights do not show it."""
    unet, codec, schedule = config.unet, config.codec, config.schedule
    return {
        "unet/config.json": {
            "attention_head_dim": unet.attention_heads,
            "norm_num_groups": unet.norm_num_groups,
            "use_linear_projection": unet.use_linear_projection,
        },
        "vae/config.json": {
            "norm_num_groups": codec.norm_num_groups,
            "scaling_factor": codec.scaling_factor,
        },
        "text_encoder/config.json": {
            "num_attention_heads": config.text.num_attention_heads,
            "hidden_act": "gelu",
        },
        "vision_encoder/config.json": {
            "num_attention_heads": config.vision.num_attention_heads,
            "hidden_act": "gelu",
        },
        "scheduler/scheduler_config.json": {
            "num_train_timesteps": schedule.num_train_timesteps,
            "beta_start": schedule.beta_start,
            "beta_end": schedule.beta_end,
            "beta_schedule": schedule.beta_schedule,
            "prediction_type": schedule.prediction_type,
        },
        "feature_extractor_vae/preprocessor_config.json": {
            "image_mean": codec.condition_mean,
            "image_std": codec.condition_std,
        },
    }


def _plain(value: Any) -> Any:
    """Lists of one repeated value mean that value, as in the libraries that read these files."""
    if isinstance(value, (tuple, list)):
        return value[0] if len(set(value)) == 1 else list(value)
    return value


def _read_json(path: Path) -> dict[str, Any]:
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise Fatal(
            f"{path} is not JSON: {error}", stage="load", remedy="download it again"
        ) from error
    if not isinstance(found, dict):
        raise Fatal(f"{path} is not a map", stage="load", remedy="download it again")
    return found
