"""What every checkpoint adapter does: rename, account for every key, refuse surprises, assign.

An adapter is a function from published names to ours; None drops a name. The tensors of the file
become the parameters (nothing is copied unless a dtype is asked for), so a model built by
`skeleton` costs its own size once.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from geco_core.errors import Fatal

Names = Callable[[str], str | None]
M = TypeVar("M", bound=nn.Module)
_REMEDY = "check that the weights belong to the configured preset"
_SHOWN = 3


@dataclass(frozen=True)
class LoadReport:
    """What loading one part did.

    Attributes:
        part: which part or model.
        loaded: number of tensors taken.
        renamed: published name -> our name, where they differ.
        dropped: published names that were left out.
        missing: our names that come from elsewhere, as the adapter declares.
    """

    part: str
    loaded: int
    renamed: Mapping[str, str]
    dropped: tuple[str, ...]
    missing: tuple[str, ...] = ()


def adapt(
    module: nn.Module,
    state: Mapping[str, Tensor],
    names: Names,
    *,
    part: str,
    elsewhere: Sequence[str] = (),
    dtype: torch.dtype | None = None,
    assign: bool = True,
    remedy: str = _REMEDY,
) -> LoadReport:
    """Put a published state dict into a module.

    Args:
        module: ours; parameters may be on the meta device when `assign` is set.
        state: published name -> tensor.
        names: published name -> our name; None drops it.
        part: named in the report and in errors.
        elsewhere: our names that are not in the file by design.
        dtype: of floating tensors; the file's when None.
        assign: the file's tensors become the parameters; otherwise they are copied into them.
        remedy: of the error.

    Raises:
        Fatal: a tensor is missing, unknown, of another shape, or two have one name.
    """
    renamed: dict[str, str] = {}
    dropped: list[str] = []
    for name in state:
        ours = names(name)
        if ours is None:
            dropped.append(name)
        else:
            renamed[name] = ours
    expected = {n: v.shape for n, v in module.state_dict().items() if n not in elsewhere}
    found = {ours: state[name] for name, ours in renamed.items()}
    problems = _problems(expected, found, clashes=len(renamed) - len(found))
    if problems:
        more = f" and {len(problems) - _SHOWN} more" if len(problems) > _SHOWN else ""
        raise Fatal(f"{part}: {'; '.join(problems[:_SHOWN])}{more}", stage="load", remedy=remedy)
    ready = {n: v.to(dtype) if _cast(v, dtype) else v for n, v in found.items()}
    left_out = module.load_state_dict(ready, strict=False, assign=assign)
    assert not left_out.unexpected_keys
    assert set(left_out.missing_keys) <= set(elsewhere)
    changed = {name: ours for name, ours in renamed.items() if name != ours}
    return LoadReport(part, len(found), changed, tuple(dropped), tuple(elsewhere))


def same_names(name: str) -> str | None:
    """The published names are ours."""
    return name


def skeleton(build: Callable[[], M]) -> M:
    """Build a module whose large parameters hold no memory yet, for `adapt(..., assign=True)`.

    Layers allocate parameters by `torch.empty`; only these go to the meta device, so that tables
    computed by constructors (position ids, ramps) stay real.
    """
    with _EmptyOnMeta():
        return build()


def check_complete(module: nn.Module, part: str) -> None:
    """Raise `Fatal` if anything of a skeleton was not filled."""
    tensors = [*module.named_parameters(), *module.named_buffers()]
    empty = [name for name, tensor in tensors if tensor.is_meta]
    if empty:
        raise Fatal(
            f"{part}: {len(empty)} tensors got no weights, first {empty[:_SHOWN]}",
            stage="load",
            remedy="this is a defect of the adapter: please report it",
        )


class _EmptyOnMeta(TorchFunctionMode):
    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Sequence[type],
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        given = dict(kwargs or {})
        if func is torch.empty and given.get("device") is None:
            given["device"] = "meta"
        return func(*args, **given)


def _problems(
    expected: Mapping[str, torch.Size], found: Mapping[str, Tensor], clashes: int
) -> list[str]:
    problems = [f"{name} is missing" for name in expected if name not in found]
    problems += [f"{name} is unknown" for name in found if name not in expected]
    problems += [
        f"{name} has shape {list(found[name].shape)}, not {list(shape)}"
        for name, shape in expected.items()
        if name in found and found[name].shape != shape
    ]
    if clashes:
        problems.append(f"{clashes} tensors have the name of another one")
    return problems


def _cast(tensor: Tensor, dtype: torch.dtype | None) -> bool:
    return dtype is not None and tensor.is_floating_point() and tensor.dtype != dtype
