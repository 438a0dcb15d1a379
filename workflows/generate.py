"""`geco generate`: manifest in, dataset out. Running it again resumes."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime

from actors.inline import run_inline
from actors.shard_worker import WorkerSettings
from actors.spec import WorkerSpec, build_worker
from geco_core.config.run import RunConfig, model_overrides
from geco_core.errors import ConfigError
from geco_core.systems import describe_system
from infra.commit import put_card
from infra.dataset import ShardSummary
from infra.environment import code_version, describe_environment
from infra.plan import Plan, SystemDescription, make_plan, open_run, read_run
from infra.run_state import RunState, read_state, todo_shards
from infra.storage import LocalStorage, Storage, open_storage
from infra.telemetry import log_event
from workflows.card import dataset_card
from workflows.progress import Progress
from workflows.tally import Tally

log = logging.getLogger(__name__)

STALE_TEMPORARY_S = 3600.0


@dataclass(frozen=True)
class GenerateResult:
    """How a `generate` command ended.

    Attributes:
        plan: the run's plan.
        state: totals over the whole run, earlier commands included.
        fresh: totals over what this command made.
        stopped: why it stopped early, or empty.
        wall_s: seconds from the first worker ready to the last commit.
    """

    plan: Plan
    state: RunState
    fresh: RunState
    stopped: str
    wall_s: float

    @property
    def complete(self) -> bool:
        """Every item is terminal."""
        return self.state.rows_done == self.plan.rows


def generate(config: RunConfig, *, clock: Callable[[], float] = time.monotonic) -> GenerateResult:
    """Make everything the manifest asks for that is not made yet.

    Raises:
        ConfigError, ManifestError: refused before any work.
        Fatal: the run can not go on; what is committed stays.
    """
    if not config.out:
        raise ConfigError("no run folder was given", remedy="add --out FOLDER")
    storage = open_storage(config.out)
    system = describe_run_system(config)
    plan = make_plan(storage, config)
    created_at = datetime.now(UTC).isoformat(timespec="seconds")
    open_run(storage, config, plan, system, describe_environment(), created_at)
    if isinstance(storage, LocalStorage):
        storage.sweep_temporary(time.time() - STALE_TEMPORARY_S)
    todo = todo_shards(storage, plan)
    log_event(
        log,
        "run_opened",
        rows=plan.rows,
        shards=plan.shards,
        todo=len(todo),
        duplicates=plan.duplicates,
    )
    tally = Tally(config.max_failure_rate)
    wall_s = _execute(config, storage, plan, todo, tally, clock) if todo else 0.0
    state = read_state(storage)
    record = read_run(storage)
    if record is not None:
        put_card(storage, dataset_card(record, state))
    return GenerateResult(plan, state, tally.state, tally.stopped, wall_s)


def describe_run_system(config: RunConfig) -> SystemDescription:
    """What the configuration says about the system. Raises `ConfigError`."""
    resolved = describe_system(config.system, config.preset, model_overrides(config.model))
    weights = resolved.get("weights") or {}
    licence = weights.get("licence", "")
    pinned = {k: v for k, v in weights.items() if k != "licence"}
    return SystemDescription(resolved, pinned, (licence,) if licence else ())


def worker_spec(config: RunConfig, storage: Storage, plan: Plan) -> WorkerSpec:
    """What the run's workers are built from."""
    return WorkerSpec(
        run_uri=storage.uri,
        manifest=plan.manifest,
        system=config.system,
        preset=config.preset,
        overrides=tuple(model_overrides(config.model)),
        code_version=code_version(),
        settings=WorkerSettings(
            run_seed=config.seed,
            batch_size=config.batch_size,
            prepare_threads=config.prepare_threads,
            item_timeout_s=config.item_timeout_s,
            max_source_bytes=config.max_source_bytes,
            thumbnail_size=config.thumbnail_size,
        ),
    )


def _execute(
    config: RunConfig,
    storage: Storage,
    plan: Plan,
    todo: list[int],
    tally: Tally,
    clock: Callable[[], float],
) -> float:
    spec = worker_spec(config, storage, plan)
    rows = sum(plan.shard(index).stop - plan.shard(index).start for index in todo)
    with Progress(rows, clock=clock) as progress:

        def on_summary(summary: ShardSummary) -> bool:
            keep_going = tally.add(summary)
            progress.update(tally.state)
            log_event(log, "shard_done", level=logging.DEBUG, **summary.to_json())
            return keep_going

        if config.engine == "inline":
            progress.note("loading the system")
            worker = build_worker(spec, name="inline")
            progress.started()
            run_inline(worker, plan, todo, on_summary)
        else:
            from workflows.ray_engine import run_ray  # noqa: PLC0415 - Ray takes a second to import

            run_ray(config, spec, storage, plan, todo, on_summary, progress)
        return progress.seconds
