"""`geco status`: the state of a run, read from its store alone, so it works during a run, after it
and without it.
"""

from __future__ import annotations

import json
from typing import Any

from geco_core.errors import ConfigError
from infra.plan import plan_of, read_run
from infra.run_state import RunState, done_shards, read_done
from infra.storage import Storage, open_storage


def read_status(uri: str) -> dict[str, Any]:
    """Everything `status` shows, as plain data.

    Raises:
        ConfigError: there is no run at `uri`.
    """
    storage = open_storage(uri)
    record = read_run(storage)
    if record is None:
        raise ConfigError(
            f"there is no run in {uri}", remedy="give the folder that was --out of `geco generate`"
        )
    plan = plan_of(record)
    state, finished = _collect(storage)
    return {
        "run": uri,
        "system": f"{record['config']['system']}-{record['config']['preset']}",
        "created_at": record["created_at"],
        "rows": plan.rows,
        "shards": plan.shards,
        "last_commit": max(finished, default=""),
        "shards_with_crashes": sum(1 for _ in storage.list("attempts")),
        **state.to_json(),
    }


def status_json(uri: str) -> str:
    """`read_status` as JSON text."""
    return json.dumps(read_status(uri), indent=1) + "\n"


def status_text(uri: str) -> str:
    """`read_status` for people."""
    status = read_status(uri)
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
        lines.append(f"crashes  {status['shards_with_crashes']} shard(s) lost a process")
    lines += [
        f"reason   {reason}: {n}"
        for reason, n in sorted(status["reasons"].items(), key=lambda kv: -kv[1])
    ]
    seconds = {
        stage: value
        for stage, value in status["seconds"].items()
        if stage not in ("wall", "commit")
    }
    if tried and seconds:
        lines.append(
            "seconds  "
            + ", ".join(f"{stage} {value / tried:.3g}" for stage, value in seconds.items())
            + " per item"
        )
    return "\n".join(lines) + "\n"


def _collect(storage: Storage) -> tuple[RunState, list[str]]:
    state, finished = RunState(), []
    for shard in sorted(done_shards(storage)):
        summary = read_done(storage, shard)
        state.add(summary)
        finished.append(summary.finished_at)
    return state, finished
