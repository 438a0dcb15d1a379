"""Content addresses: everything that decides a target changes its key, and nothing else does."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from geco_core.config.distill import TargetsConfig
from geco_core.config.models import InstantMeshConfig, MultiViewConfig, SamplerConfig
from geco_core.diffusion.noise import INITIAL, ItemNoise
from geco_core.distill.target_address import (
    condition_digest,
    noise_seeds,
    target_cameras,
    target_condition,
    target_key,
    teacher_digest,
)

SETTINGS = TargetsConfig(renders=64)


def key(**changes: object) -> str:
    parts: dict[str, Any] = {"condition": "c", "seed": 1, "teacher": "t", "settings": SETTINGS}
    parts |= changes
    return target_key(parts["condition"], parts["seed"], parts["teacher"], parts["settings"])


@pytest.mark.parametrize(
    "change",
    [
        {"condition": "d"},
        {"seed": 2},
        {"teacher": "u"},
        *(
            {"settings": replace(SETTINGS, **{name: value})}
            for name, value in {
                "renders": 3,
                "render_size": 8,
                "supersample": 2,
                "fov_deg": 40.0,
                "radius": (1.0, 2.0),
                "elevation_deg": (0.0, 1.0),
            }.items()
        ),
    ],
)
def test_what_decides_changes_the_key(change: dict[str, object]) -> None:
    assert key(**change) != key()


def test_how_it_is_run_does_not_change_the_key() -> None:
    run = replace(SETTINGS, store="s3://b/x", shard_size=3, workers=9, batch_size=2)
    assert key(settings=run) == key()
    config = InstantMeshConfig()
    digest = teacher_digest(config, "w", torch.float32)
    other = replace(config, preset="full", device="cuda", batch_size=3, memory_gb=1.0)
    assert teacher_digest(other, "w", torch.float32) == digest


def test_what_decides_a_sample_changes_the_teacher() -> None:
    config = InstantMeshConfig()
    digests = {
        teacher_digest(config, "w", torch.float32),
        teacher_digest(config, "v", torch.float32),
        teacher_digest(config, "w", torch.float16),
        teacher_digest(replace(config, sampler=SamplerConfig(steps=74)), "w", torch.float32),
    }
    assert len(digests) == 4


def test_the_digest_of_a_condition_is_of_its_pixels() -> None:
    pixels = np.arange(48, dtype=np.uint8).reshape(4, 4, 3)
    assert condition_digest(pixels) == condition_digest(pixels.copy())
    assert condition_digest(pixels) != condition_digest(pixels.reshape(2, 8, 3))
    other = pixels.copy()
    other[0, 0, 0] ^= 1
    assert condition_digest(pixels) != condition_digest(other)


def test_cameras_lie_in_their_ranges_and_look_at_the_object() -> None:
    w2c = target_cameras(11, SETTINGS)
    assert w2c.shape == (64, 4, 4)
    c2w = torch.linalg.inv(w2c.double())
    place = c2w[:, :3, 3]
    radius = place.norm(dim=-1)
    elevation = torch.rad2deg(torch.asin(place[:, 2] / radius))
    low, high = SETTINGS.elevation_deg
    near, far = SETTINGS.radius
    assert near - 1e-4 <= radius.min() < near + 0.2 * (far - near)
    assert far + 1e-4 >= radius.max() > far - 0.2 * (far - near)
    assert low - 1e-3 <= elevation.min() < low + 15
    assert high + 1e-3 >= elevation.max() > high - 15
    torch.testing.assert_close(c2w[:, :3, 2], place / radius[:, None], atol=1e-4, rtol=0)
    quadrants = torch.floor(torch.rad2deg(torch.atan2(place[:, 1], place[:, 0])) / 90).unique()
    assert len(quadrants) == 4
    assert torch.equal(w2c, target_cameras(11, SETTINGS))
    assert not torch.equal(w2c, target_cameras(12, SETTINGS))


def test_the_first_cameras_do_not_depend_on_how_many_there_are() -> None:
    assert torch.equal(
        target_cameras(3, replace(SETTINGS, renders=4)), target_cameras(3, SETTINGS)[:4]
    )


def test_recorded_noise_seeds_make_the_noise() -> None:
    seeds = dict(noise_seeds(42, SamplerConfig()))
    assert {*seeds} == {
        "initial",
        "posterior",
        "posterior_negative",
        "reference",
        "reference_negative",
        "cameras",
    }
    drawn = torch.randn(3, 2, generator=torch.Generator().manual_seed(seeds[INITIAL]))
    assert torch.equal(drawn, ItemNoise([42]).draw(INITIAL, (3, 2))[0])
    unguided = dict(noise_seeds(42, SamplerConfig(guidance_scale=1.0)))
    assert "posterior_negative" not in unguided


def test_a_condition_is_framed_on_the_teachers_background() -> None:
    rgba = np.zeros((48, 48, 4), np.uint8)
    rgba[12:36, 12:36] = (255, 0, 0, 255)
    white = target_condition(rgba, MultiViewConfig(condition_size=16))
    gray = target_condition(rgba, MultiViewConfig(condition_size=16, background="gray"))
    assert white.shape == (16, 16, 3)
    assert tuple(white[0, 0]) == (255, 255, 255)
    assert tuple(gray[0, 0]) == (127, 127, 127)
    assert tuple(white[8, 8]) == tuple(gray[8, 8]) == (255, 0, 0)
