"""Levels of detail have the faces, the shape and the mean colours they should."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import trimesh

from geco_core.config.finish import FinishConfig
from geco_core.mesh.gate import check_mesh
from geco_core.mesh.inspect import mesh_stats
from geco_core.mesh.levels import level_chain, level_texture_size
from geco_core.types import Mesh


@pytest.fixture
def blob() -> Mesh:
    sphere = trimesh.creation.icosphere(4, 1.0)
    v = sphere.vertices.astype(np.float32)
    v *= (1 + 0.2 * np.sin(5 * v[:, :1])).astype(np.float32)
    colors = np.where(v[:, :1] > 0, 250, 5).astype(np.uint8).repeat(3, axis=1)
    return Mesh(v, sphere.faces.astype(np.int32), colors)


@pytest.mark.parametrize("lods", [(0.5, 0.25, 0.05), (2560, 1280, 256)])
def test_levels_have_the_faces_and_the_shape(blob: Mesh, lods: tuple[float, ...]) -> None:
    assert len(blob.faces) == 5120
    chain = level_chain(blob, lods)
    for level, wanted in zip(chain, (2560, 1280, 256), strict=True):
        check_mesh(level)
        assert 0.9 * wanted <= len(level.faces) <= wanted
        stats = mesh_stats(level)
        assert stats["watertight"]
        assert stats["volume"] == pytest.approx(mesh_stats(blob)["volume"], rel=0.05)


def test_colours_are_those_of_the_full_mesh_and_never_alias(blob: Mesh) -> None:
    (level,) = level_chain(blob, (0.05,))
    far = np.abs(level.vertices[:, 0]) > 0.3
    expected = np.where(level.vertices[:, 0] > 0, 250, 5)
    np.testing.assert_array_equal(level.colors[far, 0], expected[far])
    # Black and white in turn are grey to whoever sees both: half the light is sRGB 188.
    speckled = np.where(np.arange(len(blob.vertices)) % 2, 255, 0).astype(np.uint8)
    (grey,) = level_chain(replace(blob, colors=speckled[:, None].repeat(3, axis=1)), (0.02,))
    assert abs(float(np.mean(grey.colors)) - 188) < 12
    assert grey.colors.std() < 45


def test_a_level_that_needs_nothing_or_can_not_be_made_is_the_one_before(blob: Mesh) -> None:
    first, second = level_chain(blob, (6000, 5500))
    np.testing.assert_array_equal(first.faces, blob.faces)
    np.testing.assert_array_equal(second.faces, blob.faces)
    np.testing.assert_array_equal(first.colors, blob.colors)
    sheet = Mesh(np.float32([[0, 0, 0], [1, 0, 0], [1, 1, 0], [0, 1, 0], [2, 2, 0]]), None)
    sheet.faces = np.int32([[0, 1, 2], [0, 2, 3], [2, 3, 4], [1, 4, 2], [0, 4, 1]])
    levels = level_chain(sheet, (4.0,))
    assert [level.colors for level in levels] == [None]
    assert len(levels[0].faces) >= 1


def test_the_texture_shrinks_with_the_square_root_of_the_faces() -> None:
    sizes = [level_texture_size(1024, faces, 20_000) for faces in (20_000, 5001, 5000, 1250, 4)]
    assert sizes == [1024, 1024, 512, 256, 16]
    assert level_texture_size(0, 4, 20_000) == 0


@pytest.mark.parametrize(
    "lods", [(0.5, 0.5), (0.25, 0.5), (1.0,), (0.0,), (3,), (100.5,), (100, 0.5), (0.5, 100), (-1,)]
)
def test_wrong_levels_are_refused(lods: tuple[float, ...]) -> None:
    with pytest.raises(ValueError, match="lods must"):
        FinishConfig(lods=lods)
