"""Trainers over a folder: the average stands in for the weights while it is looked at."""

from __future__ import annotations

from copy import deepcopy
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import nn

from geco_core.config.train import ExamplesConfig, UpdatesConfig
from geco_core.distill.world import World
from geco_core.errors import Fatal
from geco_core.training.folder_trainer import FolderTrainer


class Rows:
    """Eight rows, and as many held-out ones as asked for."""

    def __init__(self, heldout: int = 0) -> None:
        self.folder = SimpleNamespace(bad={}, heldout=tuple(range(heldout)))

    def __len__(self) -> int:
        return 8

    def row(self, *_: Any) -> None:
        """Nothing to read."""


class Pull(FolderTrainer[Any, Any]):
    """Pulls one weight to zero."""

    def _gather(self, step: int) -> dict[str, float]:
        loss = self.model.weight.square().sum()
        self._steps.backward(loss, 1.0, step)
        return {"loss": float(loss.detach())}


def trainer(ema_decay: float | None, heldout: int = 0) -> Pull:
    model = nn.Linear(1, 1, bias=False)
    nn.init.ones_(model.weight)
    updates = UpdatesConfig(steps=4, batch_size=2, rate=0.1, ema_decay=ema_decay)
    return Pull(model, Rows(heldout), updates, ExamplesConfig(), 0, World())


def test_the_average_is_shown_and_exported_and_the_weights_come_back() -> None:
    made = trainer(ema_decay=0.9)
    numbers = made.step(0)
    assert numbers["loss"] == 1.0
    assert numbers["norm"] > 0
    weight = made.model.weight.detach().clone()
    average = made.weights()["weight"].clone()
    assert not torch.equal(weight, average)
    with made._averaged():
        assert torch.equal(made.model.weight, average)
    assert torch.equal(made.model.weight, weight)


def test_without_an_average_the_weights_are_exported() -> None:
    made = trainer(ema_decay=None)
    made.step(0)
    assert torch.equal(made.weights()["weight"], made.model.weight)


def test_a_step_goes_on_from_stored_state_as_if_nothing_had_happened() -> None:
    first, other = trainer(0.9), trainer(0.9)
    first.step(0)
    other.load_state_dict(deepcopy(first.state_dict()))  # as a stored one
    assert first.step(1) == other.step(1)
    assert torch.equal(first.model.weight, other.model.weight)
    with pytest.raises(Fatal):
        other.load_state_dict({"weights": {}})


@pytest.mark.parametrize(("heldout", "wanted"), [(0, (range(3), False)), (2, (range(2), True))])
def test_heldout_rows_are_looked_at_where_there_are_any(
    heldout: int, wanted: tuple[range, bool]
) -> None:
    assert trainer(None, heldout)._shown_rows(3) == wanted
