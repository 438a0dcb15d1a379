"""`geco generate`: manifest in, dataset out. Running it again resumes."""

from __future__ import annotations

import logging
import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime

from actors.order import WorkOrder
from actors.stop import Stop
from geco_core.config.run import RunConfig, model_overrides
from geco_core.errors import ConfigError
from geco_core.mesh.draco import check_finish
from geco_core.systems import describe_system, describe_weights
from infra.commit import put_card
from infra.environment import describe_environment
from infra.plan import Plan, SystemDescription, make_plan, open_run, read_run
from infra.retry import retried
from infra.run_state import RunState, read_state, todo_shards
from infra.run_storage import open_run_storage, storage_record
from infra.storage import open_storage
from infra.targets.place import RECORD
from infra.telemetry import log_event
from infra.weights import stored_identities
from workflows.card import dataset_card
from workflows.execute import execute
from workflows.progress import Progress, ProgressMaker
from workflows.tally import Tally

log = logging.getLogger(__name__)

STALE_TEMPORARY_S = 3600.0


@dataclass(frozen=True)
class GenerateResult:
    """How a `generate` command ended.

    Attributes:
        plan: the run's plan.
        state: totals over the whole run, earlier commands included.
        fresh: totals over what was committed while this command ran.
        adopted: the part of `fresh` that another command had committed.
        remarks: what else there is to know, in sentences.
        stopped: why it stopped early, or empty.
        signal: number of the signal that asked it to stop, or 0.
        wall_s: seconds from the first worker ready to the last commit.
    """

    plan: Plan
    state: RunState
    fresh: RunState
    adopted: RunState
    remarks: tuple[str, ...]
    stopped: str
    signal: int
    wall_s: float

    @property
    def complete(self) -> bool:
        """Every item is terminal."""
        return self.state.rows_done == self.plan.rows


def generate(
    config: RunConfig,
    *,
    clock: Callable[[], float] = time.monotonic,
    stop: Stop | None = None,
    make_progress: ProgressMaker = Progress,
) -> GenerateResult:
    """Make everything the manifest asks for that is not made yet.

    SIGINT or SIGTERM end it early with a result; a second one raises.

    Args:
        config: what to make, and how.
        clock: monotonic seconds.
        stop: ends it early; asked by signals too where this is the main thread.
        make_progress: of the number of rows to do, what shows the progress.

    Raises:
        ConfigError, ManifestError: refused before any work.
        Fatal: the run can not go on; what is committed stays.
        Interrupted: asked to stop twice.
    """
    if not config.out:
        raise ConfigError("no run folder was given", remedy="add --out FOLDER")
    storage = open_run_storage(config.out, config.s3, uuid.uuid4().hex)
    system = describe_run_system(config)
    plan = make_plan(storage, config)
    created_at = datetime.now(UTC).isoformat(timespec="seconds")
    store = storage_record(storage, config.s3)
    if config.targets_store:
        store[RECORD] = open_storage(config.targets_store, config.s3).uri
    open_run(storage, config, plan, system, describe_environment(), created_at, store)
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
    stop = stop or Stop(config.drain_timeout_s)
    order = WorkOrder(tuple(todo))
    wall_s = execute(config, storage, plan, order, tally, clock, stop, make_progress)
    state = read_state(storage)
    record = read_run(storage)
    if record is not None:
        put_card(storage, dataset_card(record, state))
    return GenerateResult(
        plan=plan,
        state=state,
        fresh=tally.state,
        adopted=tally.adopted,
        remarks=tuple(tally.remarks),
        stopped=tally.stopped,
        signal=stop.signal,
        wall_s=wall_s,
    )


def describe_run_system(config: RunConfig) -> SystemDescription:
    """What is known of the system and its weights before it is loaded.

    Weights in a bucket are pinned by size and ETag of their objects.

    Raises:
        ConfigError: unknown names or keys, or what finishing needs is not installed.
        Fatal, Retryable: weights in a bucket can not be looked up.
    """
    check_finish(config.finish)
    words = model_overrides(config.model)
    resolved = describe_system(config.system, config.preset, words)
    known = describe_weights(config.system, config.preset, words)
    weights = resolved.get("weights") or {}
    named = {k: v for k, v in weights.items() if k != "licence"}
    stored = retried(lambda: stored_identities(weights, known.files, config.s3))
    return SystemDescription(resolved, named | stored, known.licences)
