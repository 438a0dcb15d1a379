"""CRM's published files with a few thousand weights."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from geco_core.checkpoints.crm import published_state
from geco_core.checkpoints.crm_diffusion import published_files
from geco_core.checkpoints.imagedream import unused_shapes
from geco_core.config.load import to_dict
from geco_core.config.run import model_overrides
from geco_core.multiview.crm import CrmDiffusion
from geco_core.reconstruct.crm import CrmReconstructor
from tests.geco_core.multiview.crm_models import CRM
from tests.geco_core.reconstruct.crm_models import TINY


def whole_files(model: CrmDiffusion) -> dict[str, dict[str, Tensor]]:
    """Both files of a diffusion half, with all that they hold and that is not used."""
    unused = {n: torch.zeros(s) for n, s in unused_shapes(model.config.encoders).items()}
    return {name: {**state, **unused} for name, state in published_files(model).items()}


def write_crm(folder: Path, seed: int = 0) -> None:
    """The three published files, networks in float16 and the rest in float32."""
    folder.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(seed)
    for name, state in whole_files(CrmDiffusion(CRM)).items():
        half = {n: v.half() if "diffusion_model" in n else v for n, v in state.items()}
        torch.save(half, folder / name)
    torch.save(published_state(CrmReconstructor(TINY)), folder / "CRM.pth")


def tiny_crm_chain() -> dict[str, Any]:
    """The sizes of `write_crm`, as the `model` section of a run's settings."""
    return {
        "diffusion": to_dict(CRM),
        "reconstructor": to_dict(TINY),
        "extraction": {"grid_res": 16, "exact": True},
        "device": "cpu",
    }


def crm_words(folder: Path) -> list[str]:
    """Overrides of `crm/full` with the files of `write_crm`."""
    words = model_overrides(tiny_crm_chain())
    return [*words, f"weights.multiview={folder}", f"weights.reconstructor={folder}"]
