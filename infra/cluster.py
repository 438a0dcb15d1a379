"""Ray for one command: a private one-machine cluster that lives and dies with it, or an existing
one by address.

Token authentication is left as Ray has it (on, since 2.59, for local clusters); the dashboard is
off unless asked for and then listens on loopback only. `ray stop` is never used: it ends every Ray
process of the machine.
"""

from __future__ import annotations

import contextlib
import fcntl
import logging
import os
import shutil
import signal
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import ray
from ray.exceptions import RayError

from geco_core.config.run import ClusterConfig
from geco_core.errors import Fatal
from infra.environment import variables_set

DASHBOARD_HOST = "127.0.0.1"
_MEGABYTE = 2**20
_ALARM_EVERY_S = 5.0


@contextlib.contextmanager
def cluster(config: ClusterConfig, variables: dict[str, str]) -> Iterator[dict[str, float]]:
    """Connect to Ray for the length of the block; yields the cluster's resources.

    Args:
        config: where and how.
        variables: environment variables of every worker process, set before any import.

    Raises:
        Fatal: Ray does not start or does not answer in time.
    """
    if ray.is_initialized():  # the caller's own connection: use it, leave it
        yield dict(ray.cluster_resources())
        return
    with contextlib.ExitStack() as stack:
        folder = config.temp_dir
        if folder is None and not config.address:
            parent = Path(tempfile.gettempdir()) / f"geco-{os.getuid()}"
            folder = str(stack.enter_context(private_folder(parent)))
        stack.callback(ray.shutdown)  # also ends what a failed start left behind
        try:
            with (
                _environment(config, variables),
                _own_sigterm(),
                _time_limit(config.start_timeout_s),
            ):
                ray.init(**_arguments(config, variables, folder))
        except (OSError, RuntimeError, ValueError, RayError) as error:
            remedy = "run `geco doctor`, use engine=inline, or raise cluster.start_timeout_s"
            raise Fatal(f"Ray did not start: {error}", remedy=remedy, stage="cluster") from error
        if not config.address:
            _close_token()
        yield dict(ray.cluster_resources())


def _close_token(token: Path | None = None) -> None:
    """Ray creates the file with its token for all to read."""
    token = token or Path.home() / ".ray" / "auth_token"
    with contextlib.suppress(OSError):  # none, or somebody else's
        if token.stat().st_mode & 0o077:
            token.chmod(0o600)


def _arguments(
    config: ClusterConfig, variables: dict[str, str], folder: str | None
) -> dict[str, Any]:
    arguments: dict[str, Any] = {
        "logging_level": logging.ERROR,
        "log_to_driver": False,
    }
    if config.address:
        return arguments | {"address": config.address, "runtime_env": {"env_vars": variables}}
    return arguments | {
        "address": "local",  # whatever RAY_ADDRESS says
        "num_cpus": config.num_cpus,
        "num_gpus": config.num_gpus,
        "object_store_memory": config.object_store_mb * _MEGABYTE,
        "include_dashboard": config.dashboard,
        "dashboard_host": DASHBOARD_HOST,
        "_temp_dir": folder,
    }


def starts_own(config: ClusterConfig) -> bool:
    """Whether `cluster` starts Ray itself, so that its workers inherit our variables."""
    return not config.address and not ray.is_initialized()


@contextlib.contextmanager
def _environment(config: ClusterConfig, variables: dict[str, str]) -> Iterator[None]:
    """Let a Ray of our own inherit the variables.

    A runtime environment does the same, but starts every worker process twice: half a second for
    each replacement of a dead one.
    """
    if config.address:
        yield
        return
    with variables_set(variables):
        yield


@contextlib.contextmanager
def _own_sigterm() -> Iterator[None]:
    """Keep the handler of the caller: Ray puts its own in place, which exits."""
    before = signal.getsignal(signal.SIGTERM)
    yield
    if before is not signal.SIG_DFL and threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGTERM, before)


@contextlib.contextmanager
def _time_limit(seconds: float) -> Iterator[None]:
    """Raise `TimeoutError` in the block after `seconds`; only the main thread can be interrupted.

    The alarm repeats, because code that is retrying something may swallow the first one.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def expire(*_: object) -> None:
        raise TimeoutError(f"no answer within {seconds:g} s")

    begun = time.monotonic()
    handler = signal.signal(signal.SIGALRM, expire)
    left, every = signal.setitimer(signal.ITIMER_REAL, seconds, _ALARM_EVERY_S)
    try:
        yield
    finally:  # the caller may have had an alarm of its own
        left = max(0.001, left - (time.monotonic() - begun)) if left else 0.0
        signal.setitimer(signal.ITIMER_REAL, left, every)
        signal.signal(signal.SIGALRM, handler)


@contextlib.contextmanager
def private_folder(parent: Path) -> Iterator[Path]:
    """A folder of this process below `parent`, removed at the end.

    Its lock dies with the process, however it dies, so the folders of killed commands are found by
    their free locks and removed here: they can not clean up after themselves.

    Raises:
        Fatal: `parent` belongs to somebody else, who could read or replace what is in it.
    """
    parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    if parent.lstat().st_uid != os.getuid():
        raise Fatal(f"{parent} belongs to another user", remedy="set cluster.temp_dir or TMPDIR")
    for lock in parent.glob("*.lock"):
        with contextlib.suppress(OSError), lock.open("r+b") as held:  # busy: its owner lives
            fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
            shutil.rmtree(lock.with_suffix(""), ignore_errors=True)
            lock.unlink(missing_ok=True)
    # Short, because Ray keeps Unix sockets below it and their paths are limited to 107 bytes.
    folder = Path(tempfile.mkdtemp(prefix="r", dir=parent))
    unlocked, lock = folder.with_suffix(".new"), folder.with_suffix(".lock")
    try:
        with unlocked.open("wb") as held:
            fcntl.flock(held, fcntl.LOCK_EX)
            unlocked.rename(lock)  # nobody ever sees it unlocked while its owner lives
            yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        lock.unlink(missing_ok=True)
