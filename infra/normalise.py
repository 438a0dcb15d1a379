"""CSV, JSONL and lists of images, streamed into one Parquet file of the run.

Nothing is held but one chunk of rows. A line that can not be read keeps its place in the file and
carries the problem in `PROBLEM_COLUMN`, so that it becomes a failed row of the output instead of an
exception or a silent gap. CSV cells stay text; JSON values keep their type where a column has one,
and become JSON text where it has several.
"""

from __future__ import annotations

import csv
import io
import json
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.parquet as pq

from geco_core.errors import ManifestError
from infra.cells import listed
from infra.commit import put_normalised
from infra.storage import Storage
from infra.storage.open import open_stream

if TYPE_CHECKING:
    from infra.locate import ManifestSource

PROBLEM_COLUMN = "__problem__"
CHUNK_ROWS = 8192
MAX_COLUMNS = 1000
MAX_CELL_BYTES = 1 << 24
MAX_LINE_BYTES = 1 << 26
_ARROW = {"bool": pa.bool_(), "int": pa.int64(), "float": pa.float64()}


def to_parquet(located: ManifestSource, storage: Storage) -> str:
    """Write the normalised manifest once per digest; returns its key in the store.

    Raises:
        ManifestError: no header, too many columns, or the file changed while it was read.
    """
    key = f"manifest/rows-{located.digest[:16]}.parquet"
    if storage.exists(key):
        return key
    with tempfile.TemporaryDirectory(prefix="geco-manifest-") as folder:
        path = Path(folder) / "rows.parquet"
        if located.kind == "csv":
            _write(path, *_csv(_Lines(located)))
        elif located.kind == "jsonl":
            _write(path, *_jsonl(_Lines(located)))
        else:
            _write(path, *_images(located.paths, located.base))
        put_normalised(storage, key, path)
    return key


def image_id(path: str, base: str) -> str:
    """Id of an image of a folder: its path below the folder, with `/`."""
    folder = base if base.endswith("/") else f"{base}/"
    return path.removeprefix(folder)


class _Lines:
    """The text file of a manifest, opened as often as needed."""

    def __init__(self, located: ManifestSource) -> None:
        self.path = located.paths[0]
        self._tag = located.tag(self.path)
        self._s3 = located.s3

    def __str__(self) -> str:
        return self.path

    @contextmanager
    def open(self) -> Iterator[IO[bytes]]:
        """The file as bytes. An S3 object must be the located one before and after reading."""
        with self._opened() as file:
            yield file
        if self._tag:
            self._opened().close()

    @contextmanager
    def text(self) -> Iterator[IO[str]]:
        """The file as text for the csv module."""
        with self.open() as file:
            yield io.TextIOWrapper(file, encoding="utf-8-sig", errors="replace", newline="")

    def _opened(self) -> IO[bytes]:
        try:
            return open_stream(self.path, self._s3, tag=self._tag)
        except KeyError as error:
            raise ManifestError(
                f"{self.path} disappeared", remedy="put it back", stage="plan"
            ) from error


def _write(path: Path, schema: pa.Schema, chunks: Iterator[list[dict[str, Any]]]) -> None:
    with pq.ParquetWriter(path, schema, compression="zstd") as writer:
        for chunk in chunks:
            writer.write_table(pa.Table.from_pylist(chunk, schema=schema))


def _chunked(rows: Iterator[dict[str, Any]]) -> Iterator[list[dict[str, Any]]]:
    chunk: list[dict[str, Any]] = []
    for row in rows:
        chunk.append(row)
        if len(chunk) >= CHUNK_ROWS:
            yield chunk
            chunk = []
    if chunk:
        yield chunk


def _images(paths: Sequence[str], base: str) -> tuple[pa.Schema, Iterator[list[dict[str, Any]]]]:
    schema = pa.schema([("item_id", pa.string()), ("image", pa.string())])
    rows = (
        {"item_id": escaped(image_id(path, base)), "image": _readable_name(path)} for path in paths
    )
    return schema, _chunked(rows)


def escaped(text: str) -> str:
    """A file name as text: bytes that are not UTF-8 are written out."""
    return text if text.isascii() else text.encode("utf-8", "backslashreplace").decode()


def _readable_name(path: str) -> str:
    """A path, or a URI where the path is not UTF-8 and could not be written down."""
    return path if escaped(path) == path else Path(path).as_uri()


def _csv(path: _Lines) -> tuple[pa.Schema, Iterator[list[dict[str, Any]]]]:
    csv.field_size_limit(MAX_CELL_BYTES)
    delimiter = "\t" if str(path).lower().endswith(".tsv") else ","
    _refuse_wide(path)
    with path.text() as file:
        try:
            header = next(csv.reader(file, delimiter=delimiter, strict=True), [])
        except csv.Error as error:
            raise ManifestError(
                f"{path} has no readable header: {error}", remedy="check the file"
            ) from error
    names = [name.strip() for name in header]
    _check_names(path, names)
    schema = pa.schema([(name, pa.string()) for name in [*names, PROBLEM_COLUMN]])
    return schema, _chunked(_csv_rows(path, names, delimiter))


