"""`geco doctor`: what this machine has, what it lacks, and what to do about it."""

from __future__ import annotations

import importlib.util
import os
import resource
import shutil
import sys
import uuid
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path

from geco_core.config.run import ClusterConfig, RunConfig
from geco_core.errors import ForgeError
from infra.storage import LocalStorage
from workflows.doctor_weights import BAD, GOOD, NOTE, Finding, weights_findings
from workflows.words import counted

MIN_PYTHON = (3, 11)
MIN_FREE_GB = 5
MIN_OPEN_FILES = 1024
JOIN_TIMEOUT_S = 30.0
_REQUIRED = (
    "torch",
    "numpy",
    "pyarrow",
    "ray",
    "trimesh",
    "diffusers",
    "transformers",
    "PIL",
    "rich",
    "omegaconf",
    "safetensors",
    "scipy",
    "jinja2",
)
_OPTIONAL = {
    "numba": "fast visibility on the CPU: pip install numba",
    "nvdiffrast": "fast rasteriser on NVIDIA GPUs: see docs/guide/configuration.md",
    "DracoPy": "finish.compression=draco: pip install dracopy",
    "xatlas": "UV unwrapping: pip install xatlas",
}


def diagnose(
    folder: Path, address: str | None = None, run: RunConfig | None = None
) -> tuple[str, bool]:
    """All findings as text, and whether nothing is missing.

    Args:
        folder: runs are written below it.
        address: of a Ray cluster to look at, too.
        run: whose weights are looked at, too.
    """
    findings = [*_python(), *_packages(), *_device(), *_threads(), *_disk(folder), *_limits()]
    findings += _cluster(address) if address else _own_cluster()
    findings += weights_findings(run) if run is not None else ()
    lines = []
    for finding in findings:
        lines.append(f"{finding.level:4} {finding.name:12} {finding.detail}")
        if finding.remedy:
            lines.append(f"     {'':12} -> {finding.remedy}")
    return "\n".join(lines) + "\n", all(finding.level != BAD for finding in findings)


def _own_cluster() -> Iterator[Finding]:
    if importlib.util.find_spec("ray") is None:
        return
    from infra.cluster_safety import weaknesses_of_own  # noqa: PLC0415 - a second to import

    for weakness in weaknesses_of_own():
        yield Finding(NOTE, "ray", weakness.text, weakness.remedy)


def _cluster(address: str) -> Iterator[Finding]:
    from infra.cluster import cluster  # noqa: PLC0415 - a second to import
    from infra.cluster_safety import weaknesses_of_joined  # noqa: PLC0415

    config = ClusterConfig(address=address, start_timeout_s=JOIN_TIMEOUT_S)
    try:
        with cluster(config, {}) as resources:
            there = f"{resources.get('CPU', 0):g} CPU, {resources.get('GPU', 0):g} GPU"
            yield Finding(GOOD, "cluster", f"{address}: {there}")
            for weakness in weaknesses_of_joined():
                yield Finding(BAD, "cluster", weakness.text, weakness.remedy)
    except ForgeError as error:
        remedy = "check the address, the token (~/.ray/auth_token) and that Ray's versions agree"
        yield Finding(BAD, "cluster", error.message, remedy)


def _python() -> Iterator[Finding]:
    version = ".".join(map(str, sys.version_info[:3]))
    if sys.version_info >= MIN_PYTHON:
        yield Finding(GOOD, "python", version)
    else:
        yield Finding(
            BAD, "python", version, f"install Python {'.'.join(map(str, MIN_PYTHON))} or newer"
        )


def _packages() -> Iterator[Finding]:
    for name in _REQUIRED:
        if importlib.util.find_spec(name) is None:
            yield Finding(BAD, name, "missing", "make install")
        else:
            yield Finding(GOOD, name, _version(name))
    for name, remedy in _OPTIONAL.items():
        if importlib.util.find_spec(name) is None:
            yield Finding(NOTE, name, "not installed (optional)", remedy)
        else:
            yield Finding(GOOD, name, _version(name))


def _version(name: str) -> str:
    try:
        return metadata.version({"PIL": "pillow"}.get(name, name))
    except metadata.PackageNotFoundError:
        return "unknown version"


def _device() -> Iterator[Finding]:
    if importlib.util.find_spec("torch") is None:
        return
    import torch  # noqa: PLC0415 - seconds to import, and optional here

    if not torch.cuda.is_available():
        built = torch.version.cuda
        remedy = (
            "check the driver with nvidia-smi"
            if built
            else "install a CUDA build of torch to use a GPU"
        )
        yield Finding(NOTE, "gpu", "none: everything runs on the CPU", remedy)
        return
    for index in range(torch.cuda.device_count()):
        free, total = torch.cuda.mem_get_info(index)
        name = torch.cuda.get_device_name(index)
        yield Finding(
            GOOD, f"gpu {index}", f"{name}, {free / 2**30:.0f} of {total / 2**30:.0f} GiB free"
        )


def _threads() -> Iterator[Finding]:
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    limit = os.environ.get("OMP_NUM_THREADS")
    detail = f"{counted(cores or 1, 'usable core')}, OMP_NUM_THREADS={limit or 'unset'}"
    if limit == "1":
        yield Finding(GOOD, "threads", detail)
    else:
        remedy = "Ray workers set 1 by themselves; for engine=inline export OMP_NUM_THREADS=1"
        yield Finding(NOTE, "threads", detail, remedy)


def _disk(folder: Path) -> Iterator[Finding]:
    existing = next(
        path for path in (folder.absolute(), *folder.absolute().parents) if path.exists()
    )
    free_gb = shutil.disk_usage(existing).free / 1e9
    remedy = "" if free_gb >= MIN_FREE_GB else "free some space, or choose another --out"
    yield Finding(NOTE if remedy else GOOD, "disk", f"{free_gb:.0f} GB free at {existing}", remedy)
    storage, key = LocalStorage(existing), f".geco-doctor-{uuid.uuid4().hex[:8]}"
    try:
        first = storage.put_atomic(key, b"probe", only_if_absent=True)
        second = storage.put_atomic(key, b"other", only_if_absent=True)
        kept = storage.get(key) == b"probe"
        storage.delete(key)
    except ForgeError as error:
        yield Finding(BAD, "writing", error.message, error.remedy)
        return
    if first and not second and kept:
        yield Finding(GOOD, "writing", "atomic writes and create-if-absent work")
    else:
        yield Finding(
            BAD,
            "writing",
            "create-if-absent does not hold here",
            "choose another filesystem for --out",
        )


def _limits() -> Iterator[Finding]:
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    remedy = "" if soft >= MIN_OPEN_FILES else f"ulimit -n {MIN_OPEN_FILES}"
    yield Finding(NOTE if remedy else GOOD, "open files", f"limit {soft}", remedy)
    shared = Path("/dev/shm")  # noqa: S108 - only its size is read
    if shared.is_dir():
        free = shutil.disk_usage(shared).free / 2**20
        remedy = "" if free >= 256 else "start the container with --shm-size 1g"
        yield Finding(
            NOTE if remedy else GOOD, "shared mem", f"{free:.0f} MiB free in /dev/shm", remedy
        )
