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
from urllib.parse import unquote

from geco_core.config.run import S3Config
from geco_core.errors import ManifestError
from infra import normalise
from infra.patterns import fixed_part, is_pattern
from infra.storage.open import DEFAULT_S3

IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg", ".webp", ".bmp", ".gif", ".tif", ".tiff", ".avif")
TABLE_SUFFIXES = (".parquet", ".pq")
KINDS = {
    ".parquet": "parquet",
    ".pq": "parquet",
    ".csv": "csv",
    ".tsv": "csv",
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
}
SUPPORTED = (
    "give a .parquet, .csv, .tsv or .jsonl file, a folder of Parquet files or images, or a glob"
)
FULL_DIGEST_BYTES = 1 << 30


@dataclass(frozen=True)
class ManifestSource:
    """A located manifest, not read yet.

    Attributes:
        source: what the user gave.
        kind: parquet, csv, jsonl or images.
        base: folder or URI that relative image paths resolve against.
        paths: its files, absolute paths or URIs, in the order of their rows.
        digest: of their content (local) or of what the store says about them (S3).
        tags: ETags of the files, in the same order; empty for local files.
        s3: how the files are reached.
    """

    source: str
    kind: str
    base: str
    paths: tuple[str, ...]
    digest: str
    tags: tuple[str, ...] = ()
    s3: S3Config = DEFAULT_S3

    def tag(self, path: str) -> str:
        """ETag of a file when it was located; empty where there is none."""
        return self.tags[self.paths.index(path)] if self.tags else ""


def locate(source: str, s3: S3Config = DEFAULT_S3) -> ManifestSource:
    """Find out what `source` is and digest it.

    Raises:
        ManifestError: there is no such manifest, or not one this program reads.
        Fatal, Retryable: the store of an `s3://` manifest can not be read.
    """
    if not source:
        raise ManifestError("no manifest was given", remedy="add --manifest FILE", stage="plan")
    scheme, separator, rest = source.partition("://")
    if separator and scheme == "s3":
        from infra.locate_s3 import locate_s3  # noqa: PLC0415 - local runs need no boto3

        return locate_s3(source, s3)
    if separator and scheme != "file":
        remedy = "copy it to a local path or to s3://"
        # Without the address itself: it may hold a password or a signature.
        raise ManifestError(
            f"manifests are not read from {scheme}:// addresses", remedy=remedy, stage="plan"
        )
    try:
        return _locate_local(source, Path(unquote(rest) if separator else source).expanduser())
    except (OSError, ValueError, RuntimeError) as error:  # too long, no such user, may not be read
        words = error.strerror if isinstance(error, OSError) else str(error)
        raise ManifestError(
            f"there is no manifest {source[:200]} that can be read: {words}",
            remedy="check the path and its permissions",
            stage="plan",
        ) from error


def _locate_local(source: str, path: Path) -> ManifestSource:
    if path.is_dir():
        inside = (p for p in path.rglob("*") if p.is_file() and not p.name.startswith("."))
        return _of_many(source, path, inside)
    if path.is_file():
        return _locate_file(source, path)
    if is_pattern(source):
        found = (Path(p) for p in glob.glob(str(path), recursive=True))  # noqa: PTH207 - absolute patterns too
        return _of_many(source, Path(fixed_part(str(path)) or "."), found)
    siblings = [p.name for p in path.parent.iterdir()] if path.parent.is_dir() else []
    near = difflib.get_close_matches(path.name, siblings, n=1, cutoff=0.6)
    hint = f"did you mean {path.parent / near[0]}?" if near else "check the path"
    raise ManifestError(f"there is no manifest {source}", remedy=hint, stage="plan")


def _locate_file(source: str, path: Path) -> ManifestSource:
    kind = kind_of_file(source, path.name)
    if kind == "images":
        return _images(source, path.parent, [path])
    digest = _digest_parquet([path]) if kind == "parquet" else _digest_content([path])
    return ManifestSource(source, kind, _text(path.parent), (_text(path),), digest)


def kind_of_file(source: str, name: str) -> str:
    """Kind of a single file by its suffix. Raises `ManifestError`."""
    suffix = Path(name).suffix.lower()
    if suffix in IMAGE_SUFFIXES:
        return "images"
    if suffix not in KINDS:
        raise ManifestError(
            f"{source} is no manifest this program reads", remedy=SUPPORTED, stage="plan"
        )
    return KINDS[suffix]


def kind_of_many(names: Iterable[str]) -> tuple[str, tuple[str, ...]]:
    """Kind of a folder and the suffixes that count: Parquet where there is any, else images."""
    tables = any(name.lower().endswith(TABLE_SUFFIXES) for name in names)
    return ("parquet", TABLE_SUFFIXES) if tables else ("images", IMAGE_SUFFIXES)


def no_images(source: str) -> ManifestError:
    """A folder or pattern with nothing usable behind it."""
    known = " ".join(IMAGE_SUFFIXES)
    return ManifestError(f"{source} holds no images ({known})", remedy=SUPPORTED, stage="plan")


def _of_many(source: str, base: Path, paths: Iterable[Path]) -> ManifestSource:
    inside = list(paths)
    kind, suffixes = kind_of_many(path.name for path in inside)
    chosen = sorted(p for p in inside if p.suffix.lower() in suffixes)
    if kind == "images":
        return _images(source, base, chosen)
    names = tuple(_text(path) for path in chosen)
    return ManifestSource(source, kind, _text(base), names, _digest_parquet(chosen))


def _images(source: str, base: Path, paths: Sequence[Path]) -> ManifestSource:
    if not paths:
        raise no_images(source)
    ids = "\n".join(normalise.image_id(_text(path), _text(base)) for path in paths)
    digest = hashlib.sha256(ids.encode("utf-8", "surrogateescape")).hexdigest()
    return ManifestSource(source, "images", _text(base), tuple(map(_text, paths)), digest)


def _text(path: Path) -> str:
    return str(path.absolute())


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
