"""Checks of one part: its footer against the plan and the done record, its schema, its rows against
the manifest, its bytes against their digests.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from geco_core.errors import Fatal, ForgeError, Reason
from geco_core.types import Shard, Status
from infra.commit import agree, done_key, part_key, reads_as_parquet
from infra.dataset import ROW_SCHEMA, ShardSummary, free_name, read_summary
from infra.extra_columns import extra_columns, extra_fault
from infra.findings import Finding, Kind
from infra.finish_columns import LODS, finish_columns
from infra.retry import retried
from infra.rows import Row
from infra.run_state import done_generations, read_done
from infra.storage import Storage

BATCH_ROWS = 32
_COLUMNS = ["item_id", "status", "reason", "stage", "glb", "glb_uri", "glb_sha256"]
_STATUSES = frozenset(status.value for status in Status)
_REASONS = frozenset(reason.value for reason in Reason)
GlbCheck = Callable[[bytes], str]  # "" when the file is sound, else what is wrong with it


@dataclass(frozen=True)
class PartTask:
    """A part to check.

    Attributes:
        shard: the rows it must hold.
        generation: of the part that counts.
        schema: names and types of its columns; a type may be None, unknown.
        rows: what the manifest says about its rows; None to leave the rows alone.
        check_glb: looks into every GLB.
        system: whose own columns the rows have.
        finish: names of the columns of finishing that the rows have.
    """

    shard: Shard
    generation: int
    schema: Sequence[tuple[str, pa.DataType | None]]
    rows: Sequence[Row] | None
    check_glb: GlbCheck
    system: str = ""
    finish: Sequence[str] = ()


@dataclass
class PartResult:
    """What was found; `rows` is 0 when there is no whole part of these rows."""

    rows: int = 0
    statuses: Counter[str] = field(default_factory=Counter)
    findings: list[Finding] = field(default_factory=list)


def check_part(storage: Storage, task: PartTask) -> PartResult:
    """Check one part.

    A failed ranged read proves nothing: whatever does not read is fetched whole once more.

    Raises:
        Retryable, Fatal: the store failed; nothing is known about the part.
    """
    return retried(lambda: _check_part(storage, task))


def _check_part(storage: Storage, task: PartTask) -> PartResult:
    key = part_key(task.shard.index, task.generation)
    try:
        with storage.open_for_pyarrow(key) as file:
            return _check_file(storage, task, file)
    except KeyError:
        newer = _successor(storage, task)
        if newer is not None:
            return _check_part(storage, newer)
        return PartResult(findings=[_finding(task, Kind.PART_MISSING, f"there is no {key}")])
    except (pa.ArrowException, OSError):
        data = storage.get(key)
    try:
        return _check_file(storage, task, pa.BufferReader(data))
    except (pa.ArrowException, OSError) as error:
        text = " ".join(str(error).split())[:200]
        whole = reads_as_parquet(pa.BufferReader(data))
        kind = Kind.PAGES_DAMAGED if whole else Kind.PART_DAMAGED
        return PartResult(findings=[_finding(task, kind, f"{key}: {text}")])


def _successor(storage: Storage, task: PartTask) -> PartTask | None:
    """A later generation, when a retry has put it in place of this one since the listing."""
    counting = done_generations(storage).get(task.shard.index, -1)
    return replace(task, generation=counting) if counting > task.generation else None


def _check_file(storage: Storage, task: PartTask, file: pa.NativeFile) -> PartResult:
    parquet = pq.ParquetFile(file, page_checksum_verification=True)
    key = part_key(task.shard.index, task.generation)
    summary = read_summary(file)
    wanted = (task.shard.index, task.generation, task.shard.start, task.shard.stop)
    if summary is None or wanted != (
        summary.shard, summary.generation, summary.start, summary.stop
    ):  # fmt: skip
        message = f"{key} does not hold rows {task.shard.start} to {task.shard.stop - 1}"
        return PartResult(findings=[_finding(task, Kind.PART_FOREIGN, message)])
    result = PartResult(summary.rows, Counter(summary.counts))
    result.findings += _check_done(storage, task, summary)
    wrong = list(_schema_faults(task.schema, parquet.schema_arrow))
    if wrong:
        message = f"{key}: {'; '.join(wrong[:4])}"
        result.findings.append(_finding(task, Kind.WRONG_SCHEMA, message))
    elif task.rows is not None:
        result.findings += _check_rows(task, summary, parquet)
    return result


def _check_done(storage: Storage, task: PartTask, summary: ShardSummary) -> Iterator[Finding]:
    key = done_key(task.shard.index, task.generation)
    try:
        record = read_done(storage, task.shard.index, task.generation)
    except KeyError:
        return  # withdrawn since the listing: another command is at work
    except Fatal as error:
        yield _finding(task, Kind.DONE_DAMAGED, error.message)
        return
    if not agree(record, summary):
        yield _finding(task, Kind.DONE_DIFFERS, f"{key} and the footer of its part differ")


def _schema_faults(
    wanted: Sequence[tuple[str, pa.DataType | None]], found: pa.Schema
) -> Iterator[str]:
    names = [name for name, _ in wanted]
    if found.names != names:
        missing = [name for name in names if name not in found.names]
        extra = [name for name in found.names if name not in names]
        yield (
            f"columns {', '.join(missing)} are missing" if missing
            else f"columns {', '.join(extra)} are unknown" if extra
            else "columns are in another order"
        )  # fmt: skip
        return
    for name, kind in wanted:
        if kind is not None and not found.field(name).type.equals(kind):
            yield f"{name} is {found.field(name).type}, not {kind}"


def _check_rows(
    task: PartTask, summary: ShardSummary, parquet: pq.ParquetFile
) -> Iterator[Finding]:
    statuses: Counter[str] = Counter()
    reasons: Counter[str] = Counter()
    assert task.rows is not None
    expected = iter(task.rows)
    extra = extra_columns(task.system).names
    # All columns: one that does not decode keeps readers from the whole part.
    for batch in parquet.iter_batches(BATCH_ROWS, use_threads=False):
        columns = {name: batch.column(name) for name in _COLUMNS}
        for index in range(batch.num_rows):
            cells = {name: columns[name][index] for name in _COLUMNS}
            glb = cells.pop("glb")
            row = {name: cell.as_py() for name, cell in cells.items()}
            row["glb"] = memoryview(glb.as_buffer()) if glb.is_valid else None
            wanted = next(expected)
            statuses[str(row["status"])] += 1
            if row["reason"]:
                reasons[row["reason"]] += 1
            for kind, message in _row_faults(row, wanted, task.check_glb):
                yield _finding(task, kind, message, wanted)
            if LODS in task.finish:
                levels = batch.column(LODS)[index].as_py()
                for kind, message in _level_faults(row["status"], levels, task.check_glb):
                    yield _finding(task, kind, message, wanted)
            if extra and row["status"] == Status.DONE.value:
                fault = extra_fault({name: batch.column(name)[index].as_py() for name in extra})
                if fault:
                    yield _finding(task, Kind.TARGET_INVALID, fault, wanted)
    if statuses != Counter(summary.counts) or reasons != Counter(summary.reasons):
        message = f"the footer counts {_shown(summary.counts)}, the rows are {_shown(statuses)}"
        yield _finding(task, Kind.WRONG_COUNTS, message)


def _row_faults(
    row: dict[str, Any], wanted: Row, check_glb: GlbCheck
) -> Iterator[tuple[Kind, str]]:
    if row["item_id"] != wanted.item.item_id:
        yield Kind.WRONG_ID, f"the part has {row['item_id']!r} here"
    status, reason, problem = row["status"], row["reason"], wanted.problem
    if status not in _STATUSES or (reason is not None and reason not in _REASONS):
        yield Kind.WRONG_STATUS, f"status {status!r}, reason {reason!r} is no outcome"
        return
    if problem is not None and (status, reason) != (problem.status.value, problem.reason.value):
        expected = f"{problem.status.value} {problem.reason.value}"
        yield Kind.WRONG_STATUS, f"is {status} {reason or ''}, the manifest makes it {expected}"
    if status == Status.DONE.value:
        if reason is not None:
            yield Kind.WRONG_STATUS, f"is done, and has the reason {reason}"
        yield from _glb_faults(row, check_glb)
        return
    if not reason or not row["stage"]:
        yield Kind.REASON_MISSING, f"is {status} without a reason or a stage"
    if row["glb"] is not None or row["glb_sha256"] is not None:
        yield Kind.GLB_UNEXPECTED, f"is {status}, and has a GLB"


def _glb_faults(row: dict[str, Any], check_glb: GlbCheck) -> Iterator[tuple[Kind, str]]:
    glb, digest = row["glb"], row["glb_sha256"]
    if glb is None:
        if not row["glb_uri"]:
            yield Kind.GLB_MISSING, "is done without a GLB"
        return
    found = hashlib.sha256(glb).hexdigest()
    if found != digest:
        yield Kind.GLB_DIGEST, f"sha256 of the GLB is {found[:12]}, recorded is {str(digest)[:12]}"
        return
    try:
        wrong = check_glb(bytes(glb))
    except (ForgeError, ValueError, KeyError, IndexError, TypeError) as error:
        wrong = str(error)
    if wrong:
        yield Kind.GLB_INVALID, wrong


def _level_faults(
    status: str, levels: Sequence[dict[str, Any]] | None, check_glb: GlbCheck
) -> Iterator[tuple[Kind, str]]:
    """The levels of detail of a row. A row without any is fine."""
    if levels and status != Status.DONE.value:
        yield Kind.GLB_UNEXPECTED, f"is {status}, and has levels of detail"
        return
    for number, level in enumerate(levels or (), start=1):
        for kind, message in _glb_faults({"glb_uri": None, **level}, check_glb):
            yield kind, f"level of detail {number}: {message}"


def expected_schema(
    passthrough: Sequence[tuple[str, pa.DataType | None]],
    system: str = "",
    finish: Sequence[str] = (),
) -> list[tuple[str, pa.DataType | None]]:
    """Names and types of a part's columns: ours, those of finishing, the system's own, then the
    manifest's.
    """
    columns: list[tuple[str, pa.DataType | None]] = [
        (f.name, f.type) for f in (*ROW_SCHEMA, *finish_columns(finish), *extra_columns(system))
    ]
    for name, kind in passthrough:
        columns.append((free_name(name, [taken for taken, _ in columns]), kind))
    return columns


def _finding(task: PartTask, kind: Kind, message: str, row: Row | None = None) -> Finding:
    if row is None:
        return Finding(kind, message, task.shard.index)
    return Finding(kind, message, task.shard.index, row.index, row.item.item_id)


def _shown(counts: Any) -> str:
    return ", ".join(f"{count} {name}" for name, count in sorted(dict(counts).items())) or "none"
