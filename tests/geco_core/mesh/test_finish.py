from __future__ import annotations

import hashlib

import numpy as np
import pytest

from geco_core.config.finish import FinishConfig
from geco_core.errors import BadItem, Reason
from geco_core.mesh.finish import finish_mesh
from geco_core.mesh.glb import read_glb
from geco_core.types import Mesh
from tests.geco_core.mesh.meshes import box, sphere, textured_box

PROVENANCE = {
    "weights_digest": "ab",
    "config_digest": "cd",
    "licences": ["Apache-2.0"],
    "code_version": "0.1",
}


@pytest.mark.parametrize("mesh", [box(centre=(0.5, 0, 0)), sphere(), textured_box()])
def test_an_asset_is_complete_centred_and_reproducible(mesh: Mesh) -> None:
    def finish():
        return finish_mesh(
            mesh,
            item_id="x/1",
            seed=3,
            provenance=PROVENANCE,
            thumbnail_size=32,
            source_sha256="ef",
        )

    asset = finish()
    assert finish() == asset
    assert hashlib.sha256(asset.glb).hexdigest() == asset.glb_sha256
    assert asset.thumbnail_png.startswith(b"\x89PNG")
    glb = read_glb(asset.glb)
    assert glb.extras["item_id"] == "x/1"
    assert glb.extras["seed"] == 3
    assert glb.extras["source_sha256"] == "ef"
    assert glb.extras["licences"] == ["Apache-2.0"]
    assert glb.extras["weights_digest"] == "ab"
    assert glb.generator == "GECO Forge 0.1"
    low, high = glb.mesh.vertices.min(axis=0), glb.mesh.vertices.max(axis=0)
    np.testing.assert_allclose(low, -high, atol=1e-6)
    restored = glb.mesh.vertices + np.float32(glb.extras["center_offset"])
    np.testing.assert_allclose(restored, mesh.vertices, atol=1e-6)
    assert asset.mesh_stats["bounds"][:3] == pytest.approx(low.tolist())


def test_a_mesh_that_cleaning_empties_is_refused() -> None:
    faces = np.array([[0, 0, 1], [1, 1, 2]], dtype=np.int32)
    mesh = Mesh(np.eye(3, dtype=np.float32), faces)
    with pytest.raises(BadItem) as caught:
        finish_mesh(mesh, item_id="x", seed=0, provenance={}, thumbnail_size=0)
    assert caught.value.reason is Reason.INVALID_MESH


def test_no_thumbnail_when_the_size_is_zero() -> None:
    asset = finish_mesh(box(), item_id="x", seed=0, provenance={}, thumbnail_size=0)
    assert asset.thumbnail_png == b""


def shaped(mesh: Mesh, **settings: object):
    return finish_mesh(
        mesh,
        item_id="x",
        seed=1,
        provenance=PROVENANCE,
        thumbnail_size=0,
        settings=FinishConfig(**settings),
    )


def joined(*meshes: Mesh) -> Mesh:
    starts = np.cumsum([0, *[len(m.vertices) for m in meshes[:-1]]])
    return Mesh(
        np.concatenate([m.vertices for m in meshes]),
        np.concatenate([m.faces + s for m, s in zip(meshes, starts, strict=True)]).astype(np.int32),
        np.concatenate([m.colors for m in meshes]),
    )


def test_shaping_steps_are_done_and_noted() -> None:
    ball, speck = sphere(24, 48), box((0.02, 0.02, 0.02), (3, 0, 0))
    torn = joined(Mesh(ball.vertices, np.delete(ball.faces, 900, 0), ball.colors), speck)
    plain = shaped(torn)
    assert plain.notes == ()
    assert plain.mesh_stats["components"] == 2
    made = shaped(torn, min_component_share=0.01, max_hole_edges=6, face_budget=500)
    assert len(made.notes) == 3
    assert made.mesh_stats["components"] == 1
    assert made.mesh_stats["watertight"]
    assert made.mesh_stats["n_faces"] <= 500
    assert abs(made.mesh_stats["bounds"][3] - 1.0) < 0.05  # centred on what is left


def test_the_texture_is_baked_from_the_field_in_the_models_frame() -> None:
    ball = sphere(24, 48)
    moved = Mesh(ball.vertices + np.float32([5, 0, 0]), ball.faces, ball.colors)
    # A field that knows where the model put the ball: colour 1 in its upper half, else 0.
    moved.color_fn = lambda p: np.repeat((p[:, 1:2] > 0) * (p[:, :1] > 3.5), 3, axis=1) * 1.0
    asset = shaped(moved, texture_size=128)
    glb = read_glb(asset.glb)
    texture = glb.mesh.texture
    assert texture is not None
    assert texture.shape == (128, 128, 3)
    share = (texture > 127).mean()
    assert 0.3 < share < 0.7
    assert glb.mesh.colors is None


def test_vertex_colours_are_baked_where_there_is_no_field() -> None:
    ball = sphere()
    ball.colors = np.full_like(ball.colors, (10, 200, 60))
    texture = read_glb(shaped(ball, texture_size=64).glb).mesh.texture
    assert texture is not None
    assert np.abs(texture.reshape(-1, 3).astype(int) - (10, 200, 60)).max() <= 1


def test_levels_of_detail_are_files_of_their_own() -> None:
    ball = sphere(24, 48)
    assert "lods" not in shaped(ball).columns
    asset = shaped(ball, texture_size=128, lods=(0.5, 0.2))
    assert asset.glb == shaped(ball, texture_size=128).glb
    for number, (level, size) in enumerate(zip(asset.columns["lods"], (128, 64), strict=True), 1):
        assert hashlib.sha256(level["glb"]).hexdigest() == level["glb_sha256"]
        glb = read_glb(level["glb"])
        assert glb.extras["lod"] == number
        assert glb.extras["item_id"] == "x"
        assert glb.mesh.texture is not None
        assert glb.mesh.texture.shape == (size, size, 3)
        assert (len(glb.mesh.vertices), len(glb.mesh.faces)) == (
            level["n_vertices"],
            level["n_faces"],
        )
        wanted = (0.5, 0.2)[number - 1] * asset.mesh_stats["n_faces"]
        assert 0.9 * wanted < level["n_faces"] <= wanted + 1
        # The middle of the full mesh, not its own: levels replace each other without a jump.
        assert glb.extras["center_offset"] == read_glb(asset.glb).extras["center_offset"]


def test_a_mesh_with_its_own_texture_gets_no_levels_and_a_note() -> None:
    asset = shaped(textured_box(), lods=(0.5,))
    assert "lods" not in asset.columns
    assert any("no levels of detail" in note for note in asset.notes)


def test_quality_numbers_are_those_of_the_file() -> None:
    ball = sphere(24, 48)
    ball.faces = np.concatenate([np.delete(ball.faces, 900, 0), [[4, 4, 5]]]).astype(np.int32)
    torn, mended = shaped(ball), shaped(ball, max_hole_edges=4)
    assert (torn.columns["qc"]["holes"], mended.columns["qc"]["holes"]) == (1, 0)
    assert torn.columns["qc"]["collapsed_faces"] == 1


@pytest.mark.parametrize(
    "wrong",
    [
        {"min_component_share": 1.0},
        {"face_budget": 3},
        {"texture_size": -1},
    ],
)
def test_impossible_settings_are_refused(wrong: dict) -> None:
    with pytest.raises(ValueError, match=r"must"):
        FinishConfig(**wrong)
