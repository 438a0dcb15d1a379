"""Bad Parquet manifests."""

from __future__ import annotations

import struct
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from geco_core.errors import Reason
from tests.corpus.case import Manifest

BAD, MISSING, TWICE = Reason.MALFORMED_ROW, Reason.MISSING_INPUT, Reason.DUPLICATE_ID
OK = None
IDS = ["a", "b", "c"]
PROMPTS = ["chair", "table", "lamp"]


def _file(columns: dict[str, object] | pa.Table, **options: object) -> bytes:
    sink = pa.BufferOutputStream()
    pq.write_table(columns if isinstance(columns, pa.Table) else pa.table(columns), sink, **options)
    return sink.getvalue().to_pybytes()


def _sound(**columns: object) -> bytes:
    return _file({"id": IDS, "prompt": PROMPTS, **columns})


def _parquet(
    name: str,
    content: Callable[[], bytes],
    rows: tuple[Reason | None, ...] | None,
    text: str = "",
    codes: tuple[int, int] = (2, 2),
) -> Manifest:
    def make(folder: Path) -> str:
        path = folder / "m.parquet"
        path.write_bytes(content())
        return str(path)

    return Manifest(f"parquet: {name}", make, rows, text, codes=codes)


def _folder(name: str, files: dict[str, Callable[[], bytes]], text: str) -> Manifest:
    def make(folder: Path) -> str:
        (folder / "tables").mkdir()
        for file, content in files.items():
            (folder / "tables" / file).write_bytes(content())
        return str(folder / "tables")

    return Manifest(f"parquet folder: {name}", make, None, text)


def _footer_of(size: int) -> bytes:
    return _sound()[:-8] + struct.pack("<I", size) + b"PAR1"


def _damaged(column: int) -> bytes:
    """A sound footer over a column whose pages are noise."""
    data = bytearray(
        _file({"id": IDS, "prompt": PROMPTS}, compression="zstd", use_dictionary=False)
    )
    metadata = pq.ParquetFile(pa.BufferReader(bytes(data))).metadata.row_group(0).column(column)
    start = metadata.data_page_offset
    for position in range(start, start + metadata.total_compressed_size):
        data[position] = 0xFF
    return bytes(data)


def _invalid_text(which: str) -> bytes:
    """A string column whose second value is not UTF-8."""
    offsets = pa.py_buffer(struct.pack("<4i", 0, 1, 3, 4))
    values = pa.StringArray.from_buffers(3, offsets, pa.py_buffer(b"a\xff\xfec"))
    return _file(pa.table({"id": IDS, "prompt": PROMPTS} | {which: values}), use_dictionary=False)


def _twice() -> bytes:
    return _file(
        pa.table([pa.array(IDS)] * 2 + [pa.array(PROMPTS)] * 2, ["x", "id", *["prompt"] * 2])
    )


def _struct(**fields: pa.DataType) -> bytes:
    kind = pa.struct(list(fields.items()))
    row = dict.fromkeys(fields)
    return _file({"id": IDS, "image": pa.array([row] * 3, kind)})


