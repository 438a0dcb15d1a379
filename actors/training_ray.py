"""Training under Ray Train: the worker group and what restarts it.

Ray Train (version 2 of its engine) places the workers, sets up `torch.distributed`, watches the
processes and starts them again. Everything a result depends on is ours: checkpoints lie in the
stage's folder, written by the first worker, and Ray's own storage holds nothing that is needed
again. Workers and command reach each other through `actors.training_desk`.
"""

from __future__ import annotations

import contextlib
import importlib.util
import logging
import tempfile
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, cast

import ray
import torch
from ray.exceptions import RayError

from actors.pool import NODE_LABEL
from actors.stop import Stop
from actors.training import StageOrder, train
from actors.training_desk import Desk, Result
from actors.training_log import ToldEvents
from geco_core.distill.loop import LoopResult
from geco_core.distill.world import World
from geco_core.errors import ConfigError, Fatal, Retryable
from infra.environment import variables_set
from infra.telemetry import log_event

log = logging.getLogger(__name__)

# Workers must stay in the folder of the command: paths of weights may be relative to it.
VARIABLES = {"RAY_TRAIN_V2_ENABLED": "1", "RAY_CHDIR_TO_TRIAL_DIR": "0"}
ASK_EVERY_S = 0.5
POLL_S = 0.2
RAY_TRAIN_NEEDS, RAY_TRAIN_HELP = ("fsspec", "pandas", "requests"), 'pip install "ray[train]"'
CPU_BACKEND, GPU_BACKEND = "gloo", "cpu:gloo,cuda:nccl"
Tell = Callable[[str, int, dict[str, float | str]], object]


@dataclass(frozen=True)
class GroupOptions:
    """The worker group.

    Attributes:
        workers: processes.
        min_workers: the fewest to go on with; None waits for all.
        gpus: one GPU per worker, else one CPU.
        threads: torch threads of a worker on the CPU.
        max_failures: restarts of the group.
    """

    workers: int
    min_workers: int | None
    gpus: bool
    threads: int
    max_failures: int


def train_on_ray(order: StageOrder, options: GroupOptions, stop: Stop, tell: Tell) -> LoopResult:
    """Train a stage on the connected cluster.

    Args:
        order: what to train.
        options: the workers.
        stop: ends it after a checkpoint; at once when it has expired.
        tell: hears of events.

    Raises:
        ConfigError, Fatal: what the workers can not mend, or they died too often.
        Retryable: the wish to stop was not heard in time, or the cluster is gone.
    """
    here = ray.get_runtime_context().get_node_id()  # other nodes may be lost
    desk = (
        cast("Any", ray.remote(Desk))
        .options(num_cpus=0, label_selector={NODE_LABEL: here})
        .remote()
    )
    failed: list[Exception] = []
    with tempfile.TemporaryDirectory(prefix="geco-ray-train-") as folder:
        # A thread of its own: in the main thread Ray Train takes the handler of SIGINT for itself.
        fit = threading.Thread(
            target=_fit, args=(order, options, desk, folder, failed), name="ray-train", daemon=True
        )
        fit.start()
        try:
            _watch(fit, desk, stop, tell)
            return _ended(ray.get(desk.end.remote()), failed, fit.is_alive())
        except RayError as error:
            raise Retryable(
                f"the cluster was lost: {error}",
                stage="train",
                remedy="the same command resumes from the last checkpoint",
            ) from error
        finally:
            with contextlib.suppress(RayError):
                ray.kill(desk)  # workers that are left find nobody to ask, and end


def _watch(fit: threading.Thread, desk: Any, stop: Stop, tell: Tell) -> None:
    """Pass the wish to stop on, and events back, until the training has ended or must be left."""
    asked = False
    while fit.is_alive() and not stop.expired:
        if stop.requested and not asked:
            asked = True
            desk.ask_to_stop.remote()
        fit.join(POLL_S)
        for event in ray.get(desk.events.remote()):
            tell(*event)


