"""The references of an evaluation: a folder of meshes named like the items, or a table that says
which mesh belongs to which item.

| given | reference of item `chair` |
|---|---|
| a folder or `s3://` prefix | `chair.glb`, `.obj`, `.ply`, `.off` or `.stl` in it, the first that is there; file names as `geco export --glb-folder` writes them are understood |
| a `.csv` or `.parquet` file | the row with `item_id` chair: `reference`, and optionally `images` (a folder of renders, one PNG per camera in order) and `azimuth_deg` (where the input image was taken) |

Paths in a table are relative to it.
"""  # noqa: E501

from __future__ import annotations

import hashlib
import json
import math
import posixpath
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq
import torch
import torch.nn.functional as F
from torch import Tensor

from geco_core.config.run import S3Config
from geco_core.errors import BadItem, ConfigError, Fatal, ManifestError, Reason
from geco_core.evaluate.mesh_files import KINDS, MAX_BYTES, Companion, read_mesh
from geco_core.evaluate.protocol import Protocol
from geco_core.evaluate.score import Reference
from geco_core.imaging.decode import decode_image
from infra.export_names import safe_name
from infra.retry import retried
from infra.storage import open_storage
from infra.storage.open import open_input

TABLES = (".csv", ".parquet", ".pq")
STAGE = "evaluate"


@dataclass(frozen=True)
class Entry:
    """Where the reference of one item lies.

    Attributes:
        mesh: path or URI.
        images: folder of renders; empty for none.
        azimuth_deg: of the input image.
    """

    mesh: str
    images: str = ""
    azimuth_deg: float = 0.0


@dataclass(frozen=True)
class LoadedReference:
    """A reference, and the sha256 of its mesh file."""

    reference: Reference
    sha256: str


class References:
    """The references of all items, not read yet.

    Attributes:
        source: what the user gave.
        digest: sha256 over names and places of all entries.
    """

    def __init__(self, source: str, entries: dict[str, Entry], s3: S3Config) -> None:
        self.source, self._entries, self._s3 = source, entries, s3
        listed = sorted((k, v.mesh, v.images, v.azimuth_deg) for k, v in entries.items())
        self.digest = hashlib.sha256(json.dumps(listed).encode()).hexdigest()
        self._folder = not source.lower().endswith(TABLES)

    def __len__(self) -> int:
        return len(self._entries)

    def find(self, item_id: str) -> Entry | None:
        """The entry of an item, or None."""
        found = self._entries.get(item_id)
        if found is None and self._folder:
            found = self._entries.get(safe_name(item_id))
        return found

    def unused(self, items: Iterator[str]) -> list[str]:
        """Names of references that no item asked for, sorted."""
        asked = set()
        for item_id in items:
            asked |= {item_id, safe_name(item_id)} if self._folder else {item_id}
        return sorted(set(self._entries) - asked)

    def load(self, item_id: str, entry: Entry, protocol: Protocol) -> LoadedReference:
        """Read a reference.

        Raises:
            BadItem: it is missing, too large or unreadable.
            Retryable: the store failed for good this time.
        """
        data = _read(entry.mesh, self._s3, item_id)
        kind = posixpath.splitext(entry.mesh)[1].lower()
        mesh = read_mesh(data, kind, self._companion(entry.mesh, item_id), item_id)
        images, masks = None, None
        if entry.images:
            images, masks = _images(entry.images, self._s3, item_id, protocol)
        reference = Reference(mesh, entry.azimuth_deg, images, masks)
        return LoadedReference(reference, hashlib.sha256(data).hexdigest())

    def _companion(self, mesh: str, item_id: str) -> Companion:
        folder = posixpath.dirname(mesh)

        def companion(name: str) -> bytes:
            try:
                return _read(posixpath.join(folder, name), self._s3, item_id)
            except BadItem as error:
                if error.reason is Reason.NOT_FOUND:
                    raise KeyError(name) from None
                raise

        return companion


def open_references(source: str, s3: S3Config) -> References:
    """Find the references in a folder or table.

    Raises:
        ConfigError: nothing is there, or no mesh in the folder.
        ManifestError: the table does not read, lacks columns or names an item twice.
        Fatal, Retryable: the store failed.
    """
    is_table = source.lower().endswith(TABLES)
    entries = _table_entries(source, s3) if is_table else _folder_entries(source, s3)
    if not entries:
        raise ConfigError(
            f"there are no references in {source}",
            remedy=f"give a folder of <item_id>{'|'.join(KINDS)} files, or a .csv or .parquet "
            "table with the columns item_id and reference",
        )
    return References(source, entries, s3)


def _folder_entries(source: str, s3: S3Config) -> dict[str, Entry]:
    storage = open_storage(source, s3)
    found: dict[str, Entry] = {}
    keys = sorted(retried(lambda: list(storage.list(""))), key=_preference)
    for key in keys:
        stem, suffix = posixpath.splitext(key)
        if suffix.lower() in KINDS and "/" not in key:
            found.setdefault(stem, Entry(posixpath.join(storage.uri, key)))
    return found


