"""Manifests: what a run is asked to make, as a list of Parquet files with known columns.

A Parquet file or folder is used where it lies; CSV, JSONL, a folder or a glob of images is streamed
once into a Parquet file of the run (`infra.normalise`). What is wrong with the manifest as a whole
is refused here, before any work; what is wrong with one row becomes that row's outcome
(`infra.rows`).
"""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from itertools import repeat
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from geco_core.config.run import ColumnsConfig, S3Config
from geco_core.errors import ManifestError
from infra import normalise
from infra.cells import listed
from infra.locate import ManifestSource
from infra.storage import Storage, open_input

FOOTER_THREADS = 16
USUAL_NAMES = {
    "item_id": ("item_id", "id"),
    "image": ("image",),
    "prompt": ("prompt",),
    "seed": ("seed",),
}
LIKELY_NAMES = (
    "image_path",
    "img",
    "path",
    "file",
    "file_name",
    "filename",
    "url",
    "uri",
    "caption",
    "text",
)


@dataclass(frozen=True)
class Columns:
    """Resolved column names; None where the manifest has no such column."""

    item_id: str | None
    image: str | None
    prompt: str | None
    seed: str | None

    def used(self) -> list[str]:
        """The columns that make an item, in schema order."""
        return [c for c in (self.item_id, self.image, self.prompt, self.seed) if c is not None]


@dataclass(frozen=True)
class ManifestFile:
    """One Parquet file.

    Attributes:
        path: an absolute path or `s3://` URI, or a key of the run's store.
        rows: in it.
        stored: it is such a key, because the manifest was normalised.
        tag: ETag of the object when the manifest was read; empty for local files.
    """

    path: str
    rows: int
    stored: bool
    tag: str = ""


@dataclass(frozen=True)
class Manifest:
    """A manifest ready to be cut into shards. Rows are numbered through the files in order.

    Attributes:
        source: what the user gave.
        kind: parquet, csv, jsonl or images.
        digest: sha256 over the content (over sizes and footers beyond 1 GiB of Parquet; over names
            for images; over sizes and ETags in S3).
        base: folder or `s3://` URI that relative image paths resolve against.
        files: the Parquet files.
        columns: resolved columns.
        passthrough: columns copied to the output.
    """

    source: str
    kind: str
    digest: str
    base: str
    files: tuple[ManifestFile, ...]
    columns: Columns
    passthrough: tuple[str, ...]

    @property
    def rows(self) -> int:
        """Rows in all files."""
        return sum(file.rows for file in self.files)

    def to_json(self) -> dict[str, Any]:
        """Plain data for `run.json`."""
        return asdict(self) | {"rows": self.rows}

    @staticmethod
    def from_json(data: dict[str, Any]) -> Manifest:
        """Inverse of `to_json`."""
        return Manifest(
            source=data["source"],
            kind=data["kind"],
            digest=data["digest"],
            base=data["base"],
            files=tuple(ManifestFile(**file) for file in data["files"]),
            columns=Columns(**data["columns"]),
            passthrough=tuple(data["passthrough"]),
        )


def read_manifest(located: ManifestSource, columns: ColumnsConfig, storage: Storage) -> Manifest:
    """Normalise if needed, resolve columns, count rows.

    Raises:
        ManifestError: unreadable, empty, no usable column, unknown declared columns, differing
            schemas.
    """
    files, schema = _parquet_files(located, storage)
    if sum(file.rows for file in files) == 0:
        raise ManifestError(
            f"manifest {located.source} has no rows", remedy="add rows", stage="plan"
        )
    if located.kind == "parquet":
        normalise.check_distinct(located.source, schema.names)
    names = [name for name in schema.names if name != normalise.PROBLEM_COLUMN]
    resolved = resolve_columns(names, columns)
    _check_types(schema, resolved)
    consumed = {resolved.item_id, resolved.image, resolved.seed}
    return Manifest(
        source=located.source,
        kind=located.kind,
        digest=located.digest,
        base=located.base,
        files=tuple(files),
        columns=resolved,
        passthrough=tuple(name for name in names if name not in consumed),
    )


