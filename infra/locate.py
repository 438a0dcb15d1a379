"""Finding a manifest: what kind of thing the user named, which files it is made of, and their
digest.
"""

from __future__ import annotations

import difflib
import glob
import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from geco_core.errors import ManifestError
from infra import normalise

IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg", ".webp", ".bmp", ".gif", ".tif", ".tiff", ".avif")
SUPPORTED = (
    "give a .parquet, .csv, .tsv or .jsonl file, a folder of Parquet files or images, or a glob"
)
FULL_DIGEST_BYTES = 1 << 30


@dataclass(frozen=True)
class ManifestSource:
    """A located manifest, not read yet: its kind, its files and the digest of their content."""

    source: str
    kind: str
    base: Path
    paths: tuple[Path, ...]
    digest: str


def locate(source: str) -> ManifestSource:
    """Find out what `source` is and digest it. Raises `ManifestError` when that fails."""
    if not source:
        raise ManifestError("no manifest was given", remedy="add --manifest FILE", stage="plan")
    path = Path(source).expanduser()
    if path.is_dir():
        return _locate_folder(source, path)
    if path.is_file():
        return _locate_file(source, path)
    if any(mark in source for mark in "*?["):
        paths = [Path(p) for p in glob.glob(str(path), recursive=True)]  # noqa: PTH207 - absolute patterns too
        base = Path(_fixed_part(str(path)))
        return _images(source, base, (p for p in paths if p.suffix.lower() in IMAGE_SUFFIXES))
    siblings = [p.name for p in path.parent.iterdir()] if path.parent.is_dir() else []
    near = difflib.get_close_matches(path.name, siblings, n=1, cutoff=0.6)
    hint = f"did you mean {path.parent / near[0]}?" if near else "check the path"
    raise ManifestError(f"there is no manifest {source}", remedy=hint, stage="plan")


def _locate_file(source: str, path: Path) -> ManifestSource:
    kinds = {
        ".parquet": "parquet",
        ".pq": "parquet",
        ".csv": "csv",
        ".tsv": "csv",
        ".jsonl": "jsonl",
    }
    kinds[".ndjson"] = "jsonl"
    suffix = path.suffix.lower()
    if suffix in IMAGE_SUFFIXES:
        return _images(source, path.parent, [path])
    if suffix not in kinds:
        raise ManifestError(
            f"{source} is no manifest this program reads", remedy=SUPPORTED, stage="plan"
        )
    kind = kinds[suffix]
    digest = _digest_parquet([path]) if kind == "parquet" else _digest_content([path])
    return ManifestSource(source, kind, path.parent, (path,), digest)


def _locate_folder(source: str, folder: Path) -> ManifestSource:
    inside = [p for p in folder.rglob("*") if p.is_file() and not p.name.startswith(".")]
    tables = sorted(p for p in inside if p.suffix.lower() in (".parquet", ".pq"))
    if tables:
        return ManifestSource(source, "parquet", folder, tuple(tables), _digest_parquet(tables))
    return _images(source, folder, (p for p in inside if p.suffix.lower() in IMAGE_SUFFIXES))


def _images(source: str, base: Path, paths: Iterable[Path]) -> ManifestSource:
    ordered = tuple(sorted(paths))
    if not ordered:
        known = " ".join(IMAGE_SUFFIXES)
        raise ManifestError(f"{source} holds no images ({known})", remedy=SUPPORTED, stage="plan")
    names = "\n".join(normalise.image_id(path, base) for path in ordered)
    digest = hashlib.sha256(names.encode("utf-8", "surrogateescape")).hexdigest()
    return ManifestSource(source, "images", base, ordered, digest)


def _fixed_part(pattern: str) -> str:
    """The folder above the first wildcard of a glob."""
    parts = Path(pattern).parts
    fixed = next(i for i, part in enumerate(parts) if any(mark in part for mark in "*?["))
    return str(Path(*parts[:fixed])) if fixed else "."


def _digest_content(paths: Sequence[Path]) -> str:
    digest = hashlib.sha256()
    for path in paths:
        digest.update(f"{path.stat().st_size}\n".encode())
        with path.open("rb") as file:
            while block := file.read(1 << 22):
                digest.update(block)
    return digest.hexdigest()


def _digest_parquet(paths: Sequence[Path]) -> str:
    if sum(path.stat().st_size for path in paths) <= FULL_DIGEST_BYTES:
        return _digest_content(paths)
    digest = hashlib.sha256()
    for path in paths:  # a footer lists sizes, offsets and statistics of every column chunk
        size = path.stat().st_size
        digest.update(f"{size}\n".encode())
        with path.open("rb") as file:
            file.seek(max(0, size - 8))
            footer = int.from_bytes(file.read(4), "little")
            file.seek(max(0, size - 8 - footer))
            digest.update(file.read(footer + 8))
    return digest.hexdigest()
