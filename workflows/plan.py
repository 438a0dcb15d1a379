"""`geco plan`: what a run would make and cost, without making anything."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from pathlib import Path

from geco_core.config.run import RunConfig
from infra.plan import Plan, check_run, make_plan, read_run, refuse_run_inside_manifest
from infra.run_state import RunState, read_state
from infra.storage import LocalStorage, Storage, open_storage
from workflows.generate import describe_run_system
from workflows.words import counted


@dataclass(frozen=True)
class Rate:
    """Device seconds per item and where the number comes from; None when nobody knows."""

    seconds: float | None
    source: str


def preview(config: RunConfig, seconds_per_item: float | None = None) -> str:
    """The plan as text. Raises `ConfigError` or `ManifestError` exactly where `generate` would."""
    system = describe_run_system(config)
    with tempfile.TemporaryDirectory(prefix="geco-plan-") as folder:
        # A preview leaves no run folder behind; an existing run is checked and its rates are used.
        storage: Storage = LocalStorage(Path(folder))
        run = open_storage(config.out, config.s3) if config.out else None
        standing = read_run(run) if run is not None else None
        if run is not None:
            refuse_run_inside_manifest(config.manifest, run)
            storage = run if standing is not None else storage
        plan = make_plan(storage, config)
        if standing is not None:
            check_run(standing, config, plan, system)
        state = read_state(storage)
    rate = known_rate(state, seconds_per_item)
    licences = ", ".join(system.licences) or "none"
    shards = f"{plan.shards:,} of up to {counted(plan.shard_size, 'item')}"
    lines = [
        f"manifest    {config.manifest} ({plan.manifest.kind}, digest {plan.manifest.digest[:12]})",
        f"system      {config.system}-{config.preset}, licences {licences}",
        f"items       {plan.rows:,}{_duplicates(plan.duplicates)}",
        f"shards      {shards}, {state.shards_done:,} done",
        f"device time {_device_time(plan, state, rate)}",
        f"rate        {rate.source}",
    ]
    return "\n".join(lines) + "\n"


def known_rate(state: RunState, given: float | None) -> Rate:
    """Seconds per item: given, or measured in this run folder, or unknown."""
    if given is not None:
        return Rate(given, f"{given:g} s per item, given by --seconds-per-item")
    if state.attempted and state.seconds["generate"] > 0:
        seconds = state.seconds["generate"] / state.attempted
        return Rate(
            seconds,
            f"{seconds:.3g} s per item, measured over {counted(state.attempted, 'item')} "
            "of this run folder",
        )
    return Rate(
        None, "unknown: no item of this run folder is made yet, and no --seconds-per-item was given"
    )


def _device_time(plan: Plan, state: RunState, rate: Rate) -> str:
    if rate.seconds is None:
        return "unknown (see rate)"
    left = max(0, plan.rows - plan.duplicates - state.attempted)
    if not left:
        return "none: no item is left"
    hours = left * rate.seconds / 3600
    time = f"{hours:.3g} device-hours" if hours >= 0.01 else f"{hours * 3600:.3g} device-seconds"
    return f"{time} for the {counted(left, 'item')} left"


def _duplicates(number: int) -> str:
    return f", of which {counted(number, 'duplicate')} will be skipped" if number else ""
