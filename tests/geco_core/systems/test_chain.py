"""Systems built from files in the published layout: tiny stand-ins, the real code path."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file

from geco_core.config.load import load, preset_path
from geco_core.config.models import InstantMeshConfig
from geco_core.errors import ConfigError, Fatal
from geco_core.reconstruct.instantnerf import InstantNeRF
from geco_core.systems import build_system, describe_system
from geco_core.systems.crm import CrmSystem
from geco_core.systems.instantmesh import InstantMeshSystem, precision
from geco_core.types import Item, Mesh
from tests.geco_core.checkpoints.published import chain_words, write_chain
from tests.geco_core.checkpoints.published_crm import crm_words, write_crm


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A pipeline folder, a white U-Net and two Lightning files, with a few thousand weights."""
    folder = tmp_path_factory.mktemp("weights")
    write_chain(folder)
    return folder


def photograph() -> bytes:
    pixels = np.full((32, 32, 4), 255, np.uint8)
    pixels[..., 3] = 0
    pixels[8:24, 10:22] = (200, 60, 20, 255)
    buffer = io.BytesIO()
    Image.fromarray(pixels, "RGBA").save(buffer, format="PNG")
    return buffer.getvalue()


def test_the_published_files_make_a_mesh(weights: Path) -> None:
    system = build_system("instantmesh", "full", chain_words(weights, "mesh"))
    condition = system.prepare(Item("a", image=photograph()))
    (mesh,) = system.generate([condition], [1])
    assert isinstance(mesh, Mesh)
    assert len(mesh.faces) > 100
    provenance = system.provenance()
    assert "CC-BY-NC-4.0" in provenance["licences"]
    assert len(provenance["weights_digest"]) == 129


def test_the_white_unet_replaces_the_pipelines_own(weights: Path) -> None:
    system = build_system("instantmesh", "full", chain_words(weights, "mesh"))
    assert isinstance(system, InstantMeshSystem)
    own = build_system(
        "instantmesh", "full", [*chain_words(weights, "mesh"), 'weights.white_unet=""']
    )
    assert isinstance(own, InstantMeshSystem)
    white, plain = (s.models[0].unet.conv_in.weight for s in (system, own))
    torch.testing.assert_close(white - plain, torch.full_like(plain, 0.01), atol=1e-6, rtol=0)
    assert own.provenance()["weights_digest"] != system.provenance()["weights_digest"]


def test_the_radiance_field_variant_ends_in_marching_cubes(weights: Path) -> None:
    system = build_system("instantmesh", "full-nerf", chain_words(weights, "nerf"))
    assert isinstance(system, InstantMeshSystem)
    assert isinstance(system.models[1], InstantNeRF)
    condition = system.prepare(Item("a", image=photograph()))
    (result,) = system.generate([condition], [1])
    # An untrained density need not cross the level; what matters is that the row is decided.
    assert isinstance(result, Mesh) or result.reason.value == "empty_mesh"


def test_the_one_step_system_reads_the_same_files(weights: Path) -> None:
    words = chain_words(weights, "mesh")
    system = build_system("geco", "full", words)
    assert isinstance(system, InstantMeshSystem)
    assert system.name == "geco"
    assert system.config.sampler.kind == "one_step"
    condition = system.prepare(Item("a", image=photograph()))
    first = system.multiview([condition], [1]).images
    later = build_system("geco", "full", [*words, "sampler.reference_t=999"])
    assert isinstance(later, InstantMeshSystem)
    assert not torch.equal(first, later.multiview([condition], [1]).images)


def test_crms_published_files_make_a_mesh_and_so_does_one_file_of_ours(tmp_path: Path) -> None:
    write_crm(tmp_path)
    words = crm_words(tmp_path)
    system = build_system("crm", "full", words)
    assert isinstance(system, CrmSystem)
    condition = system.prepare(Item("a", image=photograph()))
    (mesh,) = system.generate([condition], [1])
    assert isinstance(mesh, Mesh)
    assert len(mesh.faces) > 100
    assert {p.dtype for p in system.models[0].parameters()} == {torch.float32}
    own = tmp_path / "own.safetensors"
    save_file({k: v.contiguous() for k, v in system.models[0].state_dict().items()}, own)
    again = build_system("crm", "full", [*words, f"weights.multiview={own}"])
    (same,) = again.generate([condition], [1])
    assert isinstance(same, Mesh)
    assert same.vertices.tobytes() == mesh.vertices.tobytes()
    assert again.provenance()["weights_digest"] != system.provenance()["weights_digest"]


def test_crm_is_no_teacher_of_a_distillation() -> None:
    with pytest.raises(ConfigError, match="can be distilled"):
        describe_system("targets", "micro", ["teacher=crm"])


@pytest.mark.parametrize("system", ["instantmesh", "geco", "crm"])
def test_missing_weights_say_what_to_do(system: str, tmp_path: Path) -> None:
    words = ["device=cpu", "weights.multiview=nobody/nothing", "weights.reconstructor=x/y"]
    with pytest.raises(Fatal) as caught:
        build_system(system, "full", words)
    wanted = "TencentARC/InstantMesh" if system == "instantmesh" else "nobody/nothing"
    wanted += " pixel-diffusion.pth ccm-diffusion.pth" if system == "crm" else ""
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
