"""Dice and colours."""

from __future__ import annotations

from itertools import combinations

import numpy as np

from geco_core.shapes.palette import COLORS, Dice


def test_twelve_colors_stay_apart_in_any_light() -> None:
    assert len(COLORS) == 12
    shades = np.linspace(0.62, 1.0, 5)
    for (_, first), (_, second) in combinations(COLORS.items(), 2):
        a, b = (shades[:, None] * np.array(c) for c in (first, second))
        assert np.linalg.norm(a[:, None] - b[None], axis=-1).min() > 0.07


def test_white_is_visible_on_white() -> None:
    assert max(COLORS["white"]) < 0.9


def test_dice_repeat_and_stay_in_range() -> None:
    first, second = Dice(7), Dice(7)
    draws = [first.between(-2.0, 3.0) for _ in range(200)]
    assert draws == [second.between(-2.0, 3.0) for _ in range(200)]
    assert -2.0 <= min(draws) < -1.8
    assert 2.8 < max(draws) < 3.0
    assert Dice(8).unit() != Dice(7).unit()


def test_colors_do_not_repeat_until_used_up() -> None:
    dice = Dice(0)
    names = [dice.color() for _ in range(12)]
    assert sorted(names) == sorted(COLORS)
    assert dice.color("red", "blue") in {"red", "blue"}


def test_streams_are_the_documented_ones() -> None:
    """PCG64 doubles: a NumPy that drew other numbers would change every object."""
    np.testing.assert_allclose(
        [Dice(0).unit(), Dice(12345).unit()], [0.6369616873214543, 0.22733602246716966], rtol=1e-15
    )
