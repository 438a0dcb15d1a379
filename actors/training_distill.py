"""How a stage of a distillation is built where it trains: its teacher, its data, its networks."""

from __future__ import annotations

from typing import Any

from actors.training_data import ImageData, TargetData, open_images
from actors.training_order import StageOrder
from geco_core.config.distill import DistillConfig
from geco_core.config.run import model_overrides
from geco_core.distill.build import (
    TEACHER_OVERRIDES,
    Built,
    build_stage1,
    build_stage2,
    pinned,
)
from geco_core.distill.world import World
from geco_core.errors import ConfigError
from geco_core.systems import build_system, describe_system, describe_weights
from infra.commit import RUN_KEY
from infra.retry import retried
from infra.storage import Storage, open_storage
from infra.targets import TargetTable
from infra.weights import cache_folder, local_overrides, local_weights

STAGE = "train"


def build_distillation(
    order: StageOrder, world: World, storage: Storage
) -> tuple[Built, dict[str, Any]]:
    """The stage and the record of everything it depends on.

    Args:
        order: of `stage1` or `stage2`.
        world: the processes that train together.
        storage: of the stage's folder.

    Raises:
        ConfigError, Fatal: the stage can not be trained.
        Retryable: the store failed.
    """
    config = _distillation(order)
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
        "order": pin_distillation(order.stage, config),
        "data": {"rows": len(data), "digest": data.digest},
        "weights_digest": teacher.provenance()["weights_digest"],
        "init": dict(built.init),
    }
    return built, record


def pin_distillation(stage: str, config: DistillConfig) -> dict[str, Any]:
    """What of the configuration decides what the stage makes, see `geco_core.distill.build`."""
    return pinned("stage1" if stage == "stage1" else "stage2", config)


def _distillation(order: StageOrder) -> DistillConfig:
    assert isinstance(order.config, DistillConfig)
    return order.config


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
    config, inputs, model = _distillation(order), order.inputs, teacher.models[0]
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
    table = retried(lambda: TargetTable.open(uri, _distillation(order).s3))
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
