"""The colour head of one CRM object as a small, portable function of space.

What `geco_core.fields.color` is for InstantMesh's planes: a texture can be baked from the field
where the model is not.

Legend: C plane channels, S plane side, P points.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from geco_core.fields.color import CHUNK_POINTS
from geco_core.fields.crm_decoder import PointHead, activate_crm_color
from geco_core.fields.crm_frame import world_to_canonical
from geco_core.fields.rolled_planes import sample_rolled
from geco_core.mesh.frames import gltf_to_world


@dataclass(frozen=True)
class RolledColor:
    """sRGB colours of points in the glTF frame of the model (before a mesh is centred).

    Attributes:
        planes: float16 [3, C, S, S].
        layers: weights [O, I] and biases [O] of the colour head, float32.
    """

    planes: np.ndarray
    layers: tuple[tuple[np.ndarray, np.ndarray], ...]

    @staticmethod
    def of(planes_13CSS: Tensor, head: PointHead) -> RolledColor:
        """Of one object's planes and its decoder's colour head."""
        linear = [layer for layer in head if isinstance(layer, torch.nn.Linear)]
        return RolledColor(
            planes_13CSS[0].detach().to(torch.float16).cpu().numpy(),
            tuple(
                (
                    layer.weight.detach().float().cpu().numpy(),
                    layer.bias.detach().float().cpu().numpy(),
                )
                for layer in linear
            ),
        )

    def __call__(self, points_P3: np.ndarray) -> np.ndarray:
        """Colours float32 [P, 3] in [0, 1] of points float [P, 3]."""
        planes = torch.from_numpy(self.planes).float()[None]
        layers = [(torch.from_numpy(w), torch.from_numpy(b)) for w, b in self.layers]
        world = torch.from_numpy(gltf_to_world(np.ascontiguousarray(points_P3))).float()
        with torch.inference_mode():
            chunks = world_to_canonical(world).split(CHUNK_POINTS)
            parts = [self._colors(planes, layers, chunk) for chunk in chunks]
        return torch.cat(parts).numpy() if parts else np.zeros((0, 3), dtype=np.float32)

    @staticmethod
    def _colors(planes: Tensor, layers: list[tuple[Tensor, Tensor]], points_P3: Tensor) -> Tensor:
        features = sample_rolled(planes, points_P3[None])[0]
        for weight, bias in layers[:-1]:
            features = F.relu(F.linear(features, weight, bias))
        return activate_crm_color(F.linear(features, *layers[-1])).clamp(0.0, 1.0)
