"""The rows of a run that an evaluation takes, and what becomes of every other row.

First a pass over the short columns, then only the row groups that hold chosen meshes.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum
from itertools import groupby
from typing import Any

import pyarrow.parquet as pq

from geco_core.types import Status
from infra.export_rows import PartSlice, open_part, slices_of
from infra.run_state import read_summaries
from infra.storage import Storage
from workflows.evaluate_references import References

_SHORT = ["item_id", "status", "reason", "message"]
STATUSES = tuple(status.value for status in Status)


class ItemState(StrEnum):
    """What became of an item in an evaluation."""

    SCORED = "scored"
    NOT_MADE = "not_made"  # the run has no mesh of it
    BAD_MESH = "bad_mesh"  # the run's mesh does not read, or can not be measured
    BAD_REFERENCE = "bad_reference"
    NO_REFERENCE = "no_reference"
    OVER_LIMIT = "over_limit"  # it has a reference, but the protocol has its objects already
    SKIPPED = "skipped"  # the run skipped the row, e.g. as a duplicate


@dataclass(frozen=True)
class RowOf:
    """One row of a run, without its mesh.

    Attributes:
        part: the part that holds it.
        offset: row of the part.
        item_id, status, reason, message: as in the row.
        state: None for a row that is to be scored, else why not.
    """

    part: PartSlice
    offset: int
    item_id: str
    status: str
    reason: str
    message: str
    state: ItemState | None = None


def choose_rows(storage: Storage, references: References, limit: int | None) -> list[RowOf]:
    """Every row of a run in manifest order, with the state of those that are not scored.

    The objects are the first `limit` rows that have a reference and were not skipped; a failed one
    among them keeps its place.

    Raises:
        Fatal: a part is gone or does not read.
    """
    rows: list[RowOf] = []
    taken = 0
    for part in slices_of(list(read_summaries(storage)), STATUSES):
        for offset, row in enumerate(_short_rows(storage, part)):
            item_id, status = str(row["item_id"]), str(row["status"])
            state: ItemState | None = None
            if status == Status.SKIPPED.value:
                state = ItemState.SKIPPED
            elif references.find(item_id) is None:
                state = ItemState.NO_REFERENCE
            elif limit is not None and taken >= limit:
                state = ItemState.OVER_LIMIT
            else:
                taken += 1
                state = ItemState.NOT_MADE if status != Status.DONE.value else None
            reason, message = str(row["reason"] or ""), str(row["message"] or "")
            rows.append(RowOf(part, offset, item_id, status, reason, message, state))
    return rows


def read_glbs(storage: Storage, rows: Sequence[RowOf]) -> Iterator[tuple[RowOf, bytes, str]]:
    """The rows with their GLB (empty when the row has none) and its digest, in order.

    Raises:
        Fatal: a part is gone or does not read.
    """
    for part, group in groupby(rows, key=lambda row: row.part):
        with open_part(storage, part) as parquet:
            yield from _of_part(parquet, list(group))


def _of_part(parquet: pq.ParquetFile, rows: list[RowOf]) -> Iterator[tuple[RowOf, bytes, str]]:
    first = 0
    for number in range(parquet.num_row_groups):
        count = parquet.metadata.row_group(number).num_rows
        inside = [row for row in rows if first <= row.offset < first + count]
        if inside:
            columns = ["glb", "glb_sha256"]
            table = parquet.read_row_group(number, columns=columns, use_threads=False)
            for row in inside:
                cells = table.slice(row.offset - first, 1).to_pylist()[0]
                yield row, cells["glb"] or b"", str(cells["glb_sha256"] or "")
        first += count


def _short_rows(storage: Storage, part: PartSlice) -> Iterator[dict[str, Any]]:
    with open_part(storage, part) as parquet:
        for batch in parquet.iter_batches(4096, columns=_SHORT, use_threads=False):
            yield from batch.to_pylist()
