"""Learners side by side: equal time for all, by turns, scored with averaged weights."""

from __future__ import annotations

from collections.abc import Mapping

import pytest
import torch
from torch import Tensor, nn

from geco_core.evaluate.convergence import (
    Learner,
    Point,
    RaceConfig,
    curves,
    race,
    seconds_to,
)
from geco_core.training.loop import LoopConfig

LOOP = LoopConfig(learning_rate=0.1, ema_decay=0.5, bfloat16=False)
CONFIG = RaceConfig(budget_s=12.0, slice_s=2.0, marks_s=(6.0,))


class Clock:
    """Time that passes when a learner says so; `turns` notes who worked."""

    def __init__(self) -> None:
        self.now, self.turns = 0.0, ""

    def __call__(self) -> float:
        return self.now


class Bowl:
    """A weight that is drawn to 1; a step takes `cost` seconds."""

    def __init__(self, clock: Clock, name: str, cost: float) -> None:
        self.model = nn.Linear(1, 1, bias=False)
        nn.init.zeros_(self.model.weight)
        self.clock, self.name, self.cost = clock, name, cost

    def loss(self, step: int, generator: torch.Generator) -> tuple[Tensor, Mapping[str, float]]:
        self.clock.now += self.cost
        self.clock.turns += self.name
        return (self.model.weight - 1.0).square().sum(), {}


def learner(task: Bowl, seen: list[tuple[str, bool, float]]) -> Learner:
    def score(last: bool) -> Tensor:
        task.clock.now += 100.0  # evaluation takes long, and does not count
        assert not task.model.training
        seen.append((task.name, last, float(task.model.weight.detach())))
        return torch.full((3,), float(task.model.weight))

    return Learner(task.name, task, LOOP, score)


@pytest.fixture
def clock() -> Clock:
    return Clock()


def run(clock: Clock, costs: Mapping[str, float]) -> tuple[list[Point], list, list[Bowl]]:
    tasks, seen = [Bowl(clock, name, cost) for name, cost in costs.items()], []
    points = race([learner(t, seen) for t in tasks], CONFIG, lambda _: None, clock)
    return points, seen, tasks


def test_everyone_gets_the_same_time(clock: Clock) -> None:
    points, seen, _ = run(clock, {"a": 1.0, "b": 3.0})
    assert [(p.name, p.mark_s, p.spent_s, p.steps) for p in points] == [
        ("a", 6.0, 6.0, 6),
        ("b", 6.0, 6.0, 2),
        ("a", 12.0, 12.0, 12),
        ("b", 12.0, 12.0, 4),
    ]
    assert [(name, last) for name, last, _ in seen] == [
        ("a", False),
        ("b", False),
        ("a", True),
        ("b", True),
    ]


def test_they_take_turns(clock: Clock) -> None:
    run(clock, {"a": 1.0, "b": 3.0})
    assert clock.turns == "aabaabaa" + "aabaabaa"


def test_scores_are_of_averaged_weights_which_do_not_stay(clock: Clock) -> None:
    points, seen, (task,) = run(clock, {"a": 4.0})
    trained = float(task.model.weight.detach())
    assert 0.0 < seen[-1][2] < trained
    assert points[-1].scores == (seen[-1][2],) * 3


def test_the_rate_rises_and_falls_to_nothing() -> None:
    config = RaceConfig(budget_s=100.0, warmup_share=0.1)
    rates = [config.rate(2.0, spent) for spent in (0.0, 5.0, 10.0, 55.0, 100.0, 101.0)]
    assert rates == pytest.approx([0.2, 2.0 * 0.55 * 0.95, 1.8, 0.9, 0.0, 0.0])


def test_the_end_is_always_scored() -> None:
    assert RaceConfig(budget_s=40.0, marks_s=(30.0, 15.0, 60.0)).marks() == [15.0, 30.0, 40.0]
    with pytest.raises(ValueError, match="positive"):
        RaceConfig(budget_s=0.0)


def test_curves_are_over_the_objects_of_every_mark() -> None:
    points = [
        Point("a", 1.0, 1.5, 3, (0.2, 0.4)),
        Point("b", 1.0, 1.0, 9, (0.0, 0.2)),
        Point("a", 2.0, 2.5, 5, (0.6, 0.8, 0.0)),
        Point("b", 2.0, 2.0, 18, (0.4, 0.6, 1.0)),
    ]
    found = curves(points)
    assert [mark["score"] for mark in found["a"]] == pytest.approx([0.3, 0.7])
    assert found["b"][1] == {"cpu_s": 2.0, "steps": 18, "score": pytest.approx(0.5)}
    assert seconds_to(found["a"], 0.5) == 2.5
    assert seconds_to(found["b"], 0.51) == float("inf")
