"""The check before a run opens what the run will open."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from geco_core.checkpoints.check import check_multiview, check_reconstructor
from geco_core.checkpoints.convert_family import convert_family
from geco_core.config.crm_system import CrmConfig
from geco_core.config.load import load, preset_path
from geco_core.config.models import InstantMeshConfig
from geco_core.errors import Fatal
from geco_core.systems.chain import load_chain, load_crm_chain
from tests.geco_core.checkpoints.published import chain_words, write_chain
from tests.geco_core.checkpoints.published_crm import crm_words, write_crm


def test_published_files_are_accounted_for(tmp_path: Path) -> None:
    write_chain(tmp_path)
    config = load(InstantMeshConfig, preset_path("instantmesh", "full"), chain_words(tmp_path))
    parts = check_multiview(config)
    assert [part.report.part for part in parts] == ["unet", "vae", "text_encoder", "vision_encoder"]
    assert all("CC-BY-NC-4.0" in part.licences for part in parts)
    (surface,) = check_reconstructor(config)
    assert surface.report.dropped == ("epoch (int)",)
    assert len(surface.sha256) == 64
    (tmp_path / "zero123plus-v1.2/vae/diffusion_pytorch_model.safetensors").write_bytes(b"<html>")
    with pytest.raises(Fatal, match="web page"):
        check_multiview(config)


def test_crms_published_files_are_accounted_for(tmp_path: Path) -> None:
    write_crm(tmp_path)
    config = load(CrmConfig, preset_path("crm", "full"), crm_words(tmp_path))
    parts = check_multiview(config)
    assert [part.report.part for part in parts] == ["views", "vae", "text", "vision", "ccm"]
    assert all(part.licences == ("CreativeML-OpenRAIL++-M", "MIT") for part in parts)
    assert len({part.sha256 for part in parts}) == 2
    (surface,) = check_reconstructor(config)
    assert surface.report.dropped == ()
    data = bytearray((tmp_path / "ccm-diffusion.pth").read_bytes())
    values = torch.load(tmp_path / "ccm-diffusion.pth", weights_only=True)
    tensor = values["model.diffusion_model.input_blocks.0.0.weight"]
    data[data.find(tensor.numpy().tobytes()) + 1] ^= 0xFF
    (tmp_path / "ccm-diffusion.pth").write_bytes(data)
    load_crm_chain(config, torch.float32)
    with pytest.raises(Fatal, match="CRC"):
        check_multiview(config)


def test_weights_of_our_own() -> None:
    config = load(InstantMeshConfig, preset_path("instantmesh", "micro"))
    for check in (check_multiview, check_reconstructor):
        (part,) = check(config)
        assert part.licences == ("Apache-2.0",)
        assert part.report.loaded > 100
        assert part.report.renamed == {}


def test_a_flipped_byte_that_loading_would_not_see_is_found(tmp_path: Path) -> None:
    write_chain(tmp_path)
    config = load(InstantMeshConfig, preset_path("instantmesh", "full"), chain_words(tmp_path))
    path = tmp_path / "InstantMesh/instant_mesh_large.ckpt"
    tensor = torch.load(path, weights_only=True)["state_dict"].popitem()[1]
    data = bytearray(path.read_bytes())
    data[data.find(tensor.numpy().tobytes()) + 1] ^= 0xFF
    path.write_bytes(data)
    load_chain(config, torch.float32)
    with pytest.raises(Fatal, match="CRC"):
        check_reconstructor(config)
    with pytest.raises(Fatal, match="CRC"):
        convert_family(str(path), tmp_path / "x.safetensors", "instant-mesh-large", config)
