"""The adapter of MVDream, ImageDream and CRM: full size on meta, and whole tiny files."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from torch import Tensor

from geco_core.checkpoints.imagedream import (
    SCHEDULE_VECTORS,
    left_out,
    load_encoders,
    load_imagedream,
    load_network,
    published_encoders,
    published_network,
)
from geco_core.config.crm import (
    CRM_CCM,
    CRM_VIEWS,
    MVDREAM,
    ConditionEncodersConfig,
    ImageDreamConfig,
)
from geco_core.errors import Fatal
from geco_core.multiview.condition_encoders import ConditionEncoders
from geco_core.multiview.imagedream import ImageDream
from tests.geco_core.checkpoints.published import INVENTORIES
from tests.geco_core.multiview.crm_models import ENCODERS, VIEWS, seeded

CCM_FILE = "ccm-diffusion.pth"


def inventory(name: str) -> dict[str, Tensor]:
    """Empty tensors on meta of the names and shapes of a bare inventory."""
    shapes = json.loads((INVENTORIES / f"{name}.json").read_text())
    return {n: torch.empty(s, device="meta") for n, s in shapes.items()}


def on_meta(config: ImageDreamConfig) -> ImageDream:
    with torch.device("meta"):
        return ImageDream(config)


@pytest.mark.parametrize(
    ("config", "name"), [(CRM_VIEWS, "pixel"), (CRM_CCM, "ccm")], ids=["views", "ccm"]
)
def test_the_published_networks_fit_at_full_size(config: ImageDreamConfig, name: str) -> None:
    model, state = on_meta(config), inventory(f"keys_{name}_diffusion_unet")
    report = load_network(model, state, assign=True)
    assert report.loaded == len(state) == len(model.state_dict()) == 773
    assert report.dropped == report.missing == ()
    again = published_network(model)
    assert {n: v.shape for n, v in again.items()} == {n: v.shape for n, v in state.items()}


def test_mvdream_is_the_same_without_image_parts() -> None:
    state = {
        name: tensor
        for name, tensor in inventory("keys_pixel_diffusion_unet").items()
        if ".image_embed." not in name and "_ip." not in name
    }
    assert len(state) == 690
    assert load_network(on_meta(MVDREAM), state, assign=True).loaded == 690


def test_encoders_fit_at_full_size_and_drop_what_is_named() -> None:
    with torch.device("meta"):
        encoders = ConditionEncoders(ConditionEncodersConfig())
    state = inventory("keys_diffusion_shared_rest")
    reports = {report.part: report for report in load_encoders(encoders, state, assign=True)}
    assert reports["vae"].dropped == ()
    assert reports["text"].dropped == ("text_projection", "logit_scale")
    assert reports["vision"].dropped == ("visual.proj",)
    again = published_encoders(encoders)
    left = state.keys() - again.keys() - set(SCHEDULE_VECTORS)
    assert {n.removeprefix("clip_model.model.") for n in left} == {
        "text_projection",
        "logit_scale",
        "visual.proj",
    }
    assert all(again[n].shape == state[n].shape for n in again)


@pytest.fixture(scope="module")
def tiny() -> tuple[ImageDream, ConditionEncoders]:
    return seeded(ImageDream, VIEWS), seeded(ConditionEncoders, ENCODERS)


def whole_file(tiny: tuple[ImageDream, ConditionEncoders]) -> dict[str, Tensor]:
    return {
        **published_network(tiny[0]),
        **published_encoders(tiny[1]),
        "clip_model.model.logit_scale": torch.zeros(()),
        **{name: torch.zeros(1000) for name in SCHEDULE_VECTORS},
    }


def test_a_whole_file_comes_back(
    tiny: tuple[ImageDream, ConditionEncoders], tmp_path: Path
) -> None:
    torch.save(whole_file(tiny), tmp_path / CCM_FILE)
    loaded = load_imagedream(str(tmp_path), VIEWS, ENCODERS, names=[CCM_FILE])
    assert loaded.encoders is not None
    for ours, theirs in zip((loaded.model, loaded.encoders), tiny, strict=True):
        expected = theirs.state_dict()
        for name, value in ours.state_dict().items():
            assert torch.equal(value, expected[name]), name
    assert float(loaded.model.config.schedule.beta_end) == 0.012  # never from the file
    assert [report.part for report in loaded.reports] == ["unet", "vae", "text", "vision"]
    assert len(loaded.sha256) == 64
    alone = load_imagedream(str(tmp_path / CCM_FILE), VIEWS, dtype=torch.float16)
    assert alone.encoders is None
    assert alone.model.unet.dtype == torch.float16


def test_snapshots_of_training_lack_a_prefix(tiny: tuple[ImageDream, ConditionEncoders]) -> None:
    state = {n.removeprefix("model."): v for n, v in published_network(tiny[0]).items()}
    assert load_network(seeded(ImageDream, VIEWS, 4), state).loaded == len(state)


def test_surprises_are_refused(tiny: tuple[ImageDream, ConditionEncoders]) -> None:
    state = whole_file(tiny)
    model = seeded(ImageDream, VIEWS)
    with pytest.raises(Fatal, match=r"conv_in\.weight is missing"):
        load_network(model, {n: v for n, v in state.items() if "input_blocks.0" not in n})
    with pytest.raises(Fatal, match="bogus is unknown"):
        load_network(model, {**state, "model.diffusion_model.bogus": torch.zeros(1)})
    with pytest.raises(Fatal, match="no unet in this file"):
        load_network(model, {"encoder.weight": torch.zeros(1)})


def test_what_is_not_read_of_a_file_is_known(tiny: tuple[ImageDream, ConditionEncoders]) -> None:
    state = whole_file(tiny)
    assert set(left_out(state, encoders=True)) == set(SCHEDULE_VECTORS)
    without = left_out(state, encoders=False)
    assert set(published_encoders(tiny[1])) < set(without)
    assert not any("diffusion_model" in name for name in without)
    with pytest.raises(Fatal, match=r"1 tensors belong to no part, first \['ema.x'\]"):
        left_out([*state, "ema.x"], encoders=True)
