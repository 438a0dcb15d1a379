"""CRM's point heads: triplane features to field, deformation, FlexiCubes weights and colour.

Same function as CRM's decoders (arXiv 2403.05034). What differs: the names, see
`geco_core.checkpoints.crm`; each head can be evaluated alone; the last layer runs in float32 under
autocast, because eight bits of a field move the surface.

SIGN: the field is POSITIVE INSIDE, about radius - |p|, the opposite of everything else in this
project. It is handed to FlexiCubes as it is, because that is what its weights were trained behind:
its ambiguous cases differ for a negated field, and its faces come out inwards.

Points are in CRM's canonical frame, in [-1, 1]^3.

Legend: C plane channels; ... any leading axes.
"""

from __future__ import annotations

from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from geco_core.fields.decoders import WEIGHT_GAIN, WEIGHTS_PER_CUBE
from geco_core.fields.rolled_planes import sample_rolled


class PointHead(nn.Sequential):
    """Linear layers with an activation between them; the last one in float32.

    Args:
        widths: inputs, hidden ones, outputs.
        activation: module between the layers.
    """

    def __init__(self, widths: tuple[int, ...], activation: type[nn.Module] = nn.ReLU) -> None:
        layers: list[nn.Module] = []
        for inputs, outputs in pairwise(widths):
            layers += [nn.Linear(inputs, outputs), activation()]
        super().__init__(*layers[:-1])

    @property
    def last(self) -> nn.Linear:
        """The output layer."""
        last = self[len(self) - 1]
        assert isinstance(last, nn.Linear)
        return last

    def forward(self, input: Tensor) -> Tensor:  # noqa: A002 - the name torch gives it
        """[..., inputs] -> float32 [..., outputs]."""
        features = input
        for layer in list(self)[:-1]:
            features = layer(features)
        last = self.last
        with torch.autocast(features.device.type, enabled=False):
            return F.linear(features.to(last.weight.dtype), last.weight, last.bias).float()


def activate_crm_color(raw: Tensor) -> Tensor:
    """Colour (raw + 1) / 2, not clamped, so that training keeps its gradient."""
    return 0.5 * raw + 0.5


class CrmDecoder(nn.Module):
    """Three heads: `geometry_head` (field and deformation), `color_head`, `weight_head`.

    Args:
        channels: C.
        hidden: width of the hidden layers.
        sphere_radius: adds radius - |p| to the field when positive.
        field_scale: multiplies the head's raw field.
    """

    def __init__(
        self,
        channels: int,
        hidden: int = 512,
        *,
        sphere_radius: float = 0.5,
        field_scale: float = 1.0,
    ) -> None:
        super().__init__()
        self.sphere_radius, self.field_scale = sphere_radius, field_scale
        self.geometry_head = PointHead((channels, hidden, hidden, 4))
        self.color_head = PointHead((channels, hidden, hidden, 3))
        self.weight_head = PointHead((8 * channels, hidden, WEIGHTS_PER_CUBE), nn.SiLU)

    def features(self, planes: Tensor, points: Tensor) -> Tensor:
        """Features [B, P, C] of points [B, P, 3] in planes [B, 3, C, S, S]."""
        return sample_rolled(planes, points)

    def geometry_of(self, features: Tensor, points: Tensor) -> tuple[Tensor, Tensor]:
        """Field [...], positive inside, and raw deformation [..., 3] (before tanh).

        From features [..., C] of points [..., 3].
        """
        raw = self.geometry_head(features)
        field = raw[..., 0]
        if self.field_scale != 1.0:
            field = field * self.field_scale
        if self.sphere_radius > 0:
            field = field + (self.sphere_radius - points.float().norm(dim=-1))
        return field, raw[..., 1:]

    def rgb_of(self, features: Tensor) -> Tensor:
        """Colour [..., 3], nominally in [0, 1]; clamp when exporting."""
        return activate_crm_color(self.color_head(features))

    def weights(self, corner_features: Tensor) -> Tensor:
        """Raw FlexiCubes weights [..., 21] of cubes: 12 beta, 8 alpha, 1 gamma.

        Takes the features [..., 8 * C] of a cube's corners 0..7, concatenated.
        """
        return self.weight_head(corner_features) * WEIGHT_GAIN

    def field(self, planes: Tensor, points: Tensor) -> Tensor:
        """Field [B, P], positive inside, at points [B, P, 3]."""
        return self.geometry_of(self.features(planes, points), points)[0]

    def rgb(self, planes: Tensor, points: Tensor) -> Tensor:
        """Colour [B, P, 3] at points [B, P, 3], nominally in [0, 1]."""
        return self.rgb_of(self.features(planes, points))
