"""InstantMesh's camera-modulated ViT at the table's own size and at others."""

from __future__ import annotations

import torch
from torch import Tensor

from geco_core.reconstruct.encoder import CameraEncoder, normalise_images, resize_positions
from tests.golden.adapters._reconstructor import encoder_config
from tests.golden.registry import Adapter, Case, adapter

_IMAGES = "images_"


@adapter("instantmesh_encoder")
class EncoderAdapter(Adapter):
    """Features, position tables and normalised pixels for every stored image size."""

    @torch.no_grad()
    def run(self, case: Case) -> dict[str, Tensor]:
        """Outputs named after each `in/images_{H}x{W}`."""
        config = encoder_config(case.meta["vit_config"])
        encoder = CameraEncoder(config)
        encoder.load_state_dict(case.weights())
        cameras = case.inputs["cameras"]
        outputs = {"camera_embedding": encoder.embed_cameras(cameras)}
        table = encoder.model.embeddings.position_embeddings
        for name, images in case.inputs.items():
            if not name.startswith(_IMAGES):
                continue
            size = name.removeprefix(_IMAGES)
            rows, columns = (side // config.patch_size for side in images.shape[-2:])
            outputs[f"pixel_values_{size}"] = normalise_images(images.flatten(0, 1))
            outputs[f"pos_embed_{size}"] = resize_positions(table, rows, columns)
            outputs[f"features_{size}"] = encoder(images, cameras)
        return outputs
