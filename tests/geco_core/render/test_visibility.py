from __future__ import annotations

import pytest
import torch

from geco_core.render import visibility
from geco_core.render.visibility import visible_triangles


def flat(points_xy, z=0.0, w=1.0):
    """Clip positions [1, N, 4] of NDC points."""
    xy = torch.tensor(points_xy, dtype=torch.float64)
    rest = torch.tensor([z, 1.0], dtype=torch.float64).expand(len(xy), 2)
    return (torch.cat([xy, rest], -1) * w)[None]


def grid(cells, offset=0.0, spread=1.0):
    """A square, larger than the image, cut into random triangles."""
    generator = torch.Generator().manual_seed(cells)
    line = torch.linspace(-1.2, 1.2, cells + 1, dtype=torch.float64)
    y, x = torch.meshgrid(line, line, indexing="ij")
    points = torch.stack([x, y], -1)
    noise = torch.rand(points.shape, generator=generator, dtype=torch.float64) - 0.5
    points[1:-1, 1:-1] += 0.7 * 2.4 / cells * noise[1:-1, 1:-1]
    faces = []
    for i in range(cells):
        for j in range(cells):
            a = i * (cells + 1) + j
            b, c, d = a + 1, a + cells + 2, a + cells + 1
            turn = bool(torch.rand(1, generator=generator) < 0.5)
            faces += [[a, b, c], [a, c, d]] if turn else [[a, b, d], [d, b, c]]
    return flat((points.reshape(-1, 2) * spread + offset).tolist()), torch.tensor(faces)


def test_one_triangle_covers_the_centres_inside_it():
    # Pixel centres of a 4 x 4 image lie at -0.75, -0.25, 0.25, 0.75.
    ids = visible_triangles(
        flat([[-1.0, -1.0], [1.0, -1.0], [-1.0, 1.0]]), torch.tensor([[0, 1, 2]]), (4, 4)
    )
    # The hypotenuse runs through centres, which lie on the excluded side.
    assert ids[0].tolist() == [[1, 1, 1, 0], [1, 1, 0, 0], [1, 0, 0, 0], [0, 0, 0, 0]]


@pytest.mark.parametrize("resolution", [(17, 17), (64, 64), (40, 90)])
def test_every_centre_of_a_tiling_belongs_to_exactly_one_triangle(resolution):
    pos, tri = grid(9)
    assert int((visible_triangles(pos, tri, resolution) == 0).sum()) == 0
    alone = torch.stack(
        [visible_triangles(pos, tri[k : k + 1], resolution) for k in range(len(tri))]
    )
    assert int(alone.sum(0).min()) == 1
    assert int(alone.sum(0).max()) == 1


def test_vertices_and_edges_on_centres_leave_no_hole_and_no_overlap():
    # All centres of an 8 x 8 image are vertices, each a corner of six triangles.
    line = (2 * torch.arange(-1, 10, dtype=torch.float64) + 1) / 8 - 1
    y, x = torch.meshgrid(line, line, indexing="ij")
    pos = flat(torch.stack([x, y], -1).reshape(-1, 2).tolist())
    tri = []
    for i in range(10):
        for j in range(10):
            a = i * 11 + j
            tri += [[a, a + 1, a + 12], [a + 12, a + 11, a]]
    alone = torch.stack([visible_triangles(pos, torch.tensor([t]), (8, 8)) for t in tri])
    assert bool((alone.sum(0) == 1).all())


def test_nearer_triangle_wins_whatever_the_order():
    near = flat([[-1, -1], [3, -1], [-1, 3]], z=-0.5)
    far = flat([[-1, -1], [3, -1], [-1, 3]], z=0.5)
    pos = torch.cat([near, far], 1)
    first, second = torch.tensor([[0, 1, 2], [3, 4, 5]]), torch.tensor([[3, 4, 5], [0, 1, 2]])
    assert bool((visible_triangles(pos, first, (8, 8)) == 1).all())
    assert bool((visible_triangles(pos, second, (8, 8)) == 2).all())


def test_equal_depth_goes_to_the_lowest_index():
    pos = flat([[-1, -1], [3, -1], [-1, 3]])
    ids = visible_triangles(pos, torch.tensor([[0, 1, 2], [0, 1, 2], [1, 2, 0]]), (8, 8))
    assert bool((ids == 1).all())


