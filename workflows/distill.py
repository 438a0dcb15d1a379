"""`geco distill`: teacher targets, both stages, evaluation and a dataset, as one durable graph.

Running the same command again does what is not done. Both branches of {stage1 || targets} share one
Ray, which this module starts in the main thread and which the steps find running.
"""

from __future__ import annotations

import contextlib
import logging
import signal
import sys
import time
import uuid
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime

from actors.stop import Stop
from geco_core.config.distill import DistillConfig
from geco_core.config.load import load, preset_path
from geco_core.errors import ConfigError, Fatal
from infra.claim import Claim
from infra.run_storage import open_run_storage
from infra.storage import Storage, open_storage
from infra.telemetry import log_event
from workflows.dag import DagResult, StepState, error_text, run_dag
from workflows.dag_record import ancestors, survey
from workflows.distill_record import (
    begin_record,
    end_record,
    read_distillation,
    refuse_generation,
)
from workflows.distill_report import build_distill_report
from workflows.distill_steps import build_steps
from workflows.distill_student import check_teacher
from workflows.distill_view import DistillView
from workflows.drain import draining
from workflows.drain import exit_code as signal_code
from workflows.generate import STALE_TEMPORARY_S

log = logging.getLogger(__name__)

DRAIN_TIMEOUT_S = 120.0
OK, STOPPED = 0, 3
_ON_RAY = frozenset({"targets", "stage1", "stage2", "generate"})


@dataclass(frozen=True)
class DistillResult:
    """How a `geco distill` ended.

    Attributes:
        dag: states, records and errors of the steps.
        report: address of the page; "" when it could not be written.
        signal: number of the signal that asked to stop, or 0.
        wall_s: of the command.
    """

    dag: DagResult
    report: str
    signal: int
    wall_s: float


def distill_config(
    preset: str | None, source: str | None, words: Sequence[str], out: str | None
) -> DistillConfig:
    """The configuration of a command: a preset, a YAML file, or what the run folder was made with.

    Args:
        preset: name of a shipped preset.
        source: path of a YAML file.
        words: `key=value` on top.
        out: run folder.

    Raises:
        ConfigError: nothing to start from, or a bad file, key or value.
    """
    given = [*words, *([f"out={out}"] if out else [])]
    if preset is not None:
        return load(DistillConfig, preset_path("distill", preset), given)
    if source is not None:
        return load(DistillConfig, source, given)
    standing = None
    if out:
        settings = load(DistillConfig, None, given)
        standing = read_distillation(open_storage(out, settings.s3))
    if standing is None:
        raise ConfigError(
            "nothing says what to distil",
            remedy="give --preset NAME or --config FILE, or the --out folder of an earlier command",
        )
    return load(DistillConfig, standing["config"], given)


def distill(
    config: DistillConfig,
    *,
    wanted: Collection[str] | None = None,
    clock: Callable[[], float] = time.monotonic,
    now: Callable[[], str] = lambda: datetime.now(UTC).isoformat(timespec="seconds"),
) -> DistillResult:
    """Do every step that is not done.

    SIGINT or SIGTERM end it early with a result; a second one raises.

    Args:
        config: what to distil, and how.
        wanted: only these steps and what they need; None for all.
        clock: monotonic seconds.
        now: the time, ISO 8601.

    Raises:
        ConfigError: refused before any work: no run folder, a licence that was not acknowledged,
            another command at work there.
        Fatal, Retryable: the store or Ray can not be used.
        Interrupted: asked to stop twice.
    """
    begun = clock()
    licences = check_teacher(config)
    storage = open_folder(config)
    steps = build_steps(config)
    chosen = ancestors(steps, wanted if wanted is not None else [s.name for s in steps])
    stop = Stop(DRAIN_TIMEOUT_S)
    claim = Claim(storage, uuid.uuid4().hex, lambda: stop.request(signal.SIGTERM))
    with claim:
        storage.sweep_temporary(time.time() - STALE_TEMPORARY_S)
        record = begin_record(storage, config, licences, steps, now())
        stands = survey(storage, steps)
        todo = [name for name, found in stands.items() if name in chosen and not found.done]
        with draining(stop), _ray_for(config, todo) as resources:
            at_once, config = share(config, todo, resources)
            result = _run(storage, config, chosen, at_once, stop, clock, now)
        if claim.lost:
            raise Fatal(f"another command took {storage.uri} over", stage="distill")
        end_record(storage, record, result, clock() - begun)
        page = build_distill_report(storage)
    return DistillResult(result, page, stop.signal, clock() - begun)


