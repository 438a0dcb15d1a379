"""Sample sheets: the same picture for the same weights, and training left as it was."""

from __future__ import annotations

import numpy as np
import torch

from geco_core.distill.samples import CELL, sheet, stage1_sheet, stage2_sheet
from tests.geco_core.distill import test_stage1_trainer as one
from tests.geco_core.distill import test_stage2_trainer as two


def test_stage1_shows_condition_and_views() -> None:
    trainer = one.new_trainer()
    before = one.weights(trainer)
    first = stage1_sheet(trainer, trainer._data, 3)
    assert first.shape == (3 * CELL, 7 * CELL, 3)
    assert np.array_equal(first, stage1_sheet(trainer, trainer._data, 3))
    assert all(torch.equal(v, before[k]) for k, v in one.weights(trainer).items())
    trainer.step(0)
    later = stage1_sheet(trainer, trainer._data, 3)
    assert not np.array_equal(first, later)
    assert np.array_equal(first[:, :CELL], later[:, :CELL])  # the condition stays


def test_stage2_shows_condition_targets_and_ours() -> None:
    trainer = two.new_trainer()
    before = two.weights(trainer)
    first = stage2_sheet(trainer, trainer._data, 2)
    assert first.shape == (2 * CELL, (1 + 3 + 3) * CELL, 3)
    assert all(torch.equal(v, before[k]) for k, v in two.weights(trainer).items())
    trainer.step(0)
    later = stage2_sheet(trainer, trainer._data, 2)
    assert np.array_equal(first[:, : 4 * CELL], later[:, : 4 * CELL])
    assert not np.array_equal(first[:, 4 * CELL :], later[:, 4 * CELL :])


def test_no_more_rows_than_there_are() -> None:
    trainer = two.new_trainer()
    assert stage2_sheet(trainer, trainer._data, 50).shape[0] == 6 * CELL


def test_cells_lie_in_rows_of_objects() -> None:
    images = torch.zeros(2, 3, 3, 8, 8)
    images[1, 2, 0] = 1.0
    made = sheet([images])
    assert made[CELL:, 2 * CELL :, 0].min() == 255
    assert made.sum() == 255 * CELL * CELL
