"""Nested checkpoints become dotted names."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from geco_core.checkpoints import flatten as module
from geco_core.checkpoints.flatten import flatten
from geco_core.checkpoints.refusals import CheckpointError

LIGHTNING = {
    "epoch": 3,
    "state_dict": {
        "net.weight": torch.ones(2),
        "net.bias": torch.zeros(1),
        "other.x": torch.ones(1),
    },
    "optimizer_states": [{"state": {0: {"exp_avg": torch.ones(2), "step": 7}}}],
    "hyper_parameters": {"name": "x"},
}


def test_everything_is_kept_under_its_path() -> None:
    flat = flatten(LIGHTNING)
    assert list(flat.tensors) == [
        "state_dict.net.weight",
        "state_dict.net.bias",
        "state_dict.other.x",
        "optimizer_states.0.state.0.exp_avg",
    ]
    assert flat.dropped == (
        "epoch (int)",
        "optimizer_states.0.state.0.step (int)",
        "hyper_parameters.name (str)",
    )


@pytest.mark.parametrize(
    ("key", "names"),
    [
        ("state_dict", ["net.weight", "net.bias", "other.x"]),
        ("state_dict.net", ["weight", "bias"]),
        ("state_dict.net.", ["weight", "bias"]),
    ],
)
def test_a_key_takes_one_branch(key: str, names: list[str]) -> None:
    flat = flatten(LIGHTNING, key)
    assert list(flat.tensors) == names
    assert "optimizer_states.0.state.0.exp_avg" in " ".join(flat.dropped)


def test_a_wrong_key_names_the_branches() -> None:
    with pytest.raises(CheckpointError) as caught:
        flatten(LIGHTNING, "model")
    assert "state_dict, optimizer_states" in caught.value.remedy
    with pytest.raises(CheckpointError) as caught:
        flatten({"module": LIGHTNING["state_dict"]}, "net")
    assert "module.net" in caught.value.remedy


def test_modules_parameters_and_lone_tensors() -> None:
    layer = nn.Linear(2, 1)
    flat = flatten({"model": layer})
    assert list(flat.tensors) == ["model.weight", "model.bias"]
    assert not flat.tensors["model.weight"].requires_grad
    assert list(flatten(torch.ones(1)).tensors) == ["tensor"]


def test_long_lists_of_dropped_entries_are_cut(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_LISTED", 2)
    flat = flatten({"a": torch.ones(1), "b": [1, 2, 3]})
    assert flat.dropped == ("b.0 (int)", "b.1 (int)", "and 1 more")
