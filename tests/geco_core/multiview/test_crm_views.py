"""Stage 1: frames of every object, seeded by the object alone."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from geco_core.config.crm import DdimConfig
from geco_core.diffusion.noise import INITIAL, POSTERIOR, ItemNoise, RecordedNoise
from geco_core.imaging.content import codec_pixels
from geco_core.multiview.condition_encoders import ConditionEncoders
from geco_core.multiview.crm_views import generate_views, reference_channels
from geco_core.multiview.imagedream import ImageDream
from tests.geco_core.multiview.crm_models import ENCODERS, SAMPLER, UNET, VIEWS, pictures, seeded


@pytest.fixture(scope="module")
def parts() -> tuple[ImageDream, ConditionEncoders]:
    return seeded(ImageDream, VIEWS), seeded(ConditionEncoders, ENCODERS)


def test_an_item_does_not_depend_on_its_batch(parts: tuple[ImageDream, ConditionEncoders]) -> None:
    model, encoders = parts
    images = pictures(2)
    together = generate_views(model, encoders, images, ItemNoise([7, 8]), SAMPLER)
    assert together.shape == (2, 6, 16, 16, 3)  # the reference frame is not a view
    assert together.dtype == torch.uint8
    alone = generate_views(model, encoders, images[1:], ItemNoise([8]), SAMPLER)
    difference = (together[1].int() - alone[0].int()).abs()
    assert int(difference.max()) <= 1
    other = generate_views(model, encoders, images[1:], ItemNoise([9]), SAMPLER)
    assert int((other[0].int() - alone[0].int()).abs().max()) > 5


def test_the_picture_and_its_reference_count(parts: tuple[ImageDream, ConditionEncoders]) -> None:
    model, encoders = parts
    first, second = pictures(2)
    sampler = DdimConfig(steps=2)
    views = [
        generate_views(model, encoders, [image], ItemNoise([1]), sampler).int()
        for image in (first, second)
    ]
    assert int((views[0] - views[1]).abs().max()) > 1
    start = torch.zeros(1, 7, *encoders.latent_shape)
    recorded = [
        generate_views(
            model,
            encoders,
            [first],
            RecordedNoise({INITIAL: [start], POSTERIOR: [level * torch.ones(1, 4, 8, 8)]}),
            sampler,
        ).int()
        for level in (0.0, 3.0)
    ]
    assert int((recorded[0] - recorded[1]).abs().max()) >= 1


@torch.no_grad()
def test_the_view_from_behind_gets_the_mirrored_picture(
    parts: tuple[ImageDream, ConditionEncoders],
) -> None:
    _, encoders = parts
    pixels = torch.stack([codec_pixels(image, 16) for image in pictures(2)])
    noise = torch.randn(2, *encoders.latent_shape)
    found = reference_channels(encoders, pixels, VIEWS.rig, noise)
    assert found.shape == (2, 7, *encoders.latent_shape)
    plain, mirrored = encoders.latents(pixels, noise), encoders.latents(pixels.flip(-1), noise)
    assert not torch.allclose(plain, mirrored)
    for frame, view in enumerate((*VIEWS.rig.views, None)):
        torch.testing.assert_close(found[:, frame], mirrored if view == 3 else plain)
    without = reference_channels(encoders, pixels, replace(VIEWS.rig, reference=False), noise)
    torch.testing.assert_close(without, found[:, :6])


@torch.no_grad()
@pytest.mark.parametrize("reference", [True, False])
def test_the_network_reads_the_picture_in_every_frame(
    parts: tuple[ImageDream, ConditionEncoders], reference: bool
) -> None:
    _, encoders = parts
    rig = replace(VIEWS.rig, reference=reference)
    config = replace(VIEWS, unet=replace(UNET, in_channels=8), rig=rig, reference_channels=True)
    model = seeded(ImageDream, config)
    seen: list[Tensor] = []
    model.unet.conv_in.register_forward_pre_hook(lambda _, args: seen.append(args[0]))
    images = pictures(2)
    views = generate_views(
        model, encoders, images, ItemNoise([7, 8]), DdimConfig(steps=1, guidance_scale=1.0)
    )
    assert views.shape == (2, 6, 16, 16, 3)
    pixels = torch.stack([codec_pixels(image, 16) for image in images])
    drawn = ItemNoise([7, 8]).draw(POSTERIOR, encoders.latent_shape)
    wanted = reference_channels(encoders, pixels, rig, drawn)
    torch.testing.assert_close(seen[0][:, 4:], wanted.flatten(0, 1))
