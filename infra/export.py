"""`export`: the rows that readers see, compacted into few clean Parquet files somewhere else.

Files hold fixed ranges of the chosen rows, so every file is a function of the run and of the
settings in `export.json`, which is created once. A killed export goes on by leaving out the files
that exist. Nothing is ever held but a row group being read and one being written; a file grows on
the local disk and is put whole.
"""

from __future__ import annotations

import contextlib
import difflib
import hashlib
import json
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from geco_core.config.load import difference
from geco_core.errors import ConfigError, Fatal
from geco_core.types import Status
from infra.dataset import ShardSummary
from infra.export_rows import PartSlice, open_part, read_slices, slices_of
from infra.finish_columns import LODS, recorded_columns
from infra.retry import retried
from infra.storage import Storage

RECORD_KEY = "export.json"
CARD_KEY = "README.md"
TARGET_FILE_BYTES = 512 * 10**6
GROUP_BYTES = 32 * 2**20
GROUP_ROWS = 65_536
SAMPLED_PARTS = 16
STATUSES = tuple(status.value for status in Status)


@dataclass(frozen=True)
class ExportWish:
    """What to export.

    Attributes:
        statuses: of the rows.
        columns: by name, in this order; None for all.
        rows_per_file: None for files of about `TARGET_FILE_BYTES`.
        glb_folder: GLBs also go to files of their own.
    """

    statuses: tuple[str, ...] = (Status.DONE.value,)
    columns: tuple[str, ...] | None = None
    rows_per_file: int | None = None
    glb_folder: bool = False


