"""Durable steps: run what is not done, independent branches at once, and go on around a failure.

A step is done when `stages/<name>/DONE.json` holds its fingerprint (`workflows.dag_record`). The
record is written after everything it names is durable, so that a command that is killed at any
moment leaves steps that are done, and steps that are run again; how much of an unfinished step is
kept is the step's own matter. Each step runs in a thread and supervises its own processes.
"""

from __future__ import annotations

import logging
import queue
import threading
import traceback
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass

from actors.stop import Stop
from geco_core.errors import Fatal, ForgeError
from infra.environment import code_version
from infra.stages import put_done
from infra.storage import Storage
from infra.telemetry import log_event
from workflows.dag_record import StepRecord, ancestors, fingerprints, standing, topological
from workflows.dag_step import (
    DagResult,
    Listener,
    Step,
    StepContext,
    StepOutputs,
    StepState,
    error_text,
)

__all__ = [
    "DagResult",
    "Listener",
    "Step",
    "StepContext",
    "StepOutputs",
    "StepState",
    "error_text",
    "run_dag",
]

log = logging.getLogger(__name__)

_POLL_S = 0.2


def run_dag(
    storage: Storage,
    steps: Sequence[Step],
    stop: Stop,
    *,
    clock: Callable[[], float],
    now: Callable[[], str],
    wanted: Collection[str] | None = None,
    at_once: int = 2,
    listener: Listener | None = None,
) -> DagResult:
    """Run every step that is not done and whose inputs are.

    A step that fails takes its descendants with it; all others go on.

    Args:
        storage: of the run folder; the caller has claimed it.
        steps: the graph.
        stop: asked to stop, no step begins, and running ones end within its time limit.
        clock: monotonic seconds.
        now: the time, ISO 8601.
        wanted: only these steps and what they need; None for all.
        at_once: steps that may run at the same time.
        listener: hears of every change.

    Raises:
        ConfigError: the graph has a circle, or `wanted` an unknown name.
        Fatal: a record in the store is damaged.
    """
    run = _Run(storage, steps, stop, clock, now, listener)
    chosen = ancestors(steps, wanted if wanted is not None else [s.name for s in steps])
    run.go([name for name in topological(steps) if name in chosen], at_once)
    return run.result


@dataclass
class _Run:
    storage: Storage
    steps: Sequence[Step]
    stop: Stop
    clock: Callable[[], float]
    now: Callable[[], str]
    listener: Listener | None

    def __post_init__(self) -> None:
        self.by_name = {step.name: step for step in self.steps}
        self.prints = fingerprints(self.steps)
        self.result = DagResult({step.name: StepState.WAITING for step in self.steps})
        self._ended: queue.Queue[tuple[str, StepOutputs | Exception | None]] = queue.Queue()
        self._begun: dict[str, float] = {}

    def go(self, order: Sequence[str], at_once: int) -> None:
        for name in self.by_name.keys() - set(order):
            del self.result.states[name]
        for name in order:
            self._adopt(name)
        while True:
            self._start(order, at_once)
            if not self._begun:
                break
            self._collect()
            if self.listener is not None:
                self.listener.tick()
            if self.stop.expired:
                break
        final = StepState.STOPPED if self.stop.requested else StepState.SKIPPED
        for name in order:
            if self.result.states[name] in {StepState.WAITING, StepState.RUNNING}:
                self._set(name, final)

    def _adopt(self, name: str) -> None:
        """Take over what an earlier command made, if it is what is wanted now."""
        step = self.by_name[name]
        inputs = {need: self.prints[need] for need in step.needs}
        found = standing(self.storage, step, self.prints[name], inputs)
        if found.done and found.record is not None:
            self.result.records[name] = found.record
            self._set(name, StepState.KEPT)

    def _start(self, order: Sequence[str], at_once: int) -> None:
        states = self.result.states
        gone = {StepState.FAILED, StepState.SKIPPED}
        for name in order:
            if states[name] is not StepState.WAITING:
                continue
            needs = self.by_name[name].needs
            if any(states[need] in gone for need in needs):
                lost = [need for need in needs if states[need] in gone]
                self._set(name, StepState.SKIPPED, f"it needs {' and '.join(lost)}")
            elif self.stop.requested or len(self._begun) >= at_once:
                continue
            elif all(need in self.result.records for need in needs):
                self._begin(name)

    def _begin(self, name: str) -> None:
        step = self.by_name[name]
        context = StepContext(
            name=name,
            fingerprint=self.prints[name],
            storage=self.storage,
            inputs={need: self.result.records[need].outputs for need in step.needs},
            stop=self.stop,
        )
        self._begun[name] = self.clock()
        self._set(name, StepState.RUNNING)
        # A daemon: the second signal ends the program without waiting for anybody.
        target = threading.Thread(
            target=_work, args=(step, context, self._ended), name=f"step-{name}", daemon=True
        )
        target.start()

    def _collect(self) -> None:
        """Wait a moment for a step to end."""
        try:
            name, outcome = self._ended.get(timeout=_POLL_S)
        except queue.Empty:
            return
        seconds = self.clock() - self._begun.pop(name)
        if isinstance(outcome, Exception):
            self._fail(name, outcome)
        elif outcome is None:
            self._set(name, StepState.STOPPED)
        else:
            self._finish(name, outcome, seconds)

    def _finish(self, name: str, outputs: StepOutputs, seconds: float) -> None:
        step = self.by_name[name]
        record = StepRecord(
            name=name,
            fingerprint=self.prints[name],
            version=step.version,
            reads=step.reads,
            inputs={need: self.prints[need] for need in step.needs},
            outputs=outputs.values,
            digests=outputs.digests,
            work=outputs.work,
            seconds=round(seconds, 3),
            finished_at=self.now(),
            code_version=code_version(),
        )
        try:
            put_done(self.storage, name, record.to_json())
        except ForgeError as error:
            self._fail(name, error)
            return
        self.result.records[name] = record
        self._set(name, StepState.DONE)

    def _fail(self, name: str, error: Exception) -> None:
        self.result.errors[name] = error
        trace = "".join(traceback.format_exception(error))
        log_event(log, "step_trace", level=logging.DEBUG, step=name, trace=trace)
        self._set(name, StepState.FAILED, error_text(error))

    def _set(self, name: str, state: StepState, text: str = "") -> None:
        self.result.states[name] = state
        level = logging.ERROR if state is StepState.FAILED else logging.INFO
        extra = {"error" if state is StepState.FAILED else "why": text} if text else {}
        log_event(log, "step", level=level, step=name, state=str(state), **extra)
        if self.listener is not None:
            self.listener.on_state(name, state, text)


def _work(
    step: Step,
    context: StepContext,
    ended: queue.Queue[tuple[str, StepOutputs | Exception | None]],
) -> None:
    """Body of a step's thread: whatever happens, its end is reported."""
    outcome: StepOutputs | Exception | None
    try:
        outcome = step.run(context)
    except Exception as error:  # noqa: BLE001 - the border of the step
        outcome = error
    except BaseException as error:  # noqa: BLE001 - sys.exit or an interrupt inside a library
        outcome = Fatal(f"the step ended by {type(error).__name__}", stage=step.name)
    ended.put((step.name, outcome))
