"""nvdiffrast behind the interface of this package; only imported where it is chosen.

nvdiffrast is not shipped with this project: its licence is the user's to accept. Images agree with
the torch rasterizer up to nvdiffrast's snapping of vertices to 1/16 pixel in the visibility test.
"""

from __future__ import annotations

import importlib
from typing import Any

import torch
from torch import Tensor

from geco_core.render.protocol import RasterOutput


class NvdiffrastRasterizer:
    """CUDA rasterizer of nvdiffrast; see `geco_core.render.protocol.Rasterizer` for the contract.

    Args:
        device: CUDA device of all tensors.
    """

    def __init__(self, device: torch.device | str) -> None:
        self._dr: Any = importlib.import_module("nvdiffrast.torch")
        self._context = self._dr.RasterizeCudaContext(device=torch.device(device))

    def rasterize(
        self,
        pos_clip: Tensor,
        tri: Tensor,
        resolution: tuple[int, int],
        *,
        derivatives: bool = False,
    ) -> RasterOutput:
        """See `Rasterizer.rasterize`."""
        if tri.shape[0] == 0:
            blank = pos_clip.new_zeros(pos_clip.shape[0], *resolution, 4)
            return RasterOutput(blank, blank if derivatives else None)
        rast, rast_db = self._dr.rasterize(
            self._context,
            pos_clip.float().contiguous(),
            _index(tri),
            resolution,
            grad_db=derivatives,
        )
        return RasterOutput(rast, rast_db if derivatives else None)

    def interpolate(
        self,
        attr: Tensor,
        rast: Tensor,
        tri: Tensor,
        rast_db: Tensor | None = None,
        diff_attrs: str | list[int] | None = None,
    ) -> tuple[Tensor, Tensor | None]:
        """See `Rasterizer.interpolate`."""
        if tri.shape[0] == 0:
            blank = rast.new_zeros(*rast.shape[:3], attr.shape[-1])
            if diff_attrs is None:
                return blank, None
            chosen = attr.shape[-1] if diff_attrs == "all" else len(diff_attrs)
            return blank, rast.new_zeros(*rast.shape[:3], 2 * chosen)
        attr = (attr if attr.dim() == 3 else attr[None]).float().contiguous()
        out, out_da = self._dr.interpolate(
            attr, rast, _index(tri), rast_db=rast_db, diff_attrs=diff_attrs
        )
        return out, out_da if diff_attrs is not None else None

    def antialias(self, color: Tensor, rast: Tensor, pos_clip: Tensor, tri: Tensor) -> Tensor:
        """See `Rasterizer.antialias`."""
        if tri.shape[0] == 0:
            return color
        return self._dr.antialias(
            color.float().contiguous(), rast, pos_clip.float().contiguous(), _index(tri)
        )

    def texture(
        self,
        tex: Tensor,
        uv: Tensor,
        uv_da: Tensor | None = None,
        *,
        boundary: str = "wrap",
        max_mip_level: int | None = None,
    ) -> Tensor:
        """See `Rasterizer.texture`."""
        return self._dr.texture(
            tex[None].float().contiguous(),
            uv.contiguous(),
            uv_da=uv_da,
            filter_mode="linear" if uv_da is None else "linear-mipmap-linear",
            boundary_mode=boundary,
            max_mip_level=max_mip_level,
        )


def _index(tri: Tensor) -> Tensor:
    return tri.to(torch.int32).contiguous()
