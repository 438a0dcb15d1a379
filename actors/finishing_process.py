"""The near side of the processes that finish meshes: starting them, asking them, ending them."""

from __future__ import annotations

import atexit
import json
import os
import select
import socket
import subprocess
import sys
import tempfile
import threading
from typing import Any, NamedTuple

from actors import wire
from actors.finishing_child import MESSAGE_BYTES
from geco_core.errors import Fatal

CONTROL_TIMEOUT_S = 30.0
TRACE_BYTES = 4096
ONE_THREAD = (
    "OMP_NUM_THREADS",
    "MKL_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "NUMBA_NUM_THREADS",
)
_SECRETS = ("AWS_", "RAY_")
# Before it imports anything it must heed no signals but the death of its parent. The kernel takes
# the parent to be a thread: should that end first, the next mesh starts another process.
_CODE = """
import ctypes, json, os, signal, sys
signal.signal(signal.SIGINT, signal.SIG_IGN)
signal.signal(signal.SIGTERM, signal.SIG_IGN)
ctypes.CDLL(None).prctl(1, signal.SIGKILL, 0, 0, 0)
if os.getppid() != int(sys.argv[5]):
    sys.exit()
sys.path[:] = json.loads(sys.argv[1])
from actors.finishing_child import main
main(int(sys.argv[2]), sys.argv[3], thumbnails=sys.argv[4] == "True")
"""


class Gone(Exception):
    """The process on the other side is not there any more."""


class Kind(NamedTuple):
    """What a nursery has ready: `package.module:name` of what finishes a mesh, and drawing."""

    function: str
    thumbnails: bool = True


class Nursery:
    """The process that forks workers: started once, ends when this process does."""

    def __init__(self, kind: Kind, start_timeout_s: float) -> None:
        """Start it, without waiting until it is ready.

        Args:
            kind: what it gets ready for.
            start_timeout_s: longest time it may take to get ready.
        """
        self._start_timeout_s = start_timeout_s
        self._owner = os.getpid()
        self._lock = threading.Lock()
        self._ready = False
        self._control, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._stderr = tempfile.TemporaryFile("a+b")  # noqa: SIM115 - lives as long as this object
        arguments = [json.dumps(sys.path), str(theirs.fileno()), kind.function]
        self._process = subprocess.Popen(
            [sys.executable, "-c", _CODE, *arguments, str(kind.thumbnails), str(os.getpid())],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=self._stderr,
            pass_fds=[theirs.fileno()],
            env=child_environment(),
            start_new_session=True,  # Ctrl-C in a terminal goes to the whole group
        )
        theirs.close()

    @property
    def pid(self) -> int:
        """Of the process that forks."""
        return self._process.pid

    def fork(self, memory_mb: int | None) -> FinishingWorker:
        """A new worker. Raises `Gone`; `Fatal` when finishing can not even be imported."""
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
        with theirs:
            try:
                answer = self._ask({"do": "fork", "memory_mb": memory_mb}, [theirs.fileno()])
            except BaseException:
                ours.close()
                raise
        return FinishingWorker(self, answer["pid"], ours)

    def end(self, pid: int) -> int:
        """End a worker if it lives; returns its exit code, negative for a signal. Raises `Gone`."""
        return self._ask({"do": "end", "pid": pid}, [])["status"]

    def trace(self) -> str:
        """What the processes wrote to stderr since the last call, the end of it."""
        if self._stderr.closed:
            return ""
        size = os.fstat(self._stderr.fileno()).st_size
        first = max(0, size - TRACE_BYTES)
        text = os.pread(self._stderr.fileno(), size - first, first)
        os.ftruncate(self._stderr.fileno(), 0)
        return text.decode(errors="replace")

    def close(self) -> None:
        """End it and all its workers. A forked copy of this process ends nothing."""
        self._control.close()
        if os.getpid() == self._owner:
            self._process.kill()
            self._process.wait()
        self._stderr.close()

    def _ask(self, request: dict[str, Any], files: list[int]) -> dict[str, Any]:
        with self._lock:
            try:
                self._wait_ready()
                self._control.settimeout(CONTROL_TIMEOUT_S)
                socket.send_fds(self._control, [json.dumps(request).encode()], files)
                data = self._control.recv(MESSAGE_BYTES)
            except OSError as error:
                raise Gone(str(error)) from error
        if not data:
            raise Gone("it closed its end")
        return json.loads(data)

    def _wait_ready(self) -> None:
        if self._ready:
            return
        self._control.settimeout(self._start_timeout_s)
        data = self._control.recv(MESSAGE_BYTES)
        if not data:
            raise Gone("it ended while it started")
        hello = json.loads(data)
        if "problem" in hello:
            raise Fatal(
                f"the finishing process can not start: {hello['problem']}",
                remedy="run `geco doctor`",
                stage="finish",
            )
        self._ready = True


_NURSERIES: dict[Kind, Nursery] = {}
_NURSERIES_LOCK = threading.Lock()


def shared_nursery(kind: Kind, start_timeout_s: float) -> Nursery:
    """The nursery of this process for a kind, started if there is none."""
    with _NURSERIES_LOCK:
        if kind not in _NURSERIES:
            _NURSERIES[kind] = Nursery(kind, start_timeout_s)
        return _NURSERIES[kind]


def forget_nursery(nursery: Nursery) -> None:
    """End a nursery; the next call of `shared_nursery` starts another."""
    with _NURSERIES_LOCK:
        for kind, known in list(_NURSERIES.items()):
            if known is nursery:
                del _NURSERIES[kind]
    nursery.close()


@atexit.register
def _close_all() -> None:
    for nursery in list(_NURSERIES.values()):
        nursery.close()


class FinishingWorker:
    """One forked process that finishes one mesh at a time."""

    def __init__(self, nursery: Nursery, pid: int, sock: socket.socket) -> None:
        self._nursery = nursery
        self._sock = sock
        self._ended = False
        self._exit_code: int | None = None
        self.pid = pid

    @property
    def alive(self) -> bool:
        """Whether its end is open; an idle worker has nothing to say."""
        return not select.select([self._sock], [], [], 0)[0]

    def ask(self, message: Any, deadline: float, clock: wire.Clock) -> Any:
        """Its answer. Raises `TimeoutError`, and `Gone` when it died."""
        try:
            wire.send(self._sock, message, deadline, clock)
            return wire.receive(self._sock, deadline, clock)
        except TimeoutError:
            raise
        except (OSError, EOFError) as error:
            raise Gone(str(error)) from error

    def trace(self) -> str:
        """What it wrote to stderr, as far as nobody asked before."""
        return self._nursery.trace()

    def end(self) -> int | None:
        """End it if it lives; returns its exit code, None when nobody knows any more."""
        if not self._ended:
            self._ended = True
            try:
                self._exit_code = self._nursery.end(self.pid)
            except Gone:
                self._exit_code = None
            self._sock.close()
        return self._exit_code


def child_environment() -> dict[str, str]:
    """One thread, no device, and no credentials beside foreign geometry code."""
    kept = {k: v for k, v in os.environ.items() if not k.startswith(_SECRETS)}
    return {**kept, **dict.fromkeys(ONE_THREAD, "1"), "CUDA_VISIBLE_DEVICES": ""}
