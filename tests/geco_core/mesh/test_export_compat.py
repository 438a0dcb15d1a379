from __future__ import annotations

import numpy as np

from geco_core.mesh.export_compat import (
    colored_obj,
    glb_axes,
    material_file,
    obj_axes,
    texture_pixels,
    textured_obj,
)
from geco_core.mesh.inspect import mesh_stats
from geco_core.types import Mesh
from tests.geco_core.mesh.meshes import box


def test_both_axis_conventions_keep_faces_outward() -> None:
    mesh = box((1, 2, 3), centre=(0.3, 0.1, -0.2))
    vertices, faces = obj_axes(mesh.vertices, mesh.faces)
    assert mesh_stats(Mesh(vertices, faces))["volume"] > 0
    turned = Mesh(glb_axes(mesh.vertices), mesh.faces)
    assert mesh_stats(turned)["volume"] > 0


def test_colored_obj_lists_colours_as_fractions() -> None:
    mesh = box()
    assert mesh.colors is not None
    text = colored_obj(mesh.vertices, mesh.faces, mesh.colors).decode()
    first = [float(value) for value in text.splitlines()[0].split()[1:]]
    np.testing.assert_allclose(first, [-0.5, -0.5, 0.5, 30 / 255, 30 / 255, 30 / 255], atol=1e-7)
    assert text.count("\nf ") == len(mesh.faces)


def test_textured_obj_indexes_texture_apart() -> None:
    mesh = box()
    uvs, face_uvs = np.zeros((3, 2)), np.tile([0, 1, 2], (12, 1))
    text = textured_obj(mesh.vertices, mesh.faces, uvs, face_uvs, mtl_file="m.mtl").decode()
    assert text.startswith("mtllib m.mtl\n")
    assert "f 1/1 2/2 4/3" in text
    assert material_file("t.png").decode().endswith("map_Kd t.png\n")


def test_black_texels_take_their_neighbourhood_and_the_image_turns() -> None:
    texture = np.zeros((4, 4, 3), dtype=np.float32)
    texture[0, 0] = (0.5, 0.2, 0.0)
    pixels = texture_pixels(texture)
    assert pixels[3, 0].tolist() == [127, 51, 0]  # truncated, not rounded
    assert pixels[2, 1].tolist() == [127, 51, 0]
    assert pixels[0, 3].tolist() == [0, 0, 0]
