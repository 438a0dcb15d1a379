"""The CRM adapter: CRM.pth at full size, and whole tiny files in every form."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from geco_core.checkpoints.crm import (
    load_crm,
    load_published,
    our_name,
    published_name,
    published_state,
)
from geco_core.config.crm_reconstructor import CrmReconstructorConfig
from geco_core.errors import Fatal
from geco_core.reconstruct.crm import CrmReconstructor
from tests.geco_core.checkpoints.published import INVENTORIES
from tests.geco_core.reconstruct.crm_models import TINY, tiny_crm


def shapes() -> dict[str, list[int]]:
    return json.loads((INVENTORIES / "keys_crm.json").read_text())


def test_the_published_file_fits_at_full_size_both_ways() -> None:
    state = {name: torch.empty(shape, device="meta") for name, shape in shapes().items()}
    with torch.device("meta"):
        model = CrmReconstructor(CrmReconstructorConfig())
    report = load_published(model, state)
    assert report.loaded == 629 == len(report.renamed)
    assert report.dropped == ()
    assert sum(p.numel() for p in model.parameters()) == 118_841_404
    back = {name: list(tensor.shape) for name, tensor in published_state(model).items()}
    assert back == shapes()


def test_names_map_back_and_forth() -> None:
    for name in shapes():
        ours = our_name(name)
        assert ours is not None
        assert published_name(ours) == name
    assert our_name("unet2.learned_plane.extra") is None
    assert our_name("sdfMlp.fc4.weight") is None


def test_the_published_file_its_conversion_and_ours_load_alike(tmp_path: Path) -> None:
    original = tiny_crm()
    state = original.state_dict()
    torch.save(published_state(original), tmp_path / "CRM.pth")
    save_file(published_state(original), tmp_path / "b.safetensors")
    save_file(state, tmp_path / "c.safetensors")
    for name in ("", "CRM.pth", "b.safetensors", "c.safetensors"):
        loaded = load_crm(str(tmp_path / name), TINY)
        assert loaded.report.dropped == ()
        assert not loaded.model.training
        assert all(torch.equal(v, state[n]) for n, v in loaded.model.state_dict().items())
        assert (loaded.family, loaded.licences) == ("", ())
    half = load_crm(str(tmp_path / "CRM.pth"), TINY, dtype=torch.float16)
    assert {p.dtype for p in half.model.parameters()} == {torch.float16}


@pytest.mark.parametrize("change", ["missing", "unknown", "shape"])
def test_surprises_are_refused(change: str) -> None:
    state = published_state(tiny_crm())
    if change == "missing":
        del state["unet2.learned_plane"]
    elif change == "unknown":
        state["sdfMlp.fc4.weight"] = torch.zeros(1)
    else:
        state["weightMlp.2.bias"] = torch.zeros(20)
    with pytest.raises(Fatal, match=r"missing|unknown|shape"):
        load_published(tiny_crm(), state)


def test_a_file_of_the_diffusion_half_is_told(tmp_path: Path) -> None:
    save_file({"model.diffusion_model.out.0.bias": torch.ones(1)}, tmp_path / "x.safetensors")
    with pytest.raises(Fatal, match=r"start with \['model'\]"):
        load_crm(str(tmp_path / "x.safetensors"), TINY)
