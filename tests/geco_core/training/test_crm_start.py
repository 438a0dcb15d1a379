"""What trainings start from: files of the published layout, files of ours, nothing."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from geco_core.checkpoints.imagedream import published_encoders, published_network
from geco_core.checkpoints.origin import origin_text
from geco_core.config.load import to_dict
from geco_core.config.train import CrmTrainingConfig, InitConfig, ModelConfig
from geco_core.errors import ConfigError, Fatal
from geco_core.multiview.condition_encoders import ConditionEncoders
from geco_core.multiview.crm import CrmDiffusion
from geco_core.multiview.imagedream import ImageDream
from geco_core.training.crm_start import (
    check_start,
    model_config,
    start_diffusion,
    start_reconstructor,
    widened,
)
from tests.geco_core.multiview.crm_models import CRM, ENCODERS, VIEWS, seeded
from tests.support.tiny_training import PATCH_CRM, tiny_training


def published(folder: Path, *, licence: bool = False) -> str:
    """A file as ImageDream's, of the tiny networks."""
    network, encoders = seeded(ImageDream, VIEWS), seeded(ConditionEncoders, ENCODERS)
    tensors = {**published_network(network), **published_encoders(encoders)}
    path = folder / "imagedream.safetensors"
    texts = origin_text(("MIT",)) if licence else None
    save_file({k: v.contiguous() for k, v in tensors.items()}, path, metadata=texts)
    return str(path)


def config(training: str) -> CrmTrainingConfig:
    """A training of the tiny networks with an autoencoder, as at full size."""
    model = ModelConfig(overrides={"diffusion": to_dict(CRM), "device": "cpu"})
    return replace(tiny_training(training), model=model)


def test_stage_one_starts_as_the_published_network(tmp_path: Path) -> None:
    init = InitConfig(network=published(tmp_path, licence=True))
    start = start_diffusion(config("views"), init)
    wanted = seeded(ImageDream, VIEWS).state_dict()
    assert all(torch.equal(v, wanted[k]) for k, v in start.network.state_dict().items())
    encoders = seeded(ConditionEncoders, ENCODERS).state_dict()
    assert all(torch.equal(v, encoders[k]) for k, v in start.encoders.state_dict().items())
    assert start.licences == ("MIT",)
    assert start.fitted
    assert set(start.init) == {"network"}


def test_stage_two_halves_the_first_layer_beside_zeros(tmp_path: Path) -> None:
    init = InitConfig(network=published(tmp_path), licences=("OpenRAIL",))
    start = start_diffusion(config("ccm"), init)
    narrow = seeded(ImageDream, VIEWS).state_dict()
    found = start.network.state_dict()
    weight = found.pop("unet.conv_in.weight")
    assert weight.shape[1] == 8
    assert torch.equal(weight[:, :4], 0.5 * narrow.pop("unet.conv_in.weight"))
    assert not weight[:, 4:].any()
    assert all(torch.equal(v, narrow[k]) for k, v in found.items())
    assert start.licences == ("OpenRAIL",)


def test_widening_keeps_half_of_what_it_had() -> None:
    weight = torch.randn(2, 3, 1, 1, generator=torch.Generator().manual_seed(0))
    wide = widened(weight, 7)
    assert wide.shape == (2, 7, 1, 1)
    assert torch.equal(wide.sum(1), 0.5 * weight.sum(1))


def test_a_file_of_ours_gives_encoders_and_passes_the_other_stage_on(tmp_path: Path) -> None:
    model = seeded(CrmDiffusion, PATCH_CRM)
    path = tmp_path / "own.safetensors"
    tensors = {k: v.contiguous() for k, v in model.state_dict().items()}
    save_file(tensors, path, metadata=origin_text(("Apache-2.0",)))
    start = start_diffusion(tiny_training("ccm"), InitConfig(multiview=str(path)))
    wanted = model.ccm.state_dict()
    assert all(torch.equal(v, wanted[k]) for k, v in start.network.state_dict().items())
    assert all(k.startswith("views.") for k in start.rest)
    assert len(start.rest) == len(model.views.state_dict())
    assert start.fitted
    half = {k: v for k, v in tensors.items() if not k.startswith("ccm.")}
    save_file(half, path, metadata=origin_text(("Apache-2.0",)))
    fresh = start_diffusion(tiny_training("ccm"), InitConfig(multiview=str(path)))
    assert fresh.rest.keys() == start.rest.keys()  # stage 2 is new


def test_a_network_of_full_size_does_not_silently_start_at_random(tmp_path: Path) -> None:
    model, path = seeded(CrmDiffusion, CRM), tmp_path / "own.safetensors"
    half = {k: v.contiguous() for k, v in model.state_dict().items() if not k.startswith("ccm.")}
    save_file(half, path, metadata=origin_text(("Apache-2.0",)))
    with pytest.raises(ConfigError, match="holds no network 'ccm'"):
        start_diffusion(config("ccm"), InitConfig(multiview=str(path)))
    init = InitConfig(multiview=str(path), network=published(tmp_path), licences=("MIT",))
    assert start_diffusion(config("ccm"), init).rest


@pytest.mark.parametrize(
    ("training", "init", "match"),
    [
        ("reconstructor", InitConfig(network="a.pt"), "does not start from init.network"),
        ("views", InitConfig(reconstructor="CRM.pth"), "does not start from init.reconstructor"),
    ],
)
def test_what_would_not_be_read_is_refused(training: str, init: InitConfig, match: str) -> None:
    with pytest.raises(ConfigError, match=match):
        check_start(replace(tiny_training(training), init=init))
    ranked = tiny_training(training)
    with pytest.raises(ConfigError, match="student_rank is of a distillation"):
        check_start(replace(ranked, train=replace(ranked.train, student_rank=4)))


def test_licences_must_be_known(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"init\.network does not say"):
        start_diffusion(config("views"), InitConfig(network=published(tmp_path)))


def test_what_can_not_be_started_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"init\.network"):
        start_diffusion(config("views"), InitConfig())
    path = tmp_path / "other.safetensors"
    save_file({"model.diffusion_model.x": torch.zeros(1)}, path)
    with pytest.raises(Fatal):
        start_diffusion(config("views"), InitConfig(network=str(path), licences=("MIT",)))
    pinned = InitConfig(network=published(tmp_path), licences=("MIT",), network_sha256="0" * 64)
    with pytest.raises(Fatal, match="sha256"):
        start_diffusion(config("views"), pinned)
    other = replace(tiny_training("views"), model=ModelConfig(system="instantmesh"))
    with pytest.raises(ConfigError, match=r"model\.system=crm"):
        model_config(other)


def test_a_fresh_reconstructor_is_a_ball() -> None:
    model = start_reconstructor(tiny_training("reconstructor"), InitConfig()).model
    planes = torch.randn(1, 3, 8, 16, 16)
    points = torch.tensor([[[0.0, 0.0, 0.0], [0.0, 0.6, 0.0]]])
    torch.testing.assert_close(
        model.decoder.field(planes, points), torch.tensor([[0.5, -0.1]]), atol=1e-5, rtol=0
    )
