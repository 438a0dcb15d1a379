"""What a weights reference in S3 stands for: one object, or the needed ones of a folder."""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from geco_core.config.run import S3Config
from geco_core.errors import Fatal
from infra.storage.protocol import checked_key

if TYPE_CHECKING:
    from infra.storage.objects import StoredObject

# Of each group the first name that is there is needed.
Groups = Sequence[Sequence[str]]
STAGE = "load"
MAX_LISTED = 100_000
MAX_OBJECT_BYTES = 64 << 30
MAX_FOLDER_BYTES = 256 << 30
_INDEX, _SHARD = ".safetensors.index.json", ".safetensors"


@dataclass(frozen=True)
class StoredWeights:
    """Objects in a bucket, as a listing shows them.

    Attributes:
        reference: the `s3://` address.
        bucket: of the objects.
        folder: whether the reference names a folder and not one object.
        objects: name within the folder -> object, names sorted.
    """

    reference: str
    bucket: str
    folder: bool
    objects: Mapping[str, StoredObject]

    @property
    def bytes(self) -> int:
        """Size of all objects."""
        return sum(stored.size for stored in self.objects.values())

    @property
    def summary(self) -> str:
        """Number, bytes and a digest of names, sizes and ETags: another one, other weights."""
        count = f"{len(self.objects)} object{'s' if len(self.objects) != 1 else ''}"
        return f"{count}, {self.bytes} bytes, ETags {self._digest('')[:24]}"

    def cache_name(self, endpoint_url: str) -> str:
        """Name of the folder of a cache, for these objects of this server alone."""
        return self._digest(f"{endpoint_url}\n{self.reference}\n")[:24]

    def _digest(self, prefix: str) -> str:
        lines = [f"{name}\n{o.tag}\n{o.size}" for name, o in self.objects.items()]
        return hashlib.sha256((prefix + "\n".join(lines)).encode()).hexdigest()


def look_up(reference: str, s3: S3Config, groups: Groups = ()) -> StoredWeights:
    """Find what is needed, without downloading it.

    Args:
        reference: `s3://bucket/key` of an object or of a folder.
        s3: how it is reached.
        groups: of a folder: names of which the first that is there is needed; all objects when
            empty. An index of shards brings the shards beside it.

    Raises:
        Fatal: nothing of it is there, it may not be read, or it is too large.
        Retryable: the store failed for the moment.
    """
    from infra.storage.objects import find_object  # noqa: PLC0415 - local weights need no boto3
    from infra.storage.s3 import split_uri  # noqa: PLC0415

    bucket, key = split_uri(reference)
    single = None if not key or key.endswith("/") else find_object(s3, bucket, key)
    if single is not None:
        objects = {checked_key(key).rpartition("/")[2]: single}
    else:
        objects = _chosen(_listed(reference, s3, bucket, key), groups)
    if not objects:
        wanted = ", ".join(names[0] for names in groups)
        raise Fatal(
            f"there are no weights at {reference}" + (f" (looked for {wanted})" if wanted else ""),
            remedy="fix weights.*, or upload the published files there, under their names",
            stage=STAGE,
        )
    _check_sizes(reference, objects)
    return StoredWeights(reference, bucket, single is None, dict(sorted(objects.items())))


def _listed(reference: str, s3: S3Config, bucket: str, key: str) -> dict[str, StoredObject]:
    """Objects of a folder by their names in it."""
    from infra.storage.objects import list_objects  # noqa: PLC0415 - local weights need no boto3

    prefix = f"{key.rstrip('/')}/" if key.rstrip("/") else ""
    listing = list(itertools.islice(list_objects(s3, bucket, prefix), MAX_LISTED + 1))
    if len(listing) > MAX_LISTED:
        raise Fatal(
            f"{reference} holds more than {MAX_LISTED:,} objects",
            remedy="give the folder of the weights, not one above it",
            stage=STAGE,
        )
    return {stored.key[len(prefix) :]: stored for stored in listing}


def _chosen(listed: Mapping[str, StoredObject], groups: Groups) -> dict[str, StoredObject]:
    if not groups:
        names = list(listed)
    else:
        firsts = (next((n for n in names if n in listed), None) for names in groups)
        names = [name for name in firsts if name is not None]
    shards = [shard for name in names if name.endswith(_INDEX) for shard in _shards(name, listed)]
    return {checked_key(name): listed[name] for name in dict.fromkeys((*names, *shards))}


def _shards(index: str, listed: Mapping[str, StoredObject]) -> list[str]:
    """Beside `a/model.safetensors.index.json`: `a/model-00001-of-00002.safetensors` and so on."""
    stem = index.removesuffix(_INDEX) + "-"
    return [
        name
        for name in listed
        if name.startswith(stem) and name.endswith(_SHARD) and "/" not in name[len(stem) :]
    ]


def _check_sizes(reference: str, objects: Mapping[str, StoredObject]) -> None:
    largest = max(stored.size for stored in objects.values())
    total = sum(stored.size for stored in objects.values())
    if largest > MAX_OBJECT_BYTES or total > MAX_FOLDER_BYTES:
        raise Fatal(
            f"{reference} holds {total:,} bytes, {largest:,} of them in one object: "
            f"the limits are {MAX_FOLDER_BYTES:,} and {MAX_OBJECT_BYTES:,}",
            remedy="give the folder of the published files alone",
            stage=STAGE,
        )