def _preference(key: str) -> tuple[int, str]:
    suffix = posixpath.splitext(key)[1].lower()
    return (KINDS.index(suffix) if suffix in KINDS else len(KINDS), key)


def _table_entries(source: str, s3: S3Config) -> dict[str, Entry]:
    rows = _table(source, s3).to_pylist()
    base = posixpath.dirname(source) if source.startswith("s3://") else str(Path(source).parent)
    entries: dict[str, Entry] = {}
    for number, row in enumerate(rows):
        item_id, mesh = str(row["item_id"] or ""), str(row["reference"] or "")
        if not item_id or not mesh or item_id in entries:
            what = f"item {item_id!r} a second time" if item_id in entries else "an empty cell"
            raise ManifestError(
                f"row {number} of {source} has {what}", remedy="one row per item", stage=STAGE
            )
        images = str(row.get("images") or "")
        entries[item_id] = Entry(
            _joined(base, mesh), _joined(base, images) if images else "", _angle(source, row)
        )
    return entries


def _table(source: str, s3: S3Config) -> pa.Table:
    try:
        with open_input(source, s3) as file:
            if source.lower().endswith(".csv"):
                texts = {name: pa.string() for name in ("item_id", "reference", "images")}
                options = pyarrow.csv.ConvertOptions(column_types=texts)
                table = pyarrow.csv.read_csv(file, convert_options=options)
            else:
                table = pq.read_table(file)
    except KeyError:
        raise ConfigError(f"there is no {source}", remedy="check --reference") from None
    except (pa.ArrowException, OSError) as error:
        raise ManifestError(f"{source} does not read: {error}", stage=STAGE) from error
    missing = {"item_id", "reference"} - set(table.column_names)
    if missing:
        raise ManifestError(
            f"{source} has no column {' and no '.join(sorted(missing))}",
            remedy="it needs item_id and reference; images and azimuth_deg may be there",
            stage=STAGE,
        )
    wanted = ("item_id", "reference", "images", "azimuth_deg")
    return table.select([name for name in wanted if name in table.column_names])


def _angle(source: str, row: dict[str, object]) -> float:
    value = row.get("azimuth_deg")
    try:
        angle = 0.0 if value in (None, "") else float(str(value))
    except ValueError:
        angle = math.nan
    if not math.isfinite(angle):
        raise ManifestError(
            f"azimuth_deg of item {row['item_id']!r} in {source} is {value!r}",
            remedy="give degrees, or leave the cell empty",
            stage=STAGE,
        )
    return angle


def _joined(base: str, path: str) -> str:
    """A path of a table as it is opened."""
    if "://" in path or path.startswith("/"):
        return path
    return posixpath.join(base, path)


def _read(place: str, s3: S3Config, item_id: str) -> bytes:
    def read() -> bytes:
        if "://" not in place and not Path(place).is_file():
            raise KeyError(place)
        with open_input(place, s3) as file:
            if file.size() > MAX_BYTES:
                raise _bad(Reason.TOO_MANY_BYTES, f"{place} has {file.size():,} bytes", item_id)
            return file.read()

    try:
        return retried(read)
    except KeyError:
        raise _bad(Reason.NOT_FOUND, f"there is no {place}", item_id) from None
    except Fatal as error:
        raise _bad(Reason.ACCESS_DENIED, error.message, item_id) from error
    except OSError as error:
        raise _bad(Reason.FETCH_FAILED, f"{place} does not read: {error}", item_id) from error


def _images(
    folder: str, s3: S3Config, item_id: str, protocol: Protocol
) -> tuple[Tensor, Tensor | None]:
    """Renders on white [V, 3, R, R], and their masks unless they are opaque."""
    storage = open_storage(folder, s3)
    names = sorted(k for k in retried(lambda: list(storage.list(""))) if k.lower().endswith(".png"))
    if len(names) != protocol.views:
        raise _bad(
            Reason.MISSING_INPUT,
            f"{len(names)} PNG files in {folder} for {protocol.views} cameras",
            item_id,
        )
    found = []
    for name in names:
        data = retried(lambda name=name: storage.get(name))
        rgba = decode_image(data, item_id=item_id).rgba
        image = torch.from_numpy(np.ascontiguousarray(rgba)).permute(2, 0, 1)[None].float() / 255
        alpha = image[:, 3:]
        flat = torch.cat([image[:, :3] * alpha + 1 - alpha, alpha], 1)
        size = (protocol.resolution, protocol.resolution)
        found.append(F.interpolate(flat, size, mode="bilinear", antialias=True).clamp(0, 1))
    stacked = torch.cat(found)
    opaque = bool((stacked[:, 3:] >= 1).all())
    return stacked[:, :3], None if opaque else stacked[:, 3:]


def _bad(reason: Reason, message: str, item_id: str) -> BadItem:
    return BadItem(message, reason=reason, item_id=item_id, stage=STAGE)
