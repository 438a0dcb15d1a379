"""What every rasterizer of this package does, whichever code does it."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple, Protocol

from torch import Tensor

VisibilityFn = Callable[[Tensor, Tensor, tuple[int, int]], Tensor]
"""(pos_clip [V, N, 4], tri [F, 3], (H, W)) -> triangle index + 1 or 0, [V, H, W] int64."""


class RasterOutput(NamedTuple):
    """Result of `Rasterizer.rasterize`.

    Attributes:
        rast: [V, H, W, 4] = (u, v, z/w, triangle index + 1); zeros on background. Row 0 is NDC y =
            -1.
        rast_db: [V, H, W, 4] = (du/dX, du/dY, dv/dX, dv/dY) per pixel step, or None where it was
            not asked for.
    """

    rast: Tensor
    rast_db: Tensor | None


class Rasterizer(Protocol):
    """The four operations of nvdiffrast (Laine et al. 2020), batched over the views of one mesh."""

    def rasterize(
        self,
        pos_clip: Tensor,
        tri: Tensor,
        resolution: tuple[int, int],
        *,
        derivatives: bool = False,
    ) -> RasterOutput:
        """Nearest triangle and its barycentrics per pixel.

        Args:
            pos_clip: clip-space positions [V, N, 4]; gradients reach it through u and v.
            tri: vertex indices [F, 3].
            resolution: (H, W) in pixels.
            derivatives: also compute `rast_db`.
        """
        ...

    def interpolate(
        self,
        attr: Tensor,
        rast: Tensor,
        tri: Tensor,
        rast_db: Tensor | None = None,
        diff_attrs: str | list[int] | None = None,
    ) -> tuple[Tensor, Tensor | None]:
        """Attributes [N, C] or [V, N, C] at the pixels, [V, H, W, C].

        With `diff_attrs` ("all" or attribute numbers) also their derivatives [V, H, W, 2D] per
        pixel step, which needs `rast_db`; else None.
        """
        ...

    def antialias(self, color: Tensor, rast: Tensor, pos_clip: Tensor, tri: Tensor) -> Tensor:
        """Blend [V, H, W, C] across silhouettes by analytic coverage.

        The only path by which gradients of silhouettes reach positions.
        """
        ...

    def texture(
        self,
        tex: Tensor,
        uv: Tensor,
        uv_da: Tensor | None = None,
        *,
        boundary: str = "wrap",
        max_mip_level: int | None = None,
    ) -> Tensor:
        """Look up a [T, S, C] texture at uv [V, H, W, 2], giving [V, H, W, C].

        Bilinear; trilinear over mipmaps where uv_da [V, H, W, 4] is given.
        """
        ...
