"""What a training step shows: its curves, and sample sheets over the steps."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from markupsafe import Markup

from infra.stages import work_folder
from infra.storage import Storage
from infra.training_folder import SAMPLES, Event, read_events
from workflows.distill_events import losses, train_events
from workflows.distill_report.charts import Curve, curve_chart, short
from workflows.report.assets import data_uri

TITLES: Mapping[str, str] = {"stage1": "Stage I", "stage2": "Stage II"}
ABOUT: Mapping[str, str] = {
    "stage1": "the one-step generator, by score distillation",
    "stage2": "the reconstructor behind it, by the renders of the teacher's meshes",
}
CAPTIONS: Mapping[str, str] = {
    "loss": "the whole loss",
    "vsd": "score distillation",
    "regression": "squared error to the teacher's samples",
    "student": "the student's own loss",
    "mse": "colour",
    "perceptual": "perceptual distance",
    "mask": "mask",
    "entropy": "signs of the field",
    "deviation": "evenness of the surface",
    "regularise": "FlexiCubes weights",
    "repaired": "empty surfaces that were repaired",
}
MAX_SHEETS = 24
MAX_SHEET_BYTES = 16 << 20
_STEP = re.compile(r"step-(\d+)\.png")


@dataclass(frozen=True)
class Chart:
    """A curve with its caption and the value it ended with."""

    name: str
    caption: str
    last: str
    svg: Markup


@dataclass(frozen=True)
class Training:
    """A training step as the page shows it.

    Attributes:
        name, title, about: of the step.
        step, steps: updates made, of how many.
        starts: how often its processes were started.
        charts: of every number that was reported.
        sheets: (updates, picture as a `data:` URI), in order.
        left_out: sheets that the page has no room for.
    """

    name: str
    title: str
    about: str
    step: int
    steps: int
    starts: int
    charts: Sequence[Chart]
    sheets: Sequence[tuple[int, str]]
    left_out: int


def training(storage: Storage, name: str, fingerprint: str, steps: int) -> Training | None:
    """A training step; None when it has told nothing yet.

    Args:
        storage: of the run folder.
        name: of the step.
        fingerprint: of the step.
        steps: updates of the whole training.
    """
    folder = work_folder(name, fingerprint)
    events = read_events(storage, folder)
    sheets, left_out = sample_sheets(storage, folder)
    if not events and not sheets:
        return None
    return Training(
        name=name,
        title=TITLES[name],
        about=ABOUT[name],
        step=max((event["step"] for event in events), default=0),
        steps=steps,
        starts=max(1, sum(event["kind"] == "started" for event in events)),
        charts=charts(events, steps),
        sheets=sheets,
        left_out=left_out,
    )


def charts(events: Sequence[Event], steps: int) -> list[Chart]:
    """A chart per reported number: losses first, then norms of gradients, then the pace."""
    reports = train_events(events)
    told = list(dict.fromkeys(name for event in reports for name in losses(event["numbers"])))
    known = [name for name in CAPTIONS if name in told]
    rest = sorted((n for n in told if n not in CAPTIONS), key=lambda name: name.endswith("_norm"))
    pace = [n for n in ("samples_per_s",) if any(n in event["numbers"] for event in reports)]
    found: list[Chart] = []
    for name in (*known, *rest, *pace):
        rows = [(e["step"], float(e["numbers"][name])) for e in reports if name in e["numbers"]]
        if not any(value for _, value in rows):
            continue  # a weight that is switched off
        curve = Curve(name, [step for step, _ in rows], [value for _, value in rows])
        found.append(Chart(name, caption(name), short(rows[-1][1]), curve_chart(curve, steps)))
    return found


def caption(name: str) -> str:
    """What a reported number is."""
    if name == "samples_per_s":
        return "samples per second"
    if name.endswith("_norm"):
        return f"gradient norm of the {name.removesuffix('_norm')}"
    return CAPTIONS.get(name, name.replace("_", " "))


def sample_sheets(storage: Storage, folder: str) -> tuple[list[tuple[int, str]], int]:
    """Sheets spread evenly over the steps, and how many are left out; the last is always there."""
    keys: dict[int, str] = {}
    for key in storage.list(f"{folder}/{SAMPLES}"):
        match = _STEP.search(key)
        if match:
            keys[int(match[1])] = key
    order = sorted(keys)
    chosen = order
    if len(order) > MAX_SHEETS:
        last = len(order) - 1
        chosen = [order[round(i * last / (MAX_SHEETS - 1))] for i in range(MAX_SHEETS)]
    sheets: list[tuple[int, str]] = []
    left = MAX_SHEET_BYTES
    for step in reversed(chosen):  # the latest ones where there is no room for all
        data = storage.get(keys[step])
        left -= len(data)
        if left < 0:
            break
        sheets.append((step, data_uri(data)))
    return sheets[::-1], len(order) - len(sheets)
