"""What an evaluation found, and its form as JSON."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from geco_core.config.load import fingerprint, to_dict
from geco_core.evaluate.protocol import Protocol
from geco_core.evaluate.score import METRICS
from geco_core.evaluate.summary import Summary
from infra.environment import code_version
from workflows.evaluate_rows import ItemState

SCHEMA = 1
MAX_LISTED = 10_000


@dataclass
class Evaluation:
    """The result for one run.

    Attributes:
        run: its address.
        items: one entry per row, in manifest order: item_id and state, with numbers or a reason.
        summary: mean, median and interval of every metric.
        fid: over all renders, where it was asked for and there are two scored renders.
        record: digests of what was evaluated.
    """

    run: str
    items: list[dict[str, Any]] = field(default_factory=list)
    summary: dict[str, Summary] = field(default_factory=dict)
    fid: float | None = None
    record: dict[str, Any] = field(default_factory=dict)

    @property
    def counts(self) -> Counter[str]:
        """Rows by state."""
        return Counter(item["state"] for item in self.items)

    @property
    def objects(self) -> int:
        """How many objects were taken, scored or not."""
        counts = self.counts
        states = (ItemState.SCORED, ItemState.NOT_MADE, ItemState.BAD_MESH, ItemState.BAD_REFERENCE)
        return sum(counts[state.value] for state in states)

    @property
    def complete(self) -> bool:
        """Whether every object was scored."""
        return self.counts[ItemState.SCORED.value] == self.objects

    def metrics(self) -> dict[str, dict[str, float]]:
        """item_id -> metrics of the scored items."""
        scored = ItemState.SCORED.value
        return {i["item_id"]: i["metrics"] for i in self.items if i["state"] == scored}


@dataclass(frozen=True)
class Comparison:
    """Two runs, object by object.

    Attributes:
        other: the run that is compared with.
        differences: ours minus theirs, over the objects that both have scored.
    """

    other: Evaluation
    differences: Mapping[str, Summary]


def evaluation_json(
    result: Evaluation, comparison: Comparison | None, protocol: Protocol
) -> dict[str, Any]:
    """What is written: the protocol, digests, the summary, and every item with its state."""
    content = {
        "schema": SCHEMA,
        "code_version": code_version(),
        "protocol": to_dict(protocol),
        "protocol_digest": fingerprint(protocol),
        **_run_json(result),
    }
    if comparison is not None:
        differences = {name: value.to_json() for name, value in comparison.differences.items()}
        content["against"] = _run_json(comparison.other) | {"differences": differences}
    return content


def _run_json(result: Evaluation) -> dict[str, Any]:
    summary = {
        name: value.to_json()
        | {"unit": METRICS[name].unit, "higher_is_better": METRICS[name].higher_is_better}
        for name, value in result.summary.items()
    }
    return {
        "run": result.run,
        "record": result.record,
        "counts": dict(result.counts),
        "objects": result.objects,
        "summary": summary,
        "fid": result.fid,
        "items": [_plain(item) for item in result.items[:MAX_LISTED]],
        "items_not_listed": max(0, len(result.items) - MAX_LISTED),
    }


def _plain(value: Any) -> Any:
    """Without NaN, which JSON does not have."""
    if isinstance(value, Mapping):
        return {key: _plain(entry) for key, entry in value.items()}
    return None if isinstance(value, float) and not math.isfinite(value) else value
