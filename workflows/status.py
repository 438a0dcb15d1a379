"""`geco status`: the state of a run, read from its store alone, so it works during a run, after it
and without it.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from geco_core.config.run import S3Config
from infra.dataset import GENERATE_PARTS
from infra.run_state import RunState, crashed_shards, read_summaries
from infra.storage import Storage
from workflows.run_access import open_existing_run
from workflows.words import counted

_NOT_PER_ITEM = ("wall", "commit")


def read_status(uri: str, s3: S3Config | None = None) -> dict[str, Any]:
    """Everything `status` shows, as plain data.

    Raises:
        ConfigError: there is no run at `uri`.
        Fatal: there is something else, or a done record is damaged.
    """
    run = open_existing_run(uri, s3)
    state, finished, generations = _collect(run.storage)
    config = run.record["config"]
    return {
        "run": uri,
        "system": f"{config['system']}-{config['preset']}",
        "created_at": run.record["created_at"],
        "rows": run.plan.rows,
        "shards": run.plan.shards,
        "last_commit": max(finished, default=""),
        "shards_with_crashes": len(crashed_shards(run.storage)),
        "shards_retried": sum(generation > 0 for generation in generations),
        "highest_generation": max(generations, default=0),
        **state.to_json(),
    }


def status_json(uri: str, s3: S3Config | None = None) -> str:
    """`read_status` as JSON text."""
    return json.dumps(read_status(uri, s3), indent=1) + "\n"


def status_text(uri: str, s3: S3Config | None = None) -> str:
    """`read_status` for people."""
    status = read_status(uri, s3)
    counts, tried = status["counts"], status["rows_done"] - status["counts"].get("skipped", 0)
    state = "complete" if status["rows_done"] == status["rows"] else "incomplete"
    last = status["last_commit"] or "none"
    lines = [
        f"run      {status['run']} ({status['system']}, started {status['created_at']}), {state}",
        f"items    {status['rows_done']} of {status['rows']}: "
        + (", ".join(f"{n} {name}" for name, n in sorted(counts.items())) or "none yet"),
        f"shards   {status['shards_done']} of {status['shards']}, last commit {last}",
    ]
    if status["shards_with_crashes"]:
        lines.append(f"crashes  {counted(status['shards_with_crashes'], 'shard')} lost a process")
    if status["shards_retried"]:
        lines.append(
            f"retried  {counted(status['shards_retried'], 'shard')}, "
            f"up to generation {status['highest_generation']}"
        )
    lines += [
        f"reason   {reason}: {n}"
        for reason, n in sorted(status["reasons"].items(), key=lambda kv: -kv[1])
    ]
    if tried and status["seconds"]:
        lines.append(f"seconds  {_per_item(status['seconds'], tried)} per item")
    return "\n".join(lines) + "\n"


def _per_item(seconds: Mapping[str, float], items: int) -> str:
    """`prepare 0.01, generate 0.5 (multiview 0.3, extract 0.2), finish 0.02`."""
    shown = {k: f"{k} {v / items:.3g}" for k, v in seconds.items() if k not in _NOT_PER_ITEM}
    parts = ", ".join(shown.pop(k) for k in GENERATE_PARTS if k in shown)
    if parts and "generate" in shown:
        shown["generate"] += f" ({parts})"
    return ", ".join(shown.values())


def _collect(storage: Storage) -> tuple[RunState, list[str], list[int]]:
    """Totals, and the time of commit and the generation of every shard."""
    state, finished, generations = RunState(), [], []
    for summary in read_summaries(storage):
        state.add(summary)
        finished.append(summary.finished_at)
        generations.append(summary.generation)
    return state, finished, generations
