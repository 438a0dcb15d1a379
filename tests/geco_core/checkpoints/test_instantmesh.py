"""The InstantMesh adapter: the four published files at full size, and whole tiny files."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from geco_core.checkpoints.convert import ConvertOptions, convert
from geco_core.checkpoints.families import PUBLISHED, file_names, published_name
from geco_core.checkpoints.instantmesh import (
    build_reconstructor,
    load_published,
    load_reconstructor,
    recognise,
)
from geco_core.errors import Fatal
from tests.geco_core.checkpoints.published import inventory, tiny_reconstructor

PREFIX = "state_dict.lrm_generator."
PARAMETERS = {
    "instant-mesh-large": 378_657_644,
    "instant-mesh-base": 313_352_516,
    "instant-nerf-large": 378_477_332,
    "instant-nerf-base": 313_249_004,
}


@pytest.mark.parametrize("name", list(PUBLISHED))
def test_the_published_files_fit_at_full_size(name: str) -> None:
    state = inventory(name.replace("-", "_"), PREFIX)
    extra = {"state_dict.lpips.net.weight": torch.empty(1, device="meta")}
    extra[f"{PREFIX}source_camera"] = torch.empty(1, device="meta")
    with torch.device("meta"):
        model = build_reconstructor(PUBLISHED[name])
    report = load_published(model, {**state, **extra})
    assert report.part == name
    assert report.loaded == len(state) == len(model.state_dict())
    assert report.renamed == {n: n.removeprefix(PREFIX) for n in state}
    assert report.dropped == tuple(extra)
    assert sum(p.numel() for p in model.parameters()) == PARAMETERS[name]
    assert recognise(state) == published_name(PUBLISHED[name]) == name


@pytest.mark.parametrize(
    ("given", "configured"), list(zip(PUBLISHED, reversed(PUBLISHED), strict=True))
)
def test_another_published_file_is_recognised(given: str, configured: str) -> None:
    with torch.device("meta"):
        model = build_reconstructor(PUBLISHED[configured])
    with pytest.raises(Fatal, match=rf"{configured}: .* and \d+ more") as caught:
        load_published(model, inventory(given.replace("-", "_"), "lrm_generator."))
    assert given in caught.value.remedy


@pytest.mark.parametrize("kind", ["mesh", "nerf"])
def test_a_lightning_file_its_conversion_and_ours_load_alike(tmp_path: Path, kind: str) -> None:
    torch.manual_seed(6)
    config = tiny_reconstructor(kind=kind)
    original = build_reconstructor(config)
    state = original.state_dict()
    nested = {"lrm_generator." + n: v for n, v in state.items()} | {"lpips.x": torch.ones(2)}
    torch.save({"state_dict": nested, "epoch": 1}, tmp_path / "a.ckpt")
    convert(tmp_path / "a.ckpt", tmp_path / "b.safetensors", ConvertOptions(key="state_dict"))
    save_file(state, tmp_path / "c.safetensors")
    dropped = {
        "a.ckpt": ("state_dict.lpips.x", "epoch (int)"),
        "b.safetensors": ("lpips.x",),
        "c.safetensors": (),
    }
    for name, left_out in dropped.items():
        loaded = load_reconstructor(str(tmp_path / name), config)
        assert loaded.report.dropped == left_out
        assert loaded.family == ""
        assert not loaded.model.training
        assert all(torch.equal(v, state[n]) for n, v in loaded.model.state_dict().items())
        half = load_reconstructor(str(tmp_path / name), config, dtype=torch.float16)
        assert {p.dtype for p in half.model.parameters()} == {torch.float16}


def test_a_folder_is_searched_under_the_published_name(tmp_path: Path) -> None:
    assert file_names(PUBLISHED["instant-mesh-large"]) == [
        "instant_mesh_large.safetensors",
        "instant_mesh_large.ckpt",
    ]
    with pytest.raises(Fatal, match=r"instant_nerf_base\.ckpt"):
        load_reconstructor(str(tmp_path), PUBLISHED["instant-nerf-base"])


def test_a_file_without_a_reconstructor_is_told(tmp_path: Path) -> None:
    save_file({"unet.conv": torch.ones(1)}, tmp_path / "x.safetensors")
    with pytest.raises(Fatal, match=r"starts? with \['unet'\]"):
        load_reconstructor(str(tmp_path / "x.safetensors"), tiny_reconstructor())
