"""The index of a safetensors checkpoint that was saved in several files.

`model.safetensors.index.json` maps tensor names to files beside it. The names come from whoever
published the folder: a file must lie beside the index and nowhere else.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from geco_core.checkpoints.documents import read_document
from geco_core.checkpoints.refusals import CheckpointError, Refusal
from geco_core.errors import Fatal

INDEX_SUFFIX = ".safetensors.index.json"
MAX_SHARDS = 1_000
_MAP = "weight_map"


def read_index(path: Path) -> dict[str, set[str]]:
    """File name -> names of the tensors it must hold, files in order of their names.

    Raises:
        CheckpointError: no index, or one that names files elsewhere or that are missing.
    """
    try:
        document = read_document(path)
    except Fatal as error:
        raise bad_index(path, error.message) from error
    found: Any = document.get(_MAP)
    if not isinstance(found, dict) or not found:
        raise bad_index(path, f"it has no {_MAP}")
    shards: dict[str, set[str]] = {}
    for name, shard in found.items():
        if not isinstance(shard, str) or not _lies_beside(shard):
            raise bad_index(path, f"it names the file {str(shard)[:80]!r}, which is not beside it")
        shards.setdefault(shard, set()).add(name)
    if len(shards) > MAX_SHARDS:
        raise bad_index(path, f"it names {len(shards):,} files, the limit is {MAX_SHARDS:,}")
    absent = [shard for shard in sorted(shards) if not (path.parent / shard).is_file()]
    if absent:
        raise bad_index(path, f"{len(absent)} of its files are missing, first {absent[0]}")
    _check_links(path, shards)
    return dict(sorted(shards.items()))


def bad_index(path: Path, why: str) -> CheckpointError:
    """The error of an index that can not be used."""
    return CheckpointError(
        f"{path.name} can not be used: {why}",
        refusal=Refusal.BAD_INDEX,
        remedy="download the folder again, all of it, from its publisher",
    )


def _lies_beside(name: str) -> bool:
    plain = name.endswith(".safetensors") and not name.startswith(".") and name.isprintable()
    return plain and not set(name) & set("/\\:")


def _check_links(path: Path, shards: dict[str, set[str]]) -> None:
    """A shard is a link only where the index is one too, as in the hub's cache."""
    for shard in shards:
        real = (path.parent / shard).resolve()
        if real.parent not in (path.parent.resolve(), path.resolve().parent):
            raise bad_index(path, f"{shard} is a link to {real}, outside of the folder")
