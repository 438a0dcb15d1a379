"""One pass over a run's committed shards: counts, reasons with examples, seconds per stage, and a
sample of assets.

Only short columns are read, batch by batch, so a run of a million rows costs seconds and little
memory. Parts are found through their done records, never by listing the asset folder, so the page
is right while the run is still going on.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from geco_core.errors import ForgeError
from geco_core.types import Status
from infra.commit import part_key
from infra.dataset import TIMED_STAGES, ShardSummary
from infra.run_state import RunState, read_summaries
from infra.storage import Storage

EXAMPLES_PER_REASON = 5
_COLUMNS = (
    "item_id",
    "status",
    "reason",
    "stage",
    "message",
    "timing",
    "mesh.n_faces",
    "mesh.watertight",
)
_BATCH_ROWS = 4096


@dataclass(frozen=True)
class RowRef:
    """Where a row lies: shard and generation of its part, row of the part, row of the manifest."""

    shard: int
    offset: int
    manifest_row: int
    generation: int = 0


@dataclass(frozen=True)
class Example:
    """One failed or skipped row, for people."""

    item_id: str
    stage: str
    message: str


@dataclass(frozen=True)
class ReasonGroup:
    """All rows of one reason, with a few examples."""

    reason: str
    status: str
    count: int
    examples: tuple[Example, ...]


@dataclass(frozen=True)
class StageSeconds:
    """Distribution of the seconds per item of one stage."""

    stage: str
    items: int
    p50: float
    p95: float
    total: float


@dataclass
class Survey:
    """What the report says about a run as a whole.

    Attributes:
        state: totals over the done records.
        workers: distinct workers named there.
        finished_at: when the last shard was committed, as recorded; "" when unknown.
        reasons: groups by falling count.
        stages: in pipeline order, only stages that ran.
        faces_p50, faces_p95: of the meshes; None without meshes.
        watertight_share: of the meshes; None without meshes.
        sample: rows with assets, spread evenly over the run.
        problems: parts that could not be read, in words.
    """

    state: RunState
    workers: int
    finished_at: str = ""
    reasons: list[ReasonGroup] = field(default_factory=list)
    stages: list[StageSeconds] = field(default_factory=list)
    faces_p50: float | None = None
    faces_p95: float | None = None
    watertight_share: float | None = None
    sample: list[RowRef] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)


def survey_run(storage: Storage, *, assets: int) -> Survey:
    """Read the run once.

    Args:
        storage: of the run folder.
        assets: how many assets to sample.
    """
    summaries = list(read_summaries(storage))
    state = RunState()
    for summary in summaries:
        state.add(summary)
    workers = len({summary.worker for summary in summaries if summary.worker})
    finished_at = max((summary.finished_at for summary in summaries), default="")
    result = Survey(state, workers, finished_at)
    totals = _Totals(_spread(state.counts[Status.DONE.value], assets))
    for summary in summaries:
        try:
            for offset, batch in _batches(storage, summary):
                totals.add(summary, offset, batch)
        except (KeyError, OSError, pa.ArrowException, ForgeError) as error:
            result.problems.append(f"shard {summary.shard} can not be read: {error}")
    totals.finish(result)
    return result


def _spread(available: int, wanted: int) -> set[int]:
    """At most `wanted` of the numbers below `available`, evenly spaced, always with the first."""
    count = min(available, wanted)
    return (
        {int(position) for position in np.linspace(0, available - 1, count)} if count > 0 else set()
    )


def _batches(storage: Storage, summary: ShardSummary) -> Iterator[tuple[int, pa.RecordBatch]]:
    """(first row, batch) over the short columns of a part."""
    with storage.open_for_pyarrow(part_key(summary.shard, summary.generation)) as file:
        parquet = pq.ParquetFile(file)
        present = set(parquet.schema_arrow.names)
        columns = [name for name in _COLUMNS if name.partition(".")[0] in present]
        offset = 0
        for batch in parquet.iter_batches(_BATCH_ROWS, columns=columns, use_threads=False):
            yield offset, batch
            offset += batch.num_rows


class _Totals:
    """Accumulates batches."""

    def __init__(self, wanted: set[int]) -> None:
        self._wanted = wanted
        self._seen_done = 0
        self._sample: list[RowRef] = []
        self._counts: Counter[tuple[str, str]] = Counter()
        self._examples: defaultdict[tuple[str, str], list[Example]] = defaultdict(list)
        self._seconds: defaultdict[str, list[np.ndarray]] = defaultdict(list)
        self._faces: list[np.ndarray] = []
        self._watertight = 0

    def add(self, summary: ShardSummary, offset: int, batch: pa.RecordBatch) -> None:
        """Count one batch whose first row is row `offset` of the shard."""
        statuses = batch.column("status").to_pylist()
        for index, status in enumerate(statuses):
            if status == Status.DONE.value:
                if self._seen_done in self._wanted:
                    row = offset + index
                    self._sample.append(
                        RowRef(summary.shard, row, summary.start + row, summary.generation)
                    )
                self._seen_done += 1
        self._add_reasons(batch)
        self._add_numbers(batch)

    def finish(self, result: Survey) -> None:
        """Write the totals into `result`."""
        result.sample = self._sample
        result.reasons = [
            ReasonGroup(reason, status, count, tuple(self._examples[reason, status]))
            for (reason, status), count in sorted(
                self._counts.items(), key=lambda entry: (-entry[1], entry[0])
            )
        ]
        for stage in TIMED_STAGES:
            values = np.concatenate(self._seconds[stage]) if self._seconds[stage] else np.empty(0)
            if len(values):
                p50, p95 = (float(q) for q in np.quantile(values, [0.5, 0.95]))
                total = float(values.sum(dtype=np.float64))
                result.stages.append(StageSeconds(stage, len(values), p50, p95, total))
        faces = np.concatenate(self._faces) if self._faces else np.empty(0)
        if len(faces):
            result.faces_p50, result.faces_p95 = (float(q) for q in np.quantile(faces, [0.5, 0.95]))
            result.watertight_share = self._watertight / len(faces)

    def _add_reasons(self, batch: pa.RecordBatch) -> None:
        failed = batch.filter(pc.field("status") != Status.DONE.value)
        if failed.num_rows == 0:
            return
        names = ("reason", "status", "item_id", "stage", "message")
        columns = (failed.column(name).to_pylist() for name in names)
        for reason, status, item_id, stage, message in zip(*columns, strict=True):
            key = (reason or "", status)
            self._counts[key] += 1
            if len(self._examples[key]) < EXAMPLES_PER_REASON:
                self._examples[key].append(Example(item_id or "", stage or "", message or ""))

    def _add_numbers(self, batch: pa.RecordBatch) -> None:
        for name, values in _fields(batch, "timing").items():
            seconds = values.drop_null()
            if len(seconds):
                self._seconds[name].append(_numbers(seconds))
        mesh = _fields(batch, "mesh")
        faces = mesh["n_faces"].drop_null() if "n_faces" in mesh else []
        if len(faces):
            self._faces.append(_numbers(faces))
            self._watertight += int(mesh["watertight"].true_count)


def _fields(batch: pa.RecordBatch, name: str) -> dict[str, Any]:
    """The fields of a struct column, null where the struct is null; empty without such a column."""
    if name not in batch.schema.names:
        return {}
    column = batch.column(name)
    names = [entry.name for entry in column.type]
    return dict(zip(names, column.flatten(), strict=True))


def _numbers(values: pa.Array) -> np.ndarray:
    return values.to_numpy(zero_copy_only=False).astype(np.float32)
