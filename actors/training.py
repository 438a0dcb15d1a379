"""A training process: everything is built where it trains, from an order of plain data.

The same function is the body of a Ray Train worker and of `train.engine=inline`. What is trained is
looked up by its name: the loop, its checkpoints, events and weights are the same for all.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from actors.training_crm import build_crm, pin_crm
from actors.training_distill import build_distillation, pin_distillation
from actors.training_log import stage_events
from actors.training_order import StageInputs, StageOrder
from geco_core.config.load import difference, fingerprint
from geco_core.distill.build import Built, export_weights
from geco_core.distill.loop import Events, LoopResult, NoEvents, run_loop
from geco_core.distill.resume import Checkpoints
from geco_core.distill.world import World
from geco_core.errors import ConfigError
from geco_core.training.rng import seed_torch
from infra.checkpoints import StoredCheckpoints
from infra.storage import Storage, open_storage
from infra.training_folder import pin_stage, put_weights

__all__ = ["TRAININGS", "StageInputs", "StageOrder", "Training", "refuse_other", "train"]

STAGE = "train"


@dataclass(frozen=True)
class Training:
    """One kind of training.

    Attributes:
        build: makes it where it trains, with the record of everything it depends on.
        pinned: of (stage, configuration): the part that decides what the training makes.
        steps: of (stage, configuration): its updates.
    """

    build: Callable[[StageOrder, World, Storage], tuple[Built, dict[str, Any]]]
    pinned: Callable[[str, Any], dict[str, Any]]
    steps: Callable[[str, Any], int]


_DISTILLATION = Training(
    build_distillation,
    pin_distillation,
    lambda stage, config: getattr(config, f"{stage}_train").steps,
)
_CRM = Training(build_crm, pin_crm, lambda _, config: config.updates.steps)
TRAININGS: Mapping[str, Training] = {
    "stage1": _DISTILLATION,
    "stage2": _DISTILLATION,
    "crm-views": _CRM,
    "crm-ccm": _CRM,
    "crm-reconstructor": _CRM,
}


def train(
    order: StageOrder, world: World, stop: Callable[[], bool], told: Events | None = None
) -> LoopResult:
    """Train a stage to its end, or until somebody wishes to stop.

    Args:
        order: what to train.
        world: the processes that train together; each calls this.
        stop: asked after every step.
        told: hears of the first process's events.

    Raises:
        ConfigError, Fatal: the stage can not be trained, or its folder holds another one.
        Retryable: the store failed.
    """
    storage = open_storage(
        order.folder, order.config.s3, conditional_put=order.conditional_put or None
    )
    # What is drawn while networks are built must be the same in every process and attempt.
    seed_torch(order.config.seed)
    built, record = TRAININGS[order.stage].build(order, world, storage)
    if world.rank == 0:
        refuse_other(pin_stage(storage, record), record)
    digest = fingerprint(record)
    store = StoredCheckpoints(storage, order.config.train.keep_checkpoints)
    events = _events(order, storage, told) if world.rank == 0 else NoEvents()
    result = run_loop(
        built.trainer,
        built.settings,
        Checkpoints(store, digest, built.seed, world, built.device),
        events,
        stop,
        world=world,
        sheet=built.sheet if world.rank == 0 else None,
    )
    if result.complete and world.rank == 0:
        _export(order, built, storage, {**record, "step": result.step, "fingerprint": digest})
    return result


def refuse_other(standing: Mapping[str, Any], wanted: Mapping[str, Any]) -> None:
    """Raise `ConfigError` with the difference when a folder holds another stage."""
    lines = difference(standing, wanted)
    if lines:
        raise ConfigError(
            "the folder was started with other settings or inputs:\n  " + "\n  ".join(lines),
            stage=STAGE,
            remedy="give another folder, or what it was started with",
        )


def _events(order: StageOrder, storage: Storage, told: Events | None) -> Events:
    project = order.config.train.wandb_project
    return stage_events(storage, order.stage, project, now, told or NoEvents())


def now() -> str:
    """The time, ISO 8601 in UTC."""
    return datetime.now(UTC).isoformat(timespec="milliseconds")


def _export(order: StageOrder, built: Built, storage: Storage, origin: Mapping[str, Any]) -> None:
    with tempfile.TemporaryDirectory(prefix="geco-weights-") as folder:
        path = Path(folder) / "weights.safetensors"
        export_weights(built, path, {"made_by": f"geco {order.stage}", **origin})
        put_weights(storage, path)
