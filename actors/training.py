"""A training process: everything is built where it trains, from an order of plain data.

The same function is the body of a Ray Train worker and of `train.engine=inline`.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from actors.training_data import ImageData, TargetData, open_images
from actors.training_log import stage_events
from geco_core.config.distill import DistillConfig
from geco_core.config.load import build, difference, fingerprint, to_dict
from geco_core.config.run import model_overrides
from geco_core.distill.build import (
    TEACHER_OVERRIDES,
    Built,
    StageName,
    build_stage1,
    build_stage2,
    export_weights,
    pinned,
)
from geco_core.distill.loop import Events, LoopResult, NoEvents, run_loop
from geco_core.distill.resume import Checkpoints
from geco_core.distill.world import World
from geco_core.errors import ConfigError
from geco_core.systems import build_system, describe_system, describe_weights
from geco_core.training.rng import seed_torch
from infra.checkpoints import StoredCheckpoints
from infra.commit import RUN_KEY
from infra.retry import retried
from infra.storage import Storage, open_storage
from infra.targets import TargetTable
from infra.training_folder import pin_stage, put_weights
from infra.weights import cache_folder, local_overrides, local_weights

STAGE = "train"


@dataclass(frozen=True)
class StageInputs:
    """What a stage reads.

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
    """What a training process is given: plain data, whatever machine it is on.

    Attributes:
        stage: which.
        config: of the distillation.
        inputs: what it reads.
        folder: URI of the stage's folder.
        conditional_put: what is known of its store.
    """

    stage: StageName
    config: DistillConfig
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
        config = build(DistillConfig, data["config"])
        inputs = StageInputs(**data["inputs"])
        return StageOrder(data["stage"], config, inputs, data["folder"], data["conditional_put"])


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
    built, record = _build(order, world, storage)
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


def _build(order: StageOrder, world: World, storage: Storage) -> tuple[Built, dict[str, Any]]:
    """The stage and the record of everything it depends on."""
    config = order.config
    teacher: Any = _teacher(config)
    model = teacher.models[0]
    init = {
        name: retried(lambda uri=uri: local_weights(uri, config.s3, cache_folder()))
        for name, uri in order.inputs.init.items()
    }
    if order.stage == "stage1":
        data = _stage1_data(order, teacher, storage)
        built = build_stage1(config, teacher, data, world, init)
    else:
        data = _targets(order, model, order.inputs.targets, pairs=False)
        _check_render_size(config, data)
        _check_teacher(data, teacher)
        built = build_stage2(config, teacher, data, world, init)
    record = {
        "order": pinned(order.stage, config),
        "data": {"rows": len(data), "digest": data.digest},
        "weights_digest": teacher.provenance()["weights_digest"],
        "init": dict(built.init),
    }
    return built, record


def _teacher(config: DistillConfig) -> Any:
    name, preset = config.teacher.system, config.teacher.preset
    overrides = (*model_overrides(config.teacher.model), *TEACHER_OVERRIDES)
    weights = describe_system(name, preset, overrides).get("weights") or {}
    files = describe_weights(name, preset, overrides).files
    local = retried(lambda: local_overrides(weights, config.s3, cache_folder(), files))
    system: Any = build_system(name, preset, (*overrides, *local))
    if not hasattr(system, "models"):
        raise ConfigError(
            f"system {name!r} is no chain that can be distilled",
            remedy="set teacher.system=instantmesh",
        )
    return system


def _stage1_data(order: StageOrder, teacher: Any, storage: Storage) -> TargetData | ImageData:
    config, inputs, model = order.config, order.inputs, teacher.models[0]
    if config.stage1.regression_weight:
        data = _targets(order, model, inputs.targets, pairs=True)
        _check_teacher(data, teacher)
        return data
    source = inputs.conditions or inputs.targets
    if not source:
        raise ConfigError(
            "Stage I was given no conditions", stage=STAGE, remedy="give conditions or targets"
        )
    if _is_run(source, config):
        return _targets(order, model, source, pairs=False)
    return open_images(source, storage, teacher, model, config.s3)


def _targets(order: StageOrder, model: Any, uri: str, *, pairs: bool) -> TargetData:
    if not uri:
        raise ConfigError(
            f"{order.stage} was given no teacher targets", stage=STAGE, remedy="run geco targets"
        )
    table = retried(lambda: TargetTable.open(uri, order.config.s3))
    return TargetData(table, model, pairs=pairs)


def _is_run(source: str, config: DistillConfig) -> bool:
    if source.startswith("s3://") or "://" not in source:
        return retried(lambda: open_storage(source, config.s3).exists(RUN_KEY))
    return False


def _check_render_size(config: DistillConfig, data: TargetData) -> None:
    if data.render_size != config.stage2.render_size:
        raise ConfigError(
            f"the targets hold renders of {data.render_size} pixels, Stage II makes "
            f"{config.stage2.render_size}",
            stage=STAGE,
            remedy=f"set stage2.render_size={data.render_size}",
        )


def _check_teacher(data: TargetData, teacher: Any) -> None:
    """Samples and renders of another teacher would pull the networks elsewhere."""
    ours = teacher.provenance()["weights_digest"]
    if data.weights_digest != ours:
        raise ConfigError(
            f"the targets were made with weights {data.weights_digest[:12]}, the teacher has "
            f"{ours[:12]}",
            stage=STAGE,
            remedy="make the targets again, or restore the teacher's weights",
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
