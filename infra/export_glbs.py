"""GLBs of an export as files of their own, and the table that says which file is which item."""

from __future__ import annotations

import hashlib
from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor

import pyarrow as pa
import pyarrow.compute as pc

from geco_core.errors import Fatal
from infra.export import ExportPlan, grouped, local_parquet
from infra.export_names import safe_name
from infra.export_rows import read_slices
from infra.finish_columns import LODS, finish_columns
from infra.retry import retried
from infra.storage import Storage

FOLDER = "glb"
INDEX_KEY = f"{FOLDER}/index.parquet"
WRITERS = 8
_NAMES = pa.schema([("item_id", pa.string()), ("glb_sha256", pa.string()), ("seed", pa.int64())])
_GLBS = pa.schema([*_NAMES, ("glb", pa.large_binary())])
_INDEX = pa.schema([*_NAMES, ("file", pa.string())])
_LEVEL_INDEX = pa.schema([*_INDEX, ("lod", pa.int32())])
_LEVEL_DIGESTS = pa.field(LODS, pa.list_(pa.struct([("glb_sha256", pa.string())])))


def glb_key(item_id: str, lod: int = 0) -> str:
    """`glb/<safe id>.glb`, and `glb/<safe id>.lod1.glb` of the first level of detail."""
    return f"{FOLDER}/{safe_name(item_id)}{f'.lod{lod}' if lod else ''}.glb"


def write_glbs(storage: Storage, target: Storage, plan: ExportPlan, number: int) -> int:
    """Write the GLBs of the rows of one file; call it before the file is written, whose presence
    then says that they are all there.

    Returns:
        How many there are.

    Raises:
        Fatal: a part is gone or does not read, or a GLB does not have its digest.
        Retryable: a store failed for good this time.
    """
    written = 0
    waiting: deque[Future[bool]] = deque()
    with ThreadPoolExecutor(WRITERS, thread_name_prefix="glb") as pool:
        try:
            for key, item_id, digest, glb in _glbs(storage, plan, plan.rows_of(number)):
                _check(item_id, digest, glb)
                waiting.append(pool.submit(_put, target, key, glb))
                written += 1
                if len(waiting) >= 2 * WRITERS:
                    waiting.popleft().result()
            while waiting:
                waiting.popleft().result()
        finally:
            for future in waiting:
                future.cancel()
    return written


def write_index(storage: Storage, target: Storage, plan: ExportPlan) -> None:
    """The table of all GLB files: item, digest, seed, file, and the level of detail where the rows
    have any, 0 for the full mesh.
    """
    if retried(lambda: target.exists(INDEX_KEY)):
        return
    with local_parquet(_LEVEL_INDEX if plan.lods else _INDEX) as (path, writer):
        columns = pa.schema([*_NAMES, _LEVEL_DIGESTS]) if plan.lods else _NAMES
        rows = read_slices(storage, plan.parts, (0, plan.rows), plan.statuses, columns)
        for table in grouped(_indexed(table, plan) for table in rows):
            writer.write_table(table)
        writer.close()
        retried(lambda: target.put_atomic(INDEX_KEY, path))


def _indexed(table: pa.Table, plan: ExportPlan) -> pa.Table:
    """The entries of these rows."""
    entries = []
    for row in table.filter(pc.field("glb_sha256").is_valid()).to_pylist():
        head = {"item_id": row["item_id"], "seed": row["seed"]}
        digests = [row["glb_sha256"], *(level["glb_sha256"] for level in row.get(LODS) or ())]
        for lod, digest in enumerate(digests):
            file = glb_key(str(row["item_id"]), lod)
            entries.append({**head, "glb_sha256": digest, "file": file, "lod": lod})
    return pa.Table.from_pylist(entries, schema=_LEVEL_INDEX if plan.lods else _INDEX)


def _glbs(
    storage: Storage, plan: ExportPlan, rows: tuple[int, int]
) -> Iterator[tuple[str, str, str, bytes]]:
    """Key, item, digest and bytes of every GLB."""
    columns = pa.schema([*_GLBS, *finish_columns([LODS])]) if plan.lods else _GLBS
    for table in read_slices(storage, plan.parts, rows, plan.statuses, columns):
        for row in table.to_pylist():
            if row["glb"] is None:
                continue
            item_id = row["item_id"]
            yield glb_key(item_id), item_id, row["glb_sha256"], row["glb"]
            for lod, level in enumerate(row.get(LODS) or (), start=1):
                yield glb_key(item_id, lod), item_id, level["glb_sha256"], level["glb"]


def _check(item_id: str, digest: str, glb: bytes) -> None:
    if hashlib.sha256(glb).hexdigest() != digest:
        raise Fatal(
            "the GLB does not have the digest of its row",
            item_id=item_id,
            remedy="see what geco verify says about it",
            stage="export",
        )


def _put(target: Storage, key: str, glb: bytes) -> bool:
    return retried(lambda: target.put_atomic(key, glb))
