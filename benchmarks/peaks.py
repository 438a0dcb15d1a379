"""Seconds and peak memory of the stages of a process.

The host's high-water mark is the kernel's own (`VmHWM`, everything resident: weights and the
interpreter too) and is set back between stages; on a GPU the allocator's mark is kept beside it.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch

_STATUS, _CLEAR = Path("/proc/self/status"), Path("/proc/self/clear_refs")
_RESET_HIGH_WATER = "5"


def resident_mb(*, peak: bool) -> float:
    """Resident memory of this process now, or the most since `reset_peak`, in MiB (Linux)."""
    field = "VmHWM:" if peak else "VmRSS:"
    for line in _STATUS.read_text(encoding="ascii").splitlines():
        if line.startswith(field):
            return int(line.split()[1]) / 1024
    raise OSError(f"{_STATUS} has no {field}")


def reset_peak(device: torch.device | None = None) -> None:
    """Count peaks from now on."""
    _CLEAR.write_text(_RESET_HIGH_WATER, encoding="ascii")
    if device is not None and device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)


class Stages:
    """What every stage took: `rows[name]` holds `seconds`, `cpu_s` (of all threads), `peak_mb` and,
    on a GPU, `device_mb`.

    Stages do not nest; of a stage that is entered again, seconds add up and peaks are the highest.

    Args:
        device: whose work is waited for at both ends of a stage.
    """

    def __init__(self, device: torch.device | None = None) -> None:
        self.rows: dict[str, dict[str, float]] = {}
        self._device = device

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Measure a block."""
        self._wait()
        reset_peak(self._device)
        started, cpu_before = time.perf_counter(), time.process_time()
        try:
            yield
        finally:
            self._wait()
            self._note(name, time.perf_counter() - started, time.process_time() - cpu_before)

    def _note(self, name: str, seconds: float, cpu_s: float) -> None:
        row = self.rows.setdefault(name, {"seconds": 0.0, "cpu_s": 0.0, "peak_mb": 0.0})
        row["seconds"] = round(row["seconds"] + seconds, 3)
        row["cpu_s"] = round(row["cpu_s"] + cpu_s, 3)
        row["peak_mb"] = max(row["peak_mb"], round(resident_mb(peak=True), 1))
        if self._device is not None and self._device.type == "cuda":
            device_mb = round(torch.cuda.max_memory_allocated(self._device) / 2**20, 1)
            row["device_mb"] = max(row.get("device_mb", 0.0), device_mb)

    def _wait(self) -> None:
        if self._device is not None and self._device.type == "cuda":
            torch.cuda.synchronize(self._device)
