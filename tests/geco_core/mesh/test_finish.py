from __future__ import annotations

import hashlib

import numpy as np
import pytest

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
