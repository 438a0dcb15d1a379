"""Systems built from files in the published layout: tiny stand-ins, the real code path."""

from __future__ import annotations

import io
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from geco_core.checkpoints.instantmesh import build_reconstructor
from geco_core.config.load import load, preset_path, to_dict
from geco_core.config.models import InstantMeshConfig
from geco_core.config.run import model_overrides
from geco_core.errors import Fatal
from geco_core.multiview.zero123plus import Zero123Plus
from geco_core.reconstruct.instantnerf import InstantNeRF
from geco_core.systems import build_system
from geco_core.systems.instantmesh import InstantMeshSystem, precision
from geco_core.types import Item, Mesh
from tests.geco_core.checkpoints.published import (
    TINY_VIEWS,
    part_state,
    tiny_reconstructor,
    write_pipeline,
)

KINDS = {"full": "mesh", "full-nerf": "nerf"}


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A pipeline folder, a white U-Net and two Lightning files, with a few thousand weights."""
    folder = tmp_path_factory.mktemp("weights")
    torch.manual_seed(0)
    model = Zero123Plus(TINY_VIEWS)
    write_pipeline(folder / "zero123plus", model)
    white = {k: v + 0.01 for k, v in part_state(model, "unet").items()}
    (folder / "InstantMesh").mkdir()
    torch.save(white, folder / "InstantMesh" / "diffusion_pytorch_model.bin")
    for kind in KINDS.values():
        # A radius that puts a surface into an untrained field; the published value is 0.
        reconstructor = build_reconstructor(tiny_reconstructor(kind=kind))
        state = {f"lrm_generator.{k}": v for k, v in reconstructor.state_dict().items()}
        name = f"instant_{kind}_large.ckpt"
        torch.save({"state_dict": state, "epoch": 3}, folder / "InstantMesh" / name)
    return folder


def overrides(folder: Path, kind: str) -> list[str]:
    sizes = to_dict(tiny_reconstructor(kind=kind, sdf_sphere_radius=0.5, nerf_mesh_res=16))
    model = {"multiview": to_dict(TINY_VIEWS), "reconstructor": sizes}
    return [
        *model_overrides(model),
        "sampler.steps=2",
        "extraction.grid_res=16",
        f"weights.multiview={folder / 'zero123plus'}",
        f"weights.white_unet={folder / 'InstantMesh'}",
        f"weights.reconstructor={folder / 'InstantMesh' / f'instant_{kind}_large.ckpt'}",
        "device=cpu",
    ]


def photograph() -> bytes:
    pixels = np.full((32, 32, 4), 255, np.uint8)
    pixels[..., 3] = 0
    pixels[8:24, 10:22] = (200, 60, 20, 255)
    buffer = io.BytesIO()
    Image.fromarray(pixels, "RGBA").save(buffer, format="PNG")
    return buffer.getvalue()


def test_the_published_files_make_a_mesh(weights: Path) -> None:
    system = build_system("instantmesh", "full", overrides(weights, "mesh"))
    condition = system.prepare(Item("a", image=photograph()))
    (mesh,) = system.generate([condition], [1])
    assert isinstance(mesh, Mesh)
    assert len(mesh.faces) > 100
    provenance = system.provenance()
    assert "CC-BY-NC-4.0" in provenance["licences"]
    assert len(provenance["weights_digest"]) == 129


def test_the_white_unet_replaces_the_pipelines_own(weights: Path) -> None:
    system = build_system("instantmesh", "full", overrides(weights, "mesh"))
    assert isinstance(system, InstantMeshSystem)
    own = build_system(
        "instantmesh", "full", [*overrides(weights, "mesh"), 'weights.white_unet=""']
    )
    assert isinstance(own, InstantMeshSystem)
    white, plain = (s.models[0].unet.conv_in.weight for s in (system, own))
    torch.testing.assert_close(white - plain, torch.full_like(plain, 0.01), atol=1e-6, rtol=0)
    assert own.provenance()["weights_digest"] != system.provenance()["weights_digest"]


def test_the_radiance_field_variant_ends_in_marching_cubes(weights: Path) -> None:
    system = build_system("instantmesh", "full-nerf", overrides(weights, "nerf"))
    assert isinstance(system, InstantMeshSystem)
    assert isinstance(system.models[1], InstantNeRF)
    condition = system.prepare(Item("a", image=photograph()))
    (result,) = system.generate([condition], [1])
    # An untrained density need not cross the level; what matters is that the row is decided.
    assert isinstance(result, Mesh) or result.reason.value == "empty_mesh"


def test_the_one_step_system_reads_the_same_files(weights: Path) -> None:
    words = overrides(weights, "mesh")
    system = build_system("geco", "full", words)
    assert isinstance(system, InstantMeshSystem)
    assert system.name == "geco"
    assert system.config.sampler.kind == "one_step"
    condition = system.prepare(Item("a", image=photograph()))
    first = system.multiview([condition], [1]).images
    later = build_system("geco", "full", [*words, "sampler.reference_t=999"])
    assert isinstance(later, InstantMeshSystem)
    assert not torch.equal(first, later.multiview([condition], [1]).images)


@pytest.mark.parametrize("system", ["instantmesh", "geco"])
def test_missing_weights_say_what_to_do(system: str, tmp_path: Path) -> None:
    words = ["device=cpu", "weights.multiview=nobody/nothing", "weights.reconstructor=x/y"]
    with pytest.raises(Fatal) as caught:
        build_system(system, "full", words)
    wanted = "TencentARC/InstantMesh" if system == "instantmesh" else "nobody/nothing"
    assert f"hf download {wanted}" in caught.value.remedy
    if system == "geco":
        with pytest.raises(Fatal, match="no multiview weights"):
            build_system(system, "full", ["device=cpu"])


@pytest.mark.parametrize("preset", ["full", "full-base", "full-nerf"])
def test_full_presets_are_the_published_chain(preset: str) -> None:
    config = load(InstantMeshConfig, preset_path("instantmesh", preset))
    assert (config.sampler.steps, config.sampler.guidance_scale) == (75, 4.0)
    assert config.multiview.schedule.timestep_spacing == "trailing"
    assert config.multiview.background == "white"
    assert config.extraction.grid_res == 128
    assert config.reconstructor.grid_scale == 2.1
    assert config.reconstructor.transformer_layers == (12 if preset == "full-base" else 16)


def test_automatic_precision_is_that_of_the_device() -> None:
    assert precision("auto", torch.device("cpu")) is torch.float32
    assert precision("auto", torch.device("cuda")) is torch.float16
    assert precision("bfloat16", torch.device("cpu")) is torch.bfloat16
