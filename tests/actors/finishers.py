"""Finishing functions that go wrong as the item's id says; run in child processes by tests."""

from __future__ import annotations

import ctypes
import os
import signal
import time
from pathlib import Path
from typing import Any

import numpy as np

from geco_core.errors import BadItem, Reason
from geco_core.types import Asset, Mesh


class Odd(Exception):
    """Can be pickled, but not read back."""

    def __init__(self, first: int, second: int) -> None:
        super().__init__(f"{first} {second}")


def finish(mesh: Mesh, *, item_id: str, **details: Any) -> Asset:
    kind = item_id.partition("-")[0]
    settings = details.get("settings")
    if kind.startswith("texture"):
        if settings is not None and settings.texture_size:
            kind = kind.removeprefix("texture")
        details["textured"] = settings is not None and settings.texture_size > 0
    if kind == "segfault":
        ctypes.string_at(0)
    if kind == "abort":
        os.abort()
    if kind == "kill":
        os.kill(os.getpid(), signal.SIGKILL)
    if kind == "exit":
        os._exit(3)
    if kind == "hang":
        ctypes.PyDLL(None).sleep(60)
    if kind == "memory":
        np.ones(1 << 40, dtype=np.uint8)
    if kind == "bad":
        raise BadItem("no surface", reason=Reason.EMPTY_MESH, item_id=item_id, stage="finish")
    if kind == "value":
        raise ValueError("wrong value")
    if kind == "odd":
        raise Odd(1, 2)
    if kind == "once" and not Path(details["source_sha256"]).exists():
        Path(details["source_sha256"]).touch()
        ctypes.string_at(0)
    if kind == "late":
        time.sleep(0.45)
        ctypes.string_at(0)
    if kind == "slow":
        time.sleep(0.3)
    stats = {"pid": os.getpid(), "parent": os.getppid(), "sum": float(mesh.vertices.sum())}
    return Asset(b"glTF" + mesh.faces.tobytes(), item_id, b"", {**stats, **details})


def broken(mesh: Mesh, **_: Any) -> Asset:
    """Can not even be warmed up."""
    raise RuntimeError("a library is missing")