def _csv_rows(path: _Lines, names: list[str], delimiter: str) -> Iterator[dict[str, Any]]:
    with path.text() as file:
        # Strict: an open quote would silently swallow every row behind it.
        reader = csv.reader(file, delimiter=delimiter, strict=True)
        next(reader)
        while True:
            line = reader.line_num + 1
            try:
                cells = next(reader)
            except StopIteration:
                return
            except csv.Error as error:
                yield {PROBLEM_COLUMN: f"line {line}: {error}"}
                continue
            if not cells:  # a blank line is no row
                continue
            row: dict[str, Any] = dict(zip(names, cells, strict=False))
            if len(cells) != len(names):
                row[PROBLEM_COLUMN] = (
                    f"line {line}: {len(cells)} cells, the header has {len(names)}"
                )
            yield row


def _check_names(path: _Lines, names: list[str]) -> None:
    if not names or not any(names):
        raise ManifestError(
            f"{path} has no header", remedy="name the columns in the first line", stage="plan"
        )
    if len(names) > MAX_COLUMNS:
        raise ManifestError(
            f"{path} has {len(names)} columns", remedy=f"keep at most {MAX_COLUMNS}", stage="plan"
        )
    check_distinct(str(path), names)


def check_distinct(path: str, names: Sequence[str]) -> None:
    """Refuse columns of the same name, and our own. Raises `ManifestError`."""
    repeated = sorted({name for name in names if names.count(name) > 1})
    if repeated:
        raise ManifestError(
            f"{path} has two columns named {listed(repeated[:1])!r}",
            remedy="rename one",
            stage="plan",
        )
    if PROBLEM_COLUMN in names:
        raise ManifestError(
            f"{path} has a column {PROBLEM_COLUMN}, which is reserved",
            remedy="rename it",
            stage="plan",
        )


def _refuse_wide(path: _Lines) -> None:
    with path.open() as file:
        start = file.read(2)
    if start in (b"\xff\xfe", b"\xfe\xff"):
        raise ManifestError(f"{path} is UTF-16 text", remedy="save it as UTF-8", stage="plan")


def _jsonl(path: _Lines) -> tuple[pa.Schema, Iterator[list[dict[str, Any]]]]:
    _refuse_wide(path)
    kinds: dict[str, str] = {}
    for row, _ in _json_rows(path):
        for name, value in row.items():
            if value is not None:
                kinds[name] = _wider(kinds.get(name), _kind(value))
            else:
                kinds.setdefault(name, "")
        if len(kinds) > MAX_COLUMNS:
            raise ManifestError(
                f"{path} has over {MAX_COLUMNS} different keys", remedy="keep fewer", stage="plan"
            )
    fields = [(name, _ARROW.get(kind, pa.string())) for name, kind in kinds.items()]
    schema = pa.schema([*fields, (PROBLEM_COLUMN, pa.string())])

    def rows() -> Iterator[dict[str, Any]]:
        for row, problem in _json_rows(path):
            fitted = {name: _fitted(value, kinds[name]) for name, value in row.items()}
            yield fitted | {PROBLEM_COLUMN: problem}

    return schema, _chunked(rows())


def _json_rows(path: _Lines) -> Iterator[tuple[dict[str, Any], str | None]]:
    with path.open() as file:
        for number, line in enumerate(_bounded_lines(file), start=1):
            if line is None:
                yield {}, f"line {number}: over {MAX_LINE_BYTES} bytes"
                continue
            text = line.strip().removeprefix(b"\xef\xbb\xbf")
            if not text:
                continue
            try:
                row = json.loads(text)
                if isinstance(row, dict):
                    "".join(row).encode()  # half surrogates are legal in JSON, not as names
            except (ValueError, RecursionError) as error:
                yield {}, f"line {number}: not JSON ({error})"
                continue
            if isinstance(row, dict):
                row.pop(PROBLEM_COLUMN, None)
                yield row, None
            else:
                yield {}, f"line {number}: a {type(row).__name__}, not an object"


def _bounded_lines(file: IO[bytes]) -> Iterator[bytes | None]:
    """Lines of a file; None in the place of one that is too long to be held."""
    while line := file.readline(MAX_LINE_BYTES):
        if len(line) < MAX_LINE_BYTES or line.endswith(b"\n"):
            yield line
            continue
        while (rest := file.readline(MAX_CELL_BYTES)) and not rest.endswith(b"\n"):
            continue
        yield None


def _kind(value: Any) -> str:
    if isinstance(value, bool):
        return "bool"
    if isinstance(value, int):
        return "int" if -(2**63) <= value < 2**63 else "json"
    return {float: "float", str: "str"}.get(type(value), "json")


def _wider(old: str | None, new: str) -> str:
    if not old or old == new:
        return new
    return "float" if {old, new} == {"int", "float"} else "json"


def _fitted(value: Any, kind: str) -> Any:
    if value is None:
        return None
    if kind == "float":
        return float(value)
    if kind == "str":  # lone surrogates are legal JSON escapes, not legal UTF-8
        return value.encode("utf-8", "replace").decode()
    if kind == "json":
        return (
            value.encode("utf-8", "replace").decode()
            if isinstance(value, str)
            else json.dumps(value)
        )
    return value
