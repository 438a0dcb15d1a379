"""Differentiable mesh rendering: nvdiffrast's operations in torch, faster where possible."""

from geco_core.render.mesh import MeshRender, render_mesh, vertex_normals
from geco_core.render.protocol import Rasterizer, RasterOutput
from geco_core.render.registry import get_rasterizer

__all__ = [
    "MeshRender",
    "RasterOutput",
    "Rasterizer",
    "get_rasterizer",
    "render_mesh",
    "vertex_normals",
]
