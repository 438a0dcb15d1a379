"""Fine-tuned weights as a difference to the weights they started from.

A fine-tune changes every weight by little. Stored as 8-bit whole numbers with one scale per row of
a tensor, the change takes half the bytes of the weights in float16, and its rounding error is at
most 1/254 of the row's largest change. Tensors that did not change are left out. The file names the
weights it belongs to and their sha256; it is of no use without exactly these.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from geco_core.checkpoints.eight_bit import decode_rows, encode_rows
from geco_core.checkpoints.origin import origin_text, read_origin
from geco_core.checkpoints.writer import write_safetensors
from geco_core.errors import Fatal

STEPS, SCALE = "steps.", "scale."
_KEY = "difference"
_DIGEST = re.compile("[0-9a-f]{64}")


@dataclass(frozen=True)
class Base:
    """Weights that a difference belongs to: where they are (see `hub`), and their file's sha256."""

    reference: str
    sha256: str


def save_difference(
    path: Path,
    tensors: Mapping[str, Tensor],
    below: Mapping[str, Tensor],
    base: Base,
    licences: tuple[str, ...],
    **fields: Any,
) -> None:
    """Write what `tensors` have changed of `below`.

    Args:
        path: a safetensors file.
        tensors: of a model, or of part of it; floating.
        below: the weights they started from; holds every name of `tensors`.
        base: where `below` comes from.
        licences: of the result.
        fields: what else is to be known, plain data.

    Raises:
        ValueError: a tensor is unknown to `below` or of another shape.
    """
    stored: dict[str, Tensor] = {}
    for name, tensor in tensors.items():
        if name not in below or below[name].shape != tensor.shape:
            raise ValueError(f"{name} has no counterpart in {base.reference}")
        change = tensor.detach().float().cpu() - below[name].detach().float().cpu()
        if not bool(change.any()):
            continue
        rows = change.reshape(len(change), -1) if change.ndim else change.reshape(1, 1)
        steps, scale = encode_rows(rows)
        stored[STEPS + name] = steps.view(change.shape)
        stored[SCALE + name] = scale
    told = {"base": base.reference, "base_sha256": base.sha256}
    write_safetensors(path, stored, origin_text(licences, **{_KEY: told}, **fields))


def read_base(metadata: Mapping[str, str]) -> Base | None:
    """What a file's header says about its base; None for ordinary weights.

    Raises:
        Fatal: it says too little. Without a digest two files could name each other for ever.
    """
    origin = read_origin(metadata)
    if _KEY not in origin:
        return None
    told = origin[_KEY] if isinstance(origin[_KEY], dict) else {}
    base = Base(str(told.get("base", "")), str(told.get("base_sha256", "")))
    if not base.reference or not _DIGEST.fullmatch(base.sha256):
        raise Fatal(
            "a difference to other weights does not name them by reference and sha256",
            stage="load",
            remedy="make the file again",
        )
    return base


def apply_difference(
    stored: Mapping[str, Tensor], base: Mapping[str, Tensor], where: str
) -> dict[str, Tensor]:
    """The fine-tuned weights, float32 where they changed.

    Args:
        stored: tensors of the file.
        base: the weights it belongs to.
        where: the file, for errors.

    Raises:
        Fatal: the file does not fit the base.
    """
    names = {name.removeprefix(STEPS) for name in stored if name.startswith(STEPS)}
    result = dict(base)
    for name in sorted(names):
        steps, scale = stored[STEPS + name], stored.get(SCALE + name)
        rows = steps.shape[0] if steps.ndim else 1
        fits = name in base and base[name].shape == steps.shape
        if not fits or scale is None or scale.shape != (rows,):
            raise Fatal(
                f"{where}: {name} does not fit the weights it is a difference to",
                stage="load",
                remedy="make the file again from the weights it names",
            )
        change = decode_rows(steps.reshape(rows, -1), scale).view(steps.shape)
        result[name] = base[name].float() + change
    return result
