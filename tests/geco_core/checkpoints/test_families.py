"""What a configuration will load, and under which licences, before anything is loaded."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from geco_core.checkpoints.families import bound_by, chain_weights, crm_family
from geco_core.checkpoints.origin import origin_text
from geco_core.config.crm_system import CrmConfig
from geco_core.config.load import load, preset_path
from geco_core.config.models import InstantMeshConfig
from geco_core.systems.chain import load_chain, load_crm_chain
from tests.geco_core.checkpoints.published import chain_words, write_chain
from tests.geco_core.checkpoints.published_crm import crm_words, write_crm

NC = ("CC-BY-NC-4.0", "CreativeML-OpenRAIL++-M")
CRM = ("CreativeML-OpenRAIL++-M", "MIT")


def config(preset: str, *words: str) -> InstantMeshConfig:
    return load(InstantMeshConfig, preset_path("instantmesh", preset), words)


def crm_config(preset: str, *words: str) -> CrmConfig:
    return load(CrmConfig, preset_path("crm", preset), words)


def test_crm_is_bound_by_what_it_was_tuned_from() -> None:
    assert chain_weights(crm_config("full")).licences == CRM
    assert crm_family(crm_config("full").reconstructor) == "crm-reconstructor"
    micro = crm_config("micro")
    assert chain_weights(micro).licences == ("Apache-2.0",)
    assert crm_family(micro.reconstructor) == ""


def test_a_file_of_crms_own_says_its_own(tmp_path: Path) -> None:
    own = tmp_path / "own.safetensors"
    save_file({"a": torch.ones(1)}, own, origin_text(NC))
    words = (f"weights.multiview={own}", f"weights.reconstructor={own}")
    assert chain_weights(crm_config("full", *words)).licences == NC


def test_what_is_told_of_crm_before_is_what_loading_tells(tmp_path: Path) -> None:
    write_crm(tmp_path)
    chosen = crm_config("full", *crm_words(tmp_path))
    loaded = load_crm_chain(chosen, torch.float32)
    assert loaded.licences == chain_weights(chosen).licences == ("Apache-2.0", *CRM)
    assert len(loaded.digest) == 129
    files = chain_weights(chosen).files
    assert set(files) == {"multiview", "reconstructor"}
    names = {path.name for path in tmp_path.iterdir()}
    assert {group[-1] for groups in files.values() for group in groups} == names


def test_published_presets_are_bound_by_every_publisher() -> None:
    assert chain_weights(config("full")).licences == ("Apache-2.0", *NC)
    assert chain_weights(config("full", "weights.white_unet=''")).licences == ("Apache-2.0", *NC)
    assert chain_weights(config("micro")).licences == ("Apache-2.0",)
    assert chain_weights(config("micro", "weights.licence=MIT")).licences == ("Apache-2.0",)
    nothing = config("full", "weights.multiview=''", "weights.reconstructor=''")
    assert set(chain_weights(nothing).licences) <= {"Apache-2.0", *NC}


def test_a_file_of_ours_says_its_own(tmp_path: Path) -> None:
    own = tmp_path / "own.safetensors"
    words = (f"weights.multiview={own}", f"weights.reconstructor={own}", "weights.licence=MIT")
    assert chain_weights(config("micro", *words)).licences == ("MIT",)
    save_file({"a": torch.ones(1)}, own, origin_text(NC))
    assert chain_weights(config("micro", *words)).licences == NC
    assert chain_weights(config("full", *words)).licences == NC


def test_what_is_told_before_is_what_loading_tells(tmp_path: Path) -> None:
    write_chain(tmp_path)
    for words in (chain_words(tmp_path), [*chain_words(tmp_path), "weights.white_unet=''"]):
        chosen = config("full", *words)
        assert load_chain(chosen, torch.float32).licences == chain_weights(chosen).licences


def test_needed_files_of_a_folder() -> None:
    files = chain_weights(config("full")).files
    names = [group[0] for group in files["multiview"]]
    assert "model_index.json" in names
    assert "vae/diffusion_pytorch_model.safetensors" in names
    assert "unet/diffusion_pytorch_model.safetensors" not in names
    assert "unet/config.json" in names
    assert files["reconstructor"] == (
        ("instant_mesh_large.safetensors", "instant_mesh_large.ckpt"),
    )
    plain = chain_weights(config("full", "weights.white_unet=''")).files["multiview"]
    assert "unet/diffusion_pytorch_model.safetensors" in [group[0] for group in plain]


@pytest.mark.parametrize(
    ("stated", "families", "configured", "bound"),
    [
        (("MIT",), ("zero123plus-v1.2",), "X", ("MIT",)),
        ((), ("zero123plus-v1.2",), "X", NC),
        ((), (), "X", ("X",)),
        ((), (), "", ()),
    ],
)
def test_who_is_believed(
    stated: tuple[str, ...], families: tuple[str, ...], configured: str, bound: tuple[str, ...]
) -> None:
    assert bound_by(stated, families, configured) == bound


def test_planning_needs_no_torch() -> None:
    program = "import sys, geco_core.systems as s; s.describe_weights('instantmesh', 'full'); "
    program += "s.describe_weights('crm', 'full'); s.describe_system('crm', 'micro'); "
    program += "assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", program], check=True)
