from __future__ import annotations

import importlib.util

import pytest
import torch

from geco_core.errors import ConfigError
from geco_core.render import get_rasterizer, registry, visibility
from geco_core.render.raster_torch import TorchRasterizer


def installed(monkeypatch, *names):
    real = importlib.util.find_spec
    monkeypatch.setattr(
        registry.importlib.util,
        "find_spec",
        lambda name: real("torch") if name in names else None,
    )


def test_torch_is_always_there():
    rasterizer = get_rasterizer("torch")
    assert isinstance(rasterizer, TorchRasterizer)
    assert rasterizer.visibility is visibility.visible_triangles


def test_auto_falls_back_to_torch(monkeypatch):
    installed(monkeypatch)
    for device in ("cpu", "cuda:0"):
        rasterizer = get_rasterizer("auto", device)
        assert isinstance(rasterizer, TorchRasterizer)
        assert rasterizer.visibility is visibility.visible_triangles


def test_auto_takes_numba_on_the_cpu(sphere, clip):
    pytest.importorskip("numba")
    vertices, faces = sphere(2)
    rasterizer = get_rasterizer(device=torch.device("cpu"))
    assert isinstance(rasterizer, TorchRasterizer)
    assert rasterizer.visibility is not visibility.visible_triangles
    ours, _ = rasterizer.rasterize(clip(vertices), faces, (32, 32))
    assert torch.equal(ours, TorchRasterizer().rasterize(clip(vertices), faces, (32, 32)).rast)


@pytest.mark.parametrize(
    ("name", "device", "there", "message", "remedy"),
    [
        ("vulkan", "cpu", [], "unknown rasterizer 'vulkan'", "auto, torch, numba, nvdiffrast"),
        ("numba", "cpu", [], "needs the package numba", "pip install numba"),
        ("numba", "cuda", ["numba"], "works on the CPU, not on cuda", "torch"),
        ("nvdiffrast", "cpu", ["nvdiffrast"], "works on CUDA, not on cpu", "torch"),
        ("nvdiffrast", "cuda:0", [], "needs the package nvdiffrast", "torch"),
    ],
)
def test_errors_name_a_remedy(monkeypatch, name, device, there, message, remedy):
    installed(monkeypatch, *there)
    with pytest.raises(ConfigError, match=message) as caught:
        get_rasterizer(name, device)
    assert remedy in caught.value.remedy
