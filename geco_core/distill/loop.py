"""The loop around a trainer: continue, step, save, tell.

It runs in one process or in many that train together, knows neither Ray nor storage, and asks for
what it needs by protocols. What ends it early is a wish (`stop`), heard at the next step boundary:
the state is saved first, so that nothing is lost.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from geco_core.distill.resume import Checkpoints, Trainer
from geco_core.distill.world import World

Sheet = Callable[[], np.ndarray]


@dataclass(frozen=True)
class LoopSettings:
    """When what happens, in steps.

    Attributes:
        steps: updates of the whole training.
        batch_size: rows of the global batch, for the throughput.
        checkpoint_every, log_every: steps between checkpoints and between reports.
        sample_every: steps between sample sheets; 0 makes none.
    """

    steps: int
    batch_size: int = 1
    checkpoint_every: int = 250
    log_every: int = 25
    sample_every: int = 0


@dataclass(frozen=True)
class LoopResult:
    """Where a loop ended.

    Attributes:
        step: updates made so far, over all attempts.
        first: of them, those that were there when this loop began.
        complete: whether all are made.
    """

    step: int
    first: int
    complete: bool


class Events(Protocol):
    """Hears what happens; the first process's is the one that counts."""

    def emit(self, kind: str, step: int, numbers: Mapping[str, float | str]) -> None:
        """Something happened after `step` updates.

        Kinds: `started`, `damaged` (a checkpoint was passed over), `train` (means since the last
        report), `samples`, `checkpoint`, `stopped`, `finished`.
        """
        ...

    def sheet(self, step: int, image: np.ndarray) -> None:
        """A sample sheet, uint8 [H, W, 3]."""
        ...

    def flush(self) -> None:
        """Make what was emitted durable."""
        ...


class NoEvents:
    """Hears nothing: what the other processes are given."""

    def emit(self, kind: str, step: int, numbers: Mapping[str, float | str]) -> None:
        """See `Events`."""

    def sheet(self, step: int, image: np.ndarray) -> None:
        """See `Events`."""

    def flush(self) -> None:
        """See `Events`."""


def run_loop(
    trainer: Trainer,
    settings: LoopSettings,
    checkpoints: Checkpoints,
    events: Events,
    stop: Callable[[], bool],
    *,
    world: World | None = None,
    sheet: Sheet | None = None,
    clock: Callable[[], float] = time.perf_counter,
) -> LoopResult:
    """Train until all steps are made or somebody wishes to stop.

    Args:
        trainer: what is trained.
        settings: when what happens.
        checkpoints: continued from, and written to.
        events: told what happens.
        stop: asked after every step, in every process; one wish is enough.
        world: the processes that train together; this one alone when None.
        sheet: makes a sample sheet; called by the first process only.
        clock: seconds, for throughput.

    Raises:
        Fatal: a loss became non-finite, or a checkpoint does not fit.
        Retryable: the store failed.
    """
    world = world or World()
    begun = clock()
    first, problems = checkpoints.resume(trainer)
    for problem in problems:
        events.emit("damaged", first, {"problem": problem})
    events.emit("started", first, {"world": world.size, "resume_s": clock() - begun})
    events.flush()
    meter, done = _Meter(settings.batch_size, clock), first
    for step in range(first, settings.steps):
        meter.add(trainer.step(step))
        done, last = step + 1, step + 1 == settings.steps
        wish = world.agree(stop())
        ends = last or wish
        if ends or done % settings.log_every == 0:
            events.emit("train", done, meter.read())
        with meter.paused():
            if sheet and settings.sample_every and (last or done % settings.sample_every == 0):
                _show(done, sheet, events, clock)
            if ends or done % settings.checkpoint_every == 0:
                _save(done, trainer, checkpoints, events, clock)
        if wish:
            break
        if not ends and done % settings.log_every == 0:
            events.flush()
    complete = done >= settings.steps
    events.emit("finished" if complete else "stopped", done, {})
    events.flush()
    return LoopResult(done, first, complete)


def _show(step: int, sheet: Sheet, events: Events, clock: Callable[[], float]) -> None:
    begun = clock()
    image = sheet()
    events.sheet(step, image)
    events.emit("samples", step, {"seconds": clock() - begun})


def _save(
    step: int,
    trainer: Trainer,
    checkpoints: Checkpoints,
    events: Events,
    clock: Callable[[], float],
) -> None:
    begun = clock()
    checkpoints.save(step, trainer)
    events.emit("checkpoint", step, {"seconds": clock() - begun})


class _Meter:
    """Means of the numbers since the last report, and the throughput of the steps alone."""

    def __init__(self, batch_size: int, clock: Callable[[], float]) -> None:
        self._batch_size, self._clock = batch_size, clock
        self._values: dict[str, list[float]] = {}
        self._count, self._begun = 0, clock()

    def add(self, numbers: Mapping[str, float]) -> None:
        for key, value in numbers.items():
            self._values.setdefault(key, []).append(value)  # not every step has every number
        self._count += 1

    def read(self) -> dict[str, float]:
        """Means, `steps_per_s` and `samples_per_s`; then begins anew."""
        per_s = self._count / max(self._clock() - self._begun, 1e-9)
        means = {key: sum(values) / len(values) for key, values in self._values.items()}
        self._values, self._count, self._begun = {}, 0, self._clock()
        return means | {"steps_per_s": per_s, "samples_per_s": per_s * self._batch_size}

    @contextlib.contextmanager
    def paused(self) -> Iterator[None]:
        """Sheets and checkpoints are no steps: their time does not count."""
        begun = self._clock()
        yield
        self._begun += self._clock() - begun
