"""The software and the machine a run starts on, recorded in `run.json`. Nothing heavy is imported
to find out.
"""

from __future__ import annotations

import contextlib
import os
import platform
from collections.abc import Iterator, Mapping
from importlib import metadata
from typing import Any

DISTRIBUTION = "geco-forge"
_PACKAGES = (
    "torch",
    "diffusers",
    "transformers",
    "ray",
    "pyarrow",
    "numpy",
    "trimesh",
    "numba",
    "nvdiffrast",
)


@contextlib.contextmanager
def variables_set(variables: Mapping[str, str]) -> Iterator[None]:
    """Set environment variables of this process for the length of the block."""
    before = {name: os.environ.get(name) for name in variables}
    os.environ.update(variables)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


def code_version() -> str:
    """Version of the installed distribution; `0+source` when run from a bare checkout."""
    return _version(DISTRIBUTION) or "0+source"


def describe_environment() -> dict[str, Any]:
    """Versions and machine as plain data."""
    return {
        "code_version": code_version(),
        "python": platform.python_version(),
        "packages": {name: version for name in _PACKAGES if (version := _version(name))},
        "platform": platform.platform(),
        "machine": platform.machine(),
        "cpus": os.cpu_count(),
    }


def _version(name: str) -> str | None:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None
