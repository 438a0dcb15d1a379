"""The published configurations of the multi-view networks, and values that are refused."""

from __future__ import annotations

import pytest

from geco_core.config.crm import (
    CRM_CCM,
    CRM_VIEWS,
    IMAGEDREAM_LOCAL,
    IMAGEDREAM_PIXEL,
    MVDREAM,
    CrmDiffusionConfig,
)
from geco_core.config.load import load, to_dict
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


@pytest.mark.parametrize("change", ["content_ratio=0", "content_ratio=1.2", "background=256"])
def test_values_out_of_range_are_refused(change: str) -> None:
    with pytest.raises(ConfigError, match=change.partition("=")[0]):
        load(CrmDiffusionConfig, {}, [change])
