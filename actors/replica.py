"""The Ray actor: one loaded system pinned to its share of a device, running at most two shards at a
time.

Errors travel back as values. An exception that crosses Ray comes back as another class with another
traceback; a value stays what it is. Only the death of the process is reported by Ray itself.
"""

from __future__ import annotations

import os
import socket
import sys
import traceback
from dataclasses import dataclass

import numpy as np

from actors.shard_worker import ShardTask, Worker, run_shard
from actors.spec import WorkerSpec, build_worker
from actors.watchdog import Watchdog
from geco_core.errors import Fatal, Retryable
from geco_core.types import Mesh
from infra.dataset import ShardSummary

MAX_CONCURRENCY = 2
THREAD_VARIABLES = (
    "OMP_NUM_THREADS",
    "MKL_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "NUMBA_NUM_THREADS",
)


@dataclass(frozen=True)
class Ready:
    """The replica has loaded its system; `name` is its host and process."""

    name: str


@dataclass(frozen=True)
class Failure:
    """Something went wrong in a living replica.

    Attributes:
        kind: `fatal` ends the run, `store` asks for another try, `process` means this replica must
            be replaced.
        message: what happened.
        remedy: what to do about it.
        trace: traceback for --debug.
    """

    kind: str
    message: str
    remedy: str
    trace: str


class Replica:
    """Loads a system on `ping`, runs shards on `run`."""

    def __init__(self, spec: WorkerSpec) -> None:
        self._spec = spec
        self._worker: Worker | None = None

    def ping(self, start_timeout_s: float, threads: int) -> Ready | Failure:
        """Load the system, once; only then is the replica given work.

        Args:
            start_timeout_s: the process is ended when loading takes longer.
            threads: torch threads; the OpenMP variables are set by the runtime environment before
                any import.
        """
        watchdog = Watchdog()
        name = f"{socket.gethostname()}:{os.getpid()}"
        try:
            with watchdog.guard(start_timeout_s):
                self._worker = build_worker(self._spec, name=name, watchdog=watchdog)
                _limit_torch_threads(threads)
                _warm_up(self._worker)
        except Exception as error:  # noqa: BLE001 - the process border
            return _failure(error)
        return Ready(name)

    def run(self, task: ShardTask) -> ShardSummary | Failure:
        """Run one shard."""
        assert self._worker is not None
        try:
            return run_shard(task, self._worker)
        except Exception as error:  # noqa: BLE001 - the process border
            return _failure(error)


def thread_environment(threads: int) -> dict[str, str]:
    """Environment variables of a replica's process.

    Libraries count their threads when they are imported, so these must be there before.
    """
    return dict.fromkeys(THREAD_VARIABLES, str(threads))


def _failure(error: Exception) -> Failure:
    trace = "".join(traceback.format_exception(error))
    if isinstance(error, Fatal):
        return Failure("fatal", error.message, error.remedy, trace)
    if isinstance(error, Retryable):
        return Failure("store", error.message, error.remedy, trace)
    return Failure("process", f"{type(error).__name__}: {error}", "", trace)


def _warm_up(worker: Worker) -> None:
    """Finish a tetrahedron: compilation on first use must not count as the first item's time."""
    vertices = np.array([[0, 0, 0], [1, 0, 0], [0, 1, 0], [0, 0, 1]], dtype=np.float32)
    faces = np.array([[0, 2, 1], [0, 1, 3], [0, 3, 2], [1, 2, 3]], dtype=np.int32)
    size = worker.settings.thumbnail_size
    worker.finish(
        Mesh(vertices, faces),
        item_id="",
        seed=0,
        provenance=worker.context.provenance,
        thumbnail_size=size,
    )


def _limit_torch_threads(threads: int) -> None:
    torch = sys.modules.get("torch")
    if torch is not None:
        torch.set_num_threads(threads)
