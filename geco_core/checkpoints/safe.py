"""Safe loading of our own safetensors: no pickle, digest pinned, strict keys.

A reference is `package:NAME` (a file shipped in `geco_core/weights`) or a local path.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from importlib import resources
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load as load_bytes
from torch import Tensor, nn

from geco_core.errors import Fatal


@dataclass(frozen=True)
class Weights:
    """Tensors of one checkpoint (float32 where half) and the sha256 of the file they came from."""

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


def load_weights(reference: str, sha256: str = "") -> Weights:
    """Read a safetensors file.

    Args:
        reference: `package:NAME` or a path.
        sha256: expected hex digest; empty means unpinned.

    Raises:
        Fatal: missing, not safetensors, or another digest than pinned.
    """
    path = resolve(reference)
    data = path.read_bytes()
    digest = hashlib.sha256(data).hexdigest()
    if sha256 and digest != sha256:
        raise Fatal(
            f"weights {reference} have sha256 {digest[:12]}, the configuration pins {sha256[:12]}",
            stage="load",
            remedy="restore the file, or change the pin if you trained new weights",
        )
    try:
        tensors = load_bytes(data)
    except SafetensorError as error:
        raise Fatal(
            f"{path} is not a safetensors file: {error}", stage="load", remedy="convert it first"
        ) from error
    widened = {
        k: v.float() if v.dtype in (torch.float16, torch.bfloat16) else v
        for k, v in tensors.items()
    }
    return Weights(widened, digest)


def load_into(module: nn.Module, weights: Weights, name: str) -> None:
    """Strict load: every key of file and module must match in name and shape.

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
    module.load_state_dict(weights.tensors)
