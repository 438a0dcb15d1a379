"""From manifest rows to items: the same function for the planner (ids) and the worker (everything).

A row that can not become an item keeps its place and carries a `Problem`. Ids are the id column, or
a digest of what identifies the row: image, prompt and seed.
"""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from geco_core.config.run import S3Config
from geco_core.errors import Fatal, Reason
from geco_core.types import Item, Shard, Status
from infra.cells import copyable, id_fault, joined, readable, replaced, text_fault, to_list
from infra.manifest import Manifest, ManifestFile
from infra.normalise import PROBLEM_COLUMN
from infra.storage import Storage, open_input
from infra.storage.open import DEFAULT_S3

MAX_ID_LENGTH = 512
CACHED_GROUP_BYTES = 1 << 28


@dataclass(frozen=True)
class Problem:
    """Why a row is not generated."""

    status: Status
    reason: Reason
    message: str


@dataclass(frozen=True)
class Row:
    """One manifest row, numbered through all files.

    Attributes:
        index: row number, from 0.
        item: what to make.
        source: the text that names its source in the manifest.
        problem: why it is not made; None for a sound row.
    """

    index: int
    item: Item
    source: str
    problem: Problem | None = None


@dataclass(frozen=True)
class ShardRows:
    """The rows of a shard and the columns to copy."""

    rows: list[Row]
    passthrough: pa.Table


class RowReader:
    """Reads shards out of a manifest.

    Keeps the last decoded row group: shards that are neighbours cost one decode.
    """

    def __init__(
        self,
        manifest: Manifest,
        storage: Storage,
        duplicates: np.ndarray,
        s3: S3Config = DEFAULT_S3,
    ) -> None:
        """Take a manifest.

        Args:
            manifest: what to read.
            storage: holds the manifest when it was normalised.
            duplicates: sorted row numbers whose id occurred before.
            s3: how the files of an `s3://` manifest are reached.
        """
        self._manifest = manifest
        self._s3 = s3
        self._storage = storage
        self._duplicates = duplicates
        self._lock = threading.Lock()
        self._files: dict[str, pq.ParquetFile] = {}
        self._cached: tuple[tuple[str, int], pa.Table] | None = None

    def read(self, shard: Shard) -> ShardRows:
        """Rows [start, stop) in manifest order."""
        with self._lock:
            table = self._table(shard.start, shard.stop)
        low, high = np.searchsorted(self._duplicates, [shard.start, shard.stop])
        repeated = {int(index) for index in self._duplicates[low:high]}
        rows = list(iterate_rows(table, self._manifest, shard.start, repeated))
        return ShardRows(rows, copyable(table.select(list(self._manifest.passthrough))))

    def _table(self, start: int, stop: int) -> pa.Table:
        pieces, first = [], 0
        for file in self._manifest.files:
            low, high = max(start, first), min(stop, first + file.rows)
            if low < high:
                pieces += self._pieces(file, low - first, high - first)
            first += file.rows
        return pa.concat_tables(pieces)

    def _pieces(self, file: ManifestFile, start: int, stop: int) -> Iterator[pa.Table]:
        parquet = self._files.get(file.path)
        if parquet is None:
            self._files.clear()  # neighbours live in one file: do not collect handles
            parquet = self._files[file.path] = open_parquet(file, self._storage, self._s3)
        first = 0
        for group in range(parquet.num_row_groups):
            rows = parquet.metadata.row_group(group).num_rows
            low, high = max(start, first), min(stop, first + rows)
            if low < high:
                with readable(file.path, Fatal):
                    piece = self._slice(parquet, file.path, group, low - first, high - first)
                yield piece
            first += rows

    def _slice(
        self, parquet: pq.ParquetFile, path: str, group: int, low: int, high: int
    ) -> pa.Table:
        if parquet.metadata.row_group(group).total_byte_size > CACHED_GROUP_BYTES:
            return _streamed_slice(parquet, group, low, high)
        if self._cached is None or self._cached[0] != (path, group):
            self._cached = ((path, group), parquet.read_row_group(group, use_threads=False))
        return self._cached[1].slice(low, high - low)


def open_parquet(file: ManifestFile, storage: Storage, s3: S3Config = DEFAULT_S3) -> pq.ParquetFile:
    """Open a manifest file where it lies.

    Raises:
        Fatal: it is gone or damaged, or an S3 object was replaced since the manifest was read.
    """
    try:
        with readable(file.path, Fatal):
            if file.stored:
                return pq.ParquetFile(storage.open_for_pyarrow(file.path))
            return pq.ParquetFile(open_input(file.path, s3, tag=file.tag))
    except KeyError as error:
        raise Fatal(
            f"the manifest file {file.path} is gone", remedy="put it back", stage="fetch"
        ) from error


