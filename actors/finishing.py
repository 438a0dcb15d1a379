"""Finishing in a child process: geometry code that crashes, hangs or eats memory ends one row, not
the replica with its loaded model.

A finisher behaves like `geco_core.mesh.finish.finish_mesh` and gives the same bytes. Its workers
are forked from a process that is imported and warm (`actors.finishing_child`); as many work at once
as there are callers. A mesh whose texturing crashes or takes too long is finished with vertex
colours instead.
"""

from __future__ import annotations

import logging
import signal
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

from actors.finishing_child import NO_MEMORY_EXIT, TETRAHEDRON
from actors.finishing_process import FinishingWorker, Gone, Kind, forget_nursery, shared_nursery
from geco_core.config.finish import FinishConfig
from geco_core.errors import BadItem, Fatal, Reason
from geco_core.types import Asset, Mesh
from infra.telemetry import log_event

log = logging.getLogger(__name__)

FINISH = "geco_core.mesh.finish:finish_mesh"
START_TIMEOUT_S = 300.0
_BAD_ALLOC = "bad_alloc"  # C++ code that met the limit and did not expect to
STARTS = 3
UNCHANGED = FinishConfig()
TEXTURE_SHARE = 0.6  # of the time limit; the rest is for finishing with vertex colours instead
TRIES = 2  # a death may have come from outside: it counts against the mesh when it happens again