PARQUET = [
    _parquet("empty", lambda: b"", None, "Parquet"),
    _parquet("magic only", lambda: b"PAR1PAR1", None, "Parquet"),
    _parquet("cut at half", lambda: _sound()[: len(_sound()) // 2], None, "Parquet"),
    _parquet("without its last byte", lambda: _sound()[:-1], None, "Parquet"),
    _parquet("wrong magic", lambda: _sound()[:-4] + b"PAR9", None, "Parquet"),
    _parquet("encrypted", lambda: _sound()[:-4] + b"PARE", None, "Parquet"),
    _parquet("footer of 2 GB", lambda: _footer_of(2**31 - 1), None, "Parquet"),
    _parquet("footer of 0 bytes", lambda: _footer_of(0), None, "Parquet"),
    _parquet("footer of noise", lambda: b"PAR1" + b"\xaa" * 90 + b"Z\0\0\0PAR1", None, "Parquet"),
    _parquet("csv inside", lambda: b"id,prompt\na,chair\n", None, "Parquet"),
    _parquet("damaged ids", lambda: _damaged(0), None, "can not be read"),
    _parquet("damaged prompts", lambda: _damaged(1), None, "can not be read", (0, 3)),
    _parquet(
        "no rows", lambda: _file({"id": pa.array([], pa.string()), "prompt": []}), None, "no rows"
    ),
    _parquet("no columns", lambda: _file(pa.table({})), None, ""),
    _parquet("no usable column", lambda: _file({"id": IDS, "txt": IDS}), None, "no usable column"),
    _parquet("repeated column", _twice, None, "two columns named"),
    _parquet("reserved column", lambda: _sound(__problem__=IDS), None, "__problem__"),
    _parquet("image of numbers", lambda: _file({"image": [1, 2]}), None, "int64"),
    _parquet("image of lists", lambda: _file({"image": [["a"], ["b"]]}), None, "list"),
    _parquet("image of structs of numbers", lambda: _struct(bytes=pa.int32()), None, "struct"),
    _parquet("image of odd structs", lambda: _struct(url=pa.string()), None, "struct"),
    _parquet(
        "image with a path of numbers",
        lambda: _struct(bytes=pa.binary(), path=pa.int64()),
        None,
        "struct",
    ),
    _parquet(
        "image of empty structs",
        lambda: _struct(bytes=pa.binary(), path=pa.string()),
        (MISSING, MISSING, MISSING),
    ),
    _parquet("prompt of numbers", lambda: _file({"prompt": [1.5]}), None, "double"),
    _parquet("prompt of bytes", lambda: _file({"prompt": [b"x"]}), None, "binary"),
    _parquet("ids of structs", lambda: _sound(id=[{"a": 1}] * 3), None, "struct"),
    _parquet("ids of fractions", lambda: _sound(id=[0.5, 1.5, 2.5]), None, "double"),
    _parquet("seeds of fractions", lambda: _sound(seed=[0.5, 1.0, 2.0]), None, "double"),
    _parquet("seeds of dates", lambda: _sound(seed=pa.array([1, 2, 3], pa.date32())), None, "date"),
    _parquet("negative seeds", lambda: _sound(seed=[-1, 0, None]), (BAD, OK, OK), "seed"),
    _parquet(
        "seeds beyond 63 bits",
        lambda: _sound(seed=pa.array([2**63, 2**64 - 1, 5], pa.uint64())),
        (BAD, BAD, OK),
        "seed",
    ),
    _parquet("null ids", lambda: _sound(id=["a", None, "c"]), (OK, BAD, OK), "has no id"),
    _parquet("empty and long ids", lambda: _sound(id=["", "i" * 513, "c"]), (BAD, BAD, OK)),
    _parquet("control characters in ids", lambda: _sound(id=["a\n", "b\x7f", "c"]), (BAD, BAD, OK)),
    _parquet("duplicate ids", lambda: _sound(id=["a", "b", "a"]), (OK, OK, TWICE)),
    _parquet("ids that are not UTF-8", lambda: _invalid_text("id"), (OK, BAD, OK), "UTF-8"),
    _parquet("prompts that are not UTF-8", lambda: _invalid_text("prompt"), (OK, BAD, OK), "UTF-8"),
    _parquet(
        "images that are not UTF-8",
        lambda: _invalid_text("image"),
        (*[Reason.NOT_FOUND], BAD, Reason.NOT_FOUND),
    ),
    _parquet("other text that is not UTF-8", lambda: _invalid_text("note"), (OK, OK, OK)),
    _parquet("all prompts null", lambda: _file({"id": IDS, "prompt": pa.nulls(3)}), (MISSING,) * 3),
    _parquet(
        "dictionaries",
        lambda: _sound(id=pa.array(IDS).dictionary_encode()),
        (OK, OK, OK),
    ),
    _parquet(
        "large and small types",
        lambda: _sound(
            prompt=pa.array(PROMPTS, pa.large_string()), seed=pa.array([1, 2, 3], pa.int8())
        ),
        (OK, OK, OK),
    ),
]

FOLDERS = [
    _folder(
        "differing schemas",
        {"a.parquet": _sound, "b.parquet": lambda: _sound(extra=IDS)},
        "differ in schema",
    ),
    _folder("one broken file", {"a.parquet": _sound, "b.parquet": lambda: b"PAR1"}, "b.parquet"),
    _folder("nothing", {}, "holds no images"),
    _folder("other files", {"a.txt": lambda: b"x"}, "holds no images"),
]
