"""Reading the targets of a run: rows by number, in manifest order, from any store.

Training asks for a few rows of a shuffled order at every step, each with a few of its renders. Only
the columns that are asked for are read, a row group at a time, and the last ones are kept as they
lie in the file; images are decoded for the rows and renders that are asked for alone.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from geco_core.config.run import S3Config
from geco_core.errors import Fatal
from geco_core.types import Status, Target
from infra.commit import part_key
from infra.dataset import ShardSummary
from infra.retry import retried
from infra.run_state import read_summaries
from infra.storage import Storage, open_storage
from infra.storage.open import DEFAULT_S3
from infra.targets.columns import TARGET_SCHEMA, decode_target

CACHED_BYTES = 512 << 20
OPEN_FILES = 8
READERS = 8
_ALWAYS = ("item_id", "seed", "target_key", "teacher_digest", "digests", "condition", "fov_deg")
_LATENTS = ("latents", "latents_shape")
_RENDERS = ("renders", "w2c")

Place = tuple[str, int, int]  # part, row group, row of the group

_INDEXED = ("item_id", "status", "target_key")


class TargetTable:
    """The done rows of a targets run, numbered from 0 in manifest order. Thread-safe.

    Rows that failed or were skipped have no number. A run that still goes on is read as it was when
    the table was opened.
    """

    def __init__(self, storage: Storage, *, cached_bytes: int = CACHED_BYTES) -> None:
        """Find the done rows: ids and statuses of every part are read.

        Args:
            storage: of the run folder.
            cached_bytes: row groups kept in memory, as they lie in the files.

        Raises:
            Fatal: the run holds no targets, or a part of it is missing or damaged.
            Retryable: the store failed.
        """
        self._storage, self._cached_bytes = storage, cached_bytes
        self._lock = threading.Lock()
        self._cached: OrderedDict[tuple[str, int, tuple[str, ...]], pa.Table] = OrderedDict()
        self._size = 0
        self._files: OrderedDict[str, pq.ParquetFile] = OrderedDict()
        self._item_ids: list[str] = []
        self._keys: list[str] = []
        self._places: list[Place] = []
        with ThreadPoolExecutor(READERS, thread_name_prefix="index-targets") as pool:
            for found in pool.map(self._done_rows, list(read_summaries(storage))):
                for item_id, key, place in found:
                    self._item_ids.append(item_id)
                    self._keys.append(key)
                    self._places.append(place)

    @staticmethod
    def open(uri: str, s3: S3Config = DEFAULT_S3) -> TargetTable:
        """The table of a run by its path or URI."""
        return TargetTable(open_storage(uri, s3))

    def __len__(self) -> int:
        """Number of targets."""
        return len(self._item_ids)

    @property
    def item_ids(self) -> Sequence[str]:
        """Item of every row."""
        return tuple(self._item_ids)

    @property
    def keys(self) -> Sequence[str]:
        """Content address of every row."""
        return tuple(self._keys)

    def read(
        self,
        rows: Sequence[int],
        *,
        renders: Sequence[int] | Sequence[Sequence[int]] | None = None,
        latents: bool = True,
    ) -> list[Target]:
        """Targets of some rows, in the order asked for.

        Args:
            rows: numbers, 0 <= row < len(self); may repeat.
            renders: numbers of the renders to decode, the same for all rows or a list per row; None
                for all. With `()` renders are neither read nor decoded, and a target has none.
            latents: whether to read the latents; a target without them has an empty array.

        Raises:
            IndexError: there is no such row or render.
            Fatal: a part is damaged or gone.
            Retryable: the store failed.
        """
        columns = self._columns(renders, latents)
        chosen = _per_row(renders, len(rows))
        return [
            decode_target(self._row(int(row), columns), renders=numbers, latents=latents)
            for row, numbers in zip(rows, chosen, strict=True)
        ]

    def _columns(self, renders: Sequence[Any] | None, latents: bool) -> tuple[str, ...]:
        wanted = renders is None or len(renders) > 0
        return (*_ALWAYS, *(_LATENTS if latents else ()), *(_RENDERS if wanted else ()))

    def _row(self, row: int, columns: tuple[str, ...]) -> dict[str, Any]:
        if not 0 <= row < len(self._places):
            raise IndexError(f"target {row} of {len(self._places)}")
        part, group, offset = self._places[row]
        table = self._group(part, group, columns)
        values = {name: table.column(name).chunk(0)[offset] for name in columns}
        pictures = values.pop("renders", None)
        plain = {name: value.as_py() for name, value in values.items()}
        return plain if pictures is None else plain | {"renders": _Pictures(pictures)}

    def _group(self, part: str, group: int, columns: tuple[str, ...]) -> pa.Table:
        """A row group's columns, from memory when it was read lately."""
        key = (part, group, columns)
        with self._lock:
            if key in self._cached:
                self._cached.move_to_end(key)
                return self._cached[key]
            table = retried(lambda: self._read_group(part, group, columns)).combine_chunks()
            self._cached[key] = table
            self._size += table.nbytes
            while self._size > self._cached_bytes and len(self._cached) > 1:
                self._size -= self._cached.popitem(last=False)[1].nbytes
            return table

    def _read_group(self, part: str, group: int, columns: tuple[str, ...]) -> pa.Table:
        with _readable(part):
            return self._file(part).read_row_group(group, columns=list(columns), use_threads=False)

    def _file(self, part: str) -> pq.ParquetFile:
        if part not in self._files:
            self._files[part] = self._open(part)
            if len(self._files) > OPEN_FILES:
                self._files.popitem(last=False)[1].close()
        self._files.move_to_end(part)
        return self._files[part]

    def _open(self, part: str) -> pq.ParquetFile:
        file = self._storage.open_for_pyarrow(part)
        return pq.ParquetFile(file, page_checksum_verification=True)

    def _done_rows(self, summary: ShardSummary) -> list[tuple[str, str, Place]]:
        part = part_key(summary.shard, summary.generation)
        return retried(lambda: self._index(part))

    def _index(self, part: str) -> list[tuple[str, str, Place]]:
        found: list[tuple[str, str, Place]] = []
        with _readable(part), self._open(part) as parquet:
            if TARGET_SCHEMA.names[0] not in parquet.schema_arrow.names:
                raise Fatal(
                    f"{self._storage.uri} is a run without targets",
                    remedy="give the --out folder of `geco targets`",
                    stage="train",
                )
            for group in range(parquet.num_row_groups):
                table = parquet.read_row_group(group, columns=list(_INDEXED))
                columns = (table.column(name).to_pylist() for name in _INDEXED)
                for offset, (item_id, status, key) in enumerate(zip(*columns, strict=True)):
                    if status == Status.DONE.value:
                        found.append((item_id, key, (part, group, offset)))
        return found


