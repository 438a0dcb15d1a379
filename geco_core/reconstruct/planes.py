"""What both reconstructor variants share: images and cameras in, triplanes out.

Same function as InstantMesh's `forward_planes` (arXiv 2404.07191).

Legend: B batch, V views, L tokens per view, D encoder width, C plane channels.
"""

from __future__ import annotations

from torch import Tensor, nn

from geco_core.config.models import ReconstructorConfig
from geco_core.reconstruct.encoder import CameraEncoder
from geco_core.reconstruct.triplane_transformer import TriplaneTransformer


class PlanesModel(nn.Module):
    """Encoder and triplane transformer; subclasses add the synthesizer."""

    def __init__(self, config: ReconstructorConfig) -> None:
        super().__init__()
        self.config = config
        self.encoder = CameraEncoder(config.encoder)
        self.transformer = TriplaneTransformer(config)

    def forward_planes(self, images: Tensor, cameras: Tensor) -> Tensor:
        """Triplanes of a batch of objects.

        Args:
            images: [B, V, 3, H, W] in [0, 1], white background, row 0 at the top.
            cameras: [B, V, 16], see `geco_core.cameras.encoder_cameras`.

        Returns:
            planes [B, 3, C, high, high]; (x, y), (x, z), (z, y), column axis first.
        """
        batch = images.shape[0]
        features = self.encoder(images, cameras)  # [B * V, L, D]
        return self.transformer(features.reshape(batch, -1, features.shape[-1]))
