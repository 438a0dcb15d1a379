"""The writer's files are what the reference implementation reads."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file

from geco_core.checkpoints.header import read_header
from geco_core.checkpoints.refusals import CheckpointError, Refusal
from geco_core.checkpoints.writer import NAMES, write_safetensors


def test_every_dtype_shape_and_view_comes_back(tmp_path: Path) -> None:
    base = torch.arange(24.0).reshape(4, 6)
    state = {str(d): torch.arange(4).to(d) for d in NAMES}
    state |= {
        "base": base,
        "transposed": base.T,
        "row": base[1],
        "strided": base[:, ::2],
        "expanded": base[0, 0].expand(5),
        "scalar": torch.tensor(3.5),
        "none": torch.zeros(0, 7),
    }
    path = tmp_path / "x.safetensors"
    assert write_safetensors(path, state, {"format": "pt", "who": "us"}) == {}
    found = load_file(path)
    assert set(found) == set(state)
    for name, tensor in state.items():
        assert found[name].dtype == tensor.dtype, name
        assert tensor.is_complex() or torch.equal(found[name].double(), tensor.double()), name
        assert found[name].shape == tensor.shape
    assert torch.equal(found["torch.complex64"], state["torch.complex64"])
    with safe_open(path, "pt") as reference:
        assert reference.metadata() == {"format": "pt", "who": "us"}
    assert set(read_header(path).tensors) == set(state)


def test_the_order_of_the_map_does_not_matter(tmp_path: Path) -> None:
    state = {"b": torch.ones(3).half(), "a": torch.ones(2), "c": torch.ones(1, dtype=torch.int64)}
    one, two = tmp_path / "1.safetensors", tmp_path / "2.safetensors"
    write_safetensors(one, state, {})
    write_safetensors(two, dict(reversed(state.items())), {})
    assert one.read_bytes() == two.read_bytes()


def test_non_finite_values_are_counted_across_chunks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("geco_core.checkpoints.writer._CHUNK_ELEMENTS", 4)
    tensor = torch.ones(3, 5)
    tensor[0, 0], tensor[2, 4], tensor[1, 1] = float("nan"), float("inf"), float("-inf")
    found = write_safetensors(tmp_path / "x.safetensors", {"a": tensor, "b": torch.ones(9)}, {})
    assert found == {"a": 3}
    loaded = load_file(tmp_path / "x.safetensors")
    assert torch.equal(loaded["a"].isfinite(), tensor.isfinite())


def test_a_dtype_the_format_lacks_is_refused(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError) as caught:
        write_safetensors(
            tmp_path / "x.safetensors", {"a": torch.ones(1, dtype=torch.complex128)}, {}
        )
    assert caught.value.refusal is Refusal.UNSUPPORTED
