"""Opening a weights file as named tensors without holding it in memory twice.

Safetensors and torch archives are mapped: their pages are read when a tensor is first used, and
writing to a tensor does not touch the file. No code of the file runs.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from geco_core.checkpoints import legacy
from geco_core.checkpoints.containers import Kind, corrupt, inspect, verify_records
from geco_core.checkpoints.difference import apply_difference, read_base
from geco_core.checkpoints.flatten import flatten
from geco_core.checkpoints.header import read_header
from geco_core.checkpoints.hub import find_file
from geco_core.checkpoints.quantised import dequantise, is_quantised
from geco_core.checkpoints.refusals import CheckpointError, Refusal
from geco_core.checkpoints.shards import INDEX_SUFFIX, bad_index, read_index

MAX_BYTES = 64 << 30


@dataclass(frozen=True)
class OpenState:
    """Tensors by name (nested maps dotted), the file's sha256, its other entries, and the texts of
    its header.
    """

    tensors: Mapping[str, Tensor]
    sha256: str
    dropped: tuple[str, ...] = ()
    metadata: Mapping[str, str] = field(default_factory=dict)


def open_state(path: Path, sha256: str = "") -> OpenState:
    """Open a .safetensors, .ckpt, .pt, .pth or .bin file, or an index of safetensors shards.

    A file that holds a difference (see `difference`) is laid over the weights it names; one in 8
    bits (see `quantised`) opens as float32.

    Args:
        path: links are followed (caches of downloads are folders of links).
        sha256: expected hex digest; empty means any. Of an index: over those of its shards.

    Raises:
        CheckpointError: no checkpoint, damaged, of another digest, or a pickle that would run code.
    """
    if path.name.endswith(INDEX_SUFFIX):
        return _open_shards(path, sha256)
    real = path.resolve()
    kind = inspect(real, max_bytes=MAX_BYTES)
    digest = digest_of(real)
    _check_pin(path, digest, sha256)
    if kind is Kind.SAFETENSORS:
        metadata = read_header(real).metadata
        try:
            tensors: Mapping[str, Tensor] = load_file(real)
        except SafetensorError as error:
            raise corrupt(path, str(error)) from error
        if is_quantised(metadata):
            tensors = dequantise(tensors, metadata, str(path))
        base = read_base(metadata)
        if base is not None:
            below = open_state(find_file(base.reference, ()), base.sha256)
            tensors = apply_difference(tensors, below.tensors, str(path))
        return OpenState(tensors, digest, metadata=metadata)
    flat = flatten(legacy.load_tensors(real, mmap=kind is Kind.ZIP))
    return OpenState(flat.tensors, digest, flat.dropped)


def _open_shards(path: Path, sha256: str) -> OpenState:
    """The tensors of every shard, under one digest."""
    tensors: dict[str, Tensor] = {}
    digests: list[str] = []
    for shard, names in read_index(path).items():
        opened = open_state(path.parent / shard)
        if set(opened.tensors) != names:
            raise bad_index(path, f"{shard} does not hold the tensors that it says")
        tensors.update(opened.tensors)
        digests.append(f"{shard} {opened.sha256}")
    digest = hashlib.sha256("\n".join(digests).encode()).hexdigest()
    _check_pin(path, digest, sha256)
    return OpenState(tensors, digest)


def _check_pin(path: Path, digest: str, sha256: str) -> None:
    if sha256 and digest != sha256.lower():
        raise CheckpointError(
            f"{path.name} has sha256 {digest[:12]}, the configuration pins {sha256[:12]}",
            refusal=Refusal.WRONG_DIGEST,
            remedy="restore the file, or change the pin if you trained new weights",
        )


def verify_archive(path: Path) -> None:
    """Compare the checksums inside of a torch archive, which loading does not; others have none.

    Raises:
        CheckpointError: no checkpoint, or a record is damaged.
    """
    if path.name.endswith(INDEX_SUFFIX):
        return
    real = path.resolve()
    if inspect(real, max_bytes=MAX_BYTES) is Kind.ZIP:
        verify_records(real)


def digest_of(path: Path) -> str:
    """Hex sha256 of a file, read in pieces."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
