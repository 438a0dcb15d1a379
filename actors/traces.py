"""A short name for where an error came from, so that equal faults of many items can be counted."""

from __future__ import annotations

import hashlib
import traceback
from pathlib import Path

_HERE = Path(__file__).parent
_NAME = "trace_digest"


def trace_digest(error: BaseException) -> str:
    """Eight hex digits of the error's class and the functions it passed through.

    The engine's own functions do not count: the same fault has the same name in a batch, alone and
    in a child process.
    """
    known = getattr(error, _NAME, None)
    if known is not None:
        return known
    frames = [
        f"{frame.name}:{frame.lineno}"
        for frame in traceback.extract_tb(error.__traceback__)
        if Path(frame.filename).parent != _HERE
    ]
    text = "\n".join([type(error).__name__, *frames])
    return hashlib.sha256(text.encode()).hexdigest()[:8]


def keep_trace_digest(error: BaseException) -> None:
    """Let the error keep its name where its traceback can not follow it."""
    setattr(error, _NAME, trace_digest(error))
