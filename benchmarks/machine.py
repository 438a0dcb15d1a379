"""What a measurement was taken on, and where its numbers are kept."""

from __future__ import annotations

import json
import os
import platform
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

RESULTS = Path(__file__).parent / "results"


def describe_machine() -> dict[str, Any]:
    """Processor, cores, threads in use, system and versions; the CUDA device where there is one."""
    machine: dict[str, Any] = {
        "cpu": _cpu_model(),
        "logical_cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "system": f"{platform.system()} {platform.machine()}",
        "python": platform.python_version(),
        "torch": torch.__version__,
    }
    if torch.cuda.is_available():
        machine["cuda_device"] = torch.cuda.get_device_name()
    return machine


def print_machine() -> None:
    """One line that belongs above every table of numbers."""
    print(", ".join(f"{key}: {value}" for key, value in describe_machine().items()))


def save_result(name: str, result: Mapping[str, Any], path: Path | None = None) -> Path:
    """Write `{"benchmark", "machine", **result}` as JSON to `path`, or to `results/NAME.json`."""
    path = RESULTS / f"{name}.json" if path is None else path
    path.parent.mkdir(parents=True, exist_ok=True)
    record = {"benchmark": name, "machine": describe_machine(), **result}
    path.write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")
    return path


def _cpu_model() -> str:
    """The processor's name; several systems leave `platform.processor()` empty."""
    info = Path("/proc/cpuinfo")
    if info.is_file():
        for line in info.read_text(encoding="utf-8", errors="replace").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()
