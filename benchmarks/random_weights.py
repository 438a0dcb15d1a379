"""Random weights in the published layout: what the full-size chain is built from where there are no
published files.

    python -m benchmarks.random_weights FOLDER [--chain instantmesh] [--seed 0]

`FOLDER/zero123plus` is a pipeline folder, `FOLDER/reconstructor.safetensors` a reconstructor, both
in float16: 4.6 GB at the published sizes. `--chain crm` writes `pixel-diffusion.pth`,
`ccm-diffusion.pth` and `CRM.pth` into FOLDER, all in float16: 8.3 GB. Matrices are normal with
variance 1 / inputs, norms are neutral, biases zero. An untrained reconstructor shows no surface:
see `SPHERE` and `CRM_SPHERE`.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from geco_core.checkpoints.adapter import skeleton
from geco_core.checkpoints.crm import published_state
from geco_core.checkpoints.crm_diffusion import published_files
from geco_core.checkpoints.families import CRM_FILES
from geco_core.checkpoints.imagedream import unused_shapes
from geco_core.checkpoints.instantmesh import build_reconstructor
from geco_core.config.crm import CrmDiffusionConfig
from geco_core.config.crm_reconstructor import CrmReconstructorConfig
from geco_core.config.models import MultiViewConfig, ReconstructorConfig
from geco_core.multiview.crm import CrmDiffusion
from geco_core.multiview.published import part_modules, published_shapes
from geco_core.multiview.zero123plus import Zero123Plus
from geco_core.reconstruct.crm import CrmReconstructor

# Overrides that put a sphere of this radius into an untrained field; the published values are 0, 1.
SPHERE = ("reconstructor.sdf_sphere_radius=0.7", "reconstructor.sdf_scale=0.05")
# CRM's field has a sphere; this much of the untrained head is added to it (1 is published).
CRM_SPHERE = ("reconstructor.field_scale=0.05",)
PIPELINE, RECONSTRUCTOR = "zero123plus", "reconstructor.safetensors"


def write_published(
    folder: Path, views: MultiViewConfig, reconstructor: ReconstructorConfig, seed: int
) -> None:
    """Write both models, one part in memory at a time."""
    draw = torch.Generator().manual_seed(seed)
    model = skeleton(lambda: Zero123Plus(views))
    for part in part_modules(model):
        name = "model" if part.endswith("encoder") else "diffusion_pytorch_model"
        _save(folder / PIPELINE / part / f"{name}.safetensors", published_shapes(model, part), draw)
    tokens = views.text.max_position_embeddings
    index = {"ramping_coefficients": torch.linspace(0.0, 1.0, tokens).tolist()}
    (folder / PIPELINE / "model_index.json").write_text(json.dumps(index), encoding="utf-8")
    state = skeleton(lambda: build_reconstructor(reconstructor)).state_dict()
    shapes = {name: tuple(value.shape) for name, value in state.items()}
    _save(folder / RECONSTRUCTOR, shapes, draw)


def write_published_crm(
    folder: Path, diffusion: CrmDiffusionConfig, reconstructor: CrmReconstructorConfig, seed: int
) -> None:
    """Write CRM's three files, one in memory at a time."""
    folder.mkdir(parents=True, exist_ok=True)
    draw = torch.Generator().manual_seed(seed)
    files = published_files(skeleton(lambda: CrmDiffusion(diffusion)))
    shapes = {
        name: {**{n: tuple(v.shape) for n, v in state.items()}, **unused_shapes(diffusion.encoders)}
        for name, state in files.items()
    }
    state = published_state(skeleton(lambda: CrmReconstructor(reconstructor)))
    shapes[CRM_FILES[-1]] = {name: tuple(value.shape) for name, value in state.items()}
    for name, wanted in shapes.items():
        made = {n: random_values(n, shape, draw) for n, shape in wanted.items()}
        torch.save(made, folder / name)


def _save(path: Path, shapes: Mapping[str, tuple[int, ...]], draw: torch.Generator) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    save_file({name: random_values(name, shape, draw) for name, shape in shapes.items()}, path)


def fill(model: nn.Module, draw: torch.Generator, dtype: torch.dtype) -> None:
    """Give a skeleton random weights on the device of the generator, without a file."""
    state = model.state_dict()
    made = {n: random_values(n, tuple(v.shape), draw).to(dtype) for n, v in state.items()}
    model.load_state_dict(made, assign=True)


def random_values(name: str, shape: tuple[int, ...], draw: torch.Generator) -> Tensor:
    """Float16 values of a parameter on the device of the generator."""
    if len(shape) < 2:
        neutral = torch.ones if name.endswith("weight") else torch.zeros
        return neutral(shape, dtype=torch.float16, device=draw.device)
    inputs = torch.Size(shape[1:]).numel()
    return torch.randn(shape, generator=draw, device=draw.device).mul_(inputs**-0.5).half()


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.random_weights")
    parser.add_argument("folder", type=Path)
    parser.add_argument("--chain", choices=("instantmesh", "crm"), default="instantmesh")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    if options.chain == "crm":
        sizes = CrmDiffusionConfig(), CrmReconstructorConfig()
        write_published_crm(options.folder, *sizes, options.seed)
    else:
        write_published(options.folder, MultiViewConfig(), ReconstructorConfig(), options.seed)


if __name__ == "__main__":
    main()
