"""The sampled rows in full: input picture, preview, drawn views and the GLB itself, ready to be
embedded.
"""

from __future__ import annotations

import base64
import io
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import groupby
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

from geco_core.config.run import FetchConfig, S3Config
from geco_core.errors import ForgeError
from geco_core.imaging.decode import decode_image
from geco_core.mesh.draco import uncompressed
from geco_core.mesh.gate import check_mesh
from geco_core.mesh.glb import read_glb
from geco_core.mesh.thumbnail import encode_png, render_views
from geco_core.types import Shard
from infra.commit import part_key
from infra.dataset import GENERATE_PARTS
from infra.fetch import Fetcher
from infra.plan import plan_of
from infra.rows import RowReader
from infra.storage import Storage
from workflows.report.survey import RowRef

INPUT_COLUMN = "condition_thumbnail"
VIEW_ANGLES = ((0.0, 10.0), (90.0, 10.0), (180.0, 10.0), (0.0, 75.0))
VIEW_NAMES = ("front", "left", "back", "top")
VIEW_PIXELS = 132
INPUT_PIXELS = 192
_MAX_SOURCE_BYTES = 64 * 2**20
_READ_ERRORS = (KeyError, OSError, ValueError, pa.ArrowException, ForgeError)


@dataclass(frozen=True)
class AssetView:
    """One asset as the page shows it. Pictures are `data:` URIs, empty when there is none.

    Attributes:
        input_picture: the source image, scaled down.
        preview: the thumbnail of the row.
        views: drawn from front, left, back and top.
        glb_base64: the GLB, or "" when it is not embedded.
        glb_note: why it is not.
        facts: label and value pairs, in order.
    """

    item_id: str
    prompt: str
    input_picture: str
    preview: str
    views: tuple[tuple[str, str], ...]
    glb_base64: str
    glb_note: str
    facts: tuple[tuple[str, str], ...]
    notes: tuple[str, ...]


class InputPictures:
    """Finds the picture an item was made from: beside the manifest or in `fetch.roots`, never on
    the web, and in an object store only where the manifest lies in one.
    """

    def __init__(
        self, storage: Storage, record: Mapping[str, Any], fetch: FetchConfig, s3: S3Config
    ) -> None:
        """Take a run.

        Args:
            storage: its store.
            record: the content of `run.json`.
            fetch: whose `roots` count.
            s3: how sources in an object store are reached.
        """
        manifest = plan_of(record).manifest
        schemes = ("file", "s3") if manifest.base.startswith("s3://") else ("file",)
        limits = replace(fetch, schemes=schemes)
        self._reader = RowReader(manifest, storage, np.empty(0, dtype=np.int64), s3)
        self._fetcher = Fetcher(limits, s3, roots=[manifest.base], max_bytes=_MAX_SOURCE_BYTES)

    def find(self, row: Mapping[str, Any], ref: RowRef) -> tuple[str, str]:
        """(picture as a data URI, prompt) of a row; "" for what is gone.

        The picture comes from the row itself, else from the manifest and its sources.
        """
        stored = row.get(INPUT_COLUMN)
        if isinstance(stored, Mapping) and stored.get("bytes"):
            return data_uri(stored["bytes"]), ""
        try:
            item = self._reader.read(Shard(0, ref.manifest_row, ref.manifest_row + 1)).rows[0].item
            data = item.image
            if isinstance(data, str):
                data = self._fetcher.fetch(data)
            return (data_uri(_scaled(data)) if data else ""), item.prompt or ""
        except (*_READ_ERRORS, IndexError):
            return "", ""


def load_assets(
    storage: Storage,
    refs: Sequence[RowRef],
    pictures: InputPictures,
    *,
    max_glb_bytes: int,
    max_total_glb_bytes: int,
) -> Iterator[AssetView]:
    """The sampled rows in order, with their GLBs while these fit.

    A part that can not be read is passed over: the survey has named it already.
    """
    left = max_total_glb_bytes
    for ref, row in _rows(storage, refs):
        glb = row.get("glb") or b""
        note = ""
        if len(glb) > max_glb_bytes:
            note = f"The GLB has {len(glb) / 2**20:.1f} MiB: see the dataset."
        elif len(glb) > left:
            note = "The page is full: see the dataset for this GLB."
        elif not glb:
            note = (
                f"The GLB lies at {row['glb_uri']}."
                if row.get("glb_uri")
                else "The row holds no GLB."
            )
        if not note:
            left -= len(glb)
        yield _view(row, glb, note, pictures.find(row, ref))


