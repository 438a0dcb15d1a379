"""Ways to break an item on purpose, and which items break: the poison of tests and benchmarks.

Every fault does what the real thing does: the process dies of a signal, a C call never returns, an
allocation fails. Which item breaks is a matter of its id alone, so a resumed run meets the same
poison.
"""

from __future__ import annotations

import ctypes
import hashlib
import os
import resource
import signal
import time
from collections.abc import Mapping
from typing import Literal, NoReturn, get_args

import numpy as np

from geco_core.errors import BadItem, Fatal, Reason
from geco_core.types import Mesh

Fault = Literal[
    "prepare",
    "bad_item",
    "generate",
    "non_finite",
    "empty",
    "segfault",
    "hang",
    "fatal",
    "oom",
    "sigkill",
    "hang_python",
    "finish",
]
FAULTS: tuple[str, ...] = get_args(Fault)
REASONS: Mapping[str, Reason] = {
    "prepare": Reason.GENERATION_FAILED,
    "bad_item": Reason.CORRUPT_IMAGE,
    "generate": Reason.GENERATION_FAILED,
    "non_finite": Reason.NON_FINITE,
    "empty": Reason.EMPTY_MESH,
    "segfault": Reason.CRASHED,
    "hang": Reason.TIMED_OUT,
    "oom": Reason.OUT_OF_MEMORY,
    "sigkill": Reason.CRASHED,
    "hang_python": Reason.TIMED_OUT,
    "finish": Reason.CRASHED,
}
IN_PREPARE = frozenset({"prepare", "bad_item"})
IN_MESH = frozenset({"non_finite", "empty", "finish"})
HANG_S = 3600
OOM_STEP_BYTES = 1 << 26
OOM_LIMIT_BYTES = 2 << 30  # where nothing else limits the process: no test needs the whole machine


class DeadlyMesh(Mesh):
    """A mesh that ends the process that looks at its vertices. It may be moved unharmed."""

    def __getattribute__(self, name: str) -> object:
        """Read an attribute; not `vertices`."""
        if name == "vertices":
            _segfault()
        return super().__getattribute__(name)


def check_faults(faults: Mapping[str, object], poison: Mapping[str, object]) -> None:
    """Raises `ValueError` for unknown faults and for shares that do not fit into 1000."""
    for item_id, fault in faults.items():
        if fault not in FAULTS:
            raise ValueError(f"fault {fault!r} of item {item_id!r} is none of {', '.join(FAULTS)}")
    total = 0.0
    for fault, permille in poison.items():
        if fault not in FAULTS:
            raise ValueError(f"poison {fault!r} is none of {', '.join(FAULTS)}")
        if not isinstance(permille, (int, float)) or permille < 0:
            raise ValueError(f"poison.{fault} must be a number of items per 1000, got {permille!r}")
        total += permille
    if total > 1000:
        raise ValueError(f"poison adds up to {total:g} items per 1000")


def fault_of(faults: Mapping[str, str], poison: Mapping[str, float], item_id: str) -> str | None:
    """What is wrong with an item: at most one fault, named ones first."""
    fault = faults.get(item_id)
    if fault is not None or not poison:
        return fault
    digest = hashlib.blake2b(item_id.encode(), digest_size=4).digest()
    place = int.from_bytes(digest, "big") * 1000 / 2**32
    for name in sorted(poison):
        place -= poison[name]
        if place < 0:
            return name
    return None


def break_preparation(fault: str, item_id: str) -> NoReturn:
    """What happens in `prepare`."""
    if fault == "prepare":
        raise ValueError("noop fault in prepare")
    raise BadItem("noop fault", reason=Reason.CORRUPT_IMAGE, item_id=item_id, stage="prepare")


def break_generation(fault: str) -> None:
    """What happens in `generate`."""
    if fault == "generate":
        raise ValueError("noop fault in generate")
    if fault == "fatal":
        raise Fatal("noop fault that stops the run", remedy="remove the fault")
    if fault == "oom":
        _exhaust_memory()
    if fault == "sigkill":
        os.kill(os.getpid(), signal.SIGKILL)
    if fault == "hang":
        # PyDLL keeps the GIL: only a watchdog outside of it can end this.
        ctypes.PyDLL(None).sleep(HANG_S)
    if fault == "hang_python":
        time.sleep(HANG_S)
    if fault == "segfault":
        _segfault()


def broken_mesh(fault: str, mesh: Mesh) -> Mesh:
    """What `generate` returns in place of `mesh`."""
    if fault == "non_finite":
        mesh.vertices[3, 1] = np.nan
        return mesh
    if fault == "empty":
        return Mesh(mesh.vertices[:0], mesh.faces[:0])
    return DeadlyMesh(mesh.vertices, mesh.faces, mesh.colors)


def _segfault() -> None:
    ctypes.string_at(0)  # reads address zero


def _exhaust_memory() -> NoReturn:
    """Allocate until the process may not any more; pages are touched unless a limit counts them."""
    limited = resource.getrlimit(resource.RLIMIT_DATA)[0] != resource.RLIM_INFINITY
    held: list[np.ndarray] = []
    for _ in range(OOM_LIMIT_BYTES // OOM_STEP_BYTES):
        block = np.empty if limited else np.ones
        held.append(block(OOM_STEP_BYTES, dtype=np.uint8))
    held.clear()
    raise MemoryError("noop fault: memory ended")
