"""Inventories of CRM's published diffusion files at full size, against our modules on meta."""

from __future__ import annotations

import math

import torch

from geco_core.checkpoints.imagedream import published_encoders, published_network, unused_shapes
from geco_core.config.crm import CRM_CCM, CRM_VIEWS, ConditionEncodersConfig, ImageDreamConfig
from geco_core.multiview.condition_encoders import ConditionEncoders
from geco_core.multiview.imagedream import ImageDream
from tests.golden.registry import Adapter, Case, InventoryAdapter, Row, adapter

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


@adapter("keys_meta")
class Totals(Adapter):
    """Numbers of tensors and values of the diffusion files; those of CRM.pth belong elsewhere."""

    def rows(self, case: Case) -> list[Row]:
        """A row per stated pair; the error is the difference in values."""
        views = network_shapes(CRM_VIEWS)
        rest = EncodersInventory().shapes(case)
        stated = case.meta["pixel-diffusion.pth"]
        pairs = {
            "pixel": ((stated["unet_entries"], stated["unet_numel"]), views),
            "ccm": (
                (len(views), case.meta["ccm-diffusion.pth"]["unet_numel"]),
                network_shapes(CRM_CCM),
            ),
        }
        for part in ("clip_model", "vae_model"):
            entries, values = case.meta["rest_counts"][part]
            found = {n: s for n, s in rest.items() if n.startswith(part)}
            pairs[part] = ((entries, values), found)
        return [_total(case.name, part, *pair) for part, pair in pairs.items()]


def _total(case: str, part: str, stated: tuple[int, int], shapes: Shapes) -> Row:
    values = sum(math.prod(shape) for shape in shapes.values())
    ok = (len(shapes), values) == stated
    return Row(case, part, float(abs(values - stated[1])), "exact", ok=ok)


def network_shapes(config: ImageDreamConfig) -> Shapes:
    """Published name -> shape of one network."""
    with torch.device("meta"):
        found = published_network(ImageDream(config))
    return {name: tuple(value.shape) for name, value in found.items()}
