"""Weights in 8 bits: small files that open like any other, and damaged ones that do not."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from geco_core.checkpoints.child import Job, execute
from geco_core.checkpoints.header import read_header
from geco_core.checkpoints.origin import read_licences, read_origin
from geco_core.checkpoints.quantised import KEY, dequantise, is_quantised, save_quantised
from geco_core.checkpoints.refusals import CheckpointError, Refusal
from geco_core.checkpoints.safe import load_into, load_weights
from geco_core.checkpoints.state import open_state
from geco_core.errors import Fatal


def weights() -> dict[str, Tensor]:
    g = torch.Generator().manual_seed(0)
    return {
        "net.conv.weight": torch.randn(40, 8, 3, 3, generator=g),
        "net.conv.bias": torch.randn(40, generator=g),
        "net.linear.weight": torch.randn(33, 70, generator=g) * torch.logspace(-6, 2, 33)[:, None],
        "net.long": torch.randn(5000, generator=g),
        "net.small": torch.randn(3, 4, generator=g),
        "plane": torch.randn(1, 4, 20, 40, generator=g),
        "gain": torch.randn((), generator=g),
    }


EIGHT = {"net.conv.weight", "net.linear.weight", "plane"}


def saved(path: Path) -> Path:
    save_quantised(path, weights(), ("MIT",), recipe={"seed": 3})
    return path


def error(found: Tensor, wanted: Tensor) -> float:
    return float((found - wanted).norm() / wanted.norm())


def test_the_weights_come_back_as_float(tmp_path: Path) -> None:
    path = saved(tmp_path / "w.safetensors")
    opened = open_state(path)
    assert opened.sha256 == hashlib.sha256(path.read_bytes()).hexdigest()
    assert opened.tensors.keys() == weights().keys()
    for name, wanted in weights().items():
        found = opened.tensors[name]
        assert (found.shape, found.dtype) == (wanted.shape, torch.float32)
        if name in EIGHT:
            assert 1e-3 < error(found, wanted) < 0.01, name
        else:
            assert torch.equal(found, wanted.half().float()), name


def test_rows_do_not_share_a_scale(tmp_path: Path) -> None:
    """Rows of the linear layer lie eight orders of magnitude apart; each keeps its precision."""
    found = open_state(saved(tmp_path / "w.safetensors")).tensors["net.linear.weight"]
    wanted = weights()["net.linear.weight"]
    each = (found - wanted).norm(dim=1) / wanted.norm(dim=1)
    assert float(each.max()) < 0.01
    assert len(load_file(tmp_path / "w.safetensors")["scales"]) == 40 + 33 + 4


def test_the_file_takes_little_more_than_a_byte_per_weight(tmp_path: Path) -> None:
    g = torch.Generator().manual_seed(1)
    state = {
        f"down_blocks.{i}.attentions.0.blocks.{j}.{name}": torch.randn(*shape, generator=g)
        for i in range(6)
        for j in range(6)
        for name, shape in {"to_k.weight": (64, 64), "to_k.bias": (64,), "norm.bias": (64,)}.items()
    }
    path = tmp_path / "w.safetensors"
    save_quantised(path, state, ())
    assert path.stat().st_size < 1.11 * sum(tensor.numel() for tensor in state.values())


@pytest.mark.parametrize(("largest", "part"), [(3.0, "steps"), (60.0, "halves")])
def test_what_8_bits_would_spoil_stays_in_float16(
    tmp_path: Path, largest: float, part: str
) -> None:
    spread = torch.randn(64, 64, generator=torch.Generator().manual_seed(2))
    spread[:, 0] = largest  # one column sets every scale
    path = tmp_path / "w.safetensors"
    save_quantised(path, {"w": spread}, ())
    assert len(load_file(path)[part]) == 4096
    assert error(open_state(path).tensors["w"], spread) < 0.01


def test_bytes_depend_on_the_weights_alone(tmp_path: Path) -> None:
    first = saved(tmp_path / "a.safetensors").read_bytes()
    turned = dict(reversed(weights().items()))
    save_quantised(tmp_path / "b.safetensors", turned, ("MIT",), recipe={"seed": 3})
    assert (tmp_path / "b.safetensors").read_bytes() == first
    turned["gain"] = turned["gain"] + 1
    save_quantised(tmp_path / "b.safetensors", turned, ("MIT",), recipe={"seed": 3})
    assert (tmp_path / "b.safetensors").read_bytes() != first


def test_the_header_says_licences_and_provenance(tmp_path: Path) -> None:
    path, plain = saved(tmp_path / "w.safetensors"), tmp_path / "plain.safetensors"
    metadata = read_header(path).metadata
    assert is_quantised(metadata)
    assert read_licences(path) == ("MIT",)
    assert read_origin(metadata)["recipe"] == {"seed": 3}
    save_file({"w": torch.zeros(2)}, plain)
    assert not is_quantised(read_header(plain).metadata)


def test_it_loads_into_a_module_in_any_precision(tmp_path: Path) -> None:
    torch.manual_seed(0)
    model, path = nn.Sequential(nn.Linear(80, 40), nn.LayerNorm(40)), tmp_path / "w.safetensors"
    save_quantised(path, model.state_dict(), ("MIT",))
    other = nn.Sequential(nn.Linear(80, 40), nn.LayerNorm(40))
    own = load_weights(str(path), hashlib.sha256(path.read_bytes()).hexdigest())
    load_into(other, own, "two layers")
    assert own.licences == ("MIT",)
    x = torch.randn(8, 80)
    torch.testing.assert_close(other(x), model(x), rtol=0, atol=0.05)
    assert not torch.equal(other(x), model(x))
    halves = load_weights(str(path), dtype=torch.bfloat16).tensors
    assert {tensor.dtype for tensor in halves.values()} == {torch.bfloat16}
    with pytest.raises(Fatal, match="pins"):
        load_weights(str(path), "0" * 64)


def test_converting_it_gives_plain_weights(tmp_path: Path) -> None:
    path, out = saved(tmp_path / "w.safetensors"), tmp_path / "out.safetensors"
    record = execute(Job(str(path), "safetensors", False, None, 256, 10.0, {}), out)
    assert record["tensors"] == len(weights())
    opened = open_state(path).tensors
    assert all(torch.equal(tensor, opened[name]) for name, tensor in load_file(out).items())


def test_weights_that_do_not_fit_are_refused(tmp_path: Path) -> None:
    cases = {
        "not floating": {"ids": torch.arange(3)},
        "not finite": {"w": torch.tensor([1.0, float("nan")])},
        "in float16": {"w": torch.tensor([1e6])},
        "another tensor begins a.b": {"a.b": torch.zeros(2), "a": torch.zeros(2)},
    }
    for message, tensors in cases.items():
        with pytest.raises(ValueError, match=message):
            save_quantised(tmp_path / "w.safetensors", tensors, ())


@pytest.mark.parametrize(
    "told",
    [
        "not json",
        "[" * 100_000,
        "[]",
        '{"a":"i8 2 3","b":7}',
        '{"a":"i4 2 3"}',
        '{"a":"i8 2 -3"}',
        '{"a":"i8 2 4"}',
        '{"a":"i8 999999999999 999999999999"}',
        '{"a":"i8 3 2"}',
        '{"a":"i8 2"}',
        '{"a":"i8 2 3","b":"f16 1"}',
        "{}",
    ],
)
def test_a_damaged_header_is_refused(told: str) -> None:
    stored = {
        "steps": torch.zeros(6, dtype=torch.int8),
        "scales": torch.ones(2, dtype=torch.bfloat16),
        "halves": torch.zeros(0, dtype=torch.float16),
    }
    good = {KEY: '{"a":"i8 2 3"}'}
    assert dequantise(stored, good, "w")["a"].shape == (2, 3)
    with pytest.raises(CheckpointError, match="w holds weights in 8 bits") as caught:
        dequantise(stored, {KEY: told}, "w")
    assert caught.value.refusal is Refusal.CORRUPT


def test_other_tensors_than_the_three_are_refused(tmp_path: Path) -> None:
    path = saved(tmp_path / "w.safetensors")
    stored, metadata = load_file(path), read_header(path).metadata
    wrong = (
        {name: tensor for name, tensor in stored.items() if name != "scales"},
        stored | {"more": torch.zeros(1)},
        stored | {"scales": stored["scales"].float()},
        stored | {"steps": stored["steps"][None]},
    )
    for tensors in wrong:
        with pytest.raises(CheckpointError, match="the tensors that it should"):
            dequantise(tensors, metadata, "w")
