"""Stages of a recipe: a part that is there is not made again, a finished file is whole."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from geco_core.errors import Fatal
from geco_core.training.stages import PART_ROWS, check_stage, in_parts, save_stage


def test_parts_are_made_once_and_come_in_order(tmp_path: Path) -> None:
    asked: list[int] = []
    told: list[tuple[int, int]] = []
    count = PART_ROWS + 6

    def make(rows: Tensor) -> np.ndarray:
        if len(asked) == 1:
            raise KeyboardInterrupt
        asked.append(len(rows))
        return rows.numpy()[:, None] * 2

    with pytest.raises(KeyboardInterrupt):
        in_parts(tmp_path / "new", count, make, lambda *_: None)

    def again(rows: Tensor) -> np.ndarray:
        asked.append(len(rows))
        return rows.numpy()[:, None] * 2

    found = in_parts(tmp_path / "new", count, again, lambda *at: told.append(at))
    assert asked == [PART_ROWS, 6]
    assert told == [(PART_ROWS, count), (count, count)]
    assert np.array_equal(found[:, 0], np.arange(count) * 2)


def test_a_stage_is_finished_when_its_file_is_there(tmp_path: Path) -> None:
    path = tmp_path / "weights.pt"
    save_stage(path, {"a": torch.arange(3)})
    assert torch.equal(torch.load(path, weights_only=True)["a"], torch.arange(3))
    assert [p.name for p in tmp_path.iterdir()] == ["weights.pt"]


def test_an_unknown_stage_is_refused_with_the_known_ones() -> None:
    check_stage("views", ("cache", "views"))
    with pytest.raises(Fatal, match="veiws") as caught:
        check_stage("veiws", ("cache", "views"))
    assert "cache, views" in caught.value.remedy
