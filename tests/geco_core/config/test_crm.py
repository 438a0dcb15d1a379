"""The published configurations of the multi-view networks, and values that are refused."""

from __future__ import annotations

from dataclasses import replace

import pytest

from geco_core.config.crm import (
    CRM_CCM,
    CRM_VIEWS,
    IMAGEDREAM_LOCAL,
    IMAGEDREAM_PIXEL,
    MVDREAM,
    CrmDiffusionConfig,
    NoiseTablesConfig,
)
from geco_core.config.crm_system import CrmConfig
from geco_core.config.load import load, preset_path, to_dict
from geco_core.errors import ConfigError


def test_the_published_networks_differ_where_they_should() -> None:
    found = {
        name: (c.unet.in_channels, c.rig.frames, c.unet.image_tokens, c.schedule.zero_terminal_snr)
        for name, c in {
            "mvdream": MVDREAM,
            "local": IMAGEDREAM_LOCAL,
            "pixel": IMAGEDREAM_PIXEL,
            "views": CRM_VIEWS,
            "ccm": CRM_CCM,
        }.items()
    }
    assert found == {
        "mvdream": (4, 4, 0, False),
        "local": (4, 4, 16, False),
        "pixel": (4, 5, 16, False),
        "views": (4, 7, 16, True),
        "ccm": (8, 6, 16, True),
    }


def test_it_loads_from_plain_values() -> None:
    again = load(CrmDiffusionConfig, to_dict(CrmDiffusionConfig()), ["views_sampler.steps=20"])
    assert again.views == CRM_VIEWS
    assert again.views_sampler.steps == 20
    assert again.ccm_sampler.steps == 50


@pytest.mark.parametrize(
    "change",
    [
        "content_ratio=0",
        "content_ratio=1.2",
        "background=256",
        "foreground_ratio=-0.1",
        "foreground_ratio=1.1",
        "views.schedule.prediction=sample",
        "views.schedule.beta_schedule=cosine",
        "views_sampler.spacing=linspace",
        "views_sampler.steps=0",
        "ccm.rig.views=[0,6]",
    ],
)
def test_values_out_of_range_are_refused(change: str) -> None:
    name = change.partition("=")[0].rpartition(".")[2]
    with pytest.raises(ConfigError, match=name):
        load(CrmDiffusionConfig, {}, [change])


@pytest.mark.parametrize("stages", [("views",), ("ccm",), ("views", "ccm")])
def test_frames_in_an_order_that_the_reconstructor_does_not_read_are_refused(
    stages: tuple[str, ...],
) -> None:
    words = [f"diffusion.{stage}.rig.views=[0,1,2,3,4,5]" for stage in stages]
    with pytest.raises(
        ConfigError, match=rf"{stages[0]}\.rig\.views is .*reads \(1, 2, 3, 4, 5, 0\)"
    ):
        load(CrmConfig, preset_path("crm", "full"), words)


def test_the_published_schedule_is_the_default() -> None:
    schedule, config = NoiseTablesConfig(), CrmDiffusionConfig()
    assert (schedule.prediction, schedule.beta_schedule) == ("epsilon", "scaled_linear")
    assert config.foreground_ratio == 0.0
    for stage in (config.views, config.ccm):
        assert not stage.reference_channels
        assert not stage.coordinate_channels
    assert config.views_sampler.spacing == "leading"


def test_input_channels_add_up() -> None:
    """The network's own latents, those of pictures side by side, two coordinates."""
    assert CRM_VIEWS.input_channels == CRM_VIEWS.unet.in_channels == 4
    assert CRM_CCM.input_channels == CRM_CCM.unet.in_channels == 8
    wide = replace(CRM_CCM, reference_channels=True, coordinate_channels=True)
    assert (wide.further_channels, wide.input_channels) == (8, 14)
    reading = replace(CRM_VIEWS, reference_channels=True)
    assert (reading.further_channels, reading.input_channels) == (4, 8)


def test_the_micro_preset_fits_together() -> None:
    config = load(CrmConfig, preset_path("crm", "micro")).diffusion
    for stage, sampler in ((config.views, config.views_sampler), (config.ccm, config.ccm_sampler)):
        assert stage.input_channels == stage.unet.in_channels
        assert stage.schedule.prediction == "v_prediction"
        # Velocity may start at the last timestep; the network is trained for that.
        assert sampler.spacing == "trailing"
    assert config.ccm.pixel_latents
    assert config.encoders.codec.latent_channels == config.views.unet.out_channels
