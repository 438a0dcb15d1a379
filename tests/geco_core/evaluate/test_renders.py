"""Albedo renders: what is where, texture rows, white around."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from geco_core.evaluate.protocol import Protocol
from geco_core.evaluate.renders import render_albedo
from geco_core.mesh.frames import world_to_gltf
from geco_core.render import get_rasterizer
from geco_core.types import Mesh
from tests.geco_core.evaluate.meshes import as_mesh, box

RASTERIZER = get_rasterizer("torch")
FRONT = Protocol(resolution=32, radius=3.0, fov_deg=30.0, supersample=2)


def test_a_box_covers_what_its_projection_covers() -> None:
    vertices, faces = box((0.0001, 1.0, 1.0))
    found = render_albedo(as_mesh((vertices, faces)), vertices, FRONT, RASTERIZER)
    frame = 2 * 3.0 * np.tan(np.radians(15))
    assert found.mask is not None
    assert float(found.mask.mean()) == pytest.approx(1 / frame**2, rel=0.05)
    assert found.rgb[0, :, 0, 0].tolist() == [1, 1, 1]
    top, bottom = found.rgb[0, 0, 8, 16], found.rgb[0, 0, 23, 16]  # red grows with height
    assert float(top) > 0.7
    assert float(bottom) < 0.3


def test_textures_are_upright_and_seen_from_the_front() -> None:
    # A square that faces +x; seen from there +y is to the right and +z is up.
    world = np.array([[0, -0.5, -0.5], [0, 0.5, -0.5], [0, 0.5, 0.5], [0, -0.5, 0.5]])
    texture = np.zeros((2, 2, 3), np.uint8)
    texture[0, 0], texture[0, 1], texture[1, 0] = (255, 0, 0), (0, 255, 0), (0, 0, 255)
    mesh = Mesh(
        world_to_gltf(world).astype(np.float32),
        np.array([[0, 1, 2], [0, 2, 3]], np.int32),
        uvs=np.array([[0.0, 0], [1, 0], [1, 1], [0, 1]], np.float32),
        texture=texture,
    )
    image = render_albedo(mesh, world, FRONT, RASTERIZER).rgb[0]
    corners = {"top left": (8, 8), "top right": (8, 23), "bottom left": (23, 8)}
    shown = {name: image[:, r, c].round().tolist() for name, (r, c) in corners.items()}
    assert shown == {
        "top left": [1, 0, 0],
        "top right": [0, 1, 0],
        "bottom left": [0, 0, 1],
    }


def test_a_mesh_without_colours_is_grey_and_one_behind_the_camera_is_nowhere() -> None:
    vertices, faces = box()
    plain = Mesh(world_to_gltf(vertices).astype(np.float32), faces.astype(np.int32))
    image = render_albedo(plain, vertices, FRONT, RASTERIZER).rgb[0]
    assert image[:, 16, 16].tolist() == pytest.approx([0.5] * 3, abs=1e-6)
    away = render_albedo(plain, vertices + np.array([50.0, 0, 0]), FRONT, RASTERIZER)
    assert torch.equal(away.rgb, torch.ones_like(away.rgb))
