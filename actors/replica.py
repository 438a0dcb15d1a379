"""The Ray actor: one loaded system pinned to its share of a device, running at most two shards at a
time.

SIGTERM, which machines send before they go down, means what `abandon` means: save the finished rows
and give the shards back.

Errors travel back as values. An exception that crosses Ray comes back as another class with another
traceback; a value stays what it is. Only the death of the process is reported by Ray itself.
"""

from __future__ import annotations

import os
import signal
import socket
import sys
import threading
import traceback
from dataclasses import dataclass

import ray

from actors.finishing import warm_up
from actors.memory import limit_memory
from actors.shard_worker import Abandoned, ShardTask, Worker, run_shard
from actors.spec import WorkerSpec, build_worker, finishes_itself
from actors.watchdog import Watchdog
from geco_core.errors import Fatal, Retryable
from infra.dataset import ShardSummary

MAX_CONCURRENCY = 3  # two shards, and whatever has to be said to their replica
THREAD_VARIABLES = (
    "OMP_NUM_THREADS",
    "MKL_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "NUMBA_NUM_THREADS",
)


@dataclass(frozen=True)
class Placed:
    """The process of the replica runs: `name` is its host and process, `node` its node's id."""

    name: str
    node: str


@dataclass(frozen=True)
class Ready:
    """The replica has loaded its system; `name` is its host and process."""

    name: str


@dataclass(frozen=True)
class Failure:
    """Something went wrong in a living replica.

    Attributes:
        kind: `fatal` ends the run, `store` asks for another try, `process` means this replica must
            be replaced, `abandoned` that the shard was given back on request.
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
        self._stopping = threading.Event()
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGTERM, lambda *_: self._stopping.set())

    def place(self) -> Placed:
        """Where the replica runs: the first thing it is asked."""
        return Placed(_name(), ray.get_runtime_context().get_node_id())

    def abandon(self) -> None:
        """Make the shards in flight, and all later ones, save their rows and come back."""
        self._stopping.set()

    def ping(self, start_timeout_s: float, threads: int) -> Ready | Failure:
        """Load the system, once; only then is the replica given work.

        Args:
            start_timeout_s: the process is ended when loading takes longer.
            threads: torch threads; the OpenMP variables are set by the runtime environment before
                any import.
        """
        watchdog = Watchdog()
        try:
            with watchdog.guard(start_timeout_s):
                worker = build_worker(self._spec, name=_name(), watchdog=watchdog)
                worker.stopping = self._stopping
                _limit_torch_threads(threads)
                if not finishes_itself(self._spec):
                    warm_up(worker.finish, worker.settings.thumbnail_size)
                limit_memory(self._spec.settings.replica_memory_mb)
        except Exception as error:  # noqa: BLE001 - the process border
            return _failure(error)
        self._worker = worker
        return Ready(_name())

    def run(self, task: ShardTask) -> ShardSummary | Failure:
        """Run one shard."""
        assert self._worker is not None
        try:
            return run_shard(task, self._worker)
        except Abandoned as given_back:
            return Failure("abandoned", str(given_back), "", "")
        except Exception as error:  # noqa: BLE001 - the process border
            return _failure(error)


def thread_environment(threads: int) -> dict[str, str]:
    """Environment variables of a replica's process.

    Libraries count their threads when they are imported, so these must be there before.
    """
    return dict.fromkeys(THREAD_VARIABLES, str(threads))


def _name() -> str:
    return f"{socket.gethostname()}:{os.getpid()}"


def _failure(error: Exception) -> Failure:
    trace = "".join(traceback.format_exception(error))
    if isinstance(error, Fatal):
        return Failure("fatal", error.message, error.remedy, trace)
    if isinstance(error, Retryable):
        return Failure("store", error.message, error.remedy, trace)
    return Failure("process", f"{type(error).__name__}: {error}", "", trace)


def _limit_torch_threads(threads: int) -> None:
    torch = sys.modules.get("torch")
    if torch is not None:
        torch.set_num_threads(threads)