def iterate_rows(
    table: pa.Table, manifest: Manifest, first: int, repeated: set[int]
) -> Iterator[Row]:
    """Items of consecutive rows.

    Args:
        table: the rows' columns.
        manifest: names the columns and the base folder.
        first: number of the first row.
        repeated: numbers of the rows whose id occurred before.
    """
    columns = manifest.columns

    def values(name: str | None) -> list[Any]:
        if name is None or name not in table.column_names:
            return [None] * table.num_rows
        return to_list(table.column(name))

    cells = zip(
        values(columns.item_id),
        values(columns.image),
        values(columns.prompt),
        values(columns.seed),
        values(PROBLEM_COLUMN),
        strict=True,
    )
    for index, (item_id, image, prompt, seed, problem) in enumerate(cells, start=first):
        row = _row(index, item_id, image, prompt, seed, problem, manifest)
        if index in repeated:
            message = f"item id {row.item.item_id!r} occurred before row {index}"
            row = Row(
                index, row.item, row.source, Problem(Status.SKIPPED, Reason.DUPLICATE_ID, message)
            )
        yield row


def _row(
    index: int,
    item_id: Any,
    image: Any,
    prompt: Any,
    seed: Any,
    problem: str | None,
    manifest: Manifest,
) -> Row:
    fallback = f"row-{index:09d}"
    image, name = _image(image, manifest.base)
    prompt = prompt or None
    source = replaced(name or prompt or "")
    explicit = None if item_id is None else str(item_id)

    def bad(reason: Reason, message: str) -> Row:
        usable = explicit and len(explicit) <= MAX_ID_LENGTH and not id_fault(explicit)
        return Row(
            index,
            Item(explicit if explicit and usable else fallback),
            source,
            Problem(Status.FAILED, reason, message),
        )

    if problem is not None:
        return bad(Reason.MALFORMED_ROW, problem)
    if manifest.columns.item_id is not None and not explicit:
        return bad(Reason.MALFORMED_ROW, f"row {index} has no {manifest.columns.item_id}")
    if explicit and len(explicit) > MAX_ID_LENGTH:
        return bad(
            Reason.MALFORMED_ROW,
            f"the id has {len(explicit)} characters, the limit is {MAX_ID_LENGTH}",
        )
    fault = (explicit and id_fault(explicit)) or text_fault(name) or text_fault(prompt or "")
    if fault:
        return bad(Reason.MALFORMED_ROW, f"row {index} has {fault} in its id or source")
    if image is None and prompt is None:
        return bad(Reason.MISSING_INPUT, f"row {index} has neither image nor prompt")
    try:
        number = _seed(seed)
    except ValueError:
        return bad(
            Reason.MALFORMED_ROW, f"seed {seed!r} is not a whole number within 0 and 2**63 - 1"
        )
    chosen = explicit or _digest_id(image if isinstance(image, bytes) else name, prompt, number)
    return Row(index, Item(chosen, image=image, prompt=prompt, seed=number), source)


def _image(cell: Any, base: str) -> tuple[str | bytes | None, str]:
    """The image as bytes or absolute path/URI, and the name it goes by in the manifest."""
    name = ""
    if isinstance(cell, dict):  # struct{bytes, path} of the datasets library
        name = cell.get("path") or ""
        cell = cell.get("bytes") or name
    if not cell:
        return None, name
    if isinstance(cell, bytes):
        return cell, name
    if "://" in cell or cell[:5].lower() == "data:":
        return cell, cell
    return joined(base, cell), cell


def _seed(value: Any) -> int | None:
    if value is None or value == "":
        return None
    number = int(value)
    if not 0 <= number < 2**63:
        raise ValueError(value)
    return number


def _digest_id(image: str | bytes, prompt: str | None, seed: int | None) -> str:
    digest = hashlib.sha256()
    parts = (
        image if isinstance(image, bytes) else image.encode("utf-8", "replace"),
        (prompt or "").encode(),
    )
    for part in (*parts, b"" if seed is None else str(seed).encode()):
        digest.update(f"{len(part)}:".encode())
        digest.update(part)
    return digest.hexdigest()[:16]


def _streamed_slice(parquet: pq.ParquetFile, group: int, low: int, high: int) -> pa.Table:
    """Rows of a row group too large to decode at once."""
    pieces, first = [], 0
    for batch in parquet.iter_batches(batch_size=256, row_groups=[group], use_threads=False):
        start, stop = max(low, first), min(high, first + batch.num_rows)
        if start < stop:
            pieces.append(batch.slice(start - first, stop - start))
        first += batch.num_rows
        if first >= high:
            break
    return pa.Table.from_batches(pieces)
