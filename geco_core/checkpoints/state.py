"""Opening a weights file as named tensors without holding it in memory twice.

Safetensors and torch archives are mapped: their pages are read when a tensor is first used, and
writing to a tensor does not touch the file. No code of the file runs.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from geco_core.checkpoints import legacy
from geco_core.checkpoints.containers import Kind, corrupt, inspect
from geco_core.checkpoints.flatten import flatten
from geco_core.checkpoints.header import read_header
from geco_core.checkpoints.refusals import CheckpointError, Refusal

MAX_BYTES = 64 << 30


@dataclass(frozen=True)
class OpenState:
    """Tensors by name (nested maps dotted), the file's sha256, and its other entries."""

    tensors: Mapping[str, Tensor]
    sha256: str
    dropped: tuple[str, ...] = ()


def open_state(path: Path, sha256: str = "") -> OpenState:
    """Open a .safetensors, .ckpt, .pt, .pth or .bin file.

    Args:
        path: links are followed (caches of downloads are folders of links).
        sha256: expected hex digest; empty means any.

    Raises:
        CheckpointError: no checkpoint, damaged, of another digest, or a pickle that would run code.
    """
    real = path.resolve()
    kind = inspect(real, max_bytes=MAX_BYTES)
    digest = digest_of(real)
    if sha256 and digest != sha256.lower():
        raise CheckpointError(
            f"{path.name} has sha256 {digest[:12]}, the configuration pins {sha256[:12]}",
            refusal=Refusal.WRONG_DIGEST,
            remedy="restore the file, or change the pin if you trained new weights",
        )
    if kind is Kind.SAFETENSORS:
        read_header(real)
        try:
            return OpenState(load_file(real), digest)
        except SafetensorError as error:
            raise corrupt(path, str(error)) from error
    flat = flatten(legacy.load_tensors(real, mmap=kind is Kind.ZIP))
    return OpenState(flat.tensors, digest, flat.dropped)


def digest_of(path: Path) -> str:
    """Hex sha256 of a file, read in pieces."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
