"""What is drawn for a row, and what it does to the pictures."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from geco_core.config.train import ExamplesConfig
from geco_core.imaging.relabel import training_frames
from geco_core.training.augment import Augmentation, augment, draw_augmentation
from geco_core.training.crm_folder import CrmFolder, CrmObject
from tests.support.tiny_training import objects

ORDER = (1, 2, 3, 4, 5, 0)
CONFIG = ExamplesConfig(fronts=(0, 1, 3, 4))


@pytest.fixture(scope="module")
def made() -> CrmObject:
    folder = CrmFolder(objects(1))
    return folder.read(folder.train[0])


def test_draws_are_a_function_of_seed_step_and_place() -> None:
    first = draw_augmentation(1, 2, 3, CONFIG)
    assert first == draw_augmentation(1, 2, 3, CONFIG)
    others = [draw_augmentation(*key, CONFIG) for key in ((0, 2, 3), (1, 3, 3), (1, 2, 4))]
    assert first not in others


def test_draws_cover_their_ranges() -> None:
    drawn = [draw_augmentation(0, step, 0, CONFIG) for step in range(400)]
    assert {d.front for d in drawn} == {0, 1, 3, 4}
    ratios = [d.ratio for d in drawn]
    assert 0.475 <= min(ratios) < 0.5
    assert 0.92 < max(ratios) <= 0.95
    greys = [d.background for d in drawn]
    assert min(greys) < 10
    assert max(greys) > 245
    strokes = [d.stroke for d in drawn if d.stroke]
    assert 0.4 < len(strokes) / len(drawn) < 0.6
    assert {thickness for _, thickness in strokes} == {1, 2, 3}
    assert not any(
        draw_augmentation(0, k, 0, replace(CONFIG, stroke_share=0.0)).stroke for k in range(20)
    )


@pytest.mark.parametrize("front", range(6))
def test_pictures_are_those_of_the_published_transforms(made: CrmObject, front: int) -> None:
    assert made.ccms is not None
    drawn = Augmentation(front, 0.7, 40.0)
    wanted = training_frames(made.views, made.ccms, front, order=ORDER, ratio=0.7, background=40.0)
    found = augment(made, drawn, ORDER)
    assert found.ccms is not None
    assert np.array_equal(found.views, wanted.pixels)
    assert np.array_equal(found.ccms, wanted.ccms)
    assert np.array_equal(found.condition, wanted.condition)


def test_an_outline_is_drawn_on_the_condition_alone(made: CrmObject) -> None:
    plain = Augmentation(1, 1.0, 127.0)
    stroked = replace(plain, stroke=((255, 0, 0), 2))
    before, after = (augment(made, drawn, ORDER) for drawn in (plain, stroked))
    assert np.array_equal(before.views, after.views)
    changed = (before.condition != after.condition).any(axis=-1)
    assert changed.any()
    assert (after.condition[changed] == (255, 0, 0)).all()


def test_maps_are_not_made_where_they_were_not_read(made: CrmObject) -> None:
    assert augment(replace(made, ccms=None), Augmentation(), ORDER).ccms is None
