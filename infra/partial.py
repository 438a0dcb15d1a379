"""Rows of a shard that is not finished, saved early: `partial/<shard>-g<generation>/<first row>`.

A process that dies, or is asked to stop, then costs at most the rows made since the last save. A
saved file is a hint, not a promise: what can not be read or does not belong is left out, and its
rows are made again, to the same bytes.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Sequence
from dataclasses import dataclass

import pyarrow as pa
import pyarrow.parquet as pq

from geco_core.types import Shard
from infra.commit import drop_partial, put_partial
from infra.dataset import ROW_SCHEMA
from infra.storage import Storage
from infra.telemetry import log_event

log = logging.getLogger(__name__)

FOLDER = "partial"
_KEY = b"geco.partial"


@dataclass(frozen=True)
class SavedRows:
    """One saved file.

    Attributes:
        key: where it lies.
        rows: manifest row numbers.
        table: one row for each of them, in the same order.
    """

    key: str
    rows: tuple[int, ...]
    table: pa.Table


def partial_folder(shard: int, generation: int) -> str:
    """`partial/000003-g0`."""
    return f"{FOLDER}/{shard:06d}-g{generation}"


def save_rows(
    storage: Storage, shard: int, generation: int, rows: Sequence[int], table: pa.Table
) -> str:
    """Store finished rows; durable on return.

    Args:
        storage: of the run folder.
        shard: its index.
        generation: of the part being made.
        rows: manifest row numbers, rising.
        table: one row for each of them.

    Returns:
        The key.
    """
    head = {"shard": shard, "generation": generation, "rows": list(rows)}
    footer = {**(table.schema.metadata or {}), _KEY: json.dumps(head).encode()}
    sink = pa.BufferOutputStream()
    table = table.replace_schema_metadata(footer)
    pq.write_table(
        table, sink, compression="zstd", write_statistics=False, write_page_checksum=True
    )
    key = f"{partial_folder(shard, generation)}/{rows[0]:09d}.parquet"
    put_partial(storage, key, memoryview(sink.getvalue()))
    return key


def load_partials(storage: Storage, shard: Shard, generation: int) -> list[SavedRows]:
    """All readable files of a shard, by first row."""
    found = []
    for key in saved_keys(storage, shard.index, generation):
        try:
            found.append(_read(storage, key, shard, generation))
        except (pa.ArrowException, OSError, LookupError, ValueError, TypeError) as error:
            log_event(
                log,
                "saved_rows_ignored",
                level=logging.WARNING,
                key=key,
                problem=f"{type(error).__name__}: {error}"[:200],
            )
    return found


def saved_keys(storage: Storage, shard: int, generation: int) -> list[str]:
    """Keys of a shard's saved files, sorted."""
    return sorted(storage.list(partial_folder(shard, generation)))


def drop_partials(storage: Storage, keys: Sequence[str]) -> None:
    """Remove saved files. Raises `Retryable`; calling again is safe."""
    for key in keys:
        drop_partial(storage, key)


def _read(storage: Storage, key: str, shard: Shard, generation: int) -> SavedRows:
    with storage.open_for_pyarrow(key) as file:
        parquet = pq.ParquetFile(file, page_checksum_verification=True)
        head = json.loads((parquet.schema_arrow.metadata or {}).get(_KEY, b"{}"))
        if (head["shard"], head["generation"]) != (shard.index, generation):
            raise ValueError("rows of another shard or generation")
        table = parquet.read(use_threads=False)
    rows = tuple(int(row) for row in head["rows"])
    if len(rows) != table.num_rows or len(set(rows)) != len(rows):
        raise ValueError(f"{table.num_rows} rows under {len(set(rows))} numbers")
    if not all(shard.start <= row < shard.stop for row in rows):
        raise ValueError("rows outside of the shard")
    missing = [f.name for f in ROW_SCHEMA if f.name not in table.column_names]
    if missing:
        raise ValueError(f"columns are missing: {', '.join(missing)}")
    return SavedRows(key, rows, table.replace_schema_metadata(None))
