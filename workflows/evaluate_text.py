"""The table of `geco evaluate`, for people."""

from __future__ import annotations

import math

from geco_core.evaluate.protocol import Protocol
from geco_core.evaluate.score import METRICS
from geco_core.evaluate.summary import Summary
from workflows.evaluate_record import Comparison, Evaluation
from workflows.evaluate_rows import ItemState
from workflows.words import counted

SHOWN_ITEMS = 10
_ALIGNMENTS = {
    "none": "none",
    "box": "box (scale and translation by bounding boxes)",
    "centroid": "centroid (scale and translation by surface moments)",
    "icp": "icp (search about the vertical axis, then iterated closest points with scale)",
}
_NOT_SCORED = (ItemState.NOT_MADE, ItemState.BAD_MESH, ItemState.BAD_REFERENCE)
_PASSED_OVER = (ItemState.NO_REFERENCE, ItemState.OVER_LIMIT, ItemState.SKIPPED)


def evaluation_text(
    result: Evaluation, comparison: Comparison | None, protocol: Protocol, written: str
) -> str:
    """What was measured and how, the table, what was not scored, and where the rest is."""
    scored = result.counts[ItemState.SCORED.value]
    how = (
        f"protocol  {protocol.name}: {counted(protocol.views, 'view')} of "
        f"{protocol.resolution} px, {protocol.points:,} points, F-score at "
        f"{protocol.f_score_threshold:g}, {protocol.cells} cells\n"
        f"alignment {_ALIGNMENTS[protocol.align]}; lengths in units of the reference's "
        f"{'longest side' if protocol.normalise == 'cube' else 'diameter'}"
    )
    lines = [
        how,
        f"scored    {scored:,} of {counted(result.objects, 'object')}" + _passed_over(result),
        *_table(result),
    ]
    if comparison is not None:
        lines += ["", *_against(comparison)]
    lines += _not_scored(result)
    missing = int(result.record["rows_not_made_yet"])
    if missing:
        lines.append(f"the run is not complete: {counted(missing, 'row')} not made yet")
    unused = len(result.record["references_unused"])
    if unused:
        lines.append(f"{counted(unused, 'reference')} without an item in the run")
    return "\n".join([*lines, f"written   {written}"]) + "\n"


def _passed_over(result: Evaluation) -> str:
    counts = result.counts
    parts = [f"{counts[s.value]:,} {s.value}" for s in _PASSED_OVER if counts[s.value]]
    return f" ({', '.join(parts)})" if parts else ""


def _table(result: Evaluation) -> list[str]:
    if not result.summary:
        return []
    lines = ["", f"{'metric, + more is better':<24} {'mean':>9} {'median':>9}   95% of the mean"]
    lines += [_line(name, value) for name, value in result.summary.items()]
    if result.fid is not None:
        lines.append(f"{'fid -':<24} {result.fid:>9.2f}")
    return lines


def _line(name: str, value: Summary, sign: str = "") -> str:
    metric = METRICS[name]
    digits = 2 if metric.unit == "dB" else 4
    label = f"{name} ({metric.unit})" if metric.unit == "dB" else name
    label += " +" if metric.higher_is_better else " -"
    if math.isnan(value.mean):
        return f"{label:<24} {'none':>9}"
    numbers = [f"{number:{sign}.{digits}f}" for number in (value.mean, value.median)]
    low, high = (f"{number:{sign}.{digits}f}" for number in (value.low, value.high))
    return f"{label:<24} {numbers[0]:>9} {numbers[1]:>9}   {low} to {high}"


def _against(comparison: Comparison) -> list[str]:
    shared = max((value.count for value in comparison.differences.values()), default=0)
    lines = [
        f"difference to {comparison.other.run} over {counted(shared, 'object')} scored in both"
    ]
    lines += [_line(name, value, "+") for name, value in comparison.differences.items()]
    return lines


def _not_scored(result: Evaluation) -> list[str]:
    names = {state.value for state in _NOT_SCORED}
    items = [item for item in result.items if item["state"] in names]
    if not items:
        return [""]
    lines = ["", f"not scored: {counted(len(items), 'object')}"]
    for item in items[:SHOWN_ITEMS]:
        why = ": ".join(str(item[key]) for key in ("reason", "message") if item.get(key))
        lines.append(f"  {item['item_id']}: {item['state']} ({why})"[:160])
    if len(items) > SHOWN_ITEMS:
        lines.append(f"  and {len(items) - SHOWN_ITEMS:,} more")
    return lines
