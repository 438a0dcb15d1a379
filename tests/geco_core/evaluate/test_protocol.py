"""Presets hold what the papers say, and overrides are checked."""

from __future__ import annotations

import pytest
import torch

from geco_core.errors import ConfigError
from geco_core.evaluate.protocol import PROTOCOLS, Protocol, get_protocol, rings


def test_presets_hold_what_the_papers_state() -> None:
    geco, six, crm = (PROTOCOLS[name] for name in ("geco", "geco-six", "crm"))
    assert {protocol.objects for protocol in PROTOCOLS.values()} == {30}
    assert geco.views == 15
    assert set(geco.elevations_deg) == {0.0}
    assert geco.azimuths_deg[1] == pytest.approx(24.0)
    assert six.azimuths_deg == (30, 90, 150, 210, 270, 330)
    assert (crm.views, crm.resolution, crm.f_score_threshold) == (24, 512, 0.05)
    assert sorted(set(crm.elevations_deg)) == [0.0, 15.0, 30.0]
    assert crm.normalise == "cube"


def test_cameras_stand_where_the_protocol_says() -> None:
    azimuths, elevations = rings((0.0, 30.0), 4)
    w2c, _ = Protocol(azimuths_deg=azimuths, elevations_deg=elevations, radius=2.0).cameras()
    eyes = torch.linalg.inv(w2c)[:, :3, 3]
    torch.testing.assert_close(eyes[0], torch.tensor([2.0, 0, 0]), atol=1e-6, rtol=0)
    torch.testing.assert_close(eyes[1], torch.tensor([0.0, 2.0, 0]), atol=1e-6, rtol=0)
    assert eyes[4:, 2].tolist() == pytest.approx([1.0] * 4)


def test_overrides_and_refusals() -> None:
    changed = get_protocol("crm", ["resolution=64", "align=none", "azimuths_deg=[0]", "seed=3",
                                   "elevations_deg=[10]"])  # fmt: skip
    assert (changed.name, changed.resolution, changed.align, changed.views) == (
        "crm", 64, "none", 1,
    )  # fmt: skip
    with pytest.raises(ConfigError, match="no protocol 'gecko'") as caught:
        get_protocol("gecko")
    assert "did you mean 'geco'?" in caught.value.remedy
    for word in ("align=best", "points=0", "azimuths_deg=[1]", "fov_deg=180", "resolution=8",
                 "elevations_deg=[90]", "radius=0", "resolutoin=3"):  # fmt: skip
        with pytest.raises(ConfigError):
            get_protocol("geco", [word])
