"""Sizes that fit, and that refuse what does not."""

from __future__ import annotations

from dataclasses import replace

import pytest

from geco_core.config.crm_reconstructor import (
    CrmReconstructorConfig,
    CrmUNetConfig,
    micro_crm_reconstructor,
)
from geco_core.config.models import ScheduleConfig


@pytest.mark.parametrize(
    "wrong",
    [
        {"attention_levels": (True,)},
        {"plane_size": 200},
        {"norm_num_groups": 48},
    ],
)
def test_networks_that_do_not_fit_are_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(ValueError, match=r"attention_levels|plane_size|groups"):
        replace(CrmUNetConfig(), **wrong)


def test_a_timestep_is_one_of_the_schedule() -> None:
    with pytest.raises(ValueError, match="timestep 1000"):
        CrmReconstructorConfig(timestep=1000)
    CrmReconstructorConfig(timestep=1000, schedule=ScheduleConfig(num_train_timesteps=1001))


def test_extraction_follows_the_grid() -> None:
    assert CrmReconstructorConfig().extraction().grid_res == 80
    micro = micro_crm_reconstructor()
    assert micro.extraction().grid_res == micro.grid_res < 80
