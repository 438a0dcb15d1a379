"""Which rows repeat an earlier id: one streaming pass, 16 bytes of memory per row.

Ids are compared by 128-bit digests: for 10^9 rows the chance of one false duplicate is about
10^-21. The pass takes about a second per million rows with plain ids and four without; it runs
once per manifest, as its result is kept in the store (`infra.plan`).
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from geco_core.config.run import S3Config
from infra.cells import readable
from infra.manifest import Manifest
from infra.normalise import PROBLEM_COLUMN
from infra.rows import MAX_ID_LENGTH, iterate_rows, open_parquet
from infra.storage import Storage
from infra.storage.open import DEFAULT_S3

BATCH_ROWS = 16384
_NOT_PLAIN = "[^ -~]"  # control characters, and all that takes a decoder to judge
_compute: Any = pc  # its functions are made at import time: the stubs do not know them


def find_duplicates(manifest: Manifest, storage: Storage, s3: S3Config = DEFAULT_S3) -> np.ndarray:
    """Sorted numbers (int64) of the rows whose id occurred in an earlier row."""
    digests_N2 = np.empty((manifest.rows, 2), dtype=np.uint64)
    filled = 0
    for batch in _id_batches(manifest, storage, s3):
        joined = b"".join(
            hashlib.blake2b(item_id, digest_size=16).digest()
            for item_id in _ids(batch, manifest, filled)
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


def _ids(batch: pa.Table, manifest: Manifest, first: int) -> Iterable[bytes]:
    """The rows' ids as bytes: the column itself where every cell of it is a usable id."""
    if _usable_as_they_are(batch, manifest.columns.item_id):
        return batch.column(manifest.columns.item_id).cast(pa.binary()).to_pylist()
    rows = iterate_rows(batch, manifest, first, set())
    return (row.item.item_id.encode("utf-8", "surrogatepass") for row in rows)


def _usable_as_they_are(batch: pa.Table, name: str | None) -> bool:
    if name is None:
        return False
    column = batch.column(name)
    if not pa.types.is_string(column.type) or column.null_count:
        return False
    if PROBLEM_COLUMN in batch.column_names:
        problems = batch.column(PROBLEM_COLUMN)
        if problems.null_count < batch.num_rows:
            return False
    data = column.cast(pa.binary())
    sizes = _compute.min_max(_compute.binary_length(data)).as_py()
    if batch.num_rows == 0 or sizes["min"] == 0 or sizes["max"] > MAX_ID_LENGTH:
        return False
    return not _compute.any(_compute.match_substring_regex(data, _NOT_PLAIN)).as_py()


def _id_batches(manifest: Manifest, storage: Storage, s3: S3Config) -> Iterator[pa.Table]:
    columns = manifest.columns
    needed = [columns.item_id] if columns.item_id else columns.used()
    for file in manifest.files:
        with open_parquet(file, storage, s3) as parquet:
            present = [
                c
                for c in dict.fromkeys([*needed, PROBLEM_COLUMN])
                if c in parquet.schema_arrow.names
            ]
            batches = parquet.iter_batches(BATCH_ROWS, columns=present, use_threads=False)
            while True:
                with readable(file.path):
                    batch = next(batches, None)
                if batch is None:
                    break
                yield pa.Table.from_batches([batch])