def _ended(end: Fatal | Result | None, failed: list[Exception], alive: bool) -> LoopResult:
    if isinstance(end, Fatal):
        raise end
    if alive:
        raise Retryable(
            "the training did not stop in time",
            stage="train",
            remedy="the same command resumes from the last checkpoint",
        )
    if failed:
        raise Fatal(
            f"the training failed: {failed[0]}",
            stage="train",
            remedy="the same command resumes from the last checkpoint; train.max_failures allows "
            "more restarts",
        ) from failed[0]
    assert end is not None
    return LoopResult(*end)


def _fit(
    order: StageOrder, options: GroupOptions, desk: Any, folder: str, failed: list[Exception]
) -> None:
    try:
        with variables_set(VARIABLES):
            from ray.train import FailureConfig, RunConfig, ScalingConfig  # noqa: PLC0415 - slow
            from ray.train.torch import TorchConfig, TorchTrainer  # noqa: PLC0415

            size = options.workers
            elastic = options.min_workers is not None and options.min_workers < size
            trainer = TorchTrainer(
                work,
                # Plain data, because Ray's controller unpacks it too.
                train_loop_config={
                    "order": order.to_plain(),
                    "desk": desk,
                    "threads": options.threads,
                },
                scaling_config=ScalingConfig(
                    num_workers=(cast("int", options.min_workers), size) if elastic else size,
                    use_gpu=options.gpus,
                    resources_per_worker={"GPU": 1, "CPU": 0} if options.gpus else {"CPU": 1},
                ),
                torch_config=TorchConfig(backend=GPU_BACKEND if options.gpus else CPU_BACKEND),
                run_config=RunConfig(
                    name=order.stage,
                    storage_path=folder,
                    failure_config=FailureConfig(max_failures=options.max_failures),
                ),
            )
            trainer.fit()
    except Exception as error:  # noqa: BLE001 - the border of the thread; the command reads it
        failed.append(error)


def work(given: dict[str, Any]) -> None:
    """The body of a Ray Train worker."""
    desk, order = given["desk"], StageOrder.from_plain(given["order"])
    if ray.get(desk.end.remote()) is not None:  # nothing that another attempt would change
        return
    torch.set_num_threads(given["threads"])
    world = World.current()
    told = ToldEvents(desk.tell.remote)
    try:
        result = train(order, world, _Asking(desk, world), told)
    except Fatal as error:
        ray.get(desk.report_trouble.remote(error))
        raise
    if world.rank == 0:
        ray.get(desk.report_result.remote((result.step, result.first, result.complete)))


class _Asking:
    """Whether the command wishes to stop; asked by the first worker, twice a second."""

    def __init__(self, desk: Any, world: World) -> None:
        self._desk, self._asks = desk, world.rank == 0
        self._next_s, self._wish = 0.0, False

    def __call__(self) -> bool:
        if self._asks and not self._wish and time.monotonic() >= self._next_s:
            self._wish = bool(ray.get(self._desk.stopping.remote()))
            self._next_s = time.monotonic() + ASK_EVERY_S
        return self._wish


def check_ray_train() -> None:
    """Refuse to start a cluster for a Ray without its training part.

    Raises:
        ConfigError: naming the command that installs it.
    """
    missing = [name for name in RAY_TRAIN_NEEDS if importlib.util.find_spec(name) is None]
    if missing:
        raise ConfigError(
            f"Ray Train needs the package {missing[0]}, which is not installed",
            stage="train",
            remedy=f"{RAY_TRAIN_HELP}, or set train.engine=inline",
        )


def check_group(options: GroupOptions, resources: dict[str, float], own: bool) -> None:
    """Refuse a group this machine can never hold: Ray would let it wait without end.

    Args:
        options: of the group.
        resources: of the cluster.
        own: the cluster is a private one; another may grow.

    Raises:
        ConfigError: fewer workers fit than are needed.
    """
    kind = "GPU" if options.gpus else "CPU"
    fitting, needed = int(resources.get(kind, 0)), options.min_workers or options.workers
    if own and fitting < needed:
        raise ConfigError(
            f"training asks for {needed} workers of one {kind} each, Ray has {fitting} here",
            stage="train",
            remedy=f"set train.workers={max(1, fitting)}, or use another machine",
        )
    if fitting < options.workers:
        log_event(log, "waiting_for_workers", wanted=options.workers, fitting=fitting)
