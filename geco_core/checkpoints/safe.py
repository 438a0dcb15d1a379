"""Safe loading of our own safetensors: no pickle, digest pinned, strict keys."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from geco_core.checkpoints.adapter import LoadReport, adapt, same_names
from geco_core.checkpoints.containers import Kind, inspect
from geco_core.checkpoints.hub import find_file
from geco_core.checkpoints.origin import licences_in
from geco_core.checkpoints.refusals import CheckpointError
from geco_core.checkpoints.state import MAX_BYTES, open_state
from geco_core.errors import Fatal

_FLOATS = (torch.float16, torch.bfloat16, torch.float32)


@dataclass(frozen=True)
class Weights:
    """Tensors of one checkpoint, the sha256 of its file, and the licences that
    the file states.
    """

    tensors: dict[str, Tensor]
    sha256: str
    licences: tuple[str, ...] = ()


def load_weights(
    reference: str, sha256: str = "", *, dtype: torch.dtype | None = torch.float32
) -> Weights:
    """Read a safetensors file; what has the wanted dtype is mapped, not copied.

    Args:
        reference: of one file; see `hub`.
        sha256: expected hex digest; empty means unpinned.
        dtype: of half, bfloat16 and float32 tensors; the file's when None.

    Raises:
        Fatal: missing, not safetensors, damaged, or another digest than pinned.
    """
    path = find_file(reference, ())
    try:
        kind = inspect(path.resolve(), max_bytes=MAX_BYTES)
    except CheckpointError as error:
        raise _not_safetensors(path, error.message) from error
    if kind is not Kind.SAFETENSORS:
        raise _not_safetensors(path, f"it is {kind.value}")
    opened = open_state(path, sha256)
    return Weights(
        {k: v.to(dtype or v.dtype) if v.dtype in _FLOATS else v for k, v in opened.tensors.items()},
        opened.sha256,
        licences_in(opened.metadata),
    )


def load_into(
    module: nn.Module, weights: Weights, name: str, *, assign: bool = False
) -> LoadReport:
    """Strict load: every key of file and module must match in name and shape.

    Args:
        module: filled; with `assign` it may be an `adapter.skeleton`.
        weights: their tensors become the parameters with `assign`, else they are copied.
        name: of the model, for errors.
        assign: see above.

    Raises:
        Fatal: naming the first keys that do not.
    """
    remedy = "use the configuration these weights were trained with"
    return adapt(module, weights.tensors, same_names, part=name, assign=assign, remedy=remedy)


def _not_safetensors(path: Path, why: str) -> Fatal:
    return Fatal(
        f"{path} is not a safetensors file: {why}",
        stage="load",
        remedy=f"convert it first: geco convert {path} --out {path.with_suffix('.safetensors')}",
    )
