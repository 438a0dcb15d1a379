"""Files of metric weights: safetensors first, prefixes cut, old batch counters filled in."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from geco_core.errors import ConfigError, Fatal
from geco_core.evaluate.metric_weights import WeightsFile, load_part, require

FILE = WeightsFile("net.pth", "a net", "MIT", "curl -o {folder}/net.pth https://example.org/net")


def test_safetensors_are_preferred(tmp_path: Path) -> None:
    (tmp_path / "net.pth").touch()
    assert require("x", [FILE], tmp_path) == [tmp_path / "net.pth"]
    (tmp_path / "net.safetensors").touch()
    assert require("x", [FILE], tmp_path) == [tmp_path / "net.safetensors"]


def test_missing_files_are_named_with_licence_and_command(tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as caught:
        require("x", [FILE], tmp_path)
    assert f"weights of x are not in {tmp_path}: net.pth (a net, MIT)" in caught.value.message
    assert f"curl -o {tmp_path}/net.pth" in caught.value.remedy


def test_a_part_of_a_file_from_before_the_batch_counters(tmp_path: Path) -> None:
    layers = nn.Sequential(nn.Conv2d(1, 2, 1), nn.BatchNorm2d(2))
    tensors = {
        f"net.{k}": torch.full_like(v, 0.5)
        for k, v in layers.state_dict().items()
        if not k.endswith("num_batches_tracked")
    }
    save_file({**tensors, "head.weight": torch.zeros(3)}, tmp_path / "x.safetensors")
    load_part(layers, tmp_path / "x.safetensors", "net.", "x")
    assert all(float(p.detach().mean()) == 0.5 for p in layers.parameters())
    assert not any(p.requires_grad for p in layers.parameters())
    with pytest.raises(Fatal, match="y"):
        load_part(nn.Linear(2, 2), tmp_path / "x.safetensors", "net.", "y")
    (tmp_path / "x.safetensors").write_bytes(b"no tensors")
    with pytest.raises(ConfigError):
        load_part(layers, tmp_path / "x.safetensors", "net.", "x")
