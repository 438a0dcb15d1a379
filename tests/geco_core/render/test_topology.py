from __future__ import annotations

import torch

from geco_core.render.topology import opposite_vertices


def test_two_faces_see_each_other_across_the_common_edge():
    table = opposite_vertices(torch.tensor([[0, 1, 2], [2, 1, 3]]))
    # Edge 0 of the first face joins its corners 1 and 2; edge 2 of the second joins 2 and 1.
    assert table.tolist() == [[3, -1, -1], [-1, -1, 0]]


def test_orientation_of_the_faces_does_not_matter():
    assert opposite_vertices(torch.tensor([[0, 1, 2], [1, 2, 3]])).tolist() == [
        [3, -1, -1],
        [-1, -1, 0],
    ]


def test_closed_surface_agrees_with_brute_force(sphere):
    _, faces = sphere(2)
    table = opposite_vertices(faces)
    rows = faces.tolist()
    for f, face in enumerate(rows):
        for e in range(3):
            ends = {face[(e + 1) % 3], face[(e + 2) % 3]}
            others = [r for k, r in enumerate(rows) if k != f and ends <= set(r)]
            assert [(set(o) - ends).pop() for o in others] == [int(table[f, e])]


def test_third_face_at_an_edge_sees_the_first():
    table = opposite_vertices(torch.tensor([[2, 0, 1], [3, 0, 1], [4, 0, 1], [5, 1, 0]]))
    assert table[:, 0].tolist() == [3, 2, 2, 2]


def test_no_faces():
    assert opposite_vertices(torch.zeros(0, 3, dtype=torch.int64)).shape == (0, 3)
