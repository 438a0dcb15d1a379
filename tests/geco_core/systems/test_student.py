"""One-step views: every condition is read once, and what is kept changes nothing."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from geco_core.config.models import SamplerConfig
from geco_core.multiview.zero123plus import Zero123Plus
from geco_core.systems.student import StudentViews
from tests.support.tiny_models import TINY_VIEWS


@pytest.fixture(scope="module")
def model() -> Zero123Plus:
    torch.manual_seed(0)
    return Zero123Plus(TINY_VIEWS).eval()


def images(count: int) -> list[np.ndarray]:
    draw = np.random.default_rng(0)
    return [draw.integers(0, 256, (16, 16, 3), dtype=np.uint8) for _ in range(count)]


def student(model: Zero123Plus, capacity: int, scale: float = 1.0) -> StudentViews:
    sampler = SamplerConfig(kind="one_step", steps=1, guidance_scale=scale, reference_t=5)
    return StudentViews(model, sampler, capacity)


@pytest.mark.parametrize("scale", [1.0, 3.0])
@torch.inference_mode()
def test_many_seeds_of_an_image_read_it_once_and_get_the_same_views(
    model: Zero123Plus, scale: float
) -> None:
    (image,) = images(1)
    keeping, forgetting = student(model, 2, scale), student(model, 0, scale)
    kept = [keeping([image], [seed]) for seed in (1, 2, 3)]
    fresh = [forgetting([image], [seed]) for seed in (1, 2, 3)]
    assert (keeping.passes, forgetting.passes) == (1, 3)
    assert all(torch.equal(a, b) for a, b in zip(kept, fresh, strict=True))
    assert not torch.equal(kept[0], kept[1])
    assert kept[0].shape == (1, 6, 3, 8, 8)


@pytest.mark.parametrize("scale", [1.0, 3.0])
@torch.inference_mode()
def test_a_batch_reads_every_condition_once_and_mixes_none(
    model: Zero123Plus, scale: float
) -> None:
    a, b = images(2)
    together = student(model, 2, scale)
    batch = together([a, b, a], [1, 2, 3])
    assert together.passes == 2
    for row, (image, seed) in enumerate(((a, 1), (b, 2), (a, 3))):
        alone = student(model, 2, scale)([image], [seed])[0]
        torch.testing.assert_close(batch[row], alone, atol=1e-5, rtol=0)
    assert float((batch[0] - batch[1]).abs().max()) > 1e-3


@torch.inference_mode()
def test_the_last_used_conditions_are_kept(model: Zero123Plus) -> None:
    a, b, c = images(3)
    views = student(model, 2)
    for image in (a, b, a, c):  # c drives out b, which was used before a
        views([image], [1])
    assert views.passes == 3
    views([a], [2])
    assert views.passes == 3
    views([b], [2])
    assert views.passes == 4


@torch.inference_mode()
def test_the_condition_decides_its_own_posterior_draw(model: Zero123Plus) -> None:
    """A draw by seed would make the reference of one image differ from seed to seed."""
    a, b = images(2)
    first, second = (student(model, 0)._pass([key], [a])[0] for key in ("1" * 64, "2" * 64))
    again = student(model, 0)._pass(["1" * 64], [a])[0]
    assert torch.equal(first.rows.latents, again.rows.latents)
    assert not torch.equal(first.rows.latents, second.rows.latents)
    assert not torch.equal(first.rows.latents, student(model, 0)._pass(["1"], [b])[0].rows.latents)
