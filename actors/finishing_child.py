"""The far side of `actors.finishing`: a process that has everything imported and forks a worker
whenever it is asked for one.

Forking a process that has one thread is safe and takes milliseconds; importing takes seconds. So a
finisher that crashes, hangs or runs out of memory is replaced at once. This module must not start
threads.
"""

from __future__ import annotations

import ctypes
import faulthandler
import gc
import importlib
import json
import os
import resource
import signal
import socket
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn

import numpy as np

from actors import wire
from actors.memory import is_out_of_memory, limit_memory
from actors.traces import keep_trace_digest
from geco_core.types import Mesh

MESSAGE_BYTES = 1 << 16
NO_MEMORY_EXIT = 77
OOM_SCORE = "800"  # of 1000: when memory ends, the kernel takes a finisher before its replica
_PR_SET_PDEATHSIG = 1

TETRAHEDRON = Mesh(
    np.array([[0, 0, 0], [1, 0, 0], [0, 1, 0], [0, 0, 1]], dtype=np.float32),
    np.array([[0, 2, 1], [0, 1, 3], [0, 3, 2], [1, 2, 3]], dtype=np.int32),
)

Function = Callable[..., Any]


def main(control_fd: int, function: str, *, thumbnails: bool) -> None:
    """Serve until the parent closes its end.

    Args:
        control_fd: a SEQPACKET socket to the parent.
        function: `package.module:name` of what finishes a mesh.
        thumbnails: whether to get ready for drawing.
    """
    _leave_signals_to_the_parent()
    control = socket.socket(fileno=control_fd)
    try:
        module, _, name = function.partition(":")
        finish = getattr(importlib.import_module(module), name)
        # What is compiled on first use is compiled before the first fork.
        finish(TETRAHEDRON, item_id="", seed=0, provenance={}, thumbnail_size=16 * thumbnails)
    except Exception as error:  # noqa: BLE001 - the process border
        _tell(control, problem=f"{type(error).__name__}: {error}", trace=traceback.format_exc())
        return
    gc.collect()
    gc.freeze()  # keeps the pages of what is imported shared between the forks
    _tell(control, threads=len(list(Path("/proc/self/task").iterdir())))
    _serve(control, finish)


def _serve(control: socket.socket, finish: Function) -> None:
    workers: set[int] = set()
    while True:
        data, files, _, _ = socket.recv_fds(control, MESSAGE_BYTES, 1)
        if not data:
            break
        request = json.loads(data)
        if request["do"] == "fork":
            pid = os.fork()
            if pid == 0:
                control.close()
                _work(socket.socket(fileno=files[0]), finish, request["memory_mb"])
            os.close(files[0])
            workers.add(pid)
            _tell(control, pid=pid)
        else:
            workers.discard(request["pid"])
            os.kill(request["pid"], signal.SIGKILL)  # a zombie until waited for: the pid is ours
            _tell(control, status=os.waitstatus_to_exitcode(os.waitpid(request["pid"], 0)[1]))
    for pid in workers:
        os.kill(pid, signal.SIGKILL)


def _work(sock: socket.socket, finish: Function, memory_mb: int | None) -> NoReturn:
    """Finish meshes until the parent closes its end, in a forked process."""
    code = 1
    try:
        _die_with_parent()
        faulthandler.enable()
        limit_memory(memory_mb)
        code = _finish_all(sock, finish)
    except MemoryError:
        code = NO_MEMORY_EXIT
    except (EOFError, OSError):
        code = 0
    finally:
        os._exit(code)


def _finish_all(sock: socket.socket, finish: Function) -> int:
    while True:
        mesh, details = wire.receive(sock)
        try:
            answer = finish(mesh, **details)
        except Exception as error:  # noqa: BLE001 - the process border
            answer = _portable(error)
        del mesh
        wire.send(sock, answer)


def _portable(error: Exception) -> Exception:
    """The error without its frames, which hold arrays and can not travel."""
    if is_out_of_memory(error):
        return MemoryError(str(error) or "memory ended")
    keep_trace_digest(error)
    error.add_note("".join(traceback.format_exception(error)))
    try:
        wire.check_portable(error)
    except Exception:  # noqa: BLE001 - whatever a foreign class does when it is copied
        return RuntimeError(f"{type(error).__name__}: {error}")
    return error.with_traceback(None)


def _die_with_parent() -> None:
    parent = os.getppid()
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    if os.getppid() != parent:
        os._exit(0)
    try:
        Path("/proc/self/oom_score_adj").write_text(OOM_SCORE)
    except OSError:  # a hardened container: the kernel then chooses by size
        return


def _leave_signals_to_the_parent() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    hard = resource.getrlimit(resource.RLIMIT_DATA)[1]
    resource.setrlimit(resource.RLIMIT_DATA, (hard, hard))  # the parent's limit is its own


def _tell(control: socket.socket, **message: Any) -> None:
    control.send(json.dumps(message).encode()[:MESSAGE_BYTES])
