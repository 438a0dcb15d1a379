"""Large manifests for the benchmarks of the engine."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

CHUNK = 100_000


def write_manifest(path: Path, rows: int) -> None:
    """Ids and prompts, in row groups of 100k."""
    schema = pa.schema([("item_id", pa.string()), ("prompt", pa.string())])
    with pq.ParquetWriter(path, schema) as writer:
        for first in range(0, rows, CHUNK):
            numbers = np.arange(first, min(rows, first + CHUNK)).astype(str)
            ids = pa.array(np.char.add("item-", numbers))
            writer.write_table(pa.Table.from_arrays([ids, ids], schema=schema))
