"""Adapter of the published Zero123++ v1.2 folder, also with InstantMesh's white-background U-Net.

The folder is a diffusers pipeline: a file of weights per part, configurations beside them, and the
ramp in `model_index.json`. Shapes do not show the number of attention heads or the noise schedule,
so the configurations are compared too.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from geco_core.checkpoints.adapter import LoadReport, check_complete, skeleton
from geco_core.checkpoints.documents import read_document
from geco_core.checkpoints.families import (
    CONFIGURATIONS,
    FAMILY,
    INDEX,
    PART_FILES,
    WHITE_UNET,
    WHITE_UNET_FILES,
)
from geco_core.checkpoints.hub import Resolver, find_file, find_optional, missing
from geco_core.checkpoints.licences import licences_of
from geco_core.checkpoints.loaded import LoadedParts
from geco_core.checkpoints.origin import licences_in
from geco_core.checkpoints.state import open_state
from geco_core.config.models import MultiViewConfig
from geco_core.errors import Fatal
from geco_core.multiview.published import load_part, load_ramp
from geco_core.multiview.zero123plus import Zero123Plus

_REMEDY = "take the published v1.2 folder, or the preset these weights belong to"


def load_zero123plus(
    reference: str,
    config: MultiViewConfig,
    *,
    white_unet: str = "",
    pins: Mapping[str, str] | None = None,
    dtype: torch.dtype | None = None,
    resolver: Resolver | None = None,
) -> LoadedParts[Zero123Plus]:
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
    families = (FAMILY, WHITE_UNET) if white_unet else (FAMILY,)
    licences = set(licences_of(families))
    for part, path in files.items():
        opened = open_state(path, (pins or {}).get(part, ""))
        reports.append(load_part(model, part, opened.tensors, dtype=dtype, assign=True))
        digests[part] = opened.sha256
        licences.update(licences_in(opened.metadata))
    load_ramp(model, read_ramp(reference, resolver))
    check_complete(model, FAMILY)
    return LoadedParts(model.eval(), tuple(reports), digests, families, tuple(sorted(licences)))


def part_files(
    reference: str, white_unet: str = "", resolver: Resolver | None = None
) -> dict[str, Path]:
    """Part -> its file. Raises `Fatal` naming every part that is missing, wherever it belongs."""
    found: dict[str, Path | None] = {}
    absent: list[str] = []
    for part, names in PART_FILES.items():
        if part == "unet" and white_unet:
            found[part] = find_optional(white_unet, WHITE_UNET_FILES, resolver)
            continue
        inside = [f"{part}/{name}" for name in names]
        found[part] = find_optional(reference, inside, resolver)
        absent += [] if found[part] else inside[:1]
    errors: list[Fatal] = []
    if absent:
        errors.append(missing(reference, [INDEX, *CONFIGURATIONS, *absent]))
    if white_unet and not found["unet"]:
        errors.append(missing(white_unet, WHITE_UNET_FILES[:1], looked_for=WHITE_UNET_FILES))
    if errors:
        raise Fatal(
            "; ".join(error.message for error in errors),
            remedy="; ".join(dict.fromkeys(error.remedy for error in errors)),
            stage="load",
        )
    return {part: path for part, path in found.items() if path is not None}


def read_ramp(reference: str, resolver: Resolver | None = None) -> list[float]:
    """The ramping coefficients of `model_index.json`, one per text token. Raises `Fatal`."""
    index = read_document(find_file(reference, [INDEX], resolver))
    ramp = index.get("ramping_coefficients")
    if not isinstance(ramp, list) or not all(isinstance(v, (int, float)) for v in ramp):
        raise Fatal(f"{INDEX} has no ramping_coefficients", stage="load", remedy=_REMEDY)
    if not all(math.isfinite(v) for v in ramp):
        raise Fatal(f"the ramp in {INDEX} is not finite", stage="load", remedy=_REMEDY)
    return [float(value) for value in ramp]


def _check_configurations(
    reference: str, config: MultiViewConfig, resolver: Resolver | None
) -> None:
    for name, expected in _expected(config).items():
        path = find_optional(reference, [name], resolver)
        if path is None:
            continue  # weights alone may have been downloaded; their shapes are checked anyway
        found = read_document(path)
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
        return value[0] if value and all(one == value[0] for one in value) else list(value)
    return value
