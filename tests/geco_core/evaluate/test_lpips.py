"""LPIPS with random weights: the formula layer by layer, files of both layouts, refusals.

The values in `KNOWN` come from the authors' package (lpips 0.1.4) over the same weights.
"""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from geco_core.errors import ConfigError, Fatal
from geco_core.evaluate.lpips import TRUNKS, Lpips, Net, load_lpips, load_perceptual
from geco_core.evaluate.perceptual import Perceptual, RandomFeatures


def with_weights(net: Net) -> Lpips:
    """Weights that any program can make again: sines of their position."""
    metric = Lpips(net)
    with torch.no_grad():
        for name, value in metric.state_dict().items():
            phase = torch.arange(value.numel(), dtype=torch.float64)
            wave = torch.sin(phase * 0.7 + value.shape[0]).view(value.shape)
            fan = max(1, value[0].numel())
            wave = wave.abs() / 10 if name.startswith("linear") else wave * (2.0 / fan) ** 0.5
            value.copy_(wave)
    return metric


def images() -> tuple[Tensor, Tensor]:
    place = torch.arange(2 * 3 * 64 * 64, dtype=torch.float64).view(2, 3, 64, 64)
    return torch.sin(place * 0.013).abs().float(), torch.cos(place * 0.017).abs().float()


KNOWN: dict[str, list[float]] = {
    "vgg": [0.207137, 0.185586],
    "alex": [0.0157646, 0.0169999],
}


@pytest.mark.parametrize("net", ["vgg", "alex"])
def test_it_gives_what_the_authors_program_gives(net: Net) -> None:
    with torch.no_grad():
        found = with_weights(net)(*images())
    assert found.tolist() == pytest.approx(KNOWN[net], rel=1e-4)


def test_it_is_a_perceptual_distance_with_gradients() -> None:
    metric: Perceptual = with_weights("alex")
    a, b = images()
    assert metric(a, a).tolist() == [0.0, 0.0]
    torch.testing.assert_close(metric(a, b), metric(b, a))
    a.requires_grad_()
    (slope,) = torch.autograd.grad(metric(a, b).sum(), a)
    assert torch.isfinite(slope).all()
    assert float(slope.abs().sum()) > 0
    flat = torch.ones_like(b).requires_grad_()
    (slope,) = torch.autograd.grad(metric(flat, torch.ones_like(b)).sum(), flat)
    assert torch.isfinite(slope).all()


def write_files(folder: Path, metric: Lpips, net: Net, suffix: str) -> None:
    """As torchvision and the authors lay them out, with what they hold besides."""
    trunk = {f"features.{k}": v.clone() for k, v in metric.features.state_dict().items()}
    trunk["classifier.0.weight"] = torch.zeros(2)
    linear = {k: v.clone() for k, v in metric.linear.state_dict().items()}
    for file, tensors in ((TRUNKS[net].backbone, trunk), (TRUNKS[net].linear, linear)):
        path = (folder / file.name).with_suffix(suffix)
        save_file(tensors, path) if suffix == ".safetensors" else torch.save(tensors, path)


@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
def test_files_load_in_both_formats(tmp_path: Path, suffix: str) -> None:
    metric = with_weights("alex")
    write_files(tmp_path, metric, "alex", suffix)
    loaded = load_lpips(tmp_path, "alex")
    torch.testing.assert_close(loaded(*images()), metric(*images()))
    assert not any(p.requires_grad for p in loaded.parameters())


def test_missing_files_come_with_the_commands_that_get_them(tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as caught:
        load_lpips(tmp_path)
    remedy = caught.value.remedy
    assert f"curl -L --create-dirs -o {tmp_path}/vgg16-397923af.pth https://" in remedy
    assert f"curl -L --create-dirs -o {tmp_path}/lpips-vgg.pth https://" in remedy
    assert "BSD-2-Clause" in caught.value.message


def test_weights_of_another_net_are_refused(tmp_path: Path) -> None:
    write_files(tmp_path, with_weights("alex"), "vgg", ".pth")
    with pytest.raises(Fatal, match="trunk of LPIPS"):
        load_lpips(tmp_path)


def test_training_falls_back_to_random_features_only_where_no_folder_is_named(
    tmp_path: Path,
) -> None:
    assert isinstance(load_perceptual(""), RandomFeatures)
    with pytest.raises(ConfigError):
        load_perceptual(str(tmp_path))
