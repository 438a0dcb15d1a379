"""Orders of every kind of training travel as plain data, and name their configuration."""

from __future__ import annotations

import json

import pytest

from actors.training import TRAININGS
from actors.training_order import CONFIGS, StageInputs, StageOrder, check_stage
from geco_core.config.distill import DistillConfig
from geco_core.config.train import CrmTrainingConfig, InitConfig
from geco_core.errors import ConfigError


def test_every_training_has_a_configuration() -> None:
    assert TRAININGS.keys() == CONFIGS.keys()
    for training in ("views", "ccm", "reconstructor"):
        config = CrmTrainingConfig(training=training)
        check_stage(config.stage, config)
        assert TRAININGS[config.stage].pinned(config.stage, config)["stage"] == config.stage


def test_an_order_of_crms_trainings_comes_back_whole() -> None:
    config = CrmTrainingConfig(training="ccm", init=InitConfig(network="s3://b/w.pt"))
    order = StageOrder("crm-ccm", config, StageInputs(), "s3://b/run", conditional_put=True)
    assert StageOrder.from_plain(json.loads(json.dumps(order.to_plain()))) == order


def test_other_configurations_are_refused() -> None:
    with pytest.raises(ConfigError, match="configured by CrmTrainingConfig"):
        check_stage("crm-views", DistillConfig())
    with pytest.raises(ConfigError, match="no training stage 'crm-view'") as caught:
        check_stage("crm-view", CrmTrainingConfig())
    assert "crm-views" in caught.value.remedy
