"""A command that trains a stage of the tiny chain, for tests that kill it.

`python -m tests.support.train_driver ORDER.json` prints one JSON line with the result.
"""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from geco_core.config.distill import DistillConfig
from geco_core.config.run import ClusterConfig
from tests.support.tiny_chain import tiny_distill
from workflows.train_stage import StageInputs, train_stage

CLUSTER = ClusterConfig(num_cpus=2, num_gpus=0, object_store_mb=100)


def long_distill(model: dict[str, Any], **train: Any) -> DistillConfig:
    """Twelve steps with a checkpoint every three, on Ray."""
    config = tiny_distill(
        model,
        **{"engine": "ray", "checkpoint_every": 3, "log_every": 3, "sample_every": 0, **train},
    )
    return replace(config, cluster=CLUSTER, stage1_train=replace(config.stage1_train, steps=12))


def main(path: Path) -> None:
    torch.set_num_threads(1)
    order = json.loads(path.read_text())
    config = long_distill(order["model"], **order["train"])
    result = train_stage(
        "stage1", config, StageInputs(conditions=order["targets"]), order["folder"]
    )
    print(json.dumps({"made": result.made, "step": result.step, "complete": result.complete}))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
