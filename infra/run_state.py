"""The state of a run, read from the store alone: while it runs, after it, and without it."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import dataclass, field
from typing import Any

from infra.commit import done_key
from infra.dataset import ShardSummary
from infra.plan import Plan
from infra.storage import Storage


@dataclass
class RunState:
    """Totals over the committed shards."""

    shards_done: int = 0
    rows_done: int = 0
    counts: Counter[str] = field(default_factory=Counter)
    reasons: Counter[str] = field(default_factory=Counter)
    seconds: Counter[str] = field(default_factory=Counter)

    def add(self, summary: ShardSummary) -> None:
        """Count one committed shard."""
        self.shards_done += 1
        self.rows_done += summary.rows
        self.counts.update(summary.counts)
        self.reasons.update(summary.reasons)
        self.seconds.update(summary.seconds)

    @property
    def failed(self) -> int:
        """Failed rows."""
        return self.counts["failed"]

    @property
    def attempted(self) -> int:
        """Rows that were tried: all but the skipped ones."""
        return self.rows_done - self.counts["skipped"]

    @property
    def failure_rate(self) -> float:
        """Failed over tried rows; 0 before anything was tried."""
        return self.failed / self.attempted if self.attempted else 0.0

    def to_json(self) -> dict[str, Any]:
        """Plain data for `status --json` and the report."""
        return {
            "shards_done": self.shards_done,
            "rows_done": self.rows_done,
            "counts": dict(self.counts),
            "reasons": dict(self.reasons),
            "seconds": {stage: round(value, 3) for stage, value in self.seconds.items()},
        }


def done_shards(storage: Storage) -> set[int]:
    """Indices of the committed shards: one listing, no object is read."""
    return _numbered(storage, "done")


def crashed_shards(storage: Storage) -> set[int]:
    """Indices of the shards whose process died at least once."""
    return _numbered(storage, "attempts")


def _numbered(storage: Storage, folder: str) -> set[int]:
    """The numbers of `<folder>/<number>.json`; other files there are not ours."""
    stems = (key.rpartition("/")[2].rpartition(".json") for key in storage.list(folder))
    return {int(stem) for stem, mark, rest in stems if mark and not rest and stem.isdecimal()}


def todo_shards(storage: Storage, plan: Plan) -> list[int]:
    """The plan minus what is done, in order."""
    done = done_shards(storage)
    return [index for index in range(plan.shards) if index not in done]


def read_done(storage: Storage, shard: int) -> ShardSummary:
    """The done record of a shard. Raises `KeyError`."""
    return ShardSummary(**json.loads(storage.get(done_key(shard))))


def read_state(storage: Storage) -> RunState:
    """Totals over all done records."""
    state = RunState()
    for shard in sorted(done_shards(storage)):
        state.add(read_done(storage, shard))
    return state
