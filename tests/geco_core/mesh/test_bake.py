"""A baked texture shows, at every point of the surface, the colour of the field there."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import trimesh

from geco_core.errors import BadItem, Reason
from geco_core.mesh.bake import bake, surface_texels, vertex_color_fn
from geco_core.mesh.unwrap import Unwrapped, unwrap
from geco_core.render.texture import sample_texture
from geco_core.types import Mesh


def ball() -> Mesh:
    sphere = trimesh.creation.icosphere(3, 1.0)
    return Mesh(sphere.vertices.astype(np.float32), sphere.faces.astype(np.int32))


def smooth(points: np.ndarray) -> np.ndarray:
    return 0.5 + 0.4 * np.sin(2.0 * points)


def looked_up(mesh: Mesh, uv: np.ndarray) -> np.ndarray:
    # Row 0 of a texture is its top, v runs upwards.
    tex = torch.from_numpy(mesh.texture[::-1].copy()).float() / 255
    return sample_texture(tex, torch.from_numpy(uv).float(), boundary="clamp").numpy()


def test_the_texture_repeats_the_field() -> None:
    mesh = bake(unwrap(ball(), resolution=256), smooth, 256)
    corners = mesh.faces[:: len(mesh.faces) // 200]
    points = mesh.vertices[corners].mean(axis=1)
    uv = mesh.uvs[corners].mean(axis=1)
    error = np.abs(looked_up(mesh, uv) - smooth(points))
    assert np.quantile(error, 0.99) < 0.02
    assert mesh.colors is None


def test_texels_lie_on_the_surface() -> None:
    positions, covered = surface_texels(unwrap(ball(), resolution=128), 128)
    assert 0.3 < covered.mean() < 1.0
    radius = np.linalg.norm(positions[covered], axis=1)
    assert radius.min() > 0.98
    assert radius.max() < 1.001


def test_empty_texels_are_filled_from_their_neighbours() -> None:
    mesh = bake(unwrap(ball(), resolution=128), lambda p: np.full((len(p), 3), 0.6), 128)
    assert np.unique(mesh.texture).tolist() == [153]


def test_a_layout_without_area_is_refused() -> None:
    flat = Unwrapped(
        np.zeros((3, 3), np.float32),
        np.array([[0, 1, 2]], np.int32),
        np.zeros((3, 2), np.float32),
        np.arange(3),
    )
    with pytest.raises(BadItem) as caught:
        bake(flat, smooth, 16)
    assert caught.value.reason is Reason.FINISHING_FAILED


def test_vertex_colours_serve_where_the_field_is_gone() -> None:
    mesh = ball()
    mesh.colors = np.rint(smooth(mesh.vertices) * 255).astype(np.uint8)
    points = mesh.vertices[mesh.faces].mean(axis=1)
    assert np.abs(vertex_color_fn(mesh)(points) - smooth(points)).max() < 0.03
    with pytest.raises(ValueError, match="no vertex colours"):
        vertex_color_fn(ball())
