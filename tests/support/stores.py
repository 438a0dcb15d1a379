"""Stores in memory for property tests: every step towards the store can be counted, interleaved
with another writer's, or be the last one.
"""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import pyarrow as pa

Step = Callable[[str, str], None]  # hears the operation and the key before each step


class PowerCut(BaseException):
    """The process is gone: nothing catches this."""


class MemoryStorage:
    """Implements `infra.storage.Storage`.

    Attributes:
        objects: what stands.
        writes: how often each key was written.
    """

    def __init__(self, *, conditional_put: bool = True) -> None:
        self.uri = "memory"
        self.conditional_put = conditional_put
        self.objects: dict[str, bytes] = {}
        self.writes: Counter[str] = Counter()
        self._lock = threading.Lock()

    def put_atomic(
        self, key: str, data: bytes | memoryview | Path, *, only_if_absent: bool = False
    ) -> bool:
        content = data.read_bytes() if isinstance(data, Path) else bytes(data)
        with self._lock:
            if only_if_absent and key in self.objects:
                return False
            self.objects[key] = content
            self.writes[key] += 1
        return True

    def get(self, key: str) -> bytes:
        return self.objects[key]

    def exists(self, key: str) -> bool:
        return key in self.objects

    def list(self, prefix: str) -> Iterator[str]:
        folder = f"{prefix.strip('/')}/" if prefix else ""
        yield from [key for key in sorted(self.objects) if key.startswith(folder)]

    def delete(self, key: str) -> None:
        self.objects.pop(key, None)

    def open_for_pyarrow(self, key: str) -> pa.NativeFile:
        return pa.BufferReader(self.objects[key])

    def sweep_temporary(self, older_than: float) -> int:
        return 0


class SteppedStorage:
    """One writer's door to a `MemoryStorage`: tells `step` before anything reaches the store.

    Without conditional puts, creating an absent key is two steps: a look and a write.
    """

    def __init__(self, inner: MemoryStorage, step: Step) -> None:
        self.uri = inner.uri
        self.conditional_put = inner.conditional_put
        self._inner = inner
        self._step = step

    def put_atomic(
        self, key: str, data: bytes | memoryview | Path, *, only_if_absent: bool = False
    ) -> bool:
        if only_if_absent and not self.conditional_put:
            if self.exists(key):
                return False
            only_if_absent = False
        self._step("put", key)
        return self._inner.put_atomic(key, data, only_if_absent=only_if_absent)

    def get(self, key: str) -> bytes:
        self._step("get", key)
        return self._inner.get(key)

    def exists(self, key: str) -> bool:
        self._step("exists", key)
        return self._inner.exists(key)

    def list(self, prefix: str) -> Iterator[str]:
        self._step("list", prefix)
        return self._inner.list(prefix)

    def delete(self, key: str) -> None:
        self._step("delete", key)
        self._inner.delete(key)

    def open_for_pyarrow(self, key: str) -> pa.NativeFile:
        self._step("open", key)
        return self._inner.open_for_pyarrow(key)

    def sweep_temporary(self, older_than: float) -> int:
        return 0


def dying_after(steps: int) -> Step:
    """The writer is gone before the step after so many."""
    left = steps

    def step(*_: str) -> None:
        nonlocal left
        if left <= 0:
            raise PowerCut
        left -= 1

    return step


class Turns:
    """Writers in threads that each take a step only when told to."""

    def __init__(self) -> None:
        self._go: list[threading.Semaphore] = []
        self._waits: list[threading.Semaphore] = []
        self._threads: list[threading.Thread] = []
        self._dead: set[int] = set()
        self.errors: list[BaseException] = []

    def add(self, action: Callable[[Step], object]) -> int:
        """Start a writer; it stops at its first step. Returns its number."""
        number = len(self._threads)
        go, waits = threading.Semaphore(0), threading.Semaphore(0)

        def step(*_: str) -> None:
            waits.release()
            go.acquire()
            if number in self._dead:
                raise PowerCut

        def work() -> None:
            try:
                action(step)
            except PowerCut:
                return
            except BaseException as error:
                self.errors.append(error)
            finally:
                waits.release()

        self._go.append(go)
        self._waits.append(waits)
        self._threads.append(threading.Thread(target=work, daemon=True))
        self._threads[-1].start()
        waits.acquire()
        return number

    def step(self, number: int) -> bool:
        """Let a writer take one step; False when it has ended."""
        if not self._alive(number):
            return False
        self._go[number].release()
        self._waits[number].acquire()
        return self._alive(number)

    def kill(self, number: int) -> None:
        """End a writer where it stands."""
        if self._alive(number):
            self._dead.add(number)
            self._go[number].release()
            self._threads[number].join()

    def finish(self) -> None:
        """Let everybody go on to the end, in turns."""
        while [number for number in range(len(self._threads)) if self.step(number)]:
            pass

    def _alive(self, number: int) -> bool:
        if self._waits[number].acquire(blocking=False):  # it ended and nobody has looked yet
            self._waits[number].release()
            self._threads[number].join()
        return self._threads[number].is_alive()
