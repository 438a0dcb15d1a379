"""The nouns of a graph of durable steps: a step, what it is given, what it gives, where it is."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Protocol

from actors.stop import Stop
from geco_core.errors import ForgeError
from infra.stages import FOLDER, work_folder
from infra.storage import Storage
from workflows.dag_record import StepRecord


class StepState(StrEnum):
    """Where a step is; the last five are final for a command."""

    WAITING = "waiting"
    RUNNING = "running"
    KEPT = "done before"
    DONE = "done now"
    FAILED = "failed"
    SKIPPED = "skipped"
    STOPPED = "stopped"


@dataclass(frozen=True)
class StepOutputs:
    """What a step made.

    Attributes:
        values: told to later steps, plain data; files by their key in the run folder.
        digests: key in the run folder -> sha256, of the files that make the step done.
        work: `{"unit": "step", "count": 500}`, for rates.
    """

    values: Mapping[str, Any] = field(default_factory=dict)
    digests: Mapping[str, str] = field(default_factory=dict)
    work: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class StepContext:
    """What a running step is given.

    Attributes:
        name, fingerprint: of the step.
        storage: of the run folder.
        inputs: needed step -> the `values` of its outputs.
        stop: to be watched; a step that stops early returns None.
    """

    name: str
    fingerprint: str
    storage: Storage
    inputs: Mapping[str, Mapping[str, Any]]
    stop: Stop

    def key(self, path: str = "") -> str:
        """Key in the run folder of a file of this step."""
        return f"{work_folder(self.name, self.fingerprint)}/{path}".rstrip("/")

    def uri(self, key: str) -> str:
        """Address of a key of the run folder."""
        return f"{self.storage.uri.rstrip('/')}/{key}"

    def address(self, output: str) -> str:
        """Address of an output, which is a key of the run folder or an address of its own."""
        return self.uri(output) if output.startswith(f"{FOLDER}/") else output


@dataclass(frozen=True)
class Step:
    """A durable step.

    Attributes:
        name: unique in the graph; a folder is called so.
        run: makes it, or goes on with what an earlier command left; None when it was stopped.
        needs: names of the steps whose outputs it reads.
        reads: the configuration that decides what it makes, plain data. How it is executed (number
            of processes, intervals of checkpoints) does not belong here.
        version: raised when a change of the code changes what it makes.
    """

    name: str
    run: Callable[[StepContext], StepOutputs | None]
    needs: tuple[str, ...] = ()
    reads: Mapping[str, Any] = field(default_factory=dict)
    version: int = 1


class Listener(Protocol):
    """Hears how the steps go on, in the thread of `run_dag`."""

    def on_state(self, name: str, state: StepState, text: str) -> None:
        """A step is in another state; `text` is the error of a failed one."""
        ...

    def tick(self) -> None:
        """A fifth of a second is over."""
        ...


@dataclass
class DagResult:
    """How a command ended.

    Attributes:
        states: of every step.
        records: of the steps that are done.
        errors: of the steps that failed.
    """

    states: dict[str, StepState]
    records: dict[str, StepRecord] = field(default_factory=dict)
    errors: dict[str, Exception] = field(default_factory=dict)

    @property
    def complete(self) -> bool:
        """Every step is done."""
        return all(state in {StepState.KEPT, StepState.DONE} for state in self.states.values())


def error_text(error: Exception | None) -> str:
    """What went wrong, in a line; with the type of errors that were not raised on purpose."""
    if error is None:
        return ""
    return error.message if isinstance(error, ForgeError) else f"{type(error).__name__}: {error}"
