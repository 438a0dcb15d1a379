"""Rows of a shard that are not made again: saved ones of this generation, sound ones of the one
before. They go into the new part as they are, byte for byte.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from actors.worker import ShardTask, Worker
from geco_core.errors import Fatal, Retryable
from infra.commit import part_key, stored_summary
from infra.dataset import TIMED_STAGES, ShardSummary, rows_to_table
from infra.partial import load_partials
from infra.retry import retried
from infra.rows import ShardRows


@dataclass
class Kept:
    """Rows that are finished already.

    Attributes:
        positions: their places within the shard, in the order of the tables' rows.
        tables: the rows, in the schema of the part to write.
        keys: of the saved files, to be removed after the commit.
        saved: how many of the rows come from saved files.
    """

    positions: list[int] = field(default_factory=list)
    tables: list[pa.Table] = field(default_factory=list)
    keys: list[str] = field(default_factory=list)
    saved: int = 0

    def add(self, positions: Sequence[int], table: pa.Table, chosen: Sequence[int]) -> None:
        """Keep the rows `chosen` of a table, which have these positions; known ones are left."""
        known = set(self.positions)
        fresh = [k for k, position in enumerate(positions) if position not in known]
        if fresh:
            self.positions += [positions[k] for k in fresh]
            self.tables.append(table.take(pa.array([chosen[k] for k in fresh])))


def load_kept(task: ShardTask, worker: Worker, read: ShardRows) -> Kept:
    """What need not be made of a task.

    Raises:
        Fatal: the part of the generation before is missing or broken.
        Retryable: the store failed for good this time.
    """
    kept = Kept()
    if not task.partials and not task.generation:
        return kept
    schema = rows_to_table([], [], worker.context, read.passthrough.slice(0, 0)).schema
    ids = [row.item.item_id for row in read.rows]
    if task.partials:
        _add_saved(kept, task, worker, ids, schema)
    if task.generation:
        _add_previous(kept, task, worker, ids, schema)
    return kept


def merge(kept: Kept, positions: Sequence[int], made: pa.Table) -> pa.Table:
    """All rows of the shard in manifest order."""
    if not kept.tables:
        return made
    whole = pa.concat_tables([*kept.tables, made])
    return whole.take(pa.array(np.argsort([*kept.positions, *positions], kind="stable")))


def with_kept(summary: ShardSummary, kept: Kept) -> ShardSummary:
    """The summary of the rows made, with the kept ones added: their seconds were spent, too."""
    counts, reasons = Counter(dict(summary.counts)), Counter(dict(summary.reasons))
    seconds = Counter(dict(summary.seconds))
    for table in kept.tables:
        counts.update(table.column("status").to_pylist())
        reasons.update(reason for reason in table.column("reason").to_pylist() if reason)
        for stage in TIMED_STAGES:
            spent = pc.sum(pc.struct_field(table.column("timing"), stage)).as_py()  # type: ignore[attr-defined]
            if spent:
                seconds[stage] += spent
    return replace(summary, counts=dict(counts), reasons=dict(reasons), seconds=dict(seconds))


def _add_saved(
    kept: Kept, task: ShardTask, worker: Worker, ids: Sequence[str], schema: pa.Schema
) -> None:
    saved = retried(
        lambda: load_partials(worker.storage, task.shard, task.generation), worker.sleep
    )
    for piece in saved:
        kept.keys.append(piece.key)
        positions = [row - task.shard.start for row in piece.rows]
        names = piece.table.column("item_id").to_pylist()
        if names == [ids[position] for position in positions]:
            kept.add(positions, _fitted(piece.table, schema), range(len(positions)))
    kept.saved = len(kept.positions)


def _add_previous(
    kept: Kept, task: ShardTask, worker: Worker, ids: Sequence[str], schema: pa.Schema
) -> None:
    table = retried(lambda: _previous_part(task, worker), worker.sleep)
    if table.column("item_id").to_pylist() != ids:
        raise _broken(task, "does not hold the rows of its shard")
    again = {reason.value for reason in task.retry}
    reasons = table.column("reason").to_pylist()
    positions = [k for k, reason in enumerate(reasons) if reason not in again]
    kept.add(positions, _fitted(table, schema), positions)


def _previous_part(task: ShardTask, worker: Worker) -> pa.Table:
    key = part_key(task.shard.index, task.generation - 1)
    try:
        with worker.storage.open_for_pyarrow(key) as file:
            return pq.ParquetFile(file, page_checksum_verification=True).read(use_threads=False)
    except KeyError:
        if stored_summary(worker.storage, task.shard.index, task.generation) is not None:
            # Another command made this generation meanwhile and removed what it replaces.
            raise Retryable(f"{key} is gone, its successor is there", stage="commit") from None
        raise _broken(task, "is missing") from None
    except pa.ArrowInvalid as error:
        raise _broken(task, f"can not be read: {error}") from error
    except OSError as error:
        if stored_summary(worker.storage, task.shard.index, task.generation - 1) is not None:
            raise _broken(task, f"has damaged rows: {error}") from error
        raise Retryable(f"{key} can not be read: {error}", stage="commit") from error


def _broken(task: ShardTask, problem: str) -> Fatal:
    key = part_key(task.shard.index, task.generation - 1)
    return Fatal(
        f"{key}, from which rows are to be kept, {problem}",
        remedy="run `geco verify` on the run",
        stage="plan",
    )


def _fitted(table: pa.Table, schema: pa.Schema) -> pa.Table:
    """The columns of `schema`; what an older version did not write is null."""
    columns = []
    for wanted in schema:
        if wanted.name not in table.column_names:
            columns.append(pa.chunked_array([pa.nulls(table.num_rows, wanted.type)]))
            continue
        column = table.column(wanted.name)
        columns.append(column if column.type == wanted.type else column.cast(wanted.type))
    return pa.Table.from_arrays(columns, schema=schema)
