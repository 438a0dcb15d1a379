"""Stage 2: the views of stage 1 reach the network as latents."""

from __future__ import annotations

import torch

from geco_core.diffusion.noise import ItemNoise
from geco_core.multiview.ccm import generate_ccms, view_latents
from geco_core.multiview.condition_encoders import ConditionEncoders
from geco_core.multiview.imagedream import ImageDream
from tests.geco_core.multiview.crm_models import CCM, ENCODERS, SAMPLER, pictures, seeded


@torch.no_grad()
def test_maps_follow_views_and_seed() -> None:
    model, encoders = seeded(ImageDream, CCM), seeded(ConditionEncoders, ENCODERS)
    generator = torch.Generator().manual_seed(4)
    views = torch.randint(0, 256, (2, 6, 16, 16, 3), generator=generator, dtype=torch.uint8)
    images = pictures(2)
    maps = generate_ccms(model, encoders, images, views, ItemNoise([1, 2]), SAMPLER)
    assert maps.shape == views.shape
    assert maps.dtype == torch.uint8
    alone = generate_ccms(model, encoders, images[:1], views[:1], ItemNoise([1]), SAMPLER)
    assert int((maps[0].int() - alone[0].int()).abs().max()) <= 1
    black = torch.zeros_like(views[:1])
    other = generate_ccms(model, encoders, images[:1], black, ItemNoise([1]), SAMPLER)
    assert int((other.int() - alone.int()).abs().max()) > 1


@torch.no_grad()
def test_view_latents_are_scaled_from_centred_levels() -> None:
    encoders = seeded(ConditionEncoders, ENCODERS)
    views = torch.full((1, 6, 16, 16, 3), 255, dtype=torch.uint8)
    white = encoders.latents(torch.ones(1, 3, 16, 16), None)
    found = view_latents(encoders, views, None)
    assert found.shape == (1, 6, 4, 8, 8)
    torch.testing.assert_close(found[0, 2], white[0])
