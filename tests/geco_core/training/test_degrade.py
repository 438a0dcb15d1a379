"""Views made a little worse: which, how much, and nothing else."""

from __future__ import annotations

import pytest
import torch

from geco_core.training.degrade import degrade_views


def views(count: int = 4) -> torch.Tensor:
    return torch.rand(count, 6, 3, 8, 8, generator=torch.Generator().manual_seed(0))


def generator(seed: int = 1) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_nothing_is_changed_at_share_zero_nor_ever_in_place() -> None:
    given = views()
    before = given.clone()
    same = degrade_views(given, 0.0, 0.5, generator())
    assert torch.equal(same, given)
    assert same.data_ptr() != given.data_ptr()
    changed = degrade_views(given, 1.0, 0.5, generator())
    assert torch.equal(given, before)
    assert all(not torch.equal(a, b) for a, b in zip(changed, given, strict=True))
    assert 0.0 <= float(changed.min()) < float(changed.max()) <= 1.0


def test_about_the_share_of_the_objects_is_changed() -> None:
    given = views(300)
    found = degrade_views(given, 0.3, 0.1, generator())
    changed = (found != given).flatten(1).any(1).float().mean()
    assert float(changed) == pytest.approx(0.3, abs=0.07)


def test_blur_without_noise_mixes_with_the_mean_of_the_neighbours() -> None:
    given = views(1)
    found = degrade_views(given, 1.0, 0.0, generator())
    inner = torch.stack(
        [given[..., 1 + i : 7 + i, 1 + j : 7 + j] for i in (-1, 0, 1) for j in (-1, 0, 1)]
    ).mean(0)
    change, full = (found - given)[..., 1:7, 1:7], inner - given[..., 1:7, 1:7]
    mix = float((change * full).sum() / full.square().sum())
    assert 0.05 < mix < 1.0
    torch.testing.assert_close(change, mix * full, rtol=0, atol=1e-5)


def test_even_pictures_get_noise_up_to_the_level() -> None:
    even = torch.full((200, 6, 3, 8, 8), 0.5)
    assert torch.allclose(degrade_views(even, 1.0, 0.0, generator()), even)
    spread = degrade_views(even, 1.0, 0.1, generator()).flatten(1).std(1)
    assert 0.08 < float(spread.max()) < 0.11
    assert float(spread.min()) < 0.02


def test_it_is_a_function_of_the_generator() -> None:
    first, again, other = (degrade_views(views(), 0.5, 0.1, generator(s)) for s in (1, 1, 2))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
