"""Values no model can work with are refused where the configuration is read."""

from __future__ import annotations

import pytest

from geco_core.config.load import load
from geco_core.config.models import InstantMeshConfig
from geco_core.errors import ConfigError


@pytest.mark.parametrize(
    "override",
    [
        "sampler.steps=0",
        "extraction.grid_res=0",
        "extraction.coarse_factor=0",
        "extraction.chunk_points=-1",
        "multiview.foreground_ratio=0",
        "multiview.foreground_ratio=1.1",
        "multiview.schedule.prediction_type=epsilon",
        "dtype=float64",
    ],
)
def test_values_out_of_range_are_refused(override: str) -> None:
    with pytest.raises(ConfigError, match=override.partition("=")[0].rpartition(".")[2]):
        load(InstantMeshConfig, None, [override])
