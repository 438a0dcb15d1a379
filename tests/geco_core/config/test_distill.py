"""Settings of a distillation: what can not be run is refused where it is given."""

from __future__ import annotations

import pytest

from geco_core.config.distill import DistillConfig
from geco_core.config.load import load
from geco_core.errors import ConfigError


@pytest.mark.parametrize(
    ("word", "message"),
    [
        ("train.workers=0", "workers must be positive"),
        ("train.sample_objects=0", "sample_objects must be positive"),
        ("train.threads_per_worker=0", "threads_per_worker must be positive"),
        ("train.sample_every=-1", "sample_every must not be negative"),
        ("train.min_workers=2", "min_workers must be within 1 and workers=1"),
        ("conditions.heldout=-1", "heldout must not be negative"),
        ("targets.renders=0", "renders must be positive"),
        ("targets.radius=[3,2]", "radius must rise"),
    ],
)
def test_what_can_not_be_run_is_refused(word: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        load(DistillConfig, None, [word])


def test_sample_sheets_may_be_switched_off() -> None:
    assert load(DistillConfig, None, ["train.sample_every=0"]).train.sample_every == 0
