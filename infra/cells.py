"""Cells of a manifest as they may come: damaged pages, text that is not UTF-8, ids with control
characters.

A writer may put any bytes into a Parquet string column; Arrow does not look, and Python's decoder
stops at the first. Here such a cell costs its row, or a replacement character where it is only
copied, and never the shard.
"""

from __future__ import annotations

import posixpath
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pyarrow as pa

from geco_core.errors import Fatal, ManifestError

MAX_NAMES = 20
MAX_NAME = 60
_CONTROL = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029]")
_SURROGATE = re.compile("[\ud800-\udfff]")


@contextmanager
def readable(path: str, kind: type[Fatal] = ManifestError) -> Iterator[None]:
    """Around reads of a Parquet file: damage becomes an error with a remedy.

    Raises:
        Fatal: of `kind`, when Arrow can not read on.
    """
    try:
        yield
    except (pa.ArrowException, OSError) as error:
        words = " ".join(str(error).split())[:300]
        raise kind(
            f"the manifest file {path} can not be read: {words}",
            remedy="write it again; if it was whole when the run started, put that file back",
            stage="plan" if kind is ManifestError else "fetch",
        ) from error


def to_list(column: pa.ChunkedArray) -> list[Any]:
    """`column.to_pylist()`, where bytes that are not UTF-8 become lone surrogates."""
    try:
        return column.to_pylist()
    except UnicodeDecodeError:
        return [_decoded(value, "surrogateescape") for value in column]


def copyable(table: pa.Table) -> pa.Table:
    """The table with replacement characters where text is not UTF-8."""
    for index, name in enumerate(table.column_names):
        column = table.column(index)
        try:
            column.validate(full=True)
        except pa.ArrowInvalid:
            values = [_decoded(value, "replace") for value in column]
            table = table.set_column(index, name, pa.array(values, column.type))
    return table


def text_fault(text: str) -> str:
    """What is wrong with a text as text; empty when nothing is."""
    if not text.isascii() and _SURROGATE.search(text):
        return "text that is not UTF-8"
    return ""


def id_fault(text: str) -> str:
    """What is wrong with a text as an id; empty when nothing is."""
    if text.isascii() and text.isprintable():
        return ""
    return text_fault(text) or ("control characters" if _CONTROL.search(text) else "")


def replaced(text: str) -> str:
    """A text with a replacement character for everything UTF-8 can not say."""
    return text if text.isascii() else text.encode("utf-8", "replace").decode()


def joined(base: str, path: str) -> str:
    """A manifest's relative path below its base, which is a folder or a URI.

    Equal to `str(Path(base) / path)` for folders, without the cost of a `Path` per row.
    """
    if "://" in base:
        return path if path[0] == "/" else _joined_uri(base, path)
    if path[0] != "/" and "//" not in path and "./" not in path and path[-1] not in "/.":
        return f"{base.rstrip('/')}/{path}"
    return str(Path(base) / path)


def _joined_uri(base: str, path: str) -> str:
    if "./" not in path:
        return f"{base.rstrip('/')}/{path}"
    scheme, _, rest = base.partition("://")
    return f"{scheme}://{posixpath.normpath(f'{rest}/{path}')}"


def listed(names: Sequence[str]) -> str:
    """Column names for a message: printable and not too many."""
    shown = [
        "".join(c if c.isprintable() else "?" for c in name[:MAX_NAME])
        + ("..." if len(name) > MAX_NAME else "")
        for name in names[:MAX_NAMES]
    ]
    more = len(names) - len(shown)
    return ", ".join(shown) + (f" and {more} more" if more else "")


def _decoded(scalar: Any, errors: str) -> Any:
    try:
        return scalar.as_py()
    except UnicodeDecodeError:
        if isinstance(scalar, pa.DictionaryScalar):
            return _decoded(scalar.value, errors)
        if isinstance(scalar, pa.StructScalar):
            return {name: _decoded(value, errors) for name, value in scalar.items()}
        if isinstance(scalar, (pa.ListScalar, pa.LargeListScalar)):
            return [_decoded(value, errors) for value in scalar.values]
        return scalar.as_buffer().to_pybytes().decode("utf-8", errors)
