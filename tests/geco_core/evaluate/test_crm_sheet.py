"""The contact sheet: every cell shows what it says."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from geco_core.config.models import ViewRigConfig
from geco_core.errors import BadItem, Reason
from geco_core.evaluate.crm_quality import Made
from geco_core.evaluate.crm_sheet import CELL, save_contact_sheet, sheet_row
from geco_core.multiview.crm import CrmFrames
from geco_core.multiview.ortho_views import FRAME_VIEWS
from geco_core.shapes.object import object_seed

RIG = ViewRigConfig(view_size=16)
SEED = object_seed("heldout", 0)


@pytest.fixture
def row() -> np.ndarray:
    """Frames have the level 20 x (view + 1), maps 100 more; the condition is 7; no mesh."""
    levels = torch.tensor([20 * (view + 1) for view in FRAME_VIEWS], dtype=torch.uint8)
    views = levels.view(1, 6, 1, 1, 1).expand(1, 6, 16, 16, 3)
    nothing = BadItem("empty", reason=Reason.EMPTY_MESH)
    condition = np.full((32, 32, 3), 7, np.uint8)
    made = Made(condition, CrmFrames(views, views + 100), torch.zeros(0), nothing, {})
    return sheet_row(made, SEED, RIG)


def test_cells_lie_in_order(row: np.ndarray) -> None:
    assert row.shape == (CELL, 6 * CELL, 3)
    assert (row[:, :CELL] == 7).all()
    views = row[32::64, CELL + 32 : CELL + 192 : 64, 0]
    assert views.tolist() == [[20, 40, 60], [80, 100, 120]]
    maps = row[32::64, CELL + 224 : CELL + 384 : 64, 0]
    assert maps.tolist() == [[120, 140, 160], [180, 200, 220]]
    assert (row[:, 4 * CELL : 5 * CELL] == 255).all()
    assert row[:, 5 * CELL :].min() < 250


def test_the_sheet_has_two_columns(row: np.ndarray, tmp_path: Path) -> None:
    path = tmp_path / "new" / "sheet.png"
    save_contact_sheet([row] * 3, path)
    with Image.open(path) as sheet:
        pixels = np.asarray(sheet)
    assert (pixels[-2 * CELL : -CELL, : 6 * CELL] == row).all()
    assert (pixels[-2 * CELL : -CELL, -6 * CELL :] == row).all()
    assert (pixels[-CELL:, : 6 * CELL] == row).all()
    assert (pixels[-CELL:, -6 * CELL :] == 255).all()
