"""The order of a training: plain data that says what to train, on whatever machine."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from geco_core.config.convert import suggest
from geco_core.config.distill import DistillConfig
from geco_core.config.load import build, to_dict
from geco_core.config.train import CrmTrainingConfig
from geco_core.errors import ConfigError

AnyConfig = DistillConfig | CrmTrainingConfig
# Name of a training -> what configures it.
CONFIGS: Mapping[str, type[AnyConfig]] = {
    "stage1": DistillConfig,
    "stage2": DistillConfig,
    "crm-views": CrmTrainingConfig,
    "crm-ccm": CrmTrainingConfig,
    "crm-reconstructor": CrmTrainingConfig,
}


@dataclass(frozen=True)
class StageInputs:
    """What a stage of a distillation reads; CRM's trainings name theirs in the configuration.

    Attributes:
        targets: URI of a targets run; Stage II, and Stage I with a regression, need one.
        conditions: URI of a targets run or of a manifest of images, for Stage I.
        init: name -> weights to start from (`generator`, `reconstructor`): paths or `s3://`.
    """

    targets: str = ""
    conditions: str = ""
    init: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class StageOrder:
    """What a training process is given.

    Attributes:
        stage: a name of `CONFIGS`.
        config: of its kind.
        inputs: what it reads.
        folder: URI of the stage's folder.
        conditional_put: what is known of its store.
    """

    stage: str
    config: AnyConfig
    inputs: StageInputs
    folder: str
    conditional_put: bool = False

    def to_plain(self) -> dict[str, Any]:
        """Plain data: whoever only passes an order on need not import what it speaks of."""
        inputs = self.inputs
        return {
            "stage": self.stage,
            "config": to_dict(self.config),
            "inputs": {
                "targets": inputs.targets,
                "conditions": inputs.conditions,
                "init": dict(inputs.init),
            },
            "folder": self.folder,
            "conditional_put": self.conditional_put,
        }

    @staticmethod
    def from_plain(data: Mapping[str, Any]) -> StageOrder:
        """Inverse of `to_plain`."""
        config = build(CONFIGS[data["stage"]], data["config"])
        inputs = StageInputs(**data["inputs"])
        return StageOrder(data["stage"], config, inputs, data["folder"], data["conditional_put"])


def check_stage(stage: str, config: AnyConfig) -> None:
    """Refuse a training nobody knows, or a configuration of another kind. Raises `ConfigError`."""
    if stage not in CONFIGS:
        raise ConfigError(
            f"there is no training stage {stage!r}",
            remedy=suggest(stage, list(CONFIGS), "stages"),
        )
    if not isinstance(config, CONFIGS[stage]):
        raise ConfigError(
            f"{stage} is configured by {CONFIGS[stage].__name__}, not by {type(config).__name__}"
        )
