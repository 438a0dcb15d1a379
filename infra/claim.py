"""One command at a time in a run folder: a record of who is at work, renewed while it lives.

This detects, it does not lock: two commands that start within the same instant on a store without
conditional puts may both believe they are alone until the first renewal shows one of them that it
is not. Nothing breaks then, because every file is put whole; work is done twice.
"""

from __future__ import annotations

import logging
import socket
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from types import TracebackType
from typing import Any

import psutil

from geco_core.errors import ConfigError, Fatal, Retryable
from infra.stages import CLAIM_KEY, drop_claim, put_claim, read_json
from infra.storage import Storage
from infra.telemetry import log_event

log = logging.getLogger(__name__)

RENEW_EVERY_S = 10.0
PATIENCE_S = 60.0


class Claim:
    """A claim on a run folder for the length of a block."""

    def __init__(
        self,
        storage: Storage,
        token: str,
        on_lost: Callable[[], object],
        *,
        wall: Callable[[], float] = time.time,
        renew_every_s: float = RENEW_EVERY_S,
    ) -> None:
        """Claim a folder.

        Args:
            storage: of the run folder.
            token: text no other command uses.
            on_lost: called from another thread when somebody else took the folder over.
            wall: seconds since the epoch.
            renew_every_s: interval of the renewals.
        """
        self._storage, self._token, self._on_lost = storage, token, on_lost
        self._wall, self._every_s = wall, renew_every_s
        self._over = threading.Event()
        self._renewer = threading.Thread(target=self._renew, name="claim", daemon=True)
        self.lost = False

    def __enter__(self) -> Claim:
        """Take the folder.

        Raises:
            ConfigError: another command is at work there.
        """
        if not put_claim(self._storage, self._content(), only_if_absent=True):
            self._take_over()
        self._renewer.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._over.set()
        self._renewer.join(self._every_s)
        with suppress(Retryable, Fatal):  # what is left is seen to be dead by the next command
            if (self._standing() or {}).get("token") == self._token:
                drop_claim(self._storage)

    def _take_over(self) -> None:
        standing = self._standing()
        if standing is not None and standing.get("token") != self._token:
            age_s = self._wall() - float(standing.get("renewed_at", 0.0))
            if alive(standing, age_s):
                raise ConfigError(
                    f"another command is at work in {self._storage.uri}: process "
                    f"{standing.get('pid')} on {standing.get('host')}, seen {age_s:.0f} s ago",
                    remedy="let it go on, or end it; a dead one is forgotten after "
                    f"{PATIENCE_S:.0f} s",
                )
            log_event(log, "claim_taken_over", host=standing.get("host"), pid=standing.get("pid"))
        put_claim(self._storage, self._content(), only_if_absent=False)

    def _renew(self) -> None:
        while not self._over.wait(self._every_s):
            try:
                standing = self._standing()
                if standing is not None and standing.get("token") != self._token:
                    self.lost = True
                    self._on_lost()
                    return
                put_claim(self._storage, self._content(), only_if_absent=False)
            except (Retryable, Fatal) as error:
                log_event(log, "claim_not_renewed", level=logging.WARNING, error=error.message)

    def _standing(self) -> dict[str, Any] | None:
        return read_json(self._storage, CLAIM_KEY)

    def _content(self) -> dict[str, Any]:
        process = psutil.Process()
        return {
            "token": self._token,
            "host": socket.gethostname(),
            "pid": process.pid,
            "process_started_at": process.create_time(),
            "renewed_at": self._wall(),
        }


def alive(claim: Mapping[str, Any], age_s: float) -> bool:
    """Whether the owner of a claim seems to be at work.

    On this machine its process is looked up, so that the folder of a killed command is free at
    once; elsewhere only the age of the claim tells.

    Args:
        claim: as stored.
        age_s: seconds since it was renewed.
    """
    if claim.get("host") != socket.gethostname():
        return age_s < PATIENCE_S
    try:
        started_at = psutil.Process(int(claim.get("pid", -1))).create_time()
    except (psutil.Error, ValueError, TypeError):
        return False
    return abs(started_at - float(claim.get("process_started_at", 0.0))) < 1.0
