"""The colour head of one object as a small, portable function of space.

A mesh that leaves its model takes this along, so that a texture can be baked from the field itself
where the model is not: planes and one small MLP, a few megabytes. Most meshes get no texture, so
the planes stay on the model's device until somebody asks for a colour or sends the mesh away.

Legend: C plane channels, h w plane sides, P points.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Self

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from geco_core.fields.decoders import activate_color
from geco_core.fields.triplane import sample_planes
from geco_core.mesh.frames import gltf_to_world

CHUNK_POINTS = 1 << 16


@dataclass(frozen=True)
class HeadColor(ABC):
    """sRGB colours of points in the glTF frame of the model (before a mesh is centred).

    Kinds of planes say how a point is looked up and what the head's numbers mean.

    Attributes:
        planes: float16 [3, C, h, w].
        layers: weights [O, I] and biases [O] of the colour head, float32.
    """

    planes: np.ndarray
    layers: tuple[tuple[np.ndarray, np.ndarray], ...]

    @classmethod
    def of(cls, planes_13CHW: Tensor, head: Iterable[nn.Module]) -> Self:
        """Of one object's planes and its decoder's colour head."""
        return cls(
            planes_13CHW[0].detach().to(torch.float16).cpu().numpy(),
            tuple(
                (
                    layer.weight.detach().float().cpu().numpy(),
                    layer.bias.detach().float().cpu().numpy(),
                )
                for layer in head
                if isinstance(layer, nn.Linear)
            ),
        )

    def __call__(self, points_P3: np.ndarray) -> np.ndarray:
        """Colours float32 [P, 3] in [0, 1] of points float [P, 3]."""
        planes = torch.from_numpy(self.planes).float()[None]
        layers = [(torch.from_numpy(w), torch.from_numpy(b)) for w, b in self.layers]
        world = torch.from_numpy(gltf_to_world(np.ascontiguousarray(points_P3))).float()
        with torch.inference_mode():
            parts = [self._colors(planes, layers, chunk) for chunk in world.split(CHUNK_POINTS)]
        return torch.cat(parts).numpy() if parts else np.zeros((0, 3), dtype=np.float32)

    def _colors(
        self, planes: Tensor, layers: list[tuple[Tensor, Tensor]], points_P3: Tensor
    ) -> Tensor:
        features = self._features(planes, points_P3[None])[0]
        for weight, bias in layers[:-1]:
            features = F.relu(F.linear(features, weight, bias))
        return self._activate(F.linear(features, *layers[-1])).clamp(0.0, 1.0)

    @staticmethod
    @abstractmethod
    def _features(planes: Tensor, points_1P3: Tensor) -> Tensor:
        """Features [1, P, 3C] of world points."""

    @staticmethod
    @abstractmethod
    def _activate(raw: Tensor) -> Tensor:
        """Colours of the head's outputs."""


class TriplaneColor(HeadColor):
    """Of InstantMesh's planes."""

    _activate = staticmethod(activate_color)

    @staticmethod
    def _features(planes: Tensor, points_1P3: Tensor) -> Tensor:
        return sample_planes(planes, points_1P3)


class DeviceColor:
    """A `HeadColor` that is copied to the host when it is first called or pickled.

    Pickles as the `HeadColor`.

    Args:
        kind: of the planes.
        planes_13CHW: of one object; rounded to float16 at once, which also detaches them from those
            of their batch.
        head: its decoder's colour head, which must not be trained on.
    """

    def __init__(
        self, kind: type[HeadColor], planes_13CHW: Tensor, head: Iterable[nn.Module]
    ) -> None:
        self._kind = kind
        self._planes_13CHW = planes_13CHW.detach().to(torch.float16, copy=True)
        self._head = head

    @cached_property
    def on_host(self) -> HeadColor:
        """The portable form."""
        return self._kind.of(self._planes_13CHW, self._head)

    def __call__(self, points_P3: np.ndarray) -> np.ndarray:
        """Colours float32 [P, 3] in [0, 1] of points float [P, 3]."""
        return self.on_host(points_P3)

    def __reduce__(self) -> tuple[Any, ...]:
        return self._kind, (self.on_host.planes, self.on_host.layers)