def data_uri(png: bytes) -> str:
    """PNG bytes as a `data:` URI."""
    return "data:image/png;base64," + base64.b64encode(png).decode("ascii")


def _rows(storage: Storage, refs: Sequence[RowRef]) -> Iterator[tuple[RowRef, dict[str, Any]]]:
    for part, group in groupby(refs, key=lambda ref: (ref.shard, ref.generation)):
        try:
            with storage.open_for_pyarrow(part_key(*part)) as file:
                yield from _rows_of_part(pq.ParquetFile(file), list(group))
        except _READ_ERRORS:
            continue


def _rows_of_part(
    parquet: pq.ParquetFile, refs: Sequence[RowRef]
) -> Iterator[tuple[RowRef, dict[str, Any]]]:
    first = 0
    for number in range(parquet.num_row_groups):
        rows = parquet.metadata.row_group(number).num_rows
        inside = [ref for ref in refs if first <= ref.offset < first + rows]
        if inside:
            table = parquet.read_row_group(number, use_threads=False)
            for ref in inside:
                yield ref, table.slice(ref.offset - first, 1).to_pylist()[0]
        first += rows


def _view(row: Mapping[str, Any], glb: bytes, note: str, source: tuple[str, str]) -> AssetView:
    views: tuple[tuple[str, str], ...] = ()
    stored_bytes = len(glb)
    if glb:
        try:
            views = _drawn(glb)
            glb = uncompressed(glb)  # the viewer on the page would load its decoder from the web
        except (ForgeError, ValueError) as error:
            note = f"The GLB does not read back: {error}"
    thumbnail = row.get("thumbnail") or {}
    return AssetView(
        item_id=str(row.get("item_id") or ""),
        prompt=source[1],
        input_picture=source[0],
        preview=data_uri(thumbnail["bytes"])
        if thumbnail.get("bytes")
        else (views[0][1] if views else ""),
        views=views,
        glb_base64="" if note else base64.b64encode(glb).decode("ascii"),
        glb_note=note,
        facts=tuple(_facts(row, stored_bytes)),
        notes=tuple(str(entry) for entry in row.get("notes") or ()),
    )


def _drawn(glb: bytes) -> tuple[tuple[str, str], ...]:
    mesh = read_glb(glb).mesh
    check_mesh(mesh)
    images = render_views(mesh, VIEW_ANGLES, size=VIEW_PIXELS, supersample=2)
    return tuple(
        (name, data_uri(encode_png(image))) for name, image in zip(VIEW_NAMES, images, strict=True)
    )


def _scaled(data: bytes) -> bytes:
    rgba = Image.fromarray(decode_image(data).rgba)
    rgba.thumbnail((INPUT_PIXELS, INPUT_PIXELS))
    stream = io.BytesIO()
    rgba.save(stream, format="PNG")
    return stream.getvalue()


def _facts(row: Mapping[str, Any], glb_bytes: int) -> Iterator[tuple[str, str]]:
    mesh = row.get("mesh") or {}
    if mesh.get("n_faces") is not None:
        yield "triangles", f"{mesh['n_faces']:,}"
        yield "vertices", f"{mesh['n_vertices']:,}"
    if mesh.get("watertight") is not None:
        yield "watertight", "yes" if mesh["watertight"] else "no"
    if mesh.get("components") is not None:
        yield "components", f"{mesh['components']:,}"
    if mesh.get("volume") is not None:
        yield "volume", f"{mesh['volume']:.4g}"
    if glb_bytes:
        yield "GLB", f"{glb_bytes / 1024:,.0f} KiB"
    timing = {k: v for k, v in (row.get("timing") or {}).items() if v is not None}
    if timing:
        yield "seconds", f"{sum(v for k, v in timing.items() if k not in GENERATE_PARTS):.2f}"
    for name in ("seed", "attempts", "source", "glb_sha256"):
        if row.get(name) not in (None, ""):
            yield name, str(row[name])
