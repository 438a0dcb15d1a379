"""A process that may not take more gets an error it can name."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

from actors.memory import data_bytes, is_out_of_memory

SCRIPT = """
import json, sys
import numpy as np
from actors.memory import limit_memory, is_out_of_memory
ballast = np.ones(100 << 20, np.uint8)
limit_memory(int(sys.argv[1]) if sys.argv[1] != "none" else None)
found = []
for mb in (50, 150):
    try:
        np.ones(mb << 20, np.uint8)
        found.append("fits")
    except MemoryError as error:
        found.append("memory" if is_out_of_memory(error) else "other")
print(json.dumps(found))
"""


def outcome(limit: str) -> list[str]:
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, limit],
        cwd=Path(__file__).parents[2],
        capture_output=True,
        text=True,
        check=True,
    )
    return json.loads(done.stdout)


def test_the_limit_is_on_top_of_what_is_there() -> None:
    assert outcome("100") == ["fits", "memory"]
    assert outcome("none") == ["fits", "fits"]


def test_what_counts_is_what_was_asked_for() -> None:
    before = data_bytes()
    block = bytearray(64 << 20)
    assert data_bytes() - before >= len(block)


class OutOfMemoryError(RuntimeError):
    """Named like the one of torch."""


def test_errors_of_all_libraries_are_known() -> None:
    allocator = "[enforce fail at alloc_cpu.cpp:127] DefaultCPUAllocator: can't allocate memory"
    for error in (MemoryError(), OutOfMemoryError("CUDA"), RuntimeError(allocator)):
        assert is_out_of_memory(error)
    for error in (RuntimeError("CUDA error: launch failure"), ValueError("can't allocate memory")):
        assert not is_out_of_memory(error)
