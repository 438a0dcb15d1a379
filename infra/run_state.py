"""The state of a run, read from the store alone: while it runs, after it, and without it."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

from geco_core.errors import Fatal
from infra.commit import done_key, parse_name
from infra.dataset import ShardSummary
from infra.plan import Plan
from infra.storage import Storage

READERS = 16
READ_AT_ONCE = 1024


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


def done_generations(storage: Storage) -> dict[int, int]:
    """Committed shard -> the generation that counts: one listing, no object is read."""
    return _generations(storage, "done")


def done_shards(storage: Storage) -> set[int]:
    """Indices of the committed shards."""
    return set(done_generations(storage))


def crashed_shards(storage: Storage) -> set[int]:
    """Indices of the shards whose process died at least once."""
    return set(_generations(storage, "attempts"))


def _generations(storage: Storage, folder: str) -> dict[int, int]:
    """The highest generation per shard of the records in a folder; other files are not ours."""
    found: dict[int, int] = {}
    for key in storage.list(folder):
        name = parse_name(key)
        if name is not None:
            found[name[0]] = max(name[1], found.get(name[0], 0))
    return found


def todo_shards(storage: Storage, plan: Plan) -> list[int]:
    """The plan minus what is done, in order."""
    done = done_shards(storage)
    return [index for index in range(plan.shards) if index not in done]


def read_done(storage: Storage, shard: int, generation: int = 0) -> ShardSummary:
    """The done record of a shard.

    Raises:
        KeyError: there is none.
        Fatal: it is no done record.
    """
    key = done_key(shard, generation)
    text = storage.get(key)
    try:
        summary = ShardSummary(**json.loads(text))
        tables = (summary.counts, summary.reasons, summary.seconds)
        if (summary.shard, summary.generation) != (shard, generation):
            raise ValueError(f"it is of shard {summary.shard}, generation {summary.generation}")
        if not all(isinstance(table, dict) for table in tables) or summary.rows < 1:
            raise ValueError("it holds no counts")
    except (ValueError, TypeError) as error:
        raise Fatal(
            f"{key} is damaged: {error}",
            remedy="geco verify says what is wrong, geco repair rebuilds it from its part",
        ) from error
    return summary


def read_summaries(storage: Storage) -> Iterator[ShardSummary]:
    """The done record that counts of every committed shard, in order.

    One request per shard, several at a time: seconds for thousands of shards in an object store. A
    resume does not need them, only the listing.
    """
    found = sorted(done_generations(storage).items())

    def read(entry: tuple[int, int]) -> ShardSummary | None:
        try:
            return read_done(storage, *entry)
        except KeyError:  # superseded and removed since the listing, or withdrawn by a repair
            generation = done_generations(storage).get(entry[0])
            return None if generation is None else read_done(storage, entry[0], generation)

    with ThreadPoolExecutor(READERS, thread_name_prefix="read-done") as pool:
        for first in range(0, len(found), READ_AT_ONCE):
            batch = pool.map(read, found[first : first + READ_AT_ONCE])
            yield from (summary for summary in batch if summary is not None)


def read_state(storage: Storage) -> RunState:
    """Totals over all done records."""
    state = RunState()
    for summary in read_summaries(storage):
        state.add(summary)
    return state
