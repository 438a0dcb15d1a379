"""The training loop: resuming equals never having stopped; schedule, EMA, refusals."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from geco_core.errors import Fatal
from geco_core.training.loop import Ema, LoopConfig, train

CONFIG = LoopConfig(
    steps=12,
    batch_size=4,
    learning_rate=0.05,
    warmup_steps=2,
    decay_steps=4,
    checkpoint_every=3,
    bfloat16=False,
)


class Line:
    """Fit y = 2 x + 1."""

    def __init__(self) -> None:
        self.model = nn.Linear(1, 1)
        with torch.no_grad():
            self.model.weight.fill_(0.0)
            self.model.bias.fill_(0.0)
        self.stop_at: int | None = None

    def loss(self, step: int, generator: torch.Generator) -> tuple[Tensor, Mapping[str, float]]:
        if step == self.stop_at:
            raise KeyboardInterrupt
        x = torch.randn(4, 1, generator=generator)
        return (self.model(x) - 2 * x - 1).square().mean(), {}

    def evaluate(self, step: int, folder: Path) -> Mapping[str, float]:
        return {"weight": float(self.model.weight)}


def _quiet(step: int, numbers: Mapping[str, float]) -> None:
    assert numbers


def test_a_killed_run_resumes_to_the_same_weights(tmp_path: Path) -> None:
    whole = train(Line(), CONFIG, tmp_path / "whole", _quiet, _quiet)
    broken = Line()
    broken.stop_at = 8
    with pytest.raises(KeyboardInterrupt):
        train(broken, CONFIG, tmp_path / "broken", _quiet, _quiet)
    resumed = train(Line(), CONFIG, tmp_path / "broken", _quiet, _quiet)
    for key, value in whole.items():
        torch.testing.assert_close(resumed[key], value, rtol=0, atol=0)


def test_it_learns_and_reports_the_ema(tmp_path: Path) -> None:
    seen: dict[int, float] = {}
    config = replace(CONFIG, steps=300, evaluate_every=300, decay_steps=100)
    state = train(
        Line(), config, tmp_path, _quiet, lambda step, n: seen.update({step: n["weight"]})
    )
    assert seen.keys() == {300}
    assert seen[300] == pytest.approx(float(state["weight"]))
    assert float(state["weight"]) == pytest.approx(2.0, abs=0.05)


def test_the_rate_rises_holds_and_falls() -> None:
    rates = [CONFIG.rate(step) for step in range(CONFIG.steps)]
    assert rates[0] == pytest.approx(0.025)
    assert rates[4] == pytest.approx(0.05)
    assert rates[11] == pytest.approx(0.0125)
    assert min(rates) > 0


def test_a_non_finite_loss_stops_the_run(tmp_path: Path) -> None:
    task = Line()
    with torch.no_grad():
        task.model.weight.fill_(float("nan"))
    with pytest.raises(Fatal, match="step 0"):
        train(task, CONFIG, tmp_path, _quiet, _quiet)


def test_a_foreign_checkpoint_is_refused(tmp_path: Path) -> None:
    train(Line(), CONFIG, tmp_path, _quiet, _quiet)
    other = Line()
    other.model = nn.Linear(2, 1)
    with pytest.raises(Fatal, match="does not fit"):
        train(other, CONFIG, tmp_path, _quiet, _quiet)


def test_swap_twice_restores_the_model() -> None:
    model = nn.Linear(3, 2)
    before = {k: v.clone() for k, v in model.state_dict().items()}
    ema = Ema(model, 0.9)
    with torch.no_grad():
        model.weight.add_(1.0)
    ema.update(model, step=100)
    changed = model.weight.clone()
    ema.swap(model)
    assert not torch.equal(model.weight, changed)
    torch.testing.assert_close(model.weight, before["weight"] + 0.1)
    ema.swap(model)
    torch.testing.assert_close(model.weight, changed, rtol=0, atol=0)
