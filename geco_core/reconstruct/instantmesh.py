"""InstantMesh: six views to a coloured mesh through triplanes and FlexiCubes.

Same function and state-dict names as the published model (arXiv 2404.07191). What differs: see
`geometry` for how little of the grid the heads are evaluated on; an optional sphere bias keeps
untrained shapes non-empty.

Legend: B batch, V views, C plane channels, h/w plane sides.
"""

from __future__ import annotations

from collections.abc import Iterator

from torch import Tensor, nn

from geco_core.config.models import ExtractionConfig, ReconstructorConfig
from geco_core.errors import BadItem
from geco_core.fields.decoders import MeshDecoder
from geco_core.reconstruct import geometry as geometry_of
from geco_core.reconstruct.extraction import SurfaceMesh
from geco_core.reconstruct.geometry import Geometry
from geco_core.reconstruct.grid_heads import WeightsOn
from geco_core.reconstruct.planes import PlanesModel
from geco_core.surface.grid import RegularGrid


class InstantMesh(PlanesModel):
    """The mesh variant: `encoder.*`, `transformer.*`, `synthesizer.decoder.*`."""

    def __init__(self, config: ReconstructorConfig) -> None:
        super().__init__(config)
        decoder = MeshDecoder(
            config.triplane_dim,
            config.decoder_hidden_dim,
            sphere_radius=config.sdf_sphere_radius,
            sdf_scale=config.sdf_scale,
        )
        self.synthesizer = nn.ModuleDict({"decoder": decoder})

    @property
    def decoder(self) -> MeshDecoder:
        """The point heads."""
        decoder = self.synthesizer["decoder"]
        assert isinstance(decoder, MeshDecoder)
        return decoder

    def geometry(
        self,
        planes: Tensor,
        training: bool | None = None,
        *,
        grid_res: int | None = None,
        weights_on: WeightsOn = "all",
    ) -> Geometry:
        """Differentiable meshes (world frame) and regularisers of planes [B, 3, C, h, w].

        Args:
            planes: from `forward_planes`.
            training: four triangles per quad; the module's mode when None.
            grid_res: cubes per axis; the configuration's when None.
            weights_on: see `geco_core.reconstruct.geometry.geometry`.
        """
        grid = RegularGrid.cubic(grid_res or self.config.grid_res, self.config.grid_scale)
        mode = self.training if training is None else training
        return geometry_of.geometry(
            self.decoder, planes, grid, training=mode, weights_on=weights_on
        )

    def extract(self, planes: Tensor, config: ExtractionConfig) -> list[SurfaceMesh | BadItem]:
        """Coloured meshes (world frame) of planes [B, 3, C, h, w].

        A failed object's place holds its `BadItem`.
        """
        return geometry_of.extract(self.decoder, planes, self.config.grid_scale, config)

    def extract_each(
        self, planes: Tensor, config: ExtractionConfig
    ) -> Iterator[SurfaceMesh | BadItem]:
        """`extract`, giving each object when it is made."""
        return geometry_of.extract_each(self.decoder, planes, self.config.grid_scale, config)
