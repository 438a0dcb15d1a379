"""Safe loading of our own safetensors: no pickle, digest pinned, strict keys.

A reference is `package:NAME` (a file shipped in `geco_core/weights`) or a local path.
"""

from __future__ import annotations

from dataclasses import dataclass
from importlib import resources
from pathlib import Path

import torch
from torch import Tensor, nn

from geco_core.checkpoints.containers import Kind, inspect
from geco_core.checkpoints.refusals import CheckpointError
from geco_core.checkpoints.state import MAX_BYTES, open_state
from geco_core.errors import Fatal

_FLOATS = (torch.float16, torch.bfloat16, torch.float32)


@dataclass(frozen=True)
class Weights:
    """Tensors of one checkpoint (of one float dtype) and the sha256 of the file they came from."""

    tensors: dict[str, Tensor]
    sha256: str


def resolve(reference: str) -> Path:
    """Path of a weights reference. Raises `Fatal` when there is no such file."""
    if not reference:
        raise Fatal(
            "no weights are configured", stage="load", remedy="set weights.* in the configuration"
        )
    if reference.startswith("package:"):
        path = (
            Path(str(resources.files("geco_core"))) / "weights" / reference.removeprefix("package:")
        )
    else:
        path = Path(reference)
    if not path.is_file():
        raise Fatal(
            f"weights file {path} is missing",
            stage="load",
            remedy="reinstall the package or fix weights.*",
        )
    return path


def load_weights(
    reference: str, sha256: str = "", *, dtype: torch.dtype = torch.float32
) -> Weights:
    """Read a safetensors file; what has the wanted dtype is mapped, not copied.

    Args:
        reference: `package:NAME` or a path.
        sha256: expected hex digest; empty means unpinned.
        dtype: of half, bfloat16 and float32 tensors.

    Raises:
        Fatal: missing, not safetensors, damaged, or another digest than pinned.
    """
    path = resolve(reference)
    try:
        kind = inspect(path.resolve(), max_bytes=MAX_BYTES)
    except CheckpointError as error:
        raise _not_safetensors(path, error.message) from error
    if kind is not Kind.SAFETENSORS:
        raise _not_safetensors(path, f"it is {kind.value}")
    opened = open_state(path, sha256)
    return Weights(
        {k: v.to(dtype) if v.dtype in _FLOATS else v for k, v in opened.tensors.items()},
        opened.sha256,
    )


def load_into(module: nn.Module, weights: Weights, name: str, *, assign: bool = False) -> None:
    """Strict load: every key of file and module must match in name and shape.

    Args:
        module: filled; with `assign` it may be an `adapter.skeleton`.
        weights: their tensors become the parameters with `assign`, else they are copied.
        name: of the model, for errors.
        assign: see above.

    Raises:
        Fatal: naming the first keys that do not.
    """
    own = {k: tuple(v.shape) for k, v in module.state_dict().items()}
    given = {k: tuple(v.shape) for k, v in weights.tensors.items()}
    if own != given:
        missing = sorted(set(own) - set(given))
        unexpected = sorted(set(given) - set(own))
        reshaped = sorted(k for k in set(own) & set(given) if own[k] != given[k])
        raise Fatal(
            f"weights do not fit {name}: {len(missing)} missing {missing[:3]}, "
            f"{len(unexpected)} unexpected {unexpected[:3]}, "
            f"{len(reshaped)} of another shape {reshaped[:3]}",
            stage="load",
            remedy="use the configuration these weights were trained with",
        )
    module.load_state_dict(weights.tensors, assign=assign)


def _not_safetensors(path: Path, why: str) -> Fatal:
    return Fatal(
        f"{path} is not a safetensors file: {why}",
        stage="load",
        remedy=f"convert it first: geco convert {path} --out {path.with_suffix('.safetensors')}",
    )
