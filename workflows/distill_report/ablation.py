"""The ablation table of the page, from what the step `evaluate` wrote."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from markupsafe import Markup

from geco_core.evaluate.distilled import METRICS
from infra.stages import read_json
from infra.storage import Storage
from workflows.dag_record import StepRecord
from workflows.distill_evaluate import HEADINGS, HIGHER_IS_BETTER, VARIANTS, heading, number
from workflows.distill_report.charts import interval_chart


@dataclass(frozen=True)
class Cell:
    """A mean, its 95% interval ("" for none), and whether no variant is better."""

    mean: str
    interval: str
    best: bool


@dataclass(frozen=True)
class Ablation:
    """The table.

    Attributes:
        heads: column titles with an arrow for the better direction.
        rows: variant, what it is, cells.
        gaps: column title and a picture of the differences to `against`.
        against: the variant the others are compared with.
        objects, seeds: of the evaluation.
    """

    heads: Sequence[str]
    rows: Sequence[tuple[str, str, Sequence[Cell]]]
    gaps: Sequence[tuple[str, Markup]]
    against: str
    objects: int
    seeds: int


def ablation(storage: Storage, record: StepRecord | None) -> Ablation | None:
    """The table of a finished evaluation, else None."""
    if record is None:
        return None
    content = read_json(storage, str(record.outputs["table"]))
    if content is None:
        return None
    variants: Mapping[str, Mapping[str, Any]] = content["variants"]
    shown = [name for name in VARIANTS if name in variants]
    names = [name for name in HEADINGS if all(name in variants[v] for v in shown)]
    against = str(content["against"])
    return Ablation(
        heads=[heading(name) for name in names],
        rows=[
            (v, content["about"].get(v, ""), [_cell(name, variants, v) for name in names])
            for v in shown
        ],
        gaps=[
            (heading(name), _gap(name, variants, shown, against))
            for name in names
            if name in METRICS
        ],
        against=against,
        objects=int(content["objects"]),
        seeds=len(content["seeds"]),
    )


def _cell(name: str, variants: Mapping[str, Mapping[str, Any]], variant: str) -> Cell:
    value = variants[variant][name]
    means = [entry[name]["mean"] for entry in variants.values()]
    best = max(means) if name in HIGHER_IS_BETTER else min(means)
    interval = ""
    if "low" in value:
        interval = f"{number(name, value['low'])} to {number(name, value['high'])}"
    return Cell(number(name, value["mean"]), interval, value["mean"] == best)


def _gap(
    name: str, variants: Mapping[str, Mapping[str, Any]], shown: Sequence[str], against: str
) -> Markup:
    rows = [
        (v, variants[v][name]["gap"], variants[v][name]["gap_low"], variants[v][name]["gap_high"])
        for v in shown
        if v != against and "gap" in variants[v][name]
    ]
    return interval_chart(rows, higher_is_better=name in HIGHER_IS_BETTER)
