"""CSV, JSONL and lists of images, streamed into one Parquet file of the run.

Nothing is held but one chunk of rows. A line that can not be read keeps its place in the file and
carries the problem in `PROBLEM_COLUMN`, so that it becomes a failed row of the output instead of an
exception or a silent gap. CSV cells stay text; JSON values keep their type where a column has one,
and become JSON text where it has several.
"""

from __future__ import annotations

import csv
import json
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from geco_core.errors import ManifestError
from infra.commit import put_normalised
from infra.storage import Storage

PROBLEM_COLUMN = "__problem__"
CHUNK_ROWS = 8192
MAX_COLUMNS = 1000
MAX_CELL_BYTES = 1 << 24
_ARROW = {"bool": pa.bool_(), "int": pa.int64(), "float": pa.float64()}


def to_parquet(kind: str, paths: Sequence[Path], base: Path, digest: str, storage: Storage) -> str:
    """Write the normalised manifest once per digest; returns its key in the store."""
    key = f"manifest/rows-{digest[:16]}.parquet"
    if storage.exists(key):
        return key
    with tempfile.TemporaryDirectory(prefix="geco-manifest-") as folder:
        path = Path(folder) / "rows.parquet"
        if kind == "csv":
            _write(path, *_csv(paths[0]))
        elif kind == "jsonl":
            _write(path, *_jsonl(paths[0]))
        else:
            _write(path, *_images(paths, base))
        put_normalised(storage, key, path)
    return key


def image_id(path: Path, base: Path) -> str:
    """Id of an image of a folder: its path below the folder, with `/`."""
    try:
        return path.relative_to(base).as_posix()
    except ValueError:
        return path.as_posix()


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


def _images(paths: Sequence[Path], base: Path) -> tuple[pa.Schema, Iterator[list[dict[str, Any]]]]:
    schema = pa.schema([("item_id", pa.string()), ("image", pa.string())])
    rows = ({"item_id": image_id(p, base), "image": str(p.absolute())} for p in paths)
    return schema, _chunked(rows)


def _csv(path: Path) -> tuple[pa.Schema, Iterator[list[dict[str, Any]]]]:
    csv.field_size_limit(MAX_CELL_BYTES)
    delimiter = "\t" if path.suffix.lower() == ".tsv" else ","
    with path.open(newline="", encoding="utf-8-sig", errors="replace") as file:
        try:
            header = next(csv.reader(file, delimiter=delimiter), [])
        except csv.Error as error:
            raise ManifestError(
                f"{path} has no readable header: {error}", remedy="check the file"
            ) from error
    names = [name.strip() for name in header]
    _check_names(path, names)
    schema = pa.schema([(name, pa.string()) for name in [*names, PROBLEM_COLUMN]])
    return schema, _chunked(_csv_rows(path, names, delimiter))


def _csv_rows(path: Path, names: list[str], delimiter: str) -> Iterator[dict[str, Any]]:
    with path.open(newline="", encoding="utf-8-sig", errors="replace") as file:
        reader = csv.reader(file, delimiter=delimiter)
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


def _check_names(path: Path, names: list[str]) -> None:
    if not names or not any(names):
        raise ManifestError(
            f"{path} has no header", remedy="name the columns in the first line", stage="plan"
        )
    repeated = sorted({name for name in names if names.count(name) > 1})
    if repeated:
        raise ManifestError(
            f"{path} has two columns named {repeated[0]!r}", remedy="rename one", stage="plan"
        )
    if len(names) > MAX_COLUMNS:
        raise ManifestError(
            f"{path} has {len(names)} columns", remedy=f"keep at most {MAX_COLUMNS}", stage="plan"
        )


def _jsonl(path: Path) -> tuple[pa.Schema, Iterator[list[dict[str, Any]]]]:
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


def _json_rows(path: Path) -> Iterator[tuple[dict[str, Any], str | None]]:
    with path.open("rb") as file:
        for number, line in enumerate(file, start=1):
            text = line.strip().removeprefix(b"\xef\xbb\xbf")
            if not text:
                continue
            try:
                row = json.loads(text)
            except (ValueError, RecursionError) as error:
                yield {}, f"line {number}: not JSON ({error})"
                continue
            if isinstance(row, dict):
                row.pop(PROBLEM_COLUMN, None)
                yield row, None
            else:
                yield {}, f"line {number}: a {type(row).__name__}, not an object"


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