def resolve_columns(names: Sequence[str], declared: ColumnsConfig) -> Columns:
    """Match declared or usual names against what the manifest has. Raises `ManifestError`."""
    found: dict[str, str | None] = {}
    for role, usual in USUAL_NAMES.items():
        name = getattr(declared, role)
        if name is not None and name not in names:
            near = difflib.get_close_matches(name, names, n=1, cutoff=0.5)
            hint = f"did you mean {near[0]!r}?" if near else f"the manifest has {listed(names)}"
            raise ManifestError(
                f"the manifest has no column {name!r} (columns.{role})", remedy=hint, stage="plan"
            )
        found[role] = name or next((candidate for candidate in usual if candidate in names), None)
    if found["image"] is None and found["prompt"] is None:
        raise ManifestError(
            f"no usable column: found {listed(names) or 'none'}, need `image` or `prompt`",
            remedy=_column_hint(names),
            stage="plan",
        )
    return Columns(**found)


def _column_hint(names: Sequence[str]) -> str:
    for name in names:
        if name.lower() in LIKELY_NAMES or difflib.get_close_matches(
            name.lower(), ("image", "prompt"), cutoff=0.6
        ):
            role = (
                "prompt"
                if name.lower() in ("caption", "text") or name.lower().startswith("p")
                else "image"
            )
            role = "image" if name.lower() == "path" else role
            return f"did you mean columns.{role}={listed([name])}?"
    return "rename a column, or say which one holds the images: columns.image=NAME"


def _parquet_files(
    located: ManifestSource, storage: Storage
) -> tuple[list[ManifestFile], pa.Schema]:
    if located.kind != "parquet":
        key = normalise.to_parquet(located, storage)
        with storage.open_for_pyarrow(key) as file:
            parquet = pq.ParquetFile(file)
            return [ManifestFile(key, parquet.metadata.num_rows, True)], parquet.schema_arrow
    tags = located.tags or ("",) * len(located.paths)
    files, first = [], None
    with ThreadPoolExecutor(FOOTER_THREADS if located.tags else 1) as pool:
        footers = pool.map(_footer, located.paths, tags, repeat(located.s3))
        for path, tag, (rows, schema) in zip(located.paths, tags, footers, strict=True):
            if first is not None and not schema.equals(first):
                lines = f"{listed(first.names)} in the first, {listed(schema.names)} in {path}"
                raise ManifestError(
                    f"Parquet files differ in schema: {lines}",
                    remedy="make them equal",
                    stage="plan",
                )
            first = schema if first is None else first
            files.append(ManifestFile(path, rows, False, tag))
    assert first is not None
    return files, first


def _footer(path: str, tag: str, s3: S3Config) -> tuple[int, pa.Schema]:
    """Rows and schema of a Parquet file, from its end alone."""
    try:
        with open_input(path, s3, tag=tag) as file, pq.ParquetFile(file) as parquet:
            return parquet.metadata.num_rows, parquet.schema_arrow
    except (pa.ArrowException, OSError) as error:
        raise ManifestError(
            f"{path} is not a readable Parquet file: {' '.join(str(error).split())[:300]}",
            remedy="write it again",
            stage="plan",
        ) from error
    except KeyError as error:
        raise ManifestError(f"{path} disappeared", remedy="put it back", stage="plan") from error


def _check_types(schema: pa.Schema, columns: Columns) -> None:
    def text(kind: pa.DataType) -> bool:
        if pa.types.is_dictionary(kind):
            return text(kind.value_type)
        return (
            pa.types.is_string(kind)
            or pa.types.is_large_string(kind)
            or pa.types.is_string_view(kind)
        )

    def binary(kind: pa.DataType) -> bool:
        return pa.types.is_binary(kind) or pa.types.is_large_binary(kind)

    def image(kind: pa.DataType) -> bool:
        if pa.types.is_struct(kind):
            fields = {field.name: field.type for field in kind}
            checks = {"bytes": binary, "path": text}
            known = [
                check(fields[name]) or pa.types.is_null(fields[name])
                for name, check in checks.items()
                if name in fields
            ]
            return bool(known) and all(known)
        return text(kind) or binary(kind)

    def whole(kind: pa.DataType) -> bool:
        return text(kind) or pa.types.is_integer(kind)

    checks = {"item_id": whole, "image": image, "prompt": text, "seed": whole}
    for role, check in checks.items():
        name = getattr(columns, role)
        if name is None:
            continue
        kind = schema.field(name).type
        if not check(kind) and not pa.types.is_null(kind):
            raise ManifestError(
                f"column {name!r} ({role}) has type {kind}, which can not be used",
                remedy="image: text, bytes or struct{bytes, path}; prompt: text; "
                "item_id and seed: text or integers",
                stage="plan",
            )
