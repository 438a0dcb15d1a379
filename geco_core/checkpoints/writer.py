"""Writing safetensors one tensor at a time.

Views and tensors that share storage are written as plain contiguous copies; no more than one tensor
is copied at once, where the usual writer holds all of them twice.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor

from geco_core.checkpoints.refusals import CheckpointError, Refusal

NAMES: Mapping[torch.dtype, str] = {
    torch.bool: "BOOL", torch.uint8: "U8", torch.int8: "I8",
    torch.float8_e4m3fn: "F8_E4M3", torch.float8_e5m2: "F8_E5M2",
    torch.int16: "I16", torch.uint16: "U16", torch.float16: "F16", torch.bfloat16: "BF16",
    torch.int32: "I32", torch.uint32: "U32", torch.float32: "F32",
    torch.int64: "I64", torch.uint64: "U64", torch.float64: "F64", torch.complex64: "C64",
}  # fmt: skip
_CHUNK_ELEMENTS = 1 << 22


def write_safetensors(
    path: Path, tensors: Mapping[str, Tensor], metadata: Mapping[str, str]
) -> dict[str, int]:
    """Write a file and flush it to disk.

    The same tensors give the same bytes in whatever order they come.

    Args:
        path: written in place; the caller renames.
        tensors: strided tensors on the CPU.
        metadata: texts of the header.

    Returns:
        Name -> number of non-finite values, for tensors that hold any.

    Raises:
        CheckpointError: a dtype the format lacks.
        OSError: the disk is full, or the like.
    """
    order = sorted(tensors, key=lambda name: (-tensors[name].element_size(), name))
    non_finite: dict[str, int] = {}
    with path.open("wb") as stream:
        stream.write(_header(tensors, order, metadata))
        for name in order:
            flat = tensors[name].reshape(-1)
            bad = 0
            for chunk in flat.split(_CHUNK_ELEMENTS):
                if chunk.dtype.is_floating_point and chunk.element_size() > 1:
                    bad += int(chunk.numel() - torch.isfinite(chunk).sum())
                # A file larger than 2 GB at once would overflow some systems' write call.
                stream.write(chunk.contiguous().view(torch.uint8).numpy().data)
            if bad:
                non_finite[name] = bad
        stream.flush()
        os.fsync(stream.fileno())
    return non_finite


def _header(tensors: Mapping[str, Tensor], order: list[str], metadata: Mapping[str, str]) -> bytes:
    fields: dict[str, object] = {"__metadata__": dict(metadata)}
    position = 0
    for name in order:
        tensor = tensors[name]
        if tensor.dtype not in NAMES:
            raise CheckpointError(
                f"{name[:120]!r} is of {tensor.dtype}; safetensors can not hold it",
                refusal=Refusal.UNSUPPORTED,
                remedy="save it in another dtype where it was made",
            )
        end = position + tensor.numel() * tensor.element_size()
        fields[name] = {
            "dtype": NAMES[tensor.dtype],
            "shape": list(tensor.shape),
            "data_offsets": [position, end],
        }
        position = end
    text = json.dumps(fields, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    return len(text).to_bytes(8, "little") + text
