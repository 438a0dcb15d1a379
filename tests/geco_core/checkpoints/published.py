"""Published checkpoints at full size without a byte of data, and tiny ones with data."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor

from geco_core.checkpoints.instantmesh import build_reconstructor
from geco_core.config.load import to_dict
from geco_core.config.models import EncoderConfig, ReconstructorConfig
from geco_core.config.run import model_overrides
from geco_core.multiview.published import part_modules, published_shapes
from geco_core.multiview.zero123plus import Zero123Plus
from tests.support.tiny_models import TINY_VIEWS

INVENTORIES = Path(__file__).parents[2] / "golden" / "data"
TINY_ENCODER = EncoderConfig(16, 1, 2, 32, image_size=32, patch_size=16)


def tiny_reconstructor(**changes: Any) -> ReconstructorConfig:
    """A reconstructor of a few thousand parameters."""
    sizes = {
        "encoder": TINY_ENCODER,
        "input_size": 32,
        "transformer_dim": 16,
        "transformer_layers": 1,
        "transformer_heads": 2,
        "triplane_low_res": 4,
        "triplane_high_res": 8,
        "triplane_dim": 4,
        "decoder_hidden_dim": 8,
    }
    return ReconstructorConfig(**{**sizes, **changes})


def inventory(name: str, prefix: str = "") -> dict[str, Tensor]:
    """Every tensor of a published file by its published name, on the meta device."""
    shapes = json.loads((INVENTORIES / f"keys_{name}.json").read_text())["shapes"]
    return {prefix + key: torch.empty(shape, device="meta") for key, shape in shapes.items()}


def part_state(model: Zero123Plus, part: str) -> dict[str, Tensor]:
    """One part of a model under its published names."""
    values = part_modules(model)[part].state_dict().values()
    return dict(zip(published_shapes(model, part), (v.clone() for v in values), strict=True))


def write_pipeline(folder: Path, model: Zero123Plus) -> None:
    """A model as a published folder."""
    ramp = [0.5, 0.4, 0.3, 0.2, 0.1]
    unet, codec = model.config.unet, model.config.codec
    documents = {
        "model_index.json": {"ramping_coefficients": ramp, "unet": ["diffusers", "x"]},
        "unet/config.json": {
            "attention_head_dim": list(unet.attention_heads),
            "norm_num_groups": unet.norm_num_groups,
        },
        "vae/config.json": {"scaling_factor": codec.scaling_factor},
        "text_encoder/config.json": {"num_attention_heads": 2, "hidden_act": "gelu"},
        "vision_encoder/config.json": {"num_attention_heads": 2, "hidden_act": "gelu"},
        "scheduler/scheduler_config.json": {
            "beta_schedule": "linear",
            "prediction_type": "v_prediction",
            "timestep_spacing": "linspace",
        },
        "feature_extractor_vae/preprocessor_config.json": {"image_std": [0.8, 0.8, 0.8]},
    }
    for name, document in documents.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(document))
    for part in part_modules(model):
        stem = "model" if part.endswith("encoder") else "diffusion_pytorch_model"
        save_file(part_state(model, part), folder / part / f"{stem}.safetensors")


def write_instantmesh(folder: Path, model: Zero123Plus) -> None:
    """The files of InstantMesh's repository: a white U-Net, and a mesh and a radiance field."""
    folder.mkdir(parents=True, exist_ok=True)
    white = {k: v + 0.01 for k, v in part_state(model, "unet").items()}
    torch.save(white, folder / "diffusion_pytorch_model.bin")
    for kind in ("mesh", "nerf"):
        reconstructor = build_reconstructor(tiny_reconstructor(kind=kind))
        state = {f"lrm_generator.{k}": v for k, v in reconstructor.state_dict().items()}
        torch.save({"state_dict": state, "epoch": 3}, folder / f"instant_{kind}_large.ckpt")


def write_chain(folder: Path) -> None:
    """Everything the published teacher chain reads, with a few thousand weights."""
    torch.manual_seed(0)
    model = Zero123Plus(TINY_VIEWS)
    write_pipeline(folder / "zero123plus-v1.2", model)
    write_instantmesh(folder / "InstantMesh", model)


def tiny_chain(kind: str = "mesh") -> dict[str, Any]:
    """The sizes of `write_chain`, as the `model` section of a run's settings."""
    # A radius that puts a surface into an untrained field; the published value is 0.
    sizes = to_dict(tiny_reconstructor(kind=kind, sdf_sphere_radius=0.5, nerf_mesh_res=16))
    return {
        "multiview": to_dict(TINY_VIEWS),
        "reconstructor": sizes,
        "sampler": {"steps": 2},
        "extraction": {"grid_res": 16},
        "device": "cpu",
    }


def chain_words(folder: Path, kind: str = "mesh") -> list[str]:
    """Overrides of a system with the files of `write_chain`."""
    surface = folder / "InstantMesh" / f"instant_{kind}_large.ckpt"
    return [
        *model_overrides(tiny_chain(kind)),
        f"weights.multiview={folder / 'zero123plus-v1.2'}",
        f"weights.white_unet={folder / 'InstantMesh'}",
        f"weights.reconstructor={surface}",
    ]
