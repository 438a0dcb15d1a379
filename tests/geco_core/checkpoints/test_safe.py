"""Safe loading: digests, formats, strict keys."""

from __future__ import annotations

import hashlib
import pickle
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from geco_core.checkpoints.safe import load_into, load_weights
from geco_core.errors import Fatal


@pytest.fixture
def linear_file(tmp_path: Path) -> Path:
    path = tmp_path / "linear.safetensors"
    save_file({"weight": torch.ones(2, 3).half(), "bias": torch.zeros(2).half()}, path)
    return path


def test_half_weights_come_back_as_float_and_load(linear_file: Path) -> None:
    weights = load_weights(str(linear_file), hashlib.sha256(linear_file.read_bytes()).hexdigest())
    assert weights.tensors["weight"].dtype == torch.float32
    model = nn.Linear(3, 2)
    load_into(model, weights, "a linear layer")
    assert torch.equal(model.weight, torch.ones(2, 3))


def test_another_digest_is_refused(linear_file: Path) -> None:
    with pytest.raises(Fatal, match="pins"):
        load_weights(str(linear_file), "0" * 64)


def test_a_pickle_is_refused_without_being_run(tmp_path: Path) -> None:
    path = tmp_path / "evil.safetensors"
    marker = tmp_path / "ran"

    class Evil:
        def __reduce__(self) -> tuple[object, ...]:
            return (Path.touch, (marker,))

    path.write_bytes(pickle.dumps(Evil()))
    with pytest.raises(Fatal, match="not a safetensors file"):
        load_weights(str(path))
    assert not marker.exists()


def test_missing_files_and_empty_references_name_the_remedy(tmp_path: Path) -> None:
    for reference in ("", "package:absent.safetensors", str(tmp_path / "absent")):
        with pytest.raises(Fatal) as caught:
            load_weights(reference)
        assert caught.value.remedy


def test_surprises_are_listed(linear_file: Path) -> None:
    weights = load_weights(str(linear_file))
    with pytest.raises(Fatal, match=r"two layers: 0.bias is missing; 0.weight has shape"):
        load_into(nn.Sequential(nn.Linear(3, 2)), _renamed(weights), "two layers")


def _renamed(weights: object) -> object:
    from geco_core.checkpoints.safe import Weights

    assert isinstance(weights, Weights)
    return Weights({"0.weight": torch.zeros(3, 3)}, weights.sha256)
