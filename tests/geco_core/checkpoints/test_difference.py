"""Differences to base weights: small, close, and of no use elsewhere."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from geco_core.checkpoints.difference import Base, apply_difference, read_base, save_difference
from geco_core.checkpoints.header import read_header
from geco_core.checkpoints.origin import licences_in, origin_text
from geco_core.checkpoints.state import open_state
from geco_core.errors import Fatal

ANY = Base("base", "0" * 64)


def base_weights() -> dict[str, Tensor]:
    g = torch.Generator().manual_seed(0)
    return {
        "conv.weight": torch.randn(16, 8, 3, 3, generator=g),
        "conv.bias": torch.randn(16, generator=g),
        "frozen": torch.randn(32, generator=g),
        "gain": torch.randn((), generator=g),
    }


def tuned_weights(base: dict[str, Tensor]) -> dict[str, Tensor]:
    g = torch.Generator().manual_seed(1)
    change = {k: 0.01 * torch.randn(v.shape, generator=g) for k, v in base.items()}
    return {k: v if k == "frozen" else v + change[k] for k, v in base.items()}


def test_the_weights_come_back_within_a_fraction_of_the_change(tmp_path: Path) -> None:
    base = base_weights()
    tuned, path = tuned_weights(base), tmp_path / "tuned.safetensors"
    save_difference(path, tuned, base, ANY, (), a=1)
    back = apply_difference(load_file(path), base, str(path))
    assert set(back) == set(base)
    for name, tensor in tuned.items():
        change = (tensor - base[name]).reshape(-1) if tensor.ndim == 0 else tensor - base[name]
        largest = change.reshape(len(change), -1).abs().amax(1)
        error = (back[name] - tensor).reshape(len(change), -1).abs().amax(1)
        assert bool((error <= largest / 254 + 1e-7).all()), name
    assert torch.equal(back["frozen"], base["frozen"])


def test_the_file_is_half_of_float16_and_names_its_base(tmp_path: Path) -> None:
    base = {"w": torch.randn(256, 512, generator=torch.Generator().manual_seed(0))}
    path, plain = tmp_path / "tuned.safetensors", tmp_path / "plain.safetensors"
    tuned = {"w": base["w"] * 1.01}
    save_difference(path, tuned, base, Base("package:b", "ab" * 32), ("MIT",))
    save_file({"w": tuned["w"].half()}, plain)
    assert path.stat().st_size < 0.52 * plain.stat().st_size
    metadata = read_header(path).metadata
    assert read_base(metadata) == Base("package:b", "ab" * 32)
    assert licences_in(metadata) == ("MIT",)
    assert read_base(read_header(plain).metadata) is None


def test_loading_the_file_loads_its_base_too(tmp_path: Path) -> None:
    base, below, path = (
        base_weights(),
        tmp_path / "base.safetensors",
        tmp_path / "tuned.safetensors",
    )
    save_file(base, below)
    sha256 = hashlib.sha256(below.read_bytes()).hexdigest()
    tuned = tuned_weights(base)
    save_difference(path, tuned, base, Base(str(below), sha256), ())
    opened = open_state(path)
    assert opened.sha256 == hashlib.sha256(path.read_bytes()).hexdigest()
    for name, tensor in tuned.items():
        torch.testing.assert_close(opened.tensors[name], tensor, atol=3e-4, rtol=0)
    save_file({**base, "gain": base["gain"] + 1}, below)
    with pytest.raises(Fatal, match="sha256"):
        open_state(path)


def test_other_weights_are_refused(tmp_path: Path) -> None:
    base, path = base_weights(), tmp_path / "tuned.safetensors"
    save_difference(path, tuned_weights(base), base, ANY, ())
    other = {**base, "conv.weight": torch.zeros(16, 4, 3, 3)}
    with pytest.raises(Fatal, match=r"conv\.weight"):
        apply_difference(load_file(path), other, str(path))
    partial = {k: v for k, v in base.items() if k != "frozen"}
    with pytest.raises(ValueError, match="frozen"):
        save_difference(path, base, partial, ANY, ())


@pytest.mark.parametrize("shape", [(4,), (), (16, 1), (32,)])
def test_scales_of_another_shape_are_refused(shape: tuple[int, ...], tmp_path: Path) -> None:
    base, path = base_weights(), tmp_path / "tuned.safetensors"
    save_difference(path, tuned_weights(base), base, ANY, ())
    stored = load_file(path) | {"scale.conv.weight": torch.ones(shape)}
    with pytest.raises(Fatal, match=r"conv\.weight"):
        apply_difference(stored, base, str(path))


def test_a_base_without_a_digest_is_refused() -> None:
    for told in ("x", {"base": "b"}, {"base": "b", "base_sha256": ""}):
        with pytest.raises(Fatal, match="by reference and sha256"):
            read_base(origin_text((), difference=told))