class ChildFinisher:
    """`finish_mesh` with a memory limit and a time limit. Thread-safe."""

    def __init__(
        self,
        memory_mb: int | None,
        *,
        thumbnails: bool = True,
        settings: FinishConfig = UNCHANGED,
        function: str = FINISH,
        start_timeout_s: float = START_TIMEOUT_S,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Starts nothing yet.

        Args:
            memory_mb: what a worker may allocate for one mesh; None for no limit.
            thumbnails: whether to get ready for drawing previews, which takes longest.
            settings: steps that change a mesh.
            function: `package.module:name` of what finishes a mesh.
            start_timeout_s: longest time the first worker may take to get ready.
            clock: monotonic seconds.
        """
        self._memory_mb = memory_mb
        self._kind = Kind(function, thumbnails)
        self._settings = settings
        self._start_timeout_s = start_timeout_s
        self._clock = clock
        self._lock = threading.Lock()
        self._idle: list[FinishingWorker] = []

    def start(self) -> None:
        """Start the processes in the background; the first mesh then waits less."""
        shared_nursery(self._kind, self._start_timeout_s)

    def warm_up(self) -> None:
        """Wait until a worker is ready. Raises `Fatal` when none can be."""
        self._give_back(self._borrow())

    def close(self) -> None:
        """End the idle workers. All of them end with this process, however it ends."""
        with self._lock:
            idle, self._idle = self._idle, []
        for worker in idle:
            worker.end()

    def __call__(
        self,
        mesh: Mesh,
        *,
        item_id: str,
        seed: int,
        provenance: Mapping[str, Any],
        thumbnail_size: int = 128,
        source_sha256: str = "",
        limit_s: float | None = None,
    ) -> Asset:
        """Finish one mesh, see `finish_mesh`.

        Args:
            mesh: as a system returned it.
            item_id: the item it was made for.
            seed: the seed it was made with.
            provenance: goes into the GLB.
            thumbnail_size: side of the preview in pixels; 0 for none.
            source_sha256: digest of the source bytes.
            limit_s: seconds it may take; None for as long as starting may.

        Raises:
            BadItem: as `finish_mesh`; crashed, out_of_memory or timed_out when its process ended.
            Fatal: no process can be started.
        """
        details = {
            "item_id": item_id,
            "seed": seed,
            "provenance": provenance,
            "thumbnail_size": thumbnail_size,
            "source_sha256": source_sha256,
        }
        limit = self._start_timeout_s if limit_s is None else limit_s
        whole = _Time(limit)
        if not self._settings.texture_size:
            return self._tried(mesh, details, self._settings, whole)
        try:
            return self._tried(mesh, details, self._settings, whole.share(TEXTURE_SHARE))
        except (BadItem, MemoryError) as error:
            why = error.message if isinstance(error, BadItem) else "memory ended"
            plain = replace(self._settings, texture_size=0)
            asset = self._tried(mesh, details, plain, whole)
            return replace(asset, notes=(*asset.notes, f"no texture: {why}"))

    def _tried(
        self, mesh: Mesh, details: dict[str, Any], settings: FinishConfig, time_left: _Time
    ) -> Asset:
        """Finish one mesh, once more if the process dies over it. Raises `BadItem`, `Fatal`."""
        if mesh.color_fn is not None and not settings.texture_size:
            mesh = replace(mesh, color_fn=None)  # megabytes that only a texture is baked from
        if settings != UNCHANGED:
            details = {**details, "settings": settings}
        death = None
        for _ in range(TRIES):
            try:
                return self._finish(mesh, details, time_left)
            except _Died as died:
                death = died
            if time_left.left_s <= 0:
                break
        raise _bad(death, details["item_id"]) from None

    def _finish(self, mesh: Mesh, details: dict[str, Any], time_left: _Time) -> Asset:
        worker, reusable = self._borrow(), False
        begun = self._clock()
        try:
            answer = worker.ask((mesh, details), begun + time_left.left_s, self._clock)
            reusable = not isinstance(answer, MemoryError)
        except TimeoutError:
            raise BadItem(
                f"finishing took longer than {time_left.limit_s:.3g} s",
                reason=Reason.TIMED_OUT,
                item_id=details["item_id"],
                stage="finish",
            ) from None
        except Gone:
            raise self._death(worker, details["item_id"]) from None
        finally:
            if reusable:
                self._give_back(worker)
            else:
                worker.end()
            time_left.spend(self._clock() - begun)
        if isinstance(answer, Exception):
            raise answer
        return answer

    def _death(self, worker: FinishingWorker, item_id: str) -> _Died:
        code = worker.end()
        trace = worker.trace()
        fields = {"item_id": item_id, "exit_code": code, "trace": trace}
        log_event(log, "finishing_process_died", level=logging.DEBUG, **fields)
        return _Died(NO_MEMORY_EXIT if _BAD_ALLOC in trace else code)

    def _borrow(self) -> FinishingWorker:
        with self._lock:
            while self._idle:
                worker = self._idle.pop()
                if worker.alive:
                    return worker
                worker.end()
        problem: Gone | None = None
        for _ in range(STARTS):
            nursery = shared_nursery(self._kind, self._start_timeout_s)
            try:
                return nursery.fork(self._memory_mb)
            except Gone as gone:
                problem = gone
                forget_nursery(nursery)
        raise Fatal(
            f"the finishing process died {STARTS} times while it started: {problem}",
            remedy="give it more memory, or set finish_isolation=inline",
            stage="finish",
        )

    def _give_back(self, worker: FinishingWorker) -> None:
        with self._lock:
            self._idle.append(worker)


def warm_up(finish: Callable[..., Asset], thumbnail_size: int) -> None:
    """Get ready to finish: what starts or compiles on first use must not count as an item's time.

    Raises: `Fatal` when no finishing process can be started.
    """
    if isinstance(finish, ChildFinisher):
        finish.warm_up()
        return
    finish(TETRAHEDRON, item_id="", seed=0, provenance={}, thumbnail_size=thumbnail_size)


class _Time:
    """Seconds that a mesh may take, however many tries they are spent on. Waiting for a process to
    start does not count: that is no fault of the mesh.
    """

    def __init__(self, limit_s: float, within: _Time | None = None) -> None:
        self.limit_s = self.left_s = limit_s
        self._within = within

    def share(self, share: float) -> _Time:
        """A part of it; what is spent of the part is spent of the whole."""
        return _Time(self.left_s * share, self)

    def spend(self, seconds: float) -> None:
        """Take off."""
        self.left_s -= seconds
        if self._within is not None:
            self._within.spend(seconds)


class _Died(Exception):
    """A worker ended over a mesh. `code`: its exit code, negative for a signal, None if unknown."""

    def __init__(self, code: int | None) -> None:
        super().__init__(code)
        self.code = code


def _bad(death: _Died | None, item_id: str) -> BadItem:
    """What a death says about the mesh."""
    code = death and death.code
    if code == NO_MEMORY_EXIT:
        reason, message = Reason.OUT_OF_MEMORY, "finishing ran out of memory"
    elif code == -signal.SIGKILL:
        # Nobody else sends this one: the kernel does when the machine is out of memory.
        reason, message = Reason.OUT_OF_MEMORY, "finishing was ended for lack of memory"
    else:
        reason, message = Reason.CRASHED, f"the finishing process died ({_name(code)})"
    return BadItem(message, reason=reason, item_id=item_id, stage="finish")


def _name(code: int | None) -> str:
    if code is not None and code < 0:
        return signal.Signals(-code).name
    return f"exit code {code}"
