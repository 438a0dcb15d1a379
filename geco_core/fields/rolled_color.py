"""The colour head of one CRM object as a small, portable function of space."""

from __future__ import annotations

from torch import Tensor

from geco_core.fields.color import HeadColor
from geco_core.fields.crm_decoder import activate_crm_color
from geco_core.fields.crm_frame import world_to_canonical
from geco_core.fields.rolled_planes import sample_rolled


class RolledColor(HeadColor):
    """Of CRM's planes, which lie in its canonical frame."""

    _activate = staticmethod(activate_crm_color)

    @staticmethod
    def _features(planes: Tensor, points_1P3: Tensor) -> Tensor:
        return sample_rolled(planes, world_to_canonical(points_1P3))
