"""Weights in 8 bits each, for files that ship with the package.

Tensors become rows of 8-bit whole numbers with a scale each (`eight_bit`). What is small, or would
lose too much, stays in float16. Nothing else is needed to open such a file; whoever opens it gets
float32.

All values lie in three long tensors, because safetensors spends more on describing a small tensor
than that tensor takes. The header's text `quantised` is JSON that says what they are: the names as
a tree, whose leaves are `i8` or `f16` with the shape.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from geco_core.checkpoints.eight_bit import decode_rows, encode_rows
from geco_core.checkpoints.origin import origin_text
from geco_core.checkpoints.refusals import CheckpointError, Refusal
from geco_core.checkpoints.writer import write_safetensors

KEY = "quantised"
STEPS, SCALES, HALVES = "steps", "scales", "halves"
_DTYPES = {STEPS: torch.int8, SCALES: torch.bfloat16, HALVES: torch.float16}
_LEAF = re.compile(r"(i8|f16)((?: \d{1,12}){0,8})")


def save_quantised(
    path: Path,
    tensors: Mapping[str, Tensor],
    licences: tuple[str, ...],
    *,
    small: int = 2048,
    largest_error: float = 0.0125,
    **fields: Any,
) -> None:
    """Write weights in 8 bits. The same weights give the same bytes.

    Args:
        path: a safetensors file.
        tensors: of a model; floating.
        licences: of the weights.
        small: tensors of fewer elements, and those of one dimension, stay in float16.
        largest_error: so do tensors with a larger error, relative to their root mean square.
        fields: what else is to be known, plain data.

    Raises:
        ValueError: a tensor is not floating, not finite, or one's name begins another's.
    """
    stored: dict[str, list[Tensor]] = {STEPS: [], SCALES: [], HALVES: []}
    leaves: dict[str, str] = {}
    for name in sorted(tensors):
        values = _checked(name, tensors[name])
        shape = "".join(f" {size}" for size in values.shape)
        encoded = None
        if values.ndim > 1 and values.numel() >= small:
            encoded = _encoded(values, largest_error)
        if encoded is None:
            stored[HALVES].append(values.half().flatten())
            leaves[name] = "f16" + shape
        else:
            stored[STEPS].append(encoded[0])
            stored[SCALES].append(encoded[1])
            leaves[name] = "i8" + shape
    texts = origin_text(licences, **fields)
    texts[KEY] = json.dumps(_tree(leaves), separators=(",", ":"), sort_keys=True)
    joined = {
        key: torch.cat(parts) if parts else torch.zeros(0, dtype=_DTYPES[key])
        for key, parts in stored.items()
    }
    write_safetensors(path, joined, texts)


def is_quantised(metadata: Mapping[str, str]) -> bool:
    """Whether the texts of a header are those of such a file."""
    return KEY in metadata


def dequantise(
    stored: Mapping[str, Tensor], metadata: Mapping[str, str], where: str
) -> dict[str, Tensor]:
    """The weights, float32.

    Args:
        stored: tensors of the file.
        metadata: the texts of its header.
        where: the file, for errors.

    Raises:
        CheckpointError: header and tensors do not belong together.
    """
    leaves = _index(metadata[KEY], where)
    found = {key: (tensor.dtype, tensor.ndim) for key, tensor in stored.items()}
    if found != {key: (dtype, 1) for key, dtype in _DTYPES.items()}:
        raise _damaged(where, "it does not hold the tensors that it should")
    left = {key: _Reader(stored[key], where) for key in _DTYPES}
    result: dict[str, Tensor] = {}
    for name, (kind, shape) in leaves.items():
        count = math.prod(shape)
        if kind == "f16":
            result[name] = left[HALVES].take(count).float().reshape(shape)
            continue
        steps = left[STEPS].take(count).reshape(_rows(shape))
        scales = left[SCALES].take(len(steps))
        result[name] = decode_rows(steps, scales).reshape(shape)
    if any(reader.left for reader in left.values()):
        raise _damaged(where, "it holds more numbers than its header names")
    return result


class _Reader:
    """Numbers of one stored tensor, in order."""

    def __init__(self, values: Tensor, where: str) -> None:
        self._values, self._where, self._at = values, where, 0

    @property
    def left(self) -> int:
        return len(self._values) - self._at

    def take(self, count: int) -> Tensor:
        if count > self.left:
            raise _damaged(self._where, "it holds fewer numbers than its header names")
        self._at += count
        return self._values[self._at - count : self._at]


def _checked(name: str, tensor: Tensor) -> Tensor:
    if not tensor.dtype.is_floating_point:
        raise ValueError(f"{name} is of {tensor.dtype}, not floating")
    values = tensor.detach().float().cpu()
    if not bool(torch.isfinite(values.half()).all()):
        raise ValueError(f"{name} holds numbers that are not finite in float16")
    return values


def _encoded(values: Tensor, largest_error: float) -> tuple[Tensor, Tensor] | None:
    """Flat steps, and scales; None where they are too far off."""
    rows_RN = values.reshape(_rows(values.shape))
    steps, scales = encode_rows(rows_RN, torch.bfloat16)
    error = float((decode_rows(steps, scales) - rows_RN).norm())
    return None if error > largest_error * float(rows_RN.norm()) else (steps.flatten(), scales)


def _rows(shape: Sequence[int]) -> tuple[int, int]:
    """How a tensor lies in rows: one per index of the first dimension longer than one."""
    rows = next((size for size in shape if size != 1), 1)
    return rows, math.prod(shape) // max(rows, 1)


def _tree(leaves: Mapping[str, str]) -> dict[str, Any]:
    """Sorted dotted names as nested maps."""
    tree: dict[str, Any] = {}
    for name, leaf in leaves.items():
        *path, last = name.split(".")
        node = tree
        for word in path:
            node = node.setdefault(word, {})
            if not isinstance(node, dict):
                raise ValueError(f"another tensor begins {name}")  # noqa: TRY004 - of the names
        node[last] = leaf
    return tree


def _index(text: str, where: str) -> dict[str, tuple[str, tuple[int, ...]]]:
    """Name -> (kind, shape), sorted."""
    try:
        leaves = dict(_leaves(json.loads(text)))
    except (ValueError, RecursionError) as error:
        raise _damaged(where, f"its header is not understood ({str(error)[:80]})") from error
    return {name: leaves[name] for name in sorted(leaves)}


def _leaves(tree: object) -> Iterator[tuple[str, tuple[str, tuple[int, ...]]]]:
    stack: list[tuple[str, object]] = [("", tree)]
    while stack:
        name, node = stack.pop()
        if isinstance(node, dict):
            prefix = f"{name}." if name else ""
            stack.extend((prefix + word, child) for word, child in node.items())
            continue
        match = _LEAF.fullmatch(node) if isinstance(node, str) else None
        if match is None:
            raise ValueError(f"{name[:60]} is {str(node)[:40]!r}")
        yield name, (match[1], tuple(int(size) for size in match[2].split()))


def _damaged(where: str, why: str) -> CheckpointError:
    return CheckpointError(
        f"{where} holds weights in 8 bits, but {why}",
        refusal=Refusal.CORRUPT,
        remedy="make the file again",
    )
