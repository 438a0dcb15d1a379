"""Ray for one command: a private one-machine cluster that lives and dies with it, or an existing
one by address.

Token authentication is left as Ray has it (on, since 2.59, for local clusters); the dashboard is
off unless asked for and then listens on loopback only. `ray stop` is never used: it ends every Ray
process of the machine.
"""

from __future__ import annotations

import contextlib
import logging
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import ray

from geco_core.config.run import ClusterConfig
from geco_core.errors import Fatal

DASHBOARD_HOST = "127.0.0.1"
_MEGABYTE = 2**20


@contextlib.contextmanager
def cluster(config: ClusterConfig, variables: dict[str, str]) -> Iterator[dict[str, float]]:
    """Connect to Ray for the length of the block; yields the cluster's resources.

    Args:
        config: where and how.
        variables: environment variables of every worker process, set before any import.

    Raises:
        Fatal: Ray does not start or does not answer.
    """
    if ray.is_initialized():  # the caller's own connection: use it, leave it
        yield dict(ray.cluster_resources())
        return
    folder = None if config.address or config.temp_dir else _private_folder()
    arguments: dict[str, Any] = {
        "logging_level": logging.ERROR,
        "log_to_driver": False,
        "runtime_env": {"env_vars": variables},
    }
    if config.address:
        arguments["address"] = config.address
    else:
        arguments |= {
            "num_cpus": config.num_cpus,
            "num_gpus": config.num_gpus,
            "object_store_memory": config.object_store_mb * _MEGABYTE,
            "include_dashboard": config.dashboard,
            "dashboard_host": DASHBOARD_HOST,
            "_temp_dir": config.temp_dir or str(folder),
        }
    try:
        ray.init(**arguments)
    except (OSError, RuntimeError, ValueError, ConnectionError, TimeoutError) as error:
        raise Fatal(
            f"Ray did not start: {error}", remedy="run `geco doctor`, or use engine=inline"
        ) from error
    try:
        yield dict(ray.cluster_resources())
    finally:
        ray.shutdown()
        if folder is not None:
            shutil.rmtree(folder, ignore_errors=True)


def _private_folder() -> Path:
    """`<tmp>/geco-<uid>/<pid>`: short, because Ray keeps Unix sockets below it and their paths are
    limited to 107 bytes.

    Folders of dead commands are removed: a killed command can not clean up after itself.
    """
    parent = Path(tempfile.gettempdir()) / f"geco-{os.getuid()}"
    parent.mkdir(mode=0o700, exist_ok=True)
    for left in parent.iterdir():
        if left.name.isdigit() and not psutil.pid_exists(int(left.name)):
            shutil.rmtree(left, ignore_errors=True)
    folder = parent / str(os.getpid())
    folder.mkdir(mode=0o700, exist_ok=True)
    return folder
