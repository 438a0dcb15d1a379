"""A loaded checkpoint as one flat map of tensors.

Nested maps and lists become dotted names (`state_dict.encoder.weight`); what is no tensor is
dropped and listed. A key picks one branch and cuts its name off.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from geco_core.checkpoints.refusals import CheckpointError, Refusal

MAX_DEPTH = 32
MAX_ENTRIES = 500_000
# Dropped entries are listed up to this many; the rest is counted.
MAX_LISTED = 200


@dataclass(frozen=True)
class Flat:
    """Tensors by dotted name, and what was dropped as `name (type)`."""

    tensors: dict[str, Tensor]
    dropped: tuple[str, ...]


def flatten(loaded: Any, key: str | None = None) -> Flat:
    """Collect the tensors.

    Args:
        loaded: what unpickling gave.
        key: dotted name of the branch to take, e.g. `state_dict` or `state_dict.lrm_generator`.

    Raises:
        CheckpointError: no tensors, too many or too deep entries, two entries of one name, or
            tensors safetensors can not hold.
    """
    tensors: dict[str, Tensor] = {}
    dropped: list[str] = []
    for name, value in _entries(loaded):
        if isinstance(value, Tensor):
            if name in tensors:
                raise CheckpointError(
                    f"two tensors would both be called {name[:120]!r}",
                    refusal=Refusal.AMBIGUOUS,
                    remedy="pick one branch with --key",
                )
            tensors[name] = value.detach().resolve_conj().resolve_neg()
        else:
            dropped.append(f"{name} ({type(value).__name__})")
    chosen = tensors if key is None else _branch(tensors, dropped, key)
    if not chosen:
        raise CheckpointError(
            "the checkpoint holds no tensors" + (f" under {key!r}" if key else ""),
            refusal=Refusal.NO_TENSORS,
            remedy=f"its branches are: {', '.join(_branches(tensors)) or 'none'}",
        )
    for name, tensor in chosen.items():
        _check_storable(name, tensor)
    return Flat(chosen, _listed(dropped))


def _entries(loaded: Any) -> Iterator[tuple[str, Any]]:
    """Leaves in file order. A stack, because pickles may nest deeper than Python recurses."""
    stack: list[tuple[str, Any, int]] = [("", loaded, 0)]
    seen = 0
    while stack:
        name, value, depth = stack.pop()
        seen += 1
        if seen > MAX_ENTRIES or depth > MAX_DEPTH:
            raise CheckpointError(
                f"the checkpoint nests deeper than {MAX_DEPTH} or has over {MAX_ENTRIES:,} entries",
                refusal=Refusal.BOMB,
                remedy="do not use this file; ask its publisher",
            )
        if isinstance(value, nn.Module):
            value = value.state_dict()
        if isinstance(value, Mapping):
            children = list(value.items())
        elif isinstance(value, (list, tuple)) and not isinstance(value, torch.Size):
            children = list(enumerate(value))
        else:
            yield name or "tensor", value
            continue
        prefix = f"{name}." if name else ""
        stack.extend((f"{prefix}{k}", child, depth + 1) for k, child in reversed(children))


def _branch(tensors: dict[str, Tensor], dropped: list[str], key: str) -> dict[str, Tensor]:
    prefix = key.rstrip(".") + "."
    left_out = [name for name in tensors if not name.startswith(prefix)]
    dropped.extend(f"{name} (not under {key})" for name in left_out)
    return {n.removeprefix(prefix): t for n, t in tensors.items() if n.startswith(prefix)}


def _branches(tensors: Mapping[str, Tensor]) -> list[str]:
    """First words of the names, and the second ones under a lone first word."""
    words = list(dict.fromkeys(name.partition(".")[0] for name in tensors))
    if len(words) == 1:
        words += list(dict.fromkeys(".".join(n.split(".")[:2]) for n in tensors if "." in n))
    return [word[:60] for word in words[:12]]


def _check_storable(name: str, tensor: Tensor) -> None:
    odd = ""
    if tensor.layout != torch.strided:
        odd = f"sparse ({tensor.layout})"
    elif tensor.is_quantized:
        odd = f"quantised ({tensor.dtype})"
    elif tensor.device.type == "meta":
        odd = "on the meta device: it has a shape but no values"
    elif tensor.dtype == torch.complex128:
        odd = "complex128"
    if odd:
        raise CheckpointError(
            f"{name[:120]!r} is {odd}; safetensors can not hold it",
            refusal=Refusal.UNSUPPORTED,
            remedy="save it as plain float tensors where it was made, or pick a branch with --key",
        )


def _listed(dropped: list[str]) -> tuple[str, ...]:
    shown = [entry[:200] for entry in dropped[:MAX_LISTED]]
    if len(dropped) > MAX_LISTED:
        shown.append(f"and {len(dropped) - MAX_LISTED:,} more")
    return tuple(shown)
