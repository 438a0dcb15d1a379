"""Towers and codec: which states are taken, how prompts are padded, scaling of latents."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from geco_core.errors import ConfigError
from geco_core.multiview.condition_encoders import ConditionEncoders, to_levels
from tests.geco_core.multiview.crm_models import ENCODERS, seeded


@pytest.fixture(scope="module")
def encoders() -> ConditionEncoders:
    return seeded(ConditionEncoders, ENCODERS)


@torch.no_grad()
def test_prompts_are_padded_rows_before_the_last_block(encoders: ConditionEncoders) -> None:
    assert encoders.token_row((1, 2)) == [10, 1, 2, 11, 0, 0]
    text, negative = encoders.prompt_states()
    assert text.shape == negative.shape == (1, 6, 8)
    assert not torch.equal(text, negative)
    before = text.clone()
    torch.nn.init.zeros_(encoders.text.encoder.layers[-1].mlp.fc2.weight)
    assert torch.equal(encoders.prompt_states()[0], before)  # the last block plays no part


@torch.no_grad()
def test_image_states_keep_the_class_token_and_skip_the_last_block(
    encoders: ConditionEncoders,
) -> None:
    pixels = torch.randn(2, 3, 8, 8, generator=torch.Generator().manual_seed(1))
    states = encoders.image_states(pixels)
    assert states.shape == (2, 5, 16)
    torch.nn.init.zeros_(encoders.vision.encoder.layers[-1].mlp.fc2.weight)
    assert torch.equal(encoders.image_states(pixels), states)


@torch.no_grad()
def test_latents_are_scaled_draws_of_the_posterior(encoders: ConditionEncoders) -> None:
    pixels = torch.rand(2, 3, 16, 16, generator=torch.Generator().manual_seed(2)) * 2 - 1
    mean, std = encoders.codec.moments(pixels)
    noise = torch.randn(mean.shape, generator=torch.Generator().manual_seed(3))
    expected = (mean + std * noise) * ENCODERS.codec.scaling_factor
    torch.testing.assert_close(encoders.latents(pixels, noise), expected)
    torch.testing.assert_close(encoders.latents(pixels, None), mean * ENCODERS.codec.scaling_factor)
    images = encoders.images(encoders.latents(pixels, None))
    assert images.shape == (2, 3, 16, 16)
    assert 0.0 <= float(images.min()) <= float(images.max()) <= 1.0


def test_levels_are_truncated() -> None:
    assert to_levels(torch.tensor([0.0, 0.999, 1.0, 127.9 / 255])).tolist() == [0, 254, 255, 127]


def test_a_prompt_must_fit_its_window() -> None:
    with pytest.raises(ConfigError, match="5 tokens, the window 4"):
        ConditionEncoders(replace(ENCODERS, prompt_ids=(1, 2, 3, 4, 5)))
