"""The chosen rows of a run as one long sequence, cut anywhere, read part by part."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from geco_core.errors import Fatal
from infra.commit import part_key
from infra.dataset import ShardSummary
from infra.storage import Storage

BATCH_ROWS = 64


@dataclass(frozen=True)
class PartSlice:
    """A part, and which of all chosen rows it holds: [start, stop)."""

    shard: int
    generation: int
    start: int
    stop: int


def slices_of(summaries: Sequence[ShardSummary], statuses: Sequence[str]) -> tuple[PartSlice, ...]:
    """Parts with chosen rows, in shard order, numbered through."""
    found: list[PartSlice] = []
    first = 0
    for summary in sorted(summaries, key=lambda s: s.shard):
        rows = sum(summary.counts.get(status, 0) for status in statuses)
        if rows:
            found.append(PartSlice(summary.shard, summary.generation, first, first + rows))
        first += rows
    return tuple(found)


def read_slices(
    storage: Storage,
    parts: Sequence[PartSlice],
    rows: tuple[int, int],
    statuses: Sequence[str],
    schema: pa.Schema,
) -> Iterator[pa.Table]:
    """The chosen rows [first, last) in small tables of `schema`.

    Of a list of structs only the fields that the schema names are read.

    Raises:
        Fatal: a part is gone, does not read, or holds another number of chosen rows than its done
            record says.
    """
    for part in parts:
        first, last = max(rows[0], part.start), min(rows[1], part.stop)
        if first < last:
            yield from _rows_of(storage, part, (first, last), statuses, schema)


@contextlib.contextmanager
def open_part(storage: Storage, part: PartSlice) -> Iterator[pq.ParquetFile]:
    """A part, for the length of the block. Raises `Fatal` when it is gone or does not read."""
    key = part_key(part.shard, part.generation)
    try:
        with storage.open_for_pyarrow(key) as file:
            yield pq.ParquetFile(file)
    except KeyError:
        raise _broken(key, "is gone") from None
    except (pa.ArrowException, OSError) as error:
        raise _broken(key, f"does not read: {error}") from error


def _rows_of(
    storage: Storage,
    part: PartSlice,
    rows: tuple[int, int],
    statuses: Sequence[str],
    schema: pa.Schema,
) -> Iterator[pa.Table]:
    columns = list(dict.fromkeys([*_paths(schema), "status"]))
    wanted = pc.field("status").isin(list(statuses))
    number = part.start
    with open_part(storage, part) as parquet:
        for batch in parquet.iter_batches(BATCH_ROWS, columns=columns, use_threads=False):
            table = pa.Table.from_batches([batch]).filter(wanted).select(schema.names)
            low, high = max(rows[0] - number, 0), min(rows[1] - number, table.num_rows)
            number += table.num_rows
            if low < high:
                yield table.slice(low, high - low).replace_schema_metadata(None).cast(schema)
            if number >= rows[1]:
                return
    if number != part.stop:
        key = part_key(part.shard, part.generation)
        raise _broken(key, "holds another number of rows than its done record says")


def _paths(schema: pa.Schema) -> Iterator[str]:
    """Names of the columns of a part's file."""
    for column in schema:
        if pa.types.is_list(column.type) and pa.types.is_struct(column.type.value_type):
            for entry in column.type.value_type:
                yield f"{column.name}.list.element.{entry.name}"
        else:
            yield column.name


def _broken(key: str, problem: str) -> Fatal:
    return Fatal(f"{key} {problem}", remedy="see what geco verify says about it", stage="export")
