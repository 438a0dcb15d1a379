"""Adapters account for every key and copy nothing."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from geco_core.checkpoints.adapter import adapt, check_complete, same_names, skeleton
from geco_core.errors import Fatal


class Small(nn.Module):
    """A layer, a table computed by the constructor, and a name that is set elsewhere."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(2, 3)
        self.norm = nn.LayerNorm(3)
        self.register_buffer("table", torch.arange(4), persistent=False)
        self.register_buffer("ramp", torch.linspace(0, 1, 3))


STATE = {
    "old.weight": torch.ones(3, 2),
    "old.bias": torch.ones(3),
    "norm.weight": torch.ones(3),
    "norm.bias": torch.ones(3),
    "position_ids": torch.arange(3),
}


def names(name: str) -> str | None:
    return None if name == "position_ids" else name.replace("old.", "layer.")


def test_every_key_is_accounted_for_and_nothing_is_copied() -> None:
    module = skeleton(Small)
    assert module.layer.weight.is_meta
    assert module.table.tolist() == [0, 1, 2, 3]
    report = adapt(module, STATE, names, part="small", elsewhere=["ramp"])
    assert report.loaded == 4
    assert report.renamed == {"old.weight": "layer.weight", "old.bias": "layer.bias"}
    assert report.dropped == ("position_ids",)
    assert report.missing == ("ramp",)
    assert module.layer.weight.data_ptr() == STATE["old.weight"].data_ptr()
    assert isinstance(module.layer.weight, nn.Parameter)
    assert module.layer.weight.requires_grad
    check_complete(module, "small")


def test_a_dtype_is_applied_to_floats() -> None:
    module = skeleton(Small)
    adapt(module, STATE, names, part="small", elsewhere=["ramp"], dtype=torch.bfloat16)
    assert {p.dtype for p in module.parameters()} == {torch.bfloat16}
    assert module.layer(torch.ones(1, 2, dtype=torch.bfloat16)).tolist() == [[3, 3, 3]]


def test_copying_keeps_the_modules_dtype_and_memory() -> None:
    module = Small()
    place = module.layer.weight.data_ptr()
    halves = {k: v.half() if v.is_floating_point() else v for k, v in STATE.items()}
    adapt(module, halves, names, part="small", elsewhere=["ramp"], assign=False)
    assert module.layer.weight.data_ptr() == place
    assert module.layer.weight.dtype == torch.float32


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"old.bias": None}, "layer.bias is missing"),
        ({"extra": torch.ones(1)}, "extra is unknown"),
        ({"old.weight": torch.ones(2, 3)}, r"layer.weight has shape \[2, 3\], not \[3, 2\]"),
        ({"layer.bias": torch.ones(3)}, "1 tensors have the name of another one"),
        ({"ramp": torch.ones(3)}, "ramp is unknown"),
        ({f"x{i}": torch.ones(1) for i in range(9)}, "and 6 more"),
    ],
)
def test_surprises_are_refused(change: dict[str, torch.Tensor | None], message: str) -> None:
    state = {k: v for k, v in {**STATE, **change}.items() if v is not None}
    with pytest.raises(Fatal, match=message) as caught:
        adapt(skeleton(Small), state, names, part="small", elsewhere=["ramp"], remedy="do this")
    assert caught.value.remedy == "do this"


def test_what_nobody_filled_is_found() -> None:
    with pytest.raises(Fatal, match="4 tensors got no weights"):
        check_complete(skeleton(Small), "small")
    with pytest.raises(Fatal, match="missing"):
        adapt(Small(), {}, same_names, part="small")
