"""Headers of safetensors files: good ones are read as the reference implementation reads them."""

from __future__ import annotations

from pathlib import Path

import torch
from safetensors import safe_open
from safetensors.torch import save_file

from geco_core.checkpoints.header import read_header


def test_a_good_header_is_read(tmp_path: Path) -> None:
    path = tmp_path / "x.safetensors"
    state = {"a": torch.ones(2, 3), "b": torch.zeros(0, 4).half(), "c": torch.tensor(True)}
    save_file(state, path, {"format": "pt"})
    header = read_header(path)
    assert header.metadata == {"format": "pt"}
    assert {n: (e.dtype, e.shape) for n, e in header.tensors.items()} == {
        "a": ("F32", (2, 3)),
        "b": ("F16", (0, 4)),
        "c": ("BOOL", ()),
    }
    data = path.read_bytes()[header.data_start :]
    entry = header.tensors["a"]
    assert data[entry.begin : entry.end] == state["a"].numpy().tobytes()


def test_an_empty_file_of_no_tensors_is_valid(tmp_path: Path) -> None:
    path = tmp_path / "x.safetensors"
    save_file({}, path)
    assert read_header(path).tensors == {}
    with safe_open(path, "pt") as reference:
        assert list(reference.keys()) == []
