"""Which rows repeat an earlier id: one streaming pass, 16 bytes of memory per row.

Ids are compared by 128-bit digests: for 10^9 rows the chance of one false duplicate is about
10^-21.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator

import numpy as np
import pyarrow as pa

from infra.manifest import Manifest
from infra.normalise import PROBLEM_COLUMN
from infra.rows import iterate_rows, open_parquet
from infra.storage import Storage

BATCH_ROWS = 16384


def find_duplicates(manifest: Manifest, storage: Storage) -> np.ndarray:
    """Sorted numbers (int64) of the rows whose id occurred in an earlier row."""
    digests_N2 = np.empty((manifest.rows, 2), dtype=np.uint64)
    filled = 0
    for batch in _id_batches(manifest, storage):
        rows = iterate_rows(batch, manifest, filled, set())
        joined = b"".join(
            hashlib.blake2b(
                row.item.item_id.encode("utf-8", "surrogatepass"), digest_size=16
            ).digest()
            for row in rows
        )
        digests_N2[filled : filled + batch.num_rows] = np.frombuffer(
            joined, dtype=np.uint64
        ).reshape(-1, 2)
        filled += batch.num_rows
    return repeated_rows(digests_N2)


def repeated_rows(digests_N2: np.ndarray) -> np.ndarray:
    """Sorted indices of rows equal to an earlier row of a uint64 [N, 2] array."""
    order = np.lexsort(
        (digests_N2[:, 1], digests_N2[:, 0])
    )  # stable: equal rows stay in manifest order
    ordered = digests_N2[order]
    same = (ordered[1:] == ordered[:-1]).all(axis=1)
    return np.sort(order[1:][same]).astype(np.int64)


def _id_batches(manifest: Manifest, storage: Storage) -> Iterator[pa.Table]:
    columns = manifest.columns
    needed = [columns.item_id] if columns.item_id else columns.used()
    for file in manifest.files:
        with open_parquet(file, storage) as parquet:
            present = [
                c
                for c in dict.fromkeys([*needed, PROBLEM_COLUMN])
                if c in parquet.schema_arrow.names
            ]
            for batch in parquet.iter_batches(BATCH_ROWS, columns=present, use_threads=False):
                yield pa.Table.from_batches([batch])
