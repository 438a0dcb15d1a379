"""What a configuration names is what is loaded, whether published or our own."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from geco_core.checkpoints.configured import load_diffusion, load_multiview
from geco_core.checkpoints.loaded import LoadedModel, LoadedParts
from geco_core.config.crm_system import CrmConfig
from geco_core.config.load import load, preset_path
from geco_core.config.models import InstantMeshConfig
from geco_core.errors import ConfigError
from tests.geco_core.checkpoints.published import chain_words, write_chain
from tests.geco_core.checkpoints.published_crm import crm_words, write_crm


def test_published_files_have_a_digest_each(tmp_path: Path) -> None:
    write_crm(tmp_path / "crm")
    config = load(CrmConfig, preset_path("crm", "full"), crm_words(tmp_path / "crm"))
    loaded = load_diffusion(config, torch.float32)
    assert isinstance(loaded, LoadedParts)
    assert {p.dtype for p in loaded.model.parameters()} == {torch.float32}
    write_chain(tmp_path)
    words = chain_words(tmp_path)
    views = load_multiview(load(InstantMeshConfig, preset_path("instantmesh", "full"), words))
    assert isinstance(views, LoadedParts)
    assert set(views.digests) == {"unet", "vae", "text_encoder", "vision_encoder"}


def test_one_file_of_our_own_holds_encoders_and_both_stages(tmp_path: Path) -> None:
    write_crm(tmp_path)
    words = crm_words(tmp_path)
    published = load_diffusion(load(CrmConfig, preset_path("crm", "full"), words)).model
    own = tmp_path / "own.safetensors"
    save_file({k: v.contiguous() for k, v in published.state_dict().items()}, own)
    config = load(CrmConfig, preset_path("crm", "full"), [*words, f"weights.multiview={own}"])
    loaded = load_diffusion(config)
    assert isinstance(loaded, LoadedModel)
    assert {n.partition(".")[0] for n in loaded.model.state_dict()} == {"encoders", "views", "ccm"}
    expected = published.state_dict()
    assert all(torch.equal(v, expected[n]) for n, v in loaded.model.state_dict().items())


def test_a_pin_of_a_file_that_is_not_read_is_refused() -> None:
    words = ["weights.multiview=package:crm-micro-multiview.safetensors", "weights.ccm_sha256=ab"]
    with pytest.raises(ConfigError, match="pins nothing"):
        load_diffusion(load(CrmConfig, preset_path("crm", "micro"), words))
