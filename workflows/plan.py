"""`geco plan`: what a run would make and cost, without making anything."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from pathlib import Path

from geco_core.config.run import RunConfig
from infra.plan import Plan, make_plan, read_run
from infra.run_state import RunState, read_state
from infra.storage import LocalStorage, Storage, open_storage
from workflows.generate import describe_run_system


@dataclass(frozen=True)
class Rate:
    """Device seconds per item and where the number comes from; None when nobody knows."""

    seconds: float | None
    source: str


def preview(config: RunConfig, seconds_per_item: float | None = None) -> str:
    """The plan as text. Raises `ConfigError` or `ManifestError` exactly where `generate` would."""
    system = describe_run_system(config)
    with tempfile.TemporaryDirectory(prefix="geco-plan-") as folder:
        # A preview leaves no run folder behind; an existing one is checked and its rates are used.
        existing = bool(config.out) and Path(config.out).is_dir()
        storage: Storage = open_storage(config.out) if existing else LocalStorage(Path(folder))
        plan = make_plan(storage, config)
        state = read_state(storage) if read_run(storage) is not None else RunState()
    rate = known_rate(state, seconds_per_item)
    licences = ", ".join(system.licences) or "none"
    lines = [
        f"manifest    {config.manifest} ({plan.manifest.kind}, digest {plan.manifest.digest[:12]})",
        f"system      {config.system}-{config.preset}, licences {licences}",
        f"items       {plan.rows}, of which {plan.duplicates} duplicate(s) will be skipped",
        f"shards      {plan.shards} of up to {plan.shard_size} items, {state.shards_done} done",
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
            f"{seconds:.3g} s per item, measured over {state.attempted} items of this run folder",
        )
    return Rate(
        None, "unknown: no item of this run folder is made yet, and no --seconds-per-item was given"
    )


def _device_time(plan: Plan, state: RunState, rate: Rate) -> str:
    left = plan.rows - state.rows_done
    if rate.seconds is None:
        return "unknown (see rate)"
    hours = left * rate.seconds / 3600
    return (
        f"{hours:.3g} device-hours for {left} items"
        if hours >= 0.01
        else f"{hours * 3600:.3g} s for {left} items"
    )
