"""InstantNeRF: six views to a radiance field on triplanes, the first training stage of InstantMesh.

Same function and state-dict names as the published model (arXiv 2404.07191, section 3.1). What
differs: random numbers are arguments, and a mesh is extracted by our own marching cubes.

Legend: B batch, M rendered views, R image side, C plane channels, h/w plane sides.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from geco_core.cameras import rays
from geco_core.config.models import ReconstructorConfig
from geco_core.errors import BadItem, Reason
from geco_core.fields.decoders import NerfDecoder
from geco_core.reconstruct.extraction import SurfaceMesh, vertex_colours
from geco_core.reconstruct.instantmesh import InstantMesh
from geco_core.reconstruct.planes import PlanesModel
from geco_core.render.volume import Uniforms, activate_density, draw_uniforms, render_rays
from geco_core.surface.marching_cubes import marching_cubes


@dataclass(frozen=True)
class Crop:
    """A window of an image in pixels; row 0 at the top."""

    top: int
    left: int
    height: int
    width: int


@dataclass(frozen=True)
class VolumeImages:
    """Rendered views, row 0 at the top.

    Attributes:
        rgb: [B, M, 3, H, W] on white, about [0, 1].
        depth: [B, M, 1, H, W], expected distance; not divided by `weight`.
        weight: [B, M, 1, H, W], opacity.
    """

    rgb: Tensor
    depth: Tensor
    weight: Tensor


class InstantNeRF(PlanesModel):
    """The radiance-field variant: `encoder.*`, `transformer.*`, `synthesizer.decoder.net.*`."""

    def __init__(self, config: ReconstructorConfig) -> None:
        super().__init__(config)
        decoder = NerfDecoder(config.triplane_dim, config.decoder_hidden_dim)
        self.synthesizer = nn.ModuleDict({"decoder": decoder})

    @property
    def decoder(self) -> NerfDecoder:
        """The point head."""
        decoder = self.synthesizer["decoder"]
        assert isinstance(decoder, NerfDecoder)
        return decoder

    def draw(self, cameras: Tensor, pixels: int, generator: torch.Generator) -> Uniforms:
        """The random numbers `render` needs for cameras [B, M, 25] and `pixels` pixels per view."""
        batch, views = cameras.shape[:2]
        return draw_uniforms(batch, views * pixels, self.config.samples_per_ray, generator)

    def render(
        self,
        planes: Tensor,
        cameras: Tensor,
        resolution: int,
        uniforms: Uniforms,
        crop: Crop | None = None,
    ) -> VolumeImages:
        """Render views of every object.

        Args:
            planes: [B, 3, C, h, w].
            cameras: [B, M, 25], see `geco_core.cameras.nerf_cameras`.
            resolution: R, side of the full image.
            uniforms: from `draw`, for the pixels of the crop.
            crop: window to render; the whole image when None.
        """
        batch, views = cameras.shape[:2]
        crop = crop or Crop(0, 0, resolution, resolution)
        c2w, lens = cameras[..., :16].reshape(-1, 4, 4), cameras[..., 16:].reshape(-1, 3, 3)
        origins, directions = (
            part.view(-1, resolution, resolution, 3)[
                :, crop.top : crop.top + crop.height, crop.left : crop.left + crop.width
            ].reshape(batch, -1, 3)
            for part in rays(c2w, lens, resolution)
        )
        uniforms = Uniforms(uniforms.stratified.to(planes), uniforms.importance.to(planes))
        seen = render_rays(
            lambda points: self.decoder(planes, points), origins, directions, uniforms
        )
        shape = (batch, views, crop.height, crop.width, -1)
        rgb, depth, weight = (
            part.view(shape).permute(0, 1, 4, 2, 3) for part in (seen.rgb, seen.depth, seen.weight)
        )
        return VolumeImages(rgb, depth, weight)

    @torch.no_grad()
    def raw_density_grid(
        self, planes: Tensor, resolution: int, chunk_points: int = 65536
    ) -> Tensor:
        """Raw density [B, n, n, n] on linspace(-1, 1, n)^3, axes x, y, z."""
        axis = torch.linspace(-1, 1, resolution, device=planes.device)
        points = torch.stack(torch.meshgrid(axis, axis, axis, indexing="ij"), -1).view(-1, 3)
        parts = [
            self.decoder(planes, chunk.expand(len(planes), -1, -1))[1][..., 0]
            for chunk in points.split(chunk_points)
        ]
        return torch.cat(parts, 1).view(-1, resolution, resolution, resolution)

    @torch.no_grad()
    def extract(
        self,
        planes: Tensor,
        resolution: int | None = None,
        threshold: float | None = None,
        chunk_points: int = 65536,
    ) -> list[SurfaceMesh | BadItem]:
        """Meshes (world frame) by marching cubes on the activated density.

        Args:
            planes: [B, 3, C, h, w].
            resolution: nodes per axis; the configuration's `nerf_mesh_res` when None.
            threshold: density on the surface; the configuration's `nerf_mesh_threshold` when None.
            chunk_points: points per network call.

        Returns:
            One result per object; a `BadItem` (`non_finite`, `empty_mesh`) in the place of a failed
            one.
        """
        nodes = resolution or self.config.nerf_mesh_res
        level = self.config.nerf_mesh_threshold if threshold is None else threshold
        return [
            self._extract_one(planes[b : b + 1], nodes, level, chunk_points)
            for b in range(len(planes))
        ]

    def _extract_one(
        self, planes: Tensor, nodes: int, level: float, chunk_points: int
    ) -> SurfaceMesh | BadItem:
        density = activate_density(self.raw_density_grid(planes, nodes, chunk_points)[0])
        if not bool(density.isfinite().all()):
            return BadItem(
                "the reconstructor produced a non-finite density",
                reason=Reason.NON_FINITE,
                remedy="check the weights and the precision",
                stage="reconstruct",
            )
        vertices, faces = marching_cubes(density, level)
        if not len(faces):
            return BadItem(
                f"the density never crosses the level {level:g}",
                reason=Reason.EMPTY_MESH,
                remedy="check that the image shows one object in front of a plain background",
                stage="extract",
            )
        vertices = vertices / (nodes - 1) * 2 - 1
        rgb = vertex_colours(lambda *at: self.decoder(*at)[0], planes, vertices, chunk_points)
        return SurfaceMesh(vertices, faces, rgb)


@torch.no_grad()
def start_mesh_from_nerf(mesh: InstantMesh, nerf: InstantNeRF) -> None:
    """Begin stage 2 from stage 1, in place.

    What both share is copied; density becomes a signed distance.

    The hidden layers go to both `net_sdf` and `net_rgb`; sdf = threshold - raw density, which is
    negative where the field is dense; deformation and weight heads keep their fresh values. The
    threshold applies to the raw density here and to the activated one in `InstantNeRF.extract`, as
    published.
    """
    shared = {
        name: tensor
        for name, tensor in nerf.state_dict().items()
        if not name.startswith("synthesizer.")
    }
    mesh.load_state_dict(shared, strict=False)
    net, decoder = nerf.decoder.net, mesh.decoder
    for index in (0, 2, 4):
        for head in (decoder.net_sdf, decoder.net_rgb):
            head[index].load_state_dict(net[index].state_dict())
    last = net[6].state_dict()
    level = nerf.config.nerf_mesh_threshold
    decoder.net_sdf[6].load_state_dict(
        {"weight": -last["weight"][:1], "bias": level - last["bias"][:1]}
    )
    decoder.net_rgb[6].load_state_dict({"weight": last["weight"][1:], "bias": last["bias"][1:]})
