"""The header of a safetensors file, checked before a byte of its data is touched.

The format: eight bytes of little-endian length, that much JSON (name -> dtype, shape, data_offsets;
`__metadata__` holds texts), then the data without holes or overlaps.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from geco_core.checkpoints.refusals import CheckpointError, Refusal

# The reference implementation refuses longer headers too.
MAX_HEADER_BYTES = 100_000_000
BYTES = {
    "BOOL": 1, "U8": 1, "I8": 1, "F8_E4M3": 1, "F8_E5M2": 1,
    "I16": 2, "U16": 2, "F16": 2, "BF16": 2,
    "I32": 4, "U32": 4, "F32": 4,
    "I64": 8, "U64": 8, "F64": 8, "C64": 8,
}  # fmt: skip
_METADATA = "__metadata__"
_REMEDY = "download the file again and compare its size and digest with the publisher's"


@dataclass(frozen=True)
class Entry:
    """One tensor of the file: format dtype name, shape, and bytes `begin..end` of the data."""

    dtype: str
    shape: tuple[int, ...]
    begin: int
    end: int


@dataclass(frozen=True)
class Header:
    """Tensors by name in file order, the texts of `__metadata__`, and where the data starts."""

    tensors: Mapping[str, Entry]
    metadata: Mapping[str, str]
    data_start: int


def read_header(path: Path) -> Header:
    """Read and check a header.

    Raises:
        CheckpointError: truncated (`CORRUPT`), or a header the format forbids (`BAD_HEADER`).
    """
    size = path.stat().st_size
    with path.open("rb") as stream:
        length = int.from_bytes(stream.read(8), "little")
        if length > MAX_HEADER_BYTES:
            raise _bad(path, f"its header claims {length:,} bytes")
        if size < 8 + length:
            raise _corrupt(path, f"it ends inside its header ({size:,} of {8 + length:,} bytes)")
        text = stream.read(length)
    fields = _parse(path, text)
    metadata = fields.pop(_METADATA, {})
    if not isinstance(metadata, dict) or not all(isinstance(v, str) for v in metadata.values()):
        raise _bad(path, "__metadata__ is not a map of texts")
    tensors = {name: _entry(path, name, fields[name]) for name in fields}
    _check_layout(path, tensors, size - 8 - length)
    return Header(tensors, metadata, 8 + length)


def _parse(path: Path, text: bytes) -> dict[str, Any]:
    def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        found = dict(pairs)
        if len(found) != len(pairs):
            raise ValueError("a name occurs twice")
        return found

    try:
        fields = json.loads(text.decode("utf-8"), object_pairs_hook=unique)
    except (ValueError, RecursionError) as error:
        raise _bad(path, f"its header is not JSON ({str(error)[:80]})") from error
    if not isinstance(fields, dict):
        raise _bad(path, "its header is not a map")
    return fields


def _entry(path: Path, name: str, given: object) -> Entry:
    if not isinstance(given, dict) or set(given) != {"dtype", "shape", "data_offsets"}:
        raise _bad(path, f"{name[:80]!r} lacks dtype, shape or data_offsets")
    dtype, shape, offsets = given["dtype"], given["shape"], given["data_offsets"]
    if not isinstance(dtype, str) or dtype not in BYTES:
        raise _bad(path, f"{name[:80]!r} has the unknown dtype {str(dtype)[:40]!r}")
    if not _whole(shape) or not _whole(offsets) or len(offsets) != 2:
        raise _bad(path, f"{name[:80]!r} has a shape or offsets that are not whole numbers")
    entry = Entry(dtype, tuple(shape), offsets[0], offsets[1])
    if entry.end - entry.begin != math.prod(shape) * BYTES[dtype]:
        raise _bad(
            path,
            f"{name[:80]!r} has {entry.end - entry.begin:,} bytes of data "
            f"for shape {list(shape)[:8]} of {dtype}",
        )
    return entry


def _check_layout(path: Path, tensors: Mapping[str, Entry], data_bytes: int) -> None:
    position = 0
    for name, entry in sorted(tensors.items(), key=lambda pair: (pair[1].begin, pair[1].end)):
        if entry.begin != position:
            what = "overlaps another tensor" if entry.begin < position else "follows a hole"
            raise _bad(path, f"the data of {name[:80]!r} {what}")
        position = entry.end
    if position > data_bytes:
        raise _corrupt(path, f"{data_bytes:,} of {position:,} bytes of data are there")
    if position < data_bytes:
        raise _bad(path, f"{data_bytes - position:,} bytes follow the last tensor")


def _whole(values: object) -> bool:
    return isinstance(values, list) and all(type(v) is int and v >= 0 for v in values)


def _bad(path: Path, why: str) -> CheckpointError:
    return CheckpointError(
        f"{path.name} is not a valid safetensors file: {why}",
        refusal=Refusal.BAD_HEADER,
        remedy=_REMEDY,
    )


def _corrupt(path: Path, why: str) -> CheckpointError:
    return CheckpointError(
        f"{path.name} is truncated: {why}", refusal=Refusal.CORRUPT, remedy=_REMEDY
    )
