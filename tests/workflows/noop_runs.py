"""Small no-op runs made through `geco generate` without Ray, for tests of the other verbs."""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

from workflows import cli

INLINE = ("--engine", "inline")
QUICK = ("finish_isolation=inline", "thumbnail_size=0")


def png(shade: int) -> bytes:
    """A small opaque picture."""
    stream = io.BytesIO()
    Image.new("RGB", (32, 32), (shade, 80, 120)).save(stream, format="PNG")
    return stream.getvalue()


def image_manifest(folder: Path, rows: int = 10, missing: Sequence[int] = (2, 3, 7)) -> Path:
    """Rows `i0`, `i1`, ... with pictures beside the manifest; `missing` ones are not there."""
    (folder / "img").mkdir(parents=True, exist_ok=True)
    for row in range(rows):
        if row not in missing:
            (folder / f"img/{row}.png").write_bytes(png(row))
    path = folder / "m.parquet"
    names = [f"img/{row}.png" for row in range(rows)]
    ids = [f"i{row}" for row in range(rows)]
    pq.write_table(pa.table({"id": ids, "image": names, "tag": list(range(rows))}), path)
    return path


def geco(*words: object) -> int:
    """`geco WORDS`, in this process."""
    return cli.main([str(word) for word in words])


def generate(manifest: Path, run: object, *words: object) -> int:
    """A finished run of shards of 4 rows; failures are accepted."""
    common = ("--system", "noop", "--manifest", manifest, "--out", run, "shard_size=4")
    return geco("generate", *common, *INLINE, *QUICK, "max_failure_rate=1", *words)
