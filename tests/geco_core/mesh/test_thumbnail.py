from __future__ import annotations

import io

import numpy as np
from PIL import Image

from geco_core.mesh.thumbnail import render_views, thumbnail_png
from geco_core.types import Mesh
from tests.geco_core.mesh.meshes import box, sphere, textured_box


def test_the_png_has_the_size_and_a_transparent_border() -> None:
    with Image.open(io.BytesIO(thumbnail_png(sphere(), size=48))) as image:
        assert (image.size, image.mode) == ((48, 48), "RGBA")
        alpha = np.asarray(image)[..., 3]
    assert alpha[0].max() == 0
    assert alpha[24, 24] == 255
    assert 0.6 < (alpha > 127).mean() < 0.8  # a disc that nearly fills the frame


def test_the_same_mesh_gives_the_same_bytes() -> None:
    assert thumbnail_png(box(), size=32) == thumbnail_png(box(), size=32)


def test_front_top_and_left_are_where_the_frame_says() -> None:
    mesh = sphere(rings=24, segments=48)
    x, y, z = mesh.vertices.T
    mesh.colors = np.stack([x > 0.3, y > 0.3, z > 0.3], axis=1).astype(np.uint8) * 255
    front, left_side = render_views(mesh, [(0.0, 0.0), (90.0, 0.0)], size=64)
    assert front[32, 32].tolist()[:3] == [0, 0, 255]  # +z of glTF faces the viewer
    assert front[8, 32, 1] > 200  # +y is up
    assert front[32, 56, 0] > 200  # +x is to the right of someone who looks at the front
    assert left_side[32, 32].tolist()[:3] == [255, 0, 0]  # azimuth 90 looks at +x


def test_shading_is_modest_and_keeps_the_colour() -> None:
    mesh = sphere(rings=24, segments=48)
    mesh.colors = np.full(mesh.vertices.shape, (200, 100, 50), dtype=np.uint8)
    view = render_views(mesh, [(0.0, 0.0)], size=64)[0]
    assert np.abs(view[32, 32, :3].astype(int) - (200, 100, 50)).max() <= 3
    solid = view[view[..., 3] == 255][:, :3]
    assert solid[:, 0].min() > 140


def test_textures_are_sampled_right_side_up() -> None:
    mesh = textured_box()
    assert mesh.texture is not None
    mesh.texture[:16] = (255, 0, 0)  # upper half
    mesh.texture[16:] = (0, 0, 255)
    quad = Mesh(
        np.array([[-1, -1, 0], [1, -1, 0], [1, 1, 0], [-1, 1, 0]], dtype=np.float32),
        np.array([[0, 1, 2], [0, 2, 3]], dtype=np.int32),
        uvs=np.array([[0, 0], [1, 0], [1, 1], [0, 1]], dtype=np.float32),
        texture=mesh.texture,
    )
    view = render_views(quad, [(0.0, 0.0)], size=64)[0]
    assert view[20, 32, 0] > 200
    assert view[44, 32, 2] > 200


def test_a_flat_mesh_and_a_far_away_mesh_still_draw() -> None:
    far = box(centre=(5000.0, 0, 0))
    corners = np.array([[-1, -1, 0], [1, -1, 0], [1, 1, 0], [-1, 1, 0]], dtype=np.float32)
    flat = Mesh(corners, np.array([[0, 1, 2], [0, 2, 3]], dtype=np.int32))
    for mesh in (far, flat):
        assert (render_views(mesh, [(0.0, 0.0)], size=32)[0][..., 3] > 0).any()
