"""Stage 1: frames of every object, seeded by the object alone."""

from __future__ import annotations

import pytest
import torch

from geco_core.config.crm import DdimConfig
from geco_core.diffusion.noise import INITIAL, POSTERIOR, ItemNoise, RecordedNoise
from geco_core.multiview.condition_encoders import ConditionEncoders
from geco_core.multiview.crm_views import generate_views
from geco_core.multiview.imagedream import ImageDream
from tests.geco_core.multiview.crm_models import ENCODERS, SAMPLER, VIEWS, pictures, seeded


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
