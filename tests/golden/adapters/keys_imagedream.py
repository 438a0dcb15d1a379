"""Inventories of CRM's published diffusion files at full size, against our modules on meta."""

from __future__ import annotations

import torch

from geco_core.checkpoints.imagedream import published_encoders, published_network, unused_shapes
from geco_core.config.crm import CRM_CCM, CRM_VIEWS, ConditionEncodersConfig, ImageDreamConfig
from geco_core.multiview.condition_encoders import ConditionEncoders
from geco_core.multiview.imagedream import ImageDream
from tests.golden.registry import Case, InventoryAdapter, adapter

Shapes = dict[str, tuple[int, ...]]


@adapter("keys_pixel_diffusion_unet")
class ViewsInventory(InventoryAdapter):
    """Stage 1's network, which is ImageDream's."""

    def shapes(self, case: Case) -> Shapes:
        """Published name -> shape."""
        return network_shapes(CRM_VIEWS)


@adapter("keys_ccm_diffusion_unet")
class CcmInventory(InventoryAdapter):
    """Stage 2's network."""

    def shapes(self, case: Case) -> Shapes:
        """Published name -> shape."""
        return network_shapes(CRM_CCM)


@adapter("keys_diffusion_shared_rest")
class EncodersInventory(InventoryAdapter):
    """Towers, autoencoder and schedule vectors."""

    def shapes(self, case: Case) -> Shapes:
        """Published name -> shape, with what we drop."""
        config = ConditionEncodersConfig()
        with torch.device("meta"):
            found = published_encoders(ConditionEncoders(config))
        return {**{n: tuple(v.shape) for n, v in found.items()}, **unused_shapes(config)}


def network_shapes(config: ImageDreamConfig) -> Shapes:
    """Published name -> shape of one network."""
    with torch.device("meta"):
        found = published_network(ImageDream(config))
    return {name: tuple(value.shape) for name, value in found.items()}
