"""CRM's reconstruction half: six views and their coordinate maps to a coloured mesh.

Same function as the published model (arXiv 2403.05034); `geco_core.checkpoints.crm` maps its names.
What differs: the input noise is an argument, see `crm_unet`; how little of the grid the heads are
evaluated on, see `crm_geometry`; meshes come out in the world frame.

Legend: B batch, S plane side, C plane channels.
"""

from __future__ import annotations

from collections.abc import Iterator

from torch import Tensor, nn

from geco_core.config.crm_reconstructor import CrmReconstructorConfig
from geco_core.config.models import ExtractionConfig
from geco_core.errors import BadItem
from geco_core.fields.crm_decoder import CrmDecoder
from geco_core.reconstruct import crm_geometry
from geco_core.reconstruct.crm_geometry import CrmGeometry
from geco_core.reconstruct.crm_unet import CrmUNet, InputNoise, planes_of
from geco_core.reconstruct.extraction import SurfaceMesh
from geco_core.reconstruct.grid_heads import WeightsOn


class CrmReconstructor(nn.Module):
    """`unet.*` and `decoder.*`."""

    def __init__(self, config: CrmReconstructorConfig) -> None:
        super().__init__()
        self.config = config
        self.unet = CrmUNet(config.unet)
        self.decoder = CrmDecoder(
            config.unet.out_channels,
            config.hidden_dim,
            sphere_radius=config.sphere_radius,
            field_scale=config.field_scale,
        )
        self.input_noise = InputNoise(config)

    def forward_planes(self, images: Tensor, noise: Tensor) -> Tensor:
        """Triplanes of a batch of objects.

        Args:
            images: [B, 12, S, 3 S] in [0, 1]: for each plane the two views along its axis and their
                coordinate maps.
            noise: standard normal, of the same shape; `input_noise.draw` gives an item's.

        Returns:
            float32 [B, 3, C, S, S].
        """
        noised = self.input_noise.add(images, noise)
        return planes_of(self.unet, noised, self.config.timestep)

    def geometry(
        self,
        planes: Tensor,
        training: bool | None = None,
        *,
        grid_res: int | None = None,
        weights_on: WeightsOn = "all",
    ) -> CrmGeometry:
        """Differentiable meshes (world frame) and regularisers of planes [B, 3, C, S, S].

        Args:
            planes: from `forward_planes`.
            training: four triangles per quad; the module's mode when None.
            grid_res: cubes per axis; the configuration's when None.
            weights_on: see `geco_core.reconstruct.crm_geometry.geometry`.
        """
        return crm_geometry.geometry(
            self.decoder,
            planes,
            self.config,
            training=self.training if training is None else training,
            grid_res=grid_res,
            weights_on=weights_on,
        )

    def extract(
        self, planes: Tensor, extraction: ExtractionConfig | None = None
    ) -> list[SurfaceMesh | BadItem]:
        """Coloured meshes (world frame) of planes [B, 3, C, S, S], at training's grid when None.

        A failed object's place holds its `BadItem`.
        """
        return list(self.extract_each(planes, extraction))

    def extract_each(
        self, planes: Tensor, extraction: ExtractionConfig | None = None
    ) -> Iterator[SurfaceMesh | BadItem]:
        """`extract`, giving each object when it is made."""
        chosen = extraction or self.config.extraction()
        return crm_geometry.extract_each(self.decoder, planes, self.config, chosen)
