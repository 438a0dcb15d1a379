"""A `geco generate` command as a victim: start it, find its processes, strike one, see it end."""

from __future__ import annotations

import contextlib
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import psutil

ROOT = Path(__file__).parents[2]
POLL_S = 0.1
COMMIT_WITHIN_S = 300.0
DRAIN_WITHIN_S = 120.0
END_WITHIN_S = 600.0
REPLICAS_GONE_WITHIN_S = 40.0


def generate_line(manifest: Path, out: str, *words: str) -> list[str]:
    """The `geco generate` command line."""
    verb = [sys.executable, "-m", "workflows.cli", "generate"]
    return [*verb, "--manifest", str(manifest), "--out", out, *words]


@dataclass
class Victim:
    """A running command.

    Attributes:
        done: counts the shards committed so far.
        replicas_seen: every replica process it was seen to have.
        started: every process below it when it was struck.
    """

    process: subprocess.Popen[bytes]
    done: Callable[[], int]
    replicas_seen: list[psutil.Process] = field(default_factory=list)
    started: list[psutil.Process] = field(default_factory=list)

    @property
    def ended(self) -> bool:
        return self.process.poll() is not None

    def replicas(self) -> list[psutil.Process]:
        """Its replica processes; those of a joined cluster are found below this process too."""
        below = psutil.Process().children(recursive=True)
        found = [one for one in below if is_replica(one) and not _below_replica(one)]
        self.replicas_seen += [one for one in found if one not in self.replicas_seen]
        return found

    def children(self) -> list[psutil.Process]:
        """The child processes of its replicas."""
        found: list[psutil.Process] = []
        for replica in self.replicas():
            with contextlib.suppress(psutil.Error):
                found += replica.children(recursive=True)
        return found

    def wait_for_commits(self, more: int = 1) -> bool:
        """Wait for `more` new commits; False when the command ended first.

        Raises:
            TimeoutError: nothing happens.
        """
        goal = self.done() + more
        deadline = time.monotonic() + COMMIT_WITHIN_S
        while not self.ended:
            if self.done() >= goal:
                return True
            if time.monotonic() > deadline:
                raise TimeoutError(f"no commit within {COMMIT_WITHIN_S:g} s")
            time.sleep(POLL_S)
        return False

    def kill(self) -> None:
        """SIGKILL of the driver alone."""
        self._remember()
        self.process.kill()
        self.process.wait()

    def drain(self) -> bool:
        """SIGTERM of the driver; whether it ended by itself in time."""
        self._remember()
        self.process.send_signal(signal.SIGTERM)
        try:
            self.process.wait(DRAIN_WITHIN_S)
        except subprocess.TimeoutExpired:
            self.kill()
            return False
        return True

    def kill_one(self, candidates: Callable[[], list[psutil.Process]], rng: random.Random) -> bool:
        """SIGKILL of one of the processes, as soon as there is one; False when there was none."""
        deadline = time.monotonic() + 10.0
        while not self.ended and time.monotonic() < deadline:
            found = candidates()
            if found:
                with contextlib.suppress(psutil.NoSuchProcess):
                    rng.choice(found).kill()
                    return True
            time.sleep(POLL_S / 2)
        return False

    def _remember(self) -> None:
        self.replicas()
        with contextlib.suppress(psutil.Error):
            self.started += psutil.Process(self.process.pid).children(recursive=True)

    def finish(self) -> int:
        """Wait for its end; the exit code. Kills what takes too long."""
        try:
            return self.process.wait(END_WITHIN_S)
        except subprocess.TimeoutExpired:
            self.kill()
            return -signal.SIGKILL


@contextlib.contextmanager
def victim(
    line: Sequence[str], env: Mapping[str, str], log: Path, done: Callable[[], int]
) -> Iterator[Victim]:
    """Start a command; it does not outlive the block."""
    with log.open("ab") as file:
        process = subprocess.Popen(
            line, cwd=ROOT, env={**os.environ, **env}, stdout=file, stderr=file
        )
    one = Victim(process, done)
    try:
        yield one
    finally:
        if not one.ended:
            one.kill()


def outliving(victims: Sequence[Victim]) -> list[psutil.Process]:
    """Replicas that still run although their commands are gone."""
    seen = [replica for one in victims for replica in one.replicas_seen]
    return still_running(seen, REPLICAS_GONE_WITHIN_S)


def still_running(processes: Sequence[psutil.Process], timeout_s: float) -> list[psutil.Process]:
    """Those that have not ended within the time."""
    deadline = time.monotonic() + timeout_s
    alive = [process for process in processes if _runs(process)]
    while alive and time.monotonic() < deadline:
        time.sleep(POLL_S)
        alive = [process for process in alive if _runs(process)]
    return alive


def _runs(process: psutil.Process) -> bool:
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.Error:
        return False


def is_replica(process: psutil.Process) -> bool:
    """Whether Ray shows this process as one of ours."""
    try:
        return "Replica" in " ".join(process.cmdline())
    except psutil.Error:
        return False


def _below_replica(process: psutil.Process) -> bool:
    """Whether it is a fork of a replica, which looks like its parent."""
    try:
        parent = process.parent()
    except psutil.Error:
        return False
    return parent is not None and is_replica(parent)
