"""CRM's two diffusion files: full inventories on meta, and whole tiny files in every form."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from geco_core.checkpoints.crm_diffusion import (
    CCM,
    VIEWS,
    diffusion_files,
    fill_stage,
    load_crm_diffusion,
    published_files,
)
from geco_core.checkpoints.imagedream import SCHEDULE_VECTORS
from geco_core.config.crm import CrmDiffusionConfig
from geco_core.errors import Fatal
from geco_core.multiview.crm import CrmDiffusion
from tests.geco_core.checkpoints.published import INVENTORIES
from tests.geco_core.checkpoints.published_crm import whole_files, write_crm
from tests.geco_core.multiview.crm_models import CRM, seeded

UNUSED = {"text_projection", "logit_scale", "visual.proj"}
VIEWS_FILE, CCM_FILE = "pixel-diffusion.pth", "ccm-diffusion.pth"


def inventory(network: str) -> dict[str, Tensor]:
    """Every tensor of a published file, on meta."""
    names = (f"keys_{network}_diffusion_unet", "keys_diffusion_shared_rest")
    shapes = [json.loads((INVENTORIES / f"{name}.json").read_text()) for name in names]
    joined = {**shapes[0], **shapes[1]}
    return {name: torch.empty(shape, device="meta") for name, shape in joined.items()}


def test_both_published_files_fill_the_model_and_nothing_is_left_over() -> None:
    with torch.device("meta"):
        model = CrmDiffusion(CrmDiffusionConfig())
    ours, theirs = set(model.state_dict()), inventory("pixel")
    first = fill_stage(model, VIEWS, theirs)
    assert [report.part for report in first] == ["views", "vae", "text", "vision"]
    assert first[0].loaded == 773
    dropped = {name for report in first for name in report.dropped}
    assert dropped - set(SCHEDULE_VECTORS) == UNUSED
    (second,) = fill_stage(model, CCM, inventory("ccm"))
    assert second.loaded == 773
    assert all(n.startswith(("clip_model.", "vae_model.")) or n in SCHEDULE_VECTORS
               for n in second.dropped)  # fmt: skip
    loaded = sum(report.loaded for report in (*first, second))
    buffers = {n for n in ours if n.endswith("position_ids")}
    assert loaded == len(ours - buffers)
    again = published_files(model)
    for name, network in ((VIEWS_FILE, "pixel"), (CCM_FILE, "ccm")):
        shapes = {n: v.shape for n, v in inventory(network).items()}
        kept = {n: v.shape for n, v in again[name].items()}
        missing = {n.removeprefix("clip_model.model.") for n in shapes.keys() - kept.keys()}
        assert kept.items() <= shapes.items()
        assert missing - set(SCHEDULE_VECTORS) == UNUSED


@pytest.mark.parametrize("form", ["pth", "conversions"])
def test_the_two_files_come_back_as_one_model(tmp_path: Path, form: str) -> None:
    write_crm(tmp_path)
    files = whole_files(seeded(CrmDiffusion, CRM, 0))
    if form == "conversions":
        for name in files:
            state = torch.load(tmp_path / name, weights_only=True)
            save_file(state, (tmp_path / name).with_suffix(".safetensors"))
            (tmp_path / name).unlink()
    loaded = load_crm_diffusion(str(tmp_path), CRM)
    expected = seeded(CrmDiffusion, CRM, 0).state_dict()
    for name, value in loaded.model.state_dict().items():
        network = name.startswith(("views.", "ccm."))
        assert value.dtype == (torch.float16 if network else torch.float32), name
        torch.testing.assert_close(value.float(), expected[name], atol=2e-3, rtol=0)
    assert not loaded.model.training
    assert [r.part for r in loaded.reports] == ["views", "vae", "text", "vision", "ccm"]
    assert loaded.digests["views"] == loaded.digests["text"] != loaded.digests["ccm"]
    assert loaded.licences == ("CreativeML-OpenRAIL++-M", "MIT")
    half = load_crm_diffusion(str(tmp_path), CRM, dtype=torch.bfloat16).model
    assert {p.dtype for p in half.parameters()} == {torch.bfloat16}


def test_encoders_are_those_of_the_first_file(tmp_path: Path) -> None:
    write_crm(tmp_path)
    other = torch.load(tmp_path / CCM_FILE, weights_only=True)
    spoilt = {n: v if "diffusion_model" in n else torch.full_like(v, 9.0) for n, v in other.items()}
    torch.save(spoilt, tmp_path / CCM_FILE)
    model = load_crm_diffusion(str(tmp_path), CRM).model
    assert max(float(p.detach().abs().max()) for p in model.encoders.parameters()) < 9.0


def test_pins_are_of_each_file(tmp_path: Path) -> None:
    write_crm(tmp_path)
    digests = load_crm_diffusion(str(tmp_path), CRM).digests
    load_crm_diffusion(str(tmp_path), CRM, pins={VIEWS: digests["views"], CCM: digests["ccm"]})
    for stage, name in ((VIEWS, VIEWS_FILE), (CCM, CCM_FILE)):
        with pytest.raises(Fatal, match=f"{name} has sha256"):
            load_crm_diffusion(str(tmp_path), CRM, pins={stage: "0" * 64})


def test_missing_files_say_what_to_download(tmp_path: Path) -> None:
    with pytest.raises(Fatal) as caught:
        diffusion_files("nobody/nothing")
    wanted = f"hf download nobody/nothing {VIEWS_FILE} {CCM_FILE} --local-dir weights/nothing"
    assert wanted in caught.value.remedy
    write_crm(tmp_path)
    with pytest.raises(Fatal, match="published in two") as caught:
        diffusion_files(str(tmp_path / VIEWS_FILE))
    assert "give the folder" in caught.value.remedy
    (tmp_path / CCM_FILE).unlink()
    with pytest.raises(Fatal, match=r"looked for ccm-diffusion\.pth"):
        diffusion_files(str(tmp_path))


@pytest.mark.parametrize("change", ["missing", "unknown", "stray", "shape", "swapped"])
def test_surprises_are_refused(change: str) -> None:
    model = seeded(CrmDiffusion, CRM)
    files = whole_files(model)
    state = files[VIEWS_FILE]
    first = next(name for name in state if "input_blocks.0.0.weight" in name)
    if change == "missing":
        del state[first]
    elif change == "unknown":
        state["model.diffusion_model.bogus"] = torch.zeros(1)
    elif change == "stray":
        state["optimizer.step"] = torch.zeros(1)
    elif change == "shape":
        state[first] = torch.zeros(1)
    else:
        state = files[CCM_FILE]
    with pytest.raises(Fatal, match=r"missing|unknown|shape|belong to no part"):
        fill_stage(model, VIEWS, state)
