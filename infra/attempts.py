"""The crash record of a shard: how often its process died, which row ran alone when it did, and who
is blamed.

A row is blamed only when its process died while the row ran alone, and the store knew so before the
row started: the last message of a dying process is easily lost, and then its neighbour would be
blamed.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field, replace
from typing import Any

from geco_core.errors import Reason
from infra.commit import attempts_key, put_attempts
from infra.storage import Storage

_DEATHS = {
    Reason.CRASHED: "its process died while the item ran alone in it",
    Reason.OUT_OF_MEMORY: "its process was ended for lack of memory while the item ran alone in it",
}


@dataclass(frozen=True)
class Suspicion:
    """The row that runs alone right now.

    Attributes:
        row: its manifest row number.
        item_id: its id.
        started_at: seconds since the epoch.
        limit_s: the earliest time after which its process may be ended for its slowness; None: as
            whoever judges knows.
    """

    row: int
    item_id: str
    started_at: float
    limit_s: float | None = None


@dataclass(frozen=True)
class Blame:
    """Why a row is not run again."""

    reason: Reason
    message: str


@dataclass(frozen=True)
class Attempts:
    """Everything the store knows about the deaths of one shard's processes."""

    shard: int
    crashes: int = 0
    blamed: dict[int, Blame] = field(default_factory=dict)
    running: Suspicion | None = None
    generation: int = 0

    def to_json(self) -> dict[str, Any]:
        """Plain data."""
        running = self.running
        return {
            "shard": self.shard,
            "generation": self.generation,
            "crashes": self.crashes,
            "blamed": {
                str(row): {"reason": b.reason.value, "message": b.message}
                for row, b in self.blamed.items()
            },
            "running": None if running is None else vars(running),
        }

    @staticmethod
    def from_json(data: dict[str, Any]) -> Attempts:
        """Inverse of `to_json`."""
        return Attempts(
            shard=data["shard"],
            generation=data.get("generation", 0),
            crashes=data["crashes"],
            blamed={
                int(row): Blame(Reason(b["reason"]), b["message"])
                for row, b in data["blamed"].items()
            },
            running=Suspicion(**data["running"]) if data["running"] else None,
        )


def after_crash(record: Attempts, reason: Reason, now: float, limit_s: float) -> Attempts:
    """The record after the shard's process died.

    Args:
        record: as the store holds it.
        reason: crashed or out_of_memory, as far as the scheduler can tell.
        now: seconds since the epoch.
        limit_s: the item time limit, where the record names none; a row that ran at least that
            long was ended by the watchdog.
    """
    running = record.running
    if running is None:
        return replace(record, crashes=record.crashes + 1)
    message = _DEATHS[reason]
    limit_s = limit_s if running.limit_s is None else running.limit_s
    if reason is Reason.CRASHED and now - running.started_at >= limit_s:
        reason, message = Reason.TIMED_OUT, f"took longer than {limit_s:g} s, alone in its process"
    blamed = {**record.blamed, running.row: Blame(reason, message)}
    return replace(record, crashes=record.crashes + 1, blamed=blamed, running=None)


def read_attempts(storage: Storage, shard: int, generation: int = 0) -> Attempts:
    """The stored record, or an empty one."""
    try:
        return Attempts.from_json(json.loads(storage.get(attempts_key(shard, generation))))
    except KeyError:
        return Attempts(shard, generation=generation)


def write_attempts(storage: Storage, record: Attempts) -> None:
    """Store the record; durable on return."""
    put_attempts(storage, attempts_key(record.shard, record.generation), record.to_json())
