"""Training rows read by threads before they are needed.

Decoding and resizing release the interpreter lock, so that a GPU does not wait for pictures. What
comes out is what reading on demand gives: a row is a pure function of its step and place.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Generic, TypeVar

from geco_core.distill.optimise import Piece

R = TypeVar("R")


class RowsAhead(Generic[R]):
    """Rows of the coming pieces.

    Args:
        read: makes the row of (step, place in the global batch, row of the data).
        pieces: of a step, in the order in which they are taken; see `optimise.batch_pieces`.
        steps: of the whole training.
        threads: 0 reads when a row is taken.
        ahead: rows that are read before they are taken.
    """

    def __init__(
        self,
        read: Callable[[int, int, int], R],
        pieces: Callable[[int], Sequence[Piece]],
        steps: int,
        *,
        threads: int,
        ahead: int,
    ) -> None:
        self._read, self._pieces, self._steps = read, pieces, steps
        self._pool = ThreadPoolExecutor(threads, "rows") if threads and ahead else None
        self._ahead = ahead
        self._made: dict[tuple[int, int], Future[R]] = {}

    def take(self, step: int, piece: Piece) -> list[R]:
        """The rows of a piece of `step`. Raises what reading one raises."""
        wanted = list(zip(piece.places, piece.rows.tolist(), strict=True))
        if self._pool is None:
            return [self._read(step, place, row) for place, row in wanted]
        for place, row in wanted:
            self._submit(step, place, row)
        for coming, place, row in self._following(step, piece):
            if len(self._made) >= self._ahead + len(wanted):
                break
            self._submit(coming, place, row)
        return [self._made.pop((step, place)).result() for place, _ in wanted]

    def _submit(self, step: int, place: int, row: int) -> None:
        assert self._pool is not None
        if (step, place) not in self._made:
            self._made[step, place] = self._pool.submit(self._read, step, place, row)

    def _following(self, step: int, piece: Piece) -> Iterator[tuple[int, int, int]]:
        """(step, place, row) of the rows after a piece, of this step and of the next ones."""
        seen = False
        for coming in range(step, self._steps):
            for other in self._pieces(coming):
                if seen or coming > step:
                    for place, row in zip(other.places, other.rows.tolist(), strict=True):
                        yield coming, place, row
                seen = seen or other.places == piece.places
