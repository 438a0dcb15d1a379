"""CRM's U-Net with learned planes: one or several timesteps, sub-sampled outputs."""

from __future__ import annotations

import re

import torch
from torch import Tensor

from tests.golden.adapters._crm_reconstructor import build_unet
from tests.golden.registry import Adapter, Case, adapter

_PICK = re.compile(r"y(?:_t(?P<t>\d+))?_(?:s(?P<stride>\d+)|ch(?P<moment>mean|std))")
# The original keeps column 1 of every 4 but column 0 of every 2; see the notes of the cases.
_FIRST_COLUMN = {4: 1}


@adapter("crm_unet")
class CrmUNetAdapter(Adapter):
    """`y[_t{timestep}]_{s{stride},chmean,chstd}`; without a timestep `in/t` has one per sample."""

    @torch.no_grad()
    def run(self, case: Case) -> dict[str, Tensor]:
        """Every stored output."""
        images = case.inputs["x"]
        model = build_unet(case, images.shape[1])
        known: dict[str, Tensor] = {}
        outputs = {}
        for name in case.outputs:
            match = _PICK.fullmatch(name)
            if match is None:
                continue
            t = match["t"] or "in"
            if t not in known:
                known[t] = model(images, case.inputs["t"] if t == "in" else int(t))
            outputs[name] = _picked(known[t], match["stride"], match["moment"])
        return outputs


def _picked(y: Tensor, stride: str | None, moment: str | None) -> Tensor:
    if stride is not None:
        step = int(stride)
        return y[:, :, ::step, _FIRST_COLUMN.get(step, 0) :: step]
    return y.mean((0, 2, 3)) if moment == "mean" else y.std((0, 2, 3))
