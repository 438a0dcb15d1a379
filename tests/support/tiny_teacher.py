"""A teacher chain of a few thousand random weights: milliseconds per target, all else real."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from safetensors.torch import save_file

from geco_core.config.load import load, preset_path, to_dict
from geco_core.config.models import InstantMeshConfig
from geco_core.config.run import model_overrides
from geco_core.multiview.zero123plus import Zero123Plus
from geco_core.reconstruct.instantmesh import InstantMesh
from tests.support.tiny_models import TINY_RECONSTRUCTOR

SIZES: dict[str, Any] = {
    "multiview": {
        "condition_size": 32,
        "condition_channels": False,
        "unet": {
            "in_channels": 3,
            "out_channels": 3,
            "block_out_channels": [8, 16],
            "attention_levels": [False, True],
            "attention_heads": [1, 2],
            "layers_per_block": 1,
            "cross_attention_dim": 8,
            "norm_num_groups": 4,
        },
        "codec": {"latent_channels": 3, "patch_size": 4},
        "vision": {
            "hidden_size": 16,
            "intermediate_size": 16,
            "num_hidden_layers": 1,
            "num_attention_heads": 2,
            "image_size": 8,
            "patch_size": 4,
            "projection_dim": 8,
        },
        "text": {
            "vocab_size": 12,
            "hidden_size": 8,
            "intermediate_size": 16,
            "num_hidden_layers": 1,
            "num_attention_heads": 2,
            "max_position_embeddings": 5,
        },
        "rig": {"view_size": 8},
    },
    "sampler": {"kind": "ddim", "steps": 2, "guidance_scale": 1.5},
    "reconstructor": to_dict(TINY_RECONSTRUCTOR),
    "extraction": {"grid_res": 12, "exact": True},
    "device": "cpu",
    "batch_size": 4,
}


def tiny_model(folder: Path) -> dict[str, Any]:
    """Overrides on `instantmesh/micro`, its weights written below `folder` from fixed seeds."""
    sizes = {**SIZES, "weights": {"multiview_sha256": "", "reconstructor_sha256": ""}}
    config = load(InstantMeshConfig, preset_path("instantmesh", "micro"), model_overrides(sizes))
    folder.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(0)
    models = {
        "multiview": Zero123Plus(config.multiview),
        "reconstructor": InstantMesh(config.reconstructor),
    }
    weights: dict[str, str] = {}
    for name, model in models.items():
        path = folder / f"tiny-{name}.safetensors"
        save_file({k: v.contiguous() for k, v in model.state_dict().items()}, path)
        weights |= {name: str(path), f"{name}_sha256": ""}
    return {**SIZES, "weights": weights}


def picture(index: int, size: int = 64) -> bytes:
    """A disc of some colour on a transparent ground, PNG."""
    y, x = np.mgrid[:size, :size] - (size - 1) / 2
    rgba = np.zeros((size, size, 4), np.uint8)
    rgba[..., :3] = [(40 * index) % 255, (90 + 70 * index) % 255, (200 + 30 * index) % 255]
    rgba[..., 3] = 255 * (np.hypot(x, y) < size * (0.25 + 0.01 * (index % 10)))
    stream = io.BytesIO()
    Image.fromarray(rgba).save(stream, format="PNG")
    return stream.getvalue()


def pictures(folder: Path, count: int) -> Path:
    """A folder of so many pictures, `p000.png` and on."""
    folder.mkdir(parents=True, exist_ok=True)
    for index in range(count):
        (folder / f"p{index:03d}.png").write_bytes(picture(index))
    return folder