def open_folder(config: DistillConfig) -> Storage:
    """The store of the run folder. Raises `ConfigError` when it is missing or another run's."""
    if not config.out:
        raise ConfigError("no run folder was given", remedy="add --out FOLDER")
    storage = open_run_storage(config.out, config.s3, uuid.uuid4().hex)
    refuse_generation(storage)
    return storage


def share(
    config: DistillConfig, todo: Collection[str], resources: Mapping[str, float]
) -> tuple[int, DistillConfig]:
    """Whether {stage1 || targets} run at once on this machine, and what targets get if they do.

    Where there is no room for a training and one target worker, the branches run one after the
    other: two that wait for each other's device would be no faster.

    Args:
        config: of the distillation.
        todo: steps that are not done.
        resources: of the cluster; empty without Ray.

    Returns:
        How many steps may run at the same time, and the configuration to run them with.
    """
    kind = "GPU" if resources.get("GPU", 0) else "CPU"
    free = int(resources.get(kind, 0)) - config.train.workers
    if free < 1 or not {"stage1", "targets"} <= set(todo):
        return 1, config
    if config.targets.workers is not None:
        return (2 if config.targets.workers <= free or config.cluster.address else 1), config
    workers = free if kind == "GPU" else min(free, 2)
    return 2, replace(config, targets=replace(config.targets, workers=workers))


def _run(
    storage: Storage,
    config: DistillConfig,
    chosen: Collection[str],
    at_once: int,
    stop: Stop,
    clock: Callable[[], float],
    now: Callable[[], str],
) -> DagResult:
    names = [step.name for step in build_steps(config) if step.name in chosen]
    updates = {"stage1": config.stage1_train.steps, "stage2": config.stage2_train.steps}
    view = DistillView(names, updates, clock=clock)
    # Steps redirect stdout, each for itself; threads would leave one another's redirection behind.
    with contextlib.redirect_stdout(sys.stdout), view:
        return run_dag(
            storage,
            build_steps(config, view),
            stop,
            clock=clock,
            now=now,
            wanted=chosen,
            at_once=at_once,
            listener=view,
        )


@contextlib.contextmanager
def _ray_for(config: DistillConfig, todo: Collection[str]) -> Iterator[dict[str, float]]:
    """Ray for the length of the block where a step will need it; yields its resources."""
    if config.train.engine != "ray" or not _ON_RAY & set(todo):
        yield {}
        return
    from actors.replica import thread_environment  # noqa: PLC0415 - Ray takes a second to import
    from infra.cluster import cluster  # noqa: PLC0415

    log_event(log, "starting_ray")
    variables = thread_environment(config.train.threads_per_worker)
    with cluster(config.cluster, variables) as resources:
        yield resources


def summary(result: DistillResult, out: str) -> str:
    """How every step ended, what to do next, and where things are."""
    lines: list[str] = []
    width = max(map(len, result.dag.states), default=0)
    for name, state in result.dag.states.items():
        record, error = result.dag.records.get(name), result.dag.errors.get(name)
        text = f"{record.seconds:.1f} s" if record and state is StepState.DONE else ""
        if error is not None:
            remedy = getattr(error, "remedy", "")
            text = error_text(error) + (f"; {remedy}" if remedy else "")
        lines.append(f"{name:<{width}}  {state:<11}  {text}".rstrip())
    if result.signal:
        lines.append("stopped by a signal")
    if not result.dag.complete:
        lines.append("the same command goes on")
    if result.report:
        lines.append(f"report: {result.report}")
    lines.append(f"run: {out.rstrip('/')}, {result.wall_s:.0f} s")
    return "\n".join(lines) + "\n"


def exit_code(result: DistillResult) -> int:
    """0 when every step is done, 3 when one failed, 128 + its number after a signal."""
    if result.dag.errors:
        return STOPPED
    if not result.dag.complete and result.signal:
        return signal_code(result.signal)
    return OK if result.dag.complete else STOPPED
