"""A limit on the memory of a process, so that an item that asks for too much gets an error instead
of ending its neighbours, and how such an error looks.

Without a limit, the kernel (or Ray) ends the largest process of the machine, and nobody learns
which item it was.
"""

from __future__ import annotations

import re
import resource
from pathlib import Path

MIB = 1 << 20
_STATUS = Path("/proc/self/status")
_NO_MEMORY = ("can't allocate memory", "DefaultCPUAllocator: not enough memory", "std::bad_alloc")
_DATA = re.compile(r"^VmData:\s+(\d+) kB", re.MULTILINE)


def limit_memory(limit_mb: int | None) -> None:
    """Let this process allocate `limit_mb` more than it has now; None changes nothing.

    Counts what the process asks for, not what it touches: an allocation that does not fit fails at
    once, with `MemoryError` in Python. File mappings (libraries, weights read by memory mapping)
    and device memory do not count.
    """
    if limit_mb is None:
        return
    hard = resource.getrlimit(resource.RLIMIT_DATA)[1]
    limit = data_bytes() + limit_mb * MIB
    if hard != resource.RLIM_INFINITY:
        limit = min(limit, hard)
    resource.setrlimit(resource.RLIMIT_DATA, (limit, hard))


def is_out_of_memory(error: BaseException) -> bool:
    """Whether host or device memory ran out.

    torch's class is named, not imported: this module needs no torch. Its CPU allocator has no class
    of its own.
    """
    if isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError":
        return True
    return isinstance(error, RuntimeError) and any(text in str(error) for text in _NO_MEMORY)


def data_bytes() -> int:
    """Private writable memory of this process as the kernel counts it against the limit."""
    try:
        match = _DATA.search(_STATUS.read_text())
    except OSError:  # no such file system
        match = None
    return int(match[1]) * 1024 if match else 0
