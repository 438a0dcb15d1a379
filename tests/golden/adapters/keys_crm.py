"""The inventory of CRM.pth against our model at full size on the meta device."""

from __future__ import annotations

import dataclasses

import torch

from geco_core.checkpoints.crm import published_state
from geco_core.config.crm_reconstructor import CrmReconstructorConfig
from geco_core.reconstruct.crm import CrmReconstructor
from tests.golden.registry import Case, InventoryAdapter, Row, adapter


@adapter("keys_crm")
class CrmInventory(InventoryAdapter):
    """The case is a bare map of names to shapes, without `shapes` and `config` around it."""

    def rows(self, case: Case) -> list[Row]:
        """One row, as for every inventory."""
        return super().rows(dataclasses.replace(case, meta={"shapes": case.meta}))

    def shapes(self, case: Case) -> dict[str, tuple[int, ...]]:
        """Published name -> shape."""
        with torch.device("meta"):
            model = CrmReconstructor(CrmReconstructorConfig())
        return {name: tuple(value.shape) for name, value in published_state(model).items()}
