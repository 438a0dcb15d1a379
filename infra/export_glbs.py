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
from infra.retry import retried
from infra.storage import Storage

FOLDER = "glb"
INDEX_KEY = f"{FOLDER}/index.parquet"
WRITERS = 8
_NAMES = pa.schema([("item_id", pa.string()), ("glb_sha256", pa.string()), ("seed", pa.int64())])
_GLBS = pa.schema([*_NAMES, ("glb", pa.large_binary())])
_INDEX = pa.schema([*_NAMES, ("file", pa.string())])


def glb_key(item_id: str) -> str:
    """`glb/<safe id>.glb`."""
    return f"{FOLDER}/{safe_name(item_id)}.glb"


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
            for item_id, digest, glb in _glbs(storage, plan, plan.rows_of(number)):
                _check(item_id, digest, glb)
                waiting.append(pool.submit(_put, target, glb_key(item_id), glb))
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
    """The table of all GLB files: item, digest, seed, file."""
    if retried(lambda: target.exists(INDEX_KEY)):
        return
    with local_parquet(_INDEX) as (path, writer):
        rows = read_slices(storage, plan.parts, (0, plan.rows), plan.statuses, _NAMES)
        for table in grouped(rows):
            made = table.filter(pc.field("glb_sha256").is_valid())
            names = [glb_key(str(item_id)) for item_id in made["item_id"].to_pylist()]
            writer.write_table(made.append_column("file", pa.array(names, pa.string())))
        writer.close()
        retried(lambda: target.put_atomic(INDEX_KEY, path))


def _glbs(
    storage: Storage, plan: ExportPlan, rows: tuple[int, int]
) -> Iterator[tuple[str, str, bytes]]:
    for table in read_slices(storage, plan.parts, rows, plan.statuses, _GLBS):
        for row in table.select(["item_id", "glb_sha256", "glb"]).to_pylist():
            if row["glb"] is not None:
                yield row["item_id"], row["glb_sha256"], row["glb"]


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
