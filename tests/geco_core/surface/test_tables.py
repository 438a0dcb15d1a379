"""Counts and invariants of the derived cube tables."""

from __future__ import annotations

import time

import numpy as np
import torch

from geco_core.surface import tables


def test_device_tables_outlive_the_inference_mode_they_are_asked_for_in() -> None:
    tables.tables_on.cache_clear()
    with torch.inference_mode():
        made = tables.tables_on(torch.device("cpu"))
    assert not any(value.is_inference() for value in vars(made).values())


def test_number_of_dual_vertices_per_case() -> None:
    assert np.bincount(tables.NUM_LOOPS).tolist() == [2, 162, 82, 8, 2]
    assert tables.NUM_LOOPS[0] == tables.NUM_LOOPS[255] == 0


def test_flagged_cases_pair_up_with_their_complements() -> None:
    flagged = np.flatnonzero(tables.FLAGGED)
    assert len(flagged) == 36
    assert (np.abs(tables.FLIP_DIRECTION[flagged]).sum(axis=1) == 1).all()
    assert not tables.FLIP_DIRECTION[~tables.FLAGGED].any()
    # A flagged case has one loop; its complement cuts the same edges, joined the other way.
    for case in flagged:
        ours, other = tables.EDGE_LOOP[case] >= 0, tables.EDGE_LOOP[255 - case] >= 0
        assert (ours == other).all()


def test_loops_hold_every_cut_edge_exactly_once() -> None:
    inside = np.arange(256)[:, None] >> np.arange(8) & 1
    cut = inside[:, tables.EDGE_CORNERS[:, 0]] != inside[:, tables.EDGE_CORNERS[:, 1]]
    assert ((tables.EDGE_LOOP >= 0) == cut).all()
    for case, loops in enumerate(tables.LOOPS):
        edges = [edge for loop in loops for edge in loop]
        assert sorted(edges) == np.flatnonzero(cut[case]).tolist()
        assert all(3 <= len(loop) <= tables.MAX_LOOP_EDGES for loop in loops)


def test_edges_of_one_axis_run_the_same_way() -> None:
    step = tables.CORNER_OFFSETS[tables.EDGE_CORNERS[:, 1]]
    step = step - tables.CORNER_OFFSETS[tables.EDGE_CORNERS[:, 0]]
    assert (np.abs(step).sum(axis=1) == 1).all()
    assert {tuple(row) for row in step.tolist()} == {(1, 0, 0), (0, -1, 0), (0, 0, 1)}


def test_faces_are_counter_clockwise_from_outside() -> None:
    for face in tables.FACES:
        corner = tables.CORNER_OFFSETS[list(face.ring)]
        normal = np.cross(corner[1] - corner[0], corner[2] - corner[1])
        assert normal.tolist() == list(face.direction)


def test_triangles_fill_every_loop_without_face_diagonals() -> None:
    for case, loops in enumerate(tables.LOOPS):
        used = (tables.TRIANGLES[case, :, 0] >= 0).sum()
        assert used == sum(len(loop) - 2 for loop in loops)
    rings = [set(edges) for edges in tables._RING_EDGES]
    for loop in (loop for loops in tables.LOOPS for loop in loops):
        sides = {frozenset((a, b)) for a, b in zip(loop, loop[1:] + loop[:1], strict=True)}
        for triangle in tables._fan(loop):
            for a, b in zip(triangle, triangle[1:] + triangle[:1], strict=True):
                within_face = any({a, b} <= ring for ring in rings)
                assert not within_face or frozenset((a, b)) in sides


def test_deriving_the_tables_is_cheap() -> None:
    def derive() -> float:
        tables._num_inside_parts.cache_clear()
        start = time.process_time()
        for case in range(256):
            tables._loops_of(case)
        tables._make_tables()
        tables._make_triangles()
        return time.process_time() - start

    assert min(derive() for _ in range(3)) < 0.1  # about 0.01 s on an idle core
