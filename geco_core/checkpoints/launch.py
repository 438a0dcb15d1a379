"""Starting the process that reads a checkpoint, waiting for it, and reading what it left.

The child gets no credentials: almost nothing of the environment. What it leaves may have been
written by code of the file, so its form is checked.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

from geco_core.checkpoints import child
from geco_core.checkpoints.refusals import CheckpointError, Refusal

_MAX_RESULT_BYTES = 64 << 20
_ROOT = Path(__file__).parents[2]
# The child gets no credentials: nothing of the parent's environment but these.
_ENVIRONMENT = ("PATH", "LD_LIBRARY_PATH", "LANG", "SYSTEMROOT")

_REFUSAL_FORM = dict.fromkeys(("refusal", "message", "remedy"), str)
_RECORD_FORM: dict[str, type] = {
    "tensors": int,
    "bytes": int,
    "dtypes": dict,
    "shared": int,
    "dropped": list,
    "pickle_trusted": bool,
    "torch": str,
    "non_finite": dict,
}


def run(scratch: Path, source: Path, timeout_s: float) -> dict[str, Any]:
    """Run the job that lies in `scratch`; returns its record, or a map with a `refusal`.

    Raises:
        CheckpointError: the child died, took too long, or left something else.
    """
    code = start(scratch, timeout_s)
    if code < 0 or not (scratch / child.RESULT).is_file():
        raise _died(source, code, _last_words(scratch))
    return _result(source, scratch)


def start(scratch: Path, timeout_s: float) -> int:
    """Run the child and wait; returns its exit status."""
    environment = {name: os.environ[name] for name in _ENVIRONMENT if name in os.environ}
    environment |= {"PYTHONPATH": str(_ROOT), "HOME": str(scratch), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-P", "-m", child.__name__, str(scratch.resolve())]
    with (scratch / "stderr").open("wb") as errors:
        process = subprocess.Popen(
            command,
            cwd=scratch,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=errors,
            start_new_session=True,
        )
        try:
            return process.wait(timeout_s)
        except subprocess.TimeoutExpired as error:
            raise CheckpointError(
                f"reading it took longer than {timeout_s:g} s",
                refusal=Refusal.TIMED_OUT,
                remedy="give a higher --timeout-s if the file is that large",
            ) from error
        finally:
            _end(process)


def _end(process: subprocess.Popen[bytes]) -> None:
    """End the child and what it may have started."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def _result(source: Path, scratch: Path) -> dict[str, Any]:
    """What the child wrote, if it has a result's form: code of the file may have written it."""
    unreadable = _died(source, 0, "its result is not readable")
    written = scratch / child.RESULT
    if written.stat().st_size > _MAX_RESULT_BYTES:
        raise unreadable
    try:
        result = json.loads(written.read_text())
    except ValueError as error:
        raise unreadable from error
    if not isinstance(result, dict):
        raise unreadable
    forms = _REFUSAL_FORM if "refusal" in result else _RECORD_FORM
    if not all(isinstance(result.get(name), kind) for name, kind in forms.items()):
        raise unreadable
    if "refusal" in result and result["refusal"] not in set(Refusal):
        raise unreadable
    return result


def _last_words(scratch: Path) -> str:
    with (scratch / "stderr").open("rb") as stream:
        stream.seek(max(0, stream.seek(0, os.SEEK_END) - 2000))
        lines = stream.read().decode(errors="replace").strip().splitlines()
    return "".join(c for c in lines[-1] if c.isprintable())[:200] if lines else ""


def _died(source: Path, code: int, words: str) -> CheckpointError:
    if code == -signal.SIGKILL or "MemoryError" in words or "bad_alloc" in words:
        return out_of_memory(source)
    how = signal.Signals(-code).name if code < 0 else f"exit status {code}"
    return CheckpointError(
        f"the process reading {source.name} died ({how}){': ' + words if words else ''}",
        refusal=Refusal.CRASHED,
        remedy="do not use this file; ask its publisher for safetensors",
    )


def out_of_memory(source: Path) -> CheckpointError:
    """The error of a limit on memory that was met."""
    return CheckpointError(
        f"reading {source.name} needs more memory than it may use",
        refusal=Refusal.OUT_OF_MEMORY,
        remedy="give a higher --memory-mb, about twice the size of the file",
    )
