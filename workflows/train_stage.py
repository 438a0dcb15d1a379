"""A training stage from its inputs to its weights, resumable at any moment.

The same call goes on from the newest checkpoint in the stage's folder, whatever ended the last one,
and returns at once when the stage is finished.
"""

from __future__ import annotations

import logging
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from actors.stop import Stop
from actors.training import TRAININGS, StageInputs, StageOrder, refuse_other, train
from actors.training_log import LoggedEvents, ToldEvents
from actors.training_order import AnyConfig, check_stage
from geco_core.config.distill import DistillConfig
from geco_core.distill.loop import LoopResult
from geco_core.distill.world import World
from geco_core.errors import ConfigError
from infra.run_storage import open_run_storage
from infra.storage import Storage
from infra.telemetry import log_event
from infra.training_folder import WEIGHTS_KEY, has_weights, last_event, standing_stage
from workflows.drain import draining
from workflows.targets import check_teacher_licences

__all__ = ["StageInputs", "StageResult", "train_stage"]

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class StageResult:
    """How a call ended.

    Attributes:
        stage: which.
        folder: URI of its folder.
        step: updates made so far, over all calls.
        steps: updates of the whole stage.
        made: updates made by this call's last attempt.
        complete: the weights are there.
        weights: URI of the result; "" while it is not there.
        numbers: the last reported means.
        signal: number of the signal that ended it early, 0 for none.
    """

    stage: str
    folder: str
    step: int
    steps: int
    made: int
    complete: bool
    weights: str
    numbers: Mapping[str, float] = field(default_factory=dict)
    signal: int = 0


def train_stage(
    stage: str,
    config: AnyConfig,
    inputs: StageInputs,
    folder: str,
    stop: Stop | None = None,
    *,
    on_event: Callable[[str, int, Mapping[str, float | str]], object] | None = None,
) -> StageResult:
    """Train a stage to its end, on Ray Train or in this process.

    SIGINT or SIGTERM save a checkpoint and end it early with a result; a second one raises.

    Args:
        stage: `stage1` or `stage2` of a distillation, or one of CRM's trainings, see
            `actors.training.TRAININGS`.
        config: of its kind.
        inputs: what it reads.
        folder: path or URI; created when missing.
        stop: ends it early; asked by signals too where this is the main thread.
        on_event: hears kind, step and numbers of everything that happens; logged when None.

    Raises:
        ConfigError: settings, inputs or licences that can not be trained with.
        Fatal: the training can not go on; its checkpoints stay.
        Retryable: the store failed, or the wish to stop was not heard in time.
        Interrupted: asked to stop twice.
    """
    check_stage(stage, config)
    if isinstance(config, DistillConfig):
        check_teacher_licences(config)
    storage = open_run_storage(folder, config.s3, uuid.uuid4().hex)
    kind = TRAININGS[stage]
    steps = kind.steps(stage, config)
    order = StageOrder(stage, config, inputs, storage.uri, storage.conditional_put)
    if has_weights(storage):
        record: Any = standing_stage(storage)
        refuse_other(record["order"], kind.pinned(stage, config))
        return _result(order, storage, LoopResult(steps, steps, True), steps, 0)
    stop = stop or Stop()
    told = LoggedEvents(stage).emit if on_event is None else on_event
    with draining(stop):
        ended = _run(order, stop, told)
    log_event(log, "stage_ended", stage=stage, step=ended.step, steps=steps)
    return _result(order, storage, ended, steps, stop.signal)


def _run(order: StageOrder, stop: Stop, told: Any) -> LoopResult:
    if order.config.train.engine == "inline":
        if order.config.train.workers > 1:
            raise ConfigError(
                f"train.engine=inline trains in one process, not in {order.config.train.workers}",
                stage="train",
                remedy="set train.workers=1, or train.engine=ray",
            )
        return train(order, World(), lambda: stop.requested, ToldEvents(told))
    return _run_ray(order, stop, told)


def _run_ray(order: StageOrder, stop: Stop, told: Any) -> LoopResult:
    # Ray and torch take seconds to import.
    from actors.replica import thread_environment  # noqa: PLC0415
    from actors.training_ray import (  # noqa: PLC0415
        GroupOptions,
        check_group,
        check_ray_train,
        train_on_ray,
    )
    from infra.cluster import cluster  # noqa: PLC0415

    config = order.config
    settings = config.train
    check_ray_train()
    with cluster(config.cluster, thread_environment(settings.threads_per_worker)) as resources:
        options = GroupOptions(
            workers=settings.workers,
            min_workers=settings.min_workers,
            gpus=resources.get("GPU", 0) >= 1,
            threads=settings.threads_per_worker,
            max_failures=settings.max_failures,
        )
        check_group(options, resources, own=not config.cluster.address)
        return train_on_ray(order, options, stop, told)


def _result(
    order: StageOrder, storage: Storage, ended: LoopResult, steps: int, signal: int
) -> StageResult:
    last = last_event(storage, "train")
    return StageResult(
        stage=order.stage,
        folder=storage.uri,
        step=ended.step,
        steps=steps,
        made=ended.step - ended.first,
        complete=ended.complete,
        weights=f"{storage.uri.rstrip('/')}/{WEIGHTS_KEY}" if ended.complete else "",
        numbers=last["numbers"] if last else {},
        signal=signal,
    )
