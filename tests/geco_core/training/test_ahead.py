"""Rows read ahead are the rows that reading on demand gives, and few are held."""

from __future__ import annotations

import threading

import pytest
import torch

from geco_core.distill.optimise import OptimiseConfig, Piece, batch_pieces
from geco_core.distill.world import World
from geco_core.training.ahead import RowsAhead

CONFIG = OptimiseConfig(steps=4, batch_size=6, accumulation=3)


def pieces(step: int) -> list[Piece]:
    return batch_pieces(13, step, CONFIG, World())


class Reader:
    def __init__(self) -> None:
        self.calls: list[tuple[int, int, int]] = []
        self._lock = threading.Lock()

    def __call__(self, step: int, place: int, row: int) -> tuple[int, int, int]:
        with self._lock:
            self.calls.append((step, place, row))
        return step, place, row


@pytest.mark.parametrize(("threads", "ahead"), [(0, 8), (2, 0), (2, 3), (3, 50)])
def test_every_piece_gets_its_rows_and_each_is_read_once(threads: int, ahead: int) -> None:
    read = Reader()
    rows = RowsAhead(read, pieces, CONFIG.steps, threads=threads, ahead=ahead)
    for step in range(CONFIG.steps):
        for piece in pieces(step):
            wanted = [(step, p, r) for p, r in zip(piece.places, piece.rows.tolist(), strict=True)]
            assert rows.take(step, piece) == wanted
    assert len(read.calls) == len(set(read.calls)) == 24  # none beyond the last step


def test_no_more_rows_are_read_than_wished() -> None:
    read = Reader()
    rows = RowsAhead(read, pieces, 1000, threads=1, ahead=3)
    rows.take(0, pieces(0)[0])
    assert len(read.calls) <= 2 + 3


def test_errors_come_out_where_the_row_is_taken() -> None:
    def fails(step: int, place: int, row: int) -> None:
        if step == 1:
            raise ValueError(f"row {row}")

    rows = RowsAhead(fails, pieces, 2, threads=1, ahead=20)
    for piece in pieces(0):
        rows.take(0, piece)
    with pytest.raises(ValueError, match="row "):
        rows.take(1, Piece((0,), torch.tensor([5]), 1.0))
