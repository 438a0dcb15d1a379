"""What the committed shards of this command add up to, and when their failures stop the run."""

from __future__ import annotations

from dataclasses import dataclass, field

from infra.dataset import ShardSummary
from infra.run_state import RunState
from workflows.words import counted

FIRST_ITEMS = 200


@dataclass
class Tally:
    """Counts since the command started.

    Resumed work is judged afresh: what failed before does not stop it again.

    Attributes:
        max_failure_rate: share of failures that is still accepted.
        state: everything that was committed while the command ran.
        stopped: why the run stops early; empty while it goes on.
        ours: names of this command's workers.
        remarks: what else the user should know at the end.
        adopted: the part of `state` that was found committed by somebody else.
    """

    max_failure_rate: float
    state: RunState = field(default_factory=RunState)
    stopped: str = ""
    ours: set[str] = field(default_factory=set)
    remarks: list[str] = field(default_factory=list)
    adopted: RunState = field(default_factory=RunState)

    def add(self, summary: ShardSummary) -> bool:
        """Count a shard; False when the run must stop.

        The limit is a count, `max_failure_rate` of the first 200 items: a small run is never
        stopped by one failure.
        """
        early = self.state.attempted < FIRST_ITEMS
        self.state.add(summary)
        if summary.worker not in self.ours:
            self.adopted.add(summary)
        # Shards may be larger: a rate of 1 accepts a first shard without a single success.
        limit = self.max_failure_rate * max(FIRST_ITEMS, self.state.attempted)
        if early and self.state.failed > limit:
            reasons = ", ".join(f"{reason} {n}" for reason, n in self.state.reasons.most_common(4))
            tried = counted(self.state.attempted, "item")
            self.stopped = (
                f"{self.state.failed:,} of {tried} failed ({reasons}); "
                f"the limit is {self.max_failure_rate:.0%} of the first {FIRST_ITEMS}"
            )
        return not self.stopped
