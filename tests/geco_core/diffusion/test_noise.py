"""Noise depends on an item's seed and the stream, not on the batch."""

from __future__ import annotations

import pytest
import torch

from geco_core.diffusion.noise import INITIAL, REFERENCE, ItemNoise, RecordedNoise


def test_a_row_is_the_same_in_any_batch() -> None:
    batch = ItemNoise([11, 12, 13])
    alone = ItemNoise([12])
    for _ in range(3):
        torch.testing.assert_close(
            batch.draw(REFERENCE, (2, 3))[1:2], alone.draw(REFERENCE, (2, 3)), rtol=0, atol=0
        )


def test_streams_do_not_disturb_each_other() -> None:
    one, other = ItemNoise([5]), ItemNoise([5])
    one.draw(REFERENCE, (7,))
    assert torch.equal(one.draw(INITIAL, (4,)), other.draw(INITIAL, (4,)))


def test_draws_seeds_and_streams_differ() -> None:
    noise = ItemNoise([1, 2])
    first, second = noise.draw(INITIAL, (16,)), noise.draw(INITIAL, (16,))
    reference = noise.draw(REFERENCE, (16,))
    for a, b in ((first[0], first[1]), (first, second), (first, reference)):
        assert float((a - b).abs().max()) > 0.1


def test_draws_do_not_touch_the_global_generator() -> None:
    before = torch.get_rng_state()
    ItemNoise([2**63 - 1]).draw(INITIAL, (8,))
    assert torch.equal(before, torch.get_rng_state())


def test_recorded_noise_replays_and_then_refuses() -> None:
    draws = [torch.zeros(1, 2), torch.ones(1, 2)]
    noise = RecordedNoise({INITIAL: draws})
    assert torch.equal(noise.draw(INITIAL, (2,)), draws[0])
    assert torch.equal(noise.draw(INITIAL, (2,)), draws[1])
    with pytest.raises(ValueError, match="none is left"):
        noise.draw(INITIAL, (2,))
    with pytest.raises(ValueError, match="wanted"):
        RecordedNoise({INITIAL: draws}).draw(INITIAL, (3,))
