"""How long shards take, to tell whether one in flight can still be finished in time."""

from __future__ import annotations

from collections.abc import Callable


class Pace:
    """Times of shards in flight and of those that ended."""

    def __init__(self, clock: Callable[[], float]) -> None:
        """Args: clock: monotonic seconds."""
        self._clock = clock
        self._begun: dict[int, float] = {}
        self._seconds = 0.0
        self._ended = 0

    def begin(self, shard: int) -> None:
        """A replica has the shard."""
        self._begun[shard] = self._clock()

    def end(self, shard: int, *, committed: bool) -> None:
        """It has it no more."""
        begun = self._begun.pop(shard, None)
        if committed and begun is not None:
            self._seconds += self._clock() - begun
            self._ended += 1

    def fits(self, shard: int, seconds: float) -> bool:
        """Whether the shard will be committed within `seconds`; while nobody knows, it may."""
        begun = self._begun.get(shard)
        if begun is None or not self._ended:
            return True
        return self._seconds / self._ended - (self._clock() - begun) <= seconds
