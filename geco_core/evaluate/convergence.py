"""Learners trained side by side on one processor, compared at equal CPU time.

Seconds are CPU seconds of this process (`time.process_time`), which other programs on the machine
do not add to, and the learners take turns in short slices, so that whatever slows the machine slows
all of them alike. Evaluation is not counted. Scores are those of the averaged weights.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor

from geco_core.training.loop import Ema, LoopConfig, Trainable, make_optimizer, train_step


@dataclass(frozen=True)
class RaceConfig:
    """How long, and when to look.

    Attributes:
        budget_s: CPU seconds of training per learner.
        slice_s: CPU seconds that a learner trains before the next one's turn.
        marks_s: when to score, ascending; the budget's end is always scored.
        warmup_share: of the budget, in which the learning rate rises linearly; it then falls
            linearly to zero at the end.
    """

    budget_s: float = 300.0
    slice_s: float = 5.0
    marks_s: tuple[float, ...] = (15.0, 30.0, 60.0, 90.0, 120.0, 150.0, 180.0, 210.0, 240.0, 270.0)
    warmup_share: float = 0.05

    def __post_init__(self) -> None:
        if min(self.budget_s, self.slice_s, self.warmup_share, *self.marks_s) <= 0:
            raise ValueError("budget, slices, marks and warm-up must be positive")

    def marks(self) -> list[float]:
        """When to score: the marks before the end, and the end."""
        return [mark for mark in sorted(self.marks_s) if mark < self.budget_s] + [self.budget_s]

    def rate(self, peak: float, spent_s: float) -> float:
        """Learning rate of a step that begins after `spent_s`; a tenth of the peak at first."""
        spent = spent_s / self.budget_s
        rise = min(1.0, 0.1 + 0.9 * spent / self.warmup_share)
        return peak * rise * max(0.0, 1.0 - spent)


@dataclass(frozen=True)
class Learner:
    """Who takes part.

    Attributes:
        name: in the results.
        task: module and loss.
        loop: its recipe. Rate, optimiser, averaging and seed are read; steps and schedule are not,
            the race has its own.
        score: one number per held-out object of the task's model; told whether it is the last time.
    """

    name: str
    task: Trainable
    loop: LoopConfig
    score: Callable[[bool], Tensor]


@dataclass(frozen=True)
class Point:
    """A learner at a mark.

    Attributes:
        name: of the learner.
        mark_s: the mark.
        spent_s: CPU seconds spent when scored: the step that passes a mark is finished.
        steps: updates made.
        scores: one per held-out object.
    """

    name: str
    mark_s: float
    spent_s: float
    steps: int
    scores: tuple[float, ...]


def race(
    learners: Sequence[Learner],
    config: RaceConfig,
    report: Callable[[Point], None],
    clock: Callable[[], float] = time.process_time,
) -> list[Point]:
    """Train all learners for the same CPU time, by turns; scores in the order they were taken.

    Raises:
        Fatal: a loss is not finite.
    """
    runners = [_Runner(learner, config, clock) for learner in learners]
    points: list[Point] = []
    for mark_s in config.marks():
        while any(runner.spent_s < mark_s for runner in runners):
            for runner in runners:
                runner.run(min(mark_s, runner.spent_s + config.slice_s))
        for runner in runners:
            points.append(runner.point(mark_s, last=mark_s == config.budget_s))
            report(points[-1])
    return points


def curves(points: Sequence[Point]) -> dict[str, list[dict[str, float]]]:
    """Learner -> its marks in order: `cpu_s`, `steps` and the mean `score`.

    Means are over the objects that were scored at every mark.
    """
    common = min(len(point.scores) for point in points)
    return {
        name: [
            {"cpu_s": p.spent_s, "steps": p.steps, "score": sum(p.scores[:common]) / common}
            for p in points
            if p.name == name
        ]
        for name in dict.fromkeys(point.name for point in points)
    }


def seconds_to(curve: Sequence[Mapping[str, float]], score: float) -> float:
    """CPU seconds of the first mark at which a curve has reached a score; infinite if at none."""
    return next((mark["cpu_s"] for mark in curve if mark["score"] >= score), float("inf"))


class _Runner:
    def __init__(self, learner: Learner, config: RaceConfig, clock: Callable[[], float]) -> None:
        self._learner, self._config, self._clock = learner, config, clock
        self._optimizer = make_optimizer(learner.task.model, learner.loop)
        self._ema = Ema(learner.task.model, learner.loop.ema_decay)
        self.spent_s, self._steps = 0.0, 0

    def run(self, until_s: float) -> None:
        """Whole steps until `until_s` is reached."""
        task, loop = self._learner.task, self._learner.loop
        while self.spent_s < until_s:
            begun = self._clock()
            rate = self._config.rate(loop.learning_rate, self.spent_s)
            train_step(task, loop, self._steps, self._optimizer, rate)
            self._ema.update(task.model, self._steps)
            self._steps += 1
            self.spent_s += self._clock() - begun

    def point(self, mark_s: float, *, last: bool) -> Point:
        with self._averaged(), torch.no_grad():
            scores = tuple(self._learner.score(last).tolist())
        return Point(self._learner.name, mark_s, self.spent_s, self._steps, scores)

    @contextmanager
    def _averaged(self) -> Iterator[None]:
        model = self._learner.task.model
        self._ema.swap(model)
        model.eval()
        try:
            yield
        finally:
            self._ema.swap(model)
