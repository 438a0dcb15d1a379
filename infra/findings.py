"""What `geco verify` can find in a run, and the sum of it.

A fault means that a reader gets wrong rows or none; a leftover costs space only. Work that is not
done yet is neither: the verification says `incomplete`.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import asdict, dataclass, field
from enum import StrEnum
from typing import Any

MAX_SHOWN_PER_KIND = 10
_REPAIR = "geco repair"
_AGAIN = "geco repair, then the geco generate that made the run"
_REMAKE = "geco repair --remake SHARD, then the geco generate that made the run"


class Kind(StrEnum):
    """Kinds of findings. Closed."""

    # the index
    DONE_DAMAGED = "done_damaged"
    DONE_DIFFERS = "done_differs"
    UNKNOWN_SHARD = "unknown_shard"
    # the part as a whole
    PART_MISSING = "part_missing"
    PART_DAMAGED = "part_damaged"
    PAGES_DAMAGED = "pages_damaged"
    PART_FOREIGN = "part_foreign"
    WRONG_SCHEMA = "wrong_schema"
    WRONG_COUNTS = "wrong_counts"
    # its rows
    WRONG_ID = "wrong_id"
    WRONG_STATUS = "wrong_status"
    REASON_MISSING = "reason_missing"
    GLB_MISSING = "glb_missing"
    GLB_UNEXPECTED = "glb_unexpected"
    GLB_DIGEST = "glb_digest"
    GLB_INVALID = "glb_invalid"
    TARGET_INVALID = "target_invalid"
    # leftovers
    UNCOMMITTED_PART = "uncommitted_part"
    SUPERSEDED = "superseded"
    STALE_PARTIAL = "stale_partial"
    STALE_ATTEMPTS = "stale_attempts"
    TEMPORARY = "temporary"
    FOREIGN_FILE = "foreign_file"


REMEDIES = {
    Kind.DONE_DAMAGED: _REPAIR,
    Kind.DONE_DIFFERS: _REPAIR,
    Kind.UNKNOWN_SHARD: "not of this run: remove it",
    Kind.PART_MISSING: _AGAIN,
    Kind.PART_DAMAGED: _AGAIN,
    Kind.PAGES_DAMAGED: _REMAKE,
    Kind.PART_FOREIGN: _AGAIN,
    Kind.WRONG_SCHEMA: _REMAKE,
    Kind.WRONG_COUNTS: _REMAKE,
    Kind.WRONG_ID: _REMAKE,
    Kind.WRONG_STATUS: _REMAKE,
    Kind.REASON_MISSING: _REMAKE,
    Kind.GLB_MISSING: _REMAKE,
    Kind.GLB_UNEXPECTED: _REMAKE,
    Kind.GLB_DIGEST: _REMAKE,
    Kind.GLB_INVALID: _REMAKE,
    Kind.TARGET_INVALID: _REMAKE,
    Kind.UNCOMMITTED_PART: "geco repair or geco generate adopts it",
    Kind.SUPERSEDED: _REPAIR,
    Kind.STALE_PARTIAL: _REPAIR,
    Kind.STALE_ATTEMPTS: _REPAIR,
    Kind.TEMPORARY: "geco repair removes those older than an hour",
    Kind.FOREIGN_FILE: "no reader sees it; remove it if it is not yours",
}
LEFTOVERS = frozenset(
    {
        Kind.UNCOMMITTED_PART,
        Kind.SUPERSEDED,
        Kind.STALE_PARTIAL,
        Kind.STALE_ATTEMPTS,
        Kind.TEMPORARY,
        Kind.FOREIGN_FILE,
    }
)


@dataclass(frozen=True)
class Finding:
    """One thing that is not as it should be.

    Attributes:
        kind: what sort of thing.
        message: what is wrong, in one sentence.
        shard: where, if it belongs to one.
        row: manifest row, if it is about one.
        item_id: of that row.
    """

    kind: Kind
    message: str
    shard: int | None = None
    row: int | None = None
    item_id: str | None = None

    @property
    def remedy(self) -> str:
        """What to do about it."""
        return REMEDIES[self.kind]

    def to_json(self) -> dict[str, Any]:
        """Plain data."""
        return asdict(self) | {"kind": self.kind.value, "remedy": self.remedy}


@dataclass
class Verification:
    """What a run holds, and what was found wrong.

    Attributes:
        rows: of the manifest.
        shards: of the plan.
        fast: listings and footers only; rows were not read.
        rows_found: in whole parts that count.
        shards_done: with a done record.
        statuses: rows by status, as the footers say.
        found: how many findings of each kind.
        shown: the first few of each kind.
    """

    rows: int
    shards: int
    fast: bool
    rows_found: int = 0
    shards_done: int = 0
    statuses: Counter[str] = field(default_factory=Counter)
    found: Counter[Kind] = field(default_factory=Counter)
    shown: list[Finding] = field(default_factory=list)

    def add(self, finding: Finding) -> None:
        """Count a finding, and keep it unless there are many of its kind."""
        if self.found[finding.kind] < MAX_SHOWN_PER_KIND:
            self.shown.append(finding)
        self.found[finding.kind] += 1

    @property
    def complete(self) -> bool:
        """Every manifest row is in a whole part that counts."""
        return self.rows_found == self.rows

    @property
    def faults(self) -> int:
        """Findings by which a reader gets wrong rows or none."""
        return sum(count for kind, count in self.found.items() if kind not in LEFTOVERS)

    @property
    def leftovers(self) -> int:
        """Findings that only cost space."""
        return self.found.total() - self.faults

    @property
    def sound(self) -> bool:
        """Complete, and without a fault."""
        return self.complete and not self.faults

    def to_json(self) -> dict[str, Any]:
        """Plain data."""
        return {
            "complete": self.complete,
            "sound": self.sound,
            "fast": self.fast,
            "rows": self.rows,
            "rows_found": self.rows_found,
            "shards": self.shards,
            "shards_done": self.shards_done,
            "statuses": dict(self.statuses),
            "faults": self.faults,
            "leftovers": self.leftovers,
            "found": {kind.value: count for kind, count in sorted(self.found.items())},
            "findings": [finding.to_json() for finding in self.shown],
        }