@dataclass(frozen=True)
class ExportPlan:
    """Which rows go into which file.

    Attributes:
        parts: the parts of the run, in shard order, and how many rows of each are chosen.
        schema: of the files.
        rows: chosen in all.
        rows_per_file: in every file but the last.
        statuses: of the chosen rows.
        glb_folder: whether GLBs also go to files of their own.
        lods: whether the rows have levels of detail.
    """

    parts: tuple[PartSlice, ...]
    schema: pa.Schema
    rows: int
    rows_per_file: int
    statuses: tuple[str, ...]
    glb_folder: bool
    lods: bool = False

    @property
    def files(self) -> int:
        """How many files there will be."""
        return -(-self.rows // self.rows_per_file)

    def key(self, number: int) -> str:
        """`data/part-00003-of-00012.parquet`."""
        return f"data/part-{number:05d}-of-{self.files:05d}.parquet"

    def rows_of(self, number: int) -> tuple[int, int]:
        """First and last (exclusive) chosen row of a file."""
        first = number * self.rows_per_file
        return first, min(first + self.rows_per_file, self.rows)


def open_export(
    storage: Storage,
    record: dict[str, Any],
    summaries: Sequence[ShardSummary],
    target: Storage,
    wish: ExportWish,
) -> ExportPlan:
    """Plan an export and claim its target, or find that it is the one that stands there.

    Args:
        storage: of the run.
        record: its `run.json`.
        summaries: its done records, in shard order.
        target: where to write.
        wish: what to export.

    Raises:
        ConfigError: nothing to export, an unknown column, or a target with something else in it.
    """
    _refuse_overlap(storage, target)
    standing = _standing(target)
    if standing is None and next((k for k in target.list("") if not k.endswith("/")), None):
        raise ConfigError(
            f"{target.uri} is not empty and holds no export", remedy="give an empty --out"
        )
    parts = slices_of(summaries, wish.statuses)
    rows = parts[-1].stop if parts else 0
    if not rows:
        raise ConfigError(
            f"the run has no rows that are {' or '.join(wish.statuses)}",
            remedy="geco status shows what it has; --status all exports every row",
        )
    schema = _schema(storage, parts[0], wish.columns)
    size = wish.rows_per_file or (standing or {}).get("rows_per_file")
    size = int(size or _rows_per_file(storage, parts, schema))
    lods = LODS in recorded_columns(record)
    plan = ExportPlan(parts, schema, rows, size, wish.statuses, wish.glb_folder, lods)
    ours = _record(record, plan)
    if standing is None:
        text = json.dumps(ours, indent=1, sort_keys=True) + "\n"
        if not target.put_atomic(RECORD_KEY, text.encode(), only_if_absent=True):
            standing = _standing(target)
    if standing is not None and standing != ours:
        lines = difference(standing, ours)
        raise ConfigError(
            f"{target.uri} holds another export:\n  " + "\n  ".join(lines),
            remedy="give an empty --out; after a run went on, an export starts anew",
        )
    return plan


def write_file(storage: Storage, target: Storage, plan: ExportPlan, number: int) -> bool:
    """Write one file unless it exists; returns whether it was written.

    Raises:
        Fatal: a part is gone or does not read, or there is no space.
        Retryable: a store failed for good this time.
    """
    key = plan.key(number)
    if retried(lambda: target.exists(key)):
        return False
    chosen = read_slices(storage, plan.parts, plan.rows_of(number), plan.statuses, plan.schema)
    with local_parquet(plan.schema) as (path, writer):
        for table in grouped(chosen):
            writer.write_table(table, row_group_size=table.num_rows)
        writer.close()
        retried(lambda: target.put_atomic(key, path))
    return True


def write_card(target: Storage, text: str) -> None:
    """The dataset card, last of all: its presence says that the export is complete."""
    target.put_atomic(CARD_KEY, text.encode())


@contextlib.contextmanager
def local_parquet(schema: pa.Schema) -> Iterator[tuple[Path, pq.ParquetWriter]]:
    """A Parquet file on the local disk, removed at the end. Raises `Fatal` when it can not grow."""
    try:
        with tempfile.TemporaryDirectory(prefix="geco-export-") as folder:
            path = Path(folder) / "file.parquet"
            with pq.ParquetWriter(path, schema, compression="zstd") as writer:
                yield path, writer
    except OSError as error:
        raise Fatal(
            f"could not write below {tempfile.gettempdir()}: {error}",
            remedy="free some space, set TMPDIR, or give a smaller --rows-per-file",
            stage="export",
        ) from error


def grouped(tables: Iterator[pa.Table]) -> Iterator[pa.Table]:
    """Tables large enough to be a row group each."""
    waiting: list[pa.Table] = []
    size, rows = 0, 0
    for table in tables:
        waiting.append(table)
        size, rows = size + table.nbytes, rows + table.num_rows
        if size >= GROUP_BYTES or rows >= GROUP_ROWS:
            yield pa.concat_tables(waiting).combine_chunks()
            waiting, size, rows = [], 0, 0
    if waiting:
        yield pa.concat_tables(waiting).combine_chunks()


def _schema(storage: Storage, part: PartSlice, columns: Sequence[str] | None) -> pa.Schema:
    """Schema of the files, without the metadata of the part's footer."""
    with open_part(storage, part) as parquet:
        schema = parquet.schema_arrow.remove_metadata()
    if columns is None:
        return schema
    for name in columns:
        if name not in schema.names:
            near = difflib.get_close_matches(name, schema.names, n=1, cutoff=0.5)
            hint = f"did you mean {near[0]!r}?" if near else f"columns: {', '.join(schema.names)}"
            raise ConfigError(f"the run has no column {name!r}", remedy=hint)
    return pa.schema([schema.field(name) for name in dict.fromkeys(columns)])


def _rows_per_file(storage: Storage, parts: Sequence[PartSlice], schema: pa.Schema) -> int:
    """Rows that make a file of about the target size, from the footers of a few parts."""
    step = -(-len(parts) // SAMPLED_PARTS)
    wanted = set(schema.names)
    size, rows = 0, 0
    for part in parts[::step]:
        with open_part(storage, part) as parquet:
            metadata = parquet.metadata
        for group in (metadata.row_group(k) for k in range(metadata.num_row_groups)):
            columns = (group.column(k) for k in range(group.num_columns))
            size += sum(
                c.total_compressed_size for c in columns if c.path_in_schema.split(".")[0] in wanted
            )
        rows += part.stop - part.start
    return max(1, TARGET_FILE_BYTES * rows // max(1, size))


def _record(record: dict[str, Any], plan: ExportPlan) -> dict[str, Any]:
    parts = [(part.shard, part.generation, part.start, part.stop) for part in plan.parts]
    return {
        "manifest_digest": record["manifest"]["digest"],
        "config_digest": record["config_digest"],
        "parts_digest": hashlib.sha256(json.dumps(parts).encode()).hexdigest(),
        "statuses": list(plan.statuses),
        "columns": list(plan.schema.names),
        "rows": plan.rows,
        "rows_per_file": plan.rows_per_file,
        "files": plan.files,
        "glb_folder": plan.glb_folder,
    }


def _standing(target: Storage) -> dict[str, Any] | None:
    try:
        record = json.loads(target.get(RECORD_KEY))
    except KeyError:
        return None
    except ValueError:
        record = None
    if not isinstance(record, dict):
        raise ConfigError(
            f"{RECORD_KEY} in {target.uri} is none of ours", remedy="give an empty --out"
        )
    return record


def _refuse_overlap(storage: Storage, target: Storage) -> None:
    run, out = storage.uri.rstrip("/") + "/", target.uri.rstrip("/") + "/"
    if run.startswith(out) or out.startswith(run):
        raise ConfigError(
            f"the export {target.uri} and the run {storage.uri} lie in each other",
            remedy="give another --out",
        )