class _Pictures(Sequence[Any]):
    """The renders of a row as they lie in memory; only those that are asked for are copied."""

    def __init__(self, cell: pa.ListScalar) -> None:
        self._data = cell.values.field("bytes")

    def __len__(self) -> int:
        return len(self._data)

    def __getitem__(self, index: Any) -> Any:
        if not 0 <= index < len(self):
            raise IndexError(f"render {index} of {len(self)}")
        return {"bytes": self._data[index].as_py()}


def _per_row(
    renders: Sequence[int] | Sequence[Sequence[int]] | None, count: int
) -> Iterator[Sequence[int] | None]:
    """Numbers of the renders of every row. Raises ValueError when the lists are not one per row."""
    if renders is None or not len(renders) or not isinstance(renders[0], Sequence):
        same: Any = renders
        yield from (same for _ in range(count))
        return
    if len(renders) != count:
        raise ValueError(f"{len(renders)} lists of renders for {count} rows")
    lists: Any = renders
    yield from lists


@contextmanager
def _readable(part: str) -> Iterator[None]:
    try:
        yield
    except KeyError as error:
        raise Fatal(
            f"{part} is gone",
            remedy="geco retry may have replaced it: open the run again",
            stage="train",
        ) from error
    except (pa.ArrowException, OSError) as error:
        raise Fatal(
            f"{part} can not be read: {error}", remedy="run `geco verify` on the run", stage="train"
        ) from error