def test_intersecting_triangles_split_where_their_depths_cross():
    one = torch.tensor([[-1.0, -1, -0.5, 1], [3, -1, 1.5, 1], [-1, 3, -0.5, 1]])  # z = x / 2
    two = torch.tensor([[-1.0, -1, 0.5, 1], [3, -1, -1.5, 1], [-1, 3, 0.5, 1]])  # z = -x / 2
    pos = torch.cat([one, two])[None]
    ids = visible_triangles(pos, torch.tensor([[0, 1, 2], [3, 4, 5]]), (6, 6))[0]
    assert bool((ids[:, :3] == 1).all())
    assert bool((ids[:, 3:] == 2).all())


def test_depth_is_interpolated_affinely_on_the_screen_in_perspective():
    # A slanted triangle against a flat one between its ends: the border sits at z/w = 0.5.
    slanted = torch.tensor([[-1.0, -1, 0.0, 1], [6, -2, 2.0, 2], [-1, 3, 0.0, 1]])
    constant = flat([[-1, -1], [3, -1], [-1, 3]], z=0.5).float()[0]
    ids = visible_triangles(
        torch.cat([slanted, constant])[None], torch.tensor([[0, 1, 2], [3, 4, 5]]), (1, 32)
    )
    x = (2 * torch.arange(32) + 1) / 32 - 1
    expected = torch.where((x + 1) / 4 < 0.5, 1, 2)
    assert ids[0, 0].tolist() == expected.tolist()


@pytest.mark.parametrize("w", [0.0, -1.0, float("nan"), float("inf")])
def test_triangle_with_an_unusable_vertex_is_dropped_whole(w):
    pos = flat([[-1, -1], [3, -1], [-1, 3], [-1, -1], [0.5, -1], [-1, 0.5]]).float()
    pos[0, 0, 3] = w
    if w == float("inf"):
        pos[0, 0] = w
    ids = visible_triangles(pos, torch.tensor([[0, 1, 2], [3, 4, 5]]), (16, 16))
    assert set(ids.unique().tolist()) == {0, 2}


def test_fragments_outside_the_depth_range_are_clipped():
    pos = torch.tensor([[[-1.0, -1, -3, 1], [3, -1, 5, 1], [-1, 3, -3, 1]]])  # z = 2 x - 1
    ids = visible_triangles(pos, torch.tensor([[0, 1, 2]]), (1, 16))[0, 0]
    x = (2 * torch.arange(16) + 1) / 16 - 1
    assert ids.tolist() == ((2 * x - 1).abs() <= 1).long().tolist()


def test_triangles_far_outside_the_image_cost_and_cover_nothing_wrong():
    pos = flat([[-1e9, -1e9], [1e9, -1e9], [0, 1e9], [5, 5], [6, 5], [5, 6]])
    ids = visible_triangles(pos, torch.tensor([[0, 1, 2], [3, 4, 5]]), (8, 8))
    assert bool((ids == 1).all())


def test_orientation_does_not_matter(sphere, clip):
    vertices, faces = sphere(2)
    pos = clip(vertices)
    assert torch.equal(
        visible_triangles(pos, faces, (48, 48)), visible_triangles(pos, faces.flip(1), (48, 48))
    )


def test_chunks_give_the_same_ids(sphere, clip, monkeypatch):
    vertices, faces = sphere(3)
    pos = clip(vertices, views=5)
    whole = visible_triangles(pos, faces, (64, 64))
    monkeypatch.setattr(visibility, "_FRAGMENTS_PER_CHUNK", 777)
    monkeypatch.setattr(visibility, "_PAIRS_PER_CHUNK", 1100)
    assert torch.equal(visible_triangles(pos, faces, (64, 64)), whole)


def test_nothing_to_draw_is_background():
    pos = flat([[-1, -1], [3, -1], [-1, 3]])
    assert not visible_triangles(pos, torch.zeros(0, 3, dtype=torch.int64), (4, 5)).any()
    assert visible_triangles(pos[:, :0], torch.zeros(0, 3, dtype=torch.int64), (4, 5)).shape == (
        1,
        4,
        5,
    )
    point = torch.tensor([[1, 1, 1], [0, 1, 1]])
    assert not visible_triangles(pos, point, (4, 5)).any()
