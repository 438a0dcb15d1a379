"""The run configuration: ranges, the pinned part, and overrides for the system."""

from __future__ import annotations

import pytest

from geco_core.config.load import load
from geco_core.config.run import PINNED, RunConfig, model_overrides, pinned
from geco_core.errors import ConfigError


@pytest.mark.parametrize(
    "override",
    [
        "workers=0",
        "batch_size=-1",
        "seed=-1",
        "item_timeout_s=0",
        "thumbnail_size=-1",
        "num_gpus_per_replica=1.5",
        "cluster.start_timeout_s=0",
    ],
)
def test_values_out_of_range_are_refused(override: str) -> None:
    with pytest.raises(ConfigError, match=override.partition("=")[0].rpartition(".")[2]):
        load(RunConfig, None, [override])


def test_only_what_decides_the_rows_is_pinned() -> None:
    patient = load(RunConfig, None, ["workers=3", "item_timeout_s=9", "engine=inline"])
    assert pinned(patient) == pinned(RunConfig())
    other = load(RunConfig, None, ["model.sampler.steps=8"])
    assert pinned(other)["model"] == {"sampler": {"steps": 8}}
    assert set(pinned(other)) == set(PINNED)


def test_model_settings_travel_to_the_system_as_overrides() -> None:
    words = ["model.sampler.steps=8", "model.device=cpu", "model.views=[1, 2]", "model.name=1e-4"]
    config = load(RunConfig, None, words)
    assert model_overrides(config.model) == [
        "sampler.steps=8",
        'device="cpu"',
        "views=[1, 2]",
        'name="1e-4"',
    ]
