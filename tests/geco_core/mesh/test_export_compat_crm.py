from __future__ import annotations

import numpy as np
import pytest

from geco_core.mesh.export_compat_crm import (
    crm_obj,
    glb_mesh,
    material_text,
    obj_text,
    texture_pixels,
)
from geco_core.mesh.inspect import mesh_stats
from geco_core.types import Mesh
from tests.geco_core.mesh.meshes import box

CORNER_UVS = np.stack([np.linspace(0, 1, 36), np.linspace(0.2, 0.4, 36)], axis=1)
FACE_UVS = np.arange(36).reshape(12, 3)


def decoded() -> Mesh:
    """A box as CRM's decoder gives it: faces inwards."""
    mesh = box((1, 2, 3), centre=(0.3, 0.1, -0.2))
    return Mesh(mesh.vertices, np.ascontiguousarray(mesh.faces[:, ::-1]))


def test_z_comes_up_and_faces_come_out() -> None:
    mesh = decoded()
    obj = crm_obj(mesh.vertices, mesh.faces, CORNER_UVS, FACE_UVS)
    np.testing.assert_allclose(obj.vertices[:, 1], mesh.vertices[:, 2])
    turned = Mesh(obj.vertices.astype(np.float32), np.ascontiguousarray(obj.faces))
    assert mesh_stats(turned)["volume"] == pytest.approx(6.0, rel=1e-5)


def test_text_is_one_based_and_reversed() -> None:
    mesh = decoded()
    obj = crm_obj(mesh.vertices, mesh.faces, CORNER_UVS, FACE_UVS)
    lines = obj_text(obj, mtl_file="mesh.mtl").decode().splitlines()
    assert lines[0] == "mtllib mesh.mtl"
    a, b, c = mesh.faces[0] + 1
    assert f"f {c}/3 {b}/2 {a}/1" in lines
    assert (
        lines.index("usemtl material_0")
        == next(i for i, line in enumerate(lines) if line.startswith("f ")) - 1
    )
    assert "vt 0.00000000 0.80000000" in lines
    assert material_text("t.png").decode().splitlines()[2:] == [
        "Ka 1 1 1",
        "Ks 0.4 0.4 0.4",
        "Ns 10",
        "illum 2",
        "map_Kd t.png",
    ]


def test_texels_are_truncated_and_get_a_gutter_of_one() -> None:
    colors = np.full((5, 5, 3), 2.0)
    colors[0, 0] = (0.5, 0.2, 0.0)
    covered = np.zeros((5, 5), dtype=bool)
    covered[0, 0] = True
    pixels = texture_pixels(colors, covered)
    assert pixels[0, 0].tolist() == [127, 51, 0]
    assert pixels[1, 1].tolist() == [
        127,
        51,
        1,
    ]  # the neighbourhood's largest, uncovered ones are 1
    assert pixels[2, 2].tolist() == [1, 1, 1]
    assert texture_pixels(colors, ~covered)[4, 4].tolist() == [255, 255, 255]


def test_glb_is_centred_and_scaled_with_a_vertex_per_coordinate() -> None:
    mesh = decoded()
    obj = crm_obj(mesh.vertices, mesh.faces, CORNER_UVS, FACE_UVS)
    made = glb_mesh(obj)
    assert len(made.vertices) == len(CORNER_UVS)
    low, high = made.vertices.min(0), made.vertices.max(0)
    np.testing.assert_allclose(low, -high, atol=1e-6)
    assert (high - low).max() == pytest.approx(1.8)
    assert mesh_stats(made)["volume"] > 0
    with pytest.raises(ValueError, match="belongs to no face"):
        glb_mesh(crm_obj(mesh.vertices, mesh.faces, np.zeros((40, 2)), FACE_UVS))
