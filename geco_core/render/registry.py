"""Choose a rasterizer by name, or the fastest visibility alone."""

from __future__ import annotations

import importlib.util

import torch

from geco_core.errors import ConfigError
from geco_core.render.protocol import Rasterizer, VisibilityFn
from geco_core.render.raster_torch import TorchRasterizer
from geco_core.render.visibility import visible_triangles

NAMES = ("auto", "torch", "numba", "nvdiffrast")


def get_rasterizer(name: str = "auto", device: torch.device | str = "cpu") -> Rasterizer:
    """Rasterizer by name.

    Args:
        name: "torch" runs anywhere; "numba" finds visibility faster on the CPU, with the same ids;
            "nvdiffrast" needs CUDA; "auto" takes nvdiffrast on CUDA and numba on the CPU where they
            are installed, and torch otherwise.
        device: where the meshes live.

    Raises:
        ConfigError: unknown name, package not installed, or wrong device for it.
    """
    kind = torch.device(device).type
    if name not in NAMES:
        raise ConfigError(
            f"unknown rasterizer {name!r}", remedy=f"choose one of {', '.join(NAMES)}"
        )
    if name == "auto":
        wanted = {"cuda": "nvdiffrast", "cpu": "numba"}.get(kind, "torch")
        name = wanted if importlib.util.find_spec(wanted) is not None else "torch"
    if name == "numba":
        return TorchRasterizer(_numba_visibility(kind))
    if name == "nvdiffrast":
        return _nvdiffrast(device)
    return TorchRasterizer()


def fastest_visibility() -> VisibilityFn:
    """The visibility test for meshes on the CPU: numba's where installed, else torch's equal."""
    return visible_triangles if importlib.util.find_spec("numba") is None else _numba_visibility()


def _numba_visibility(kind: str = "cpu") -> VisibilityFn:
    if kind != "cpu":
        raise ConfigError(
            f"the numba rasterizer works on the CPU, not on {kind}",
            remedy='use rasterizer "torch" or "nvdiffrast" there',
        )
    if importlib.util.find_spec("numba") is None:
        raise ConfigError(
            "the numba rasterizer needs the package numba",
            remedy='pip install numba, or use rasterizer "torch", which gives the same images',
        )
    from geco_core.render import visibility_numba  # noqa: PLC0415 (optional)

    return visibility_numba.visible_triangles


def _nvdiffrast(device: torch.device | str) -> Rasterizer:
    if torch.device(device).type != "cuda":
        raise ConfigError(
            f"nvdiffrast works on CUDA, not on {device}",
            remedy='use rasterizer "torch" or "numba" on the CPU',
        )
    if importlib.util.find_spec("nvdiffrast") is None:
        raise ConfigError(
            "the nvdiffrast rasterizer needs the package nvdiffrast",
            remedy='install it from its sources, or use rasterizer "torch", which runs on CUDA too',
        )
    from geco_core.render.raster_nvdiffrast import NvdiffrastRasterizer  # noqa: PLC0415

    return NvdiffrastRasterizer(device)
