from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from geco_core.errors import BadItem, Reason
from geco_core.mesh.gate import check_mesh, degenerate_faces
from geco_core.types import Mesh
from tests.geco_core.mesh.meshes import box, sphere, textured_box


def _with_nan(mesh: Mesh) -> None:
    mesh.vertices[3, 1] = np.nan


def _with_infinity(mesh: Mesh) -> None:
    mesh.vertices[0, 0] = -np.inf


def _without_faces(mesh: Mesh) -> None:
    mesh.faces = mesh.faces[:0]


def _without_vertices(mesh: Mesh) -> None:
    mesh.vertices, mesh.colors = mesh.vertices[:0], None


def _index_too_high(mesh: Mesh) -> None:
    mesh.faces[5, 2] = len(mesh.vertices)


def _index_negative(mesh: Mesh) -> None:
    mesh.faces[0, 0] = -1


def _collapsed(mesh: Mesh) -> None:
    mesh.faces[:6, 1] = mesh.faces[:6, 0]


def _one_point(mesh: Mesh) -> None:
    mesh.vertices[:] = 0.5


def _flung(mesh: Mesh) -> None:
    mesh.vertices[0] = 1e9


def _colors_short(mesh: Mesh) -> None:
    assert mesh.colors is not None
    mesh.colors = mesh.colors[:3]


def _float_colors(mesh: Mesh) -> None:
    assert mesh.colors is not None
    mesh.colors = mesh.colors / 255.0


def _quads(mesh: Mesh) -> None:
    mesh.faces = np.zeros((4, 4), dtype=np.int32)


def _float_faces(mesh: Mesh) -> None:
    mesh.faces = mesh.faces.astype(np.float32)


def _texture_without_uvs(mesh: Mesh) -> None:
    mesh.texture = np.zeros((4, 4, 3), dtype=np.uint8)


@pytest.mark.parametrize(
    ("spoil", "reason"),
    [
        (_with_nan, Reason.NON_FINITE),
        (_with_infinity, Reason.NON_FINITE),
        (_without_faces, Reason.EMPTY_MESH),
        (_without_vertices, Reason.EMPTY_MESH),
        (_index_too_high, Reason.INVALID_MESH),
        (_index_negative, Reason.INVALID_MESH),
        (_collapsed, Reason.INVALID_MESH),
        (_one_point, Reason.INVALID_MESH),
        (_flung, Reason.INVALID_MESH),
        (_colors_short, Reason.INVALID_MESH),
        (_float_colors, Reason.INVALID_MESH),
        (_quads, Reason.INVALID_MESH),
        (_float_faces, Reason.INVALID_MESH),
        (_texture_without_uvs, Reason.INVALID_MESH),
    ],
)
def test_spoiled_meshes_are_refused(spoil: Callable[[Mesh], None], reason: Reason) -> None:
    mesh = box()
    check_mesh(mesh)
    spoil(mesh)
    with pytest.raises(BadItem) as caught:
        check_mesh(mesh, item_id="chair-1")
    assert caught.value.reason is reason
    assert caught.value.item_id == "chair-1"
    assert caught.value.stage == "finish"
    assert caught.value.remedy


@pytest.mark.parametrize(
    "mesh", [box(), sphere(), textured_box(), box((1e-3, 1e-3, 1e-3)), box((500, 1, 1))]
)
def test_sound_meshes_pass_at_any_scale(mesh: Mesh) -> None:
    check_mesh(mesh)
    assert not degenerate_faces(mesh).any()


def test_a_few_degenerate_faces_are_tolerated() -> None:
    mesh = sphere()
    mesh.faces[:4, 1] = mesh.faces[:4, 0]
    assert degenerate_faces(mesh).sum() == 4
    check_mesh(mesh)
    with pytest.raises(BadItem, match="degenerate"):
        check_mesh(mesh, max_degenerate_share=0.0)


def test_face_limit() -> None:
    with pytest.raises(BadItem, match="12 faces"):
        check_mesh(box(), max_faces=11)
