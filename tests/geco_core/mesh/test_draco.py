"""Compressed GLBs hold the same mesh within their rounding, and read back everywhere."""

from __future__ import annotations

import importlib.util
import io
from typing import Any

import numpy as np
import pytest
import trimesh
from scipy.spatial import KDTree

from geco_core.config.finish import FinishConfig
from geco_core.errors import ConfigError
from geco_core.mesh import draco
from geco_core.mesh.draco import POSITION_BITS, check_finish, compressed, uncompressed
from geco_core.mesh.finish import finish_mesh
from geco_core.mesh.glb import GlbError, read_glb, write_glb
from geco_core.mesh.glb_container import joined, split
from geco_core.mesh.inspect import mesh_stats
from geco_core.types import Mesh
from tests.geco_core.mesh.meshes import box, octahedron, sphere, textured_box

needs_draco = pytest.mark.skipif(
    importlib.util.find_spec("DracoPy") is None, reason="the extra draco is not installed"
)
MESHES = {
    "colours": sphere(),
    "texture": textured_box(),
    "plain": Mesh(box().vertices, box().faces),
    "normals are positions": octahedron(),
}


def step(mesh: Mesh) -> float:
    return float(np.ptp(mesh.vertices, axis=0).max()) / 2**POSITION_BITS


@needs_draco
@pytest.mark.parametrize("kind", MESHES)
def test_the_same_mesh_comes_back_within_the_rounding(kind: str) -> None:
    mesh = MESHES[kind]
    glb = write_glb(mesh, {"item_id": "a"})
    small = compressed(glb)
    assert compressed(glb) == small
    back = read_glb(small)
    assert back.extras == {"item_id": "a"}
    assert len(back.mesh.faces) == len(mesh.faces)
    assert len(back.mesh.vertices) == len(mesh.vertices)
    features = [mesh.vertices, np.zeros((len(mesh.vertices), 0))]
    found = [back.mesh.vertices, np.zeros((len(back.mesh.vertices), 0))]
    if mesh.uvs is not None:
        assert back.mesh.uvs is not None
        features[1], found[1] = mesh.uvs, back.mesh.uvs
    _, source = KDTree(np.hstack(features)).query(np.hstack(found))
    assert np.abs(mesh.vertices[source] - back.mesh.vertices).max() <= step(mesh)
    if mesh.colors is not None:
        np.testing.assert_array_equal(back.mesh.colors, mesh.colors[source])
    if mesh.uvs is not None:
        assert np.abs(mesh.uvs[source] - back.mesh.uvs).max() < 1e-4
        np.testing.assert_array_equal(back.mesh.texture, mesh.texture)
    wanted = read_glb(glb).normals
    assert wanted is not None
    assert back.normals is not None
    assert (wanted[source] * back.normals).sum(axis=1).min() > 0.9999
    wanted_faces = {tuple(sorted(face)) for face in mesh.faces.tolist()}
    assert {tuple(sorted(face)) for face in source[back.mesh.faces].tolist()} == wanted_faces
    before, after = mesh_stats(mesh), mesh_stats(back.mesh)
    assert after["watertight"]
    assert after["volume"] == pytest.approx(before["volume"], rel=1e-3)


@needs_draco
def test_it_is_much_smaller_and_says_so() -> None:
    glb = write_glb(sphere(60, 90))
    small = compressed(glb)
    assert len(small) < len(glb) / 5
    root, _ = split(small)
    assert root["extensionsRequired"] == root["extensionsUsed"] == [draco.EXTENSION]
    primitive = root["meshes"][0]["primitives"][0]
    for number in (*primitive["attributes"].values(), primitive["indices"]):
        assert "bufferView" not in root["accessors"][number]


@needs_draco
@pytest.mark.parametrize("kind", MESHES)
def test_it_can_be_undone(kind: str) -> None:
    small = compressed(write_glb(MESHES[kind]))
    plain = uncompressed(small)
    assert "extensionsRequired" not in split(plain)[0]
    one, other = read_glb(small), read_glb(plain)
    np.testing.assert_array_equal(one.mesh.vertices, other.mesh.vertices)
    np.testing.assert_array_equal(one.mesh.faces, other.mesh.faces)
    np.testing.assert_array_equal(one.normals, other.normals)
    assert uncompressed(plain) == plain


@needs_draco
def test_another_library_reads_what_is_undone() -> None:
    scene: Any = trimesh.load(
        io.BytesIO(uncompressed(compressed(write_glb(sphere())))), file_type="glb", process=False
    )
    (loaded,) = scene.geometry.values()
    assert loaded.is_watertight
    assert loaded.volume == pytest.approx(mesh_stats(sphere())["volume"], rel=1e-3)


@needs_draco
def test_colours_of_eight_bits_come_back() -> None:
    import DracoPy

    mesh = sphere()
    colors = np.tile(np.array([[255, 128, 0, 255]], dtype=np.uint8), (len(mesh.vertices), 1))
    root, _ = split(compressed(write_glb(mesh)))
    attributes = root["meshes"][0]["primitives"][0]["attributes"]
    kept = {"POSITION": attributes["POSITION"], "COLOR_0": attributes["COLOR_0"]}
    data = DracoPy.encode(mesh.vertices, mesh.faces, generic_attributes={3: colors})
    held = {e["attribute_type"]: e for e in DracoPy.decode(data).attributes}
    root["meshes"][0]["primitives"][0]["attributes"] = kept
    ids = {"POSITION": held[0]["unique_id"], "COLOR_0": held[4]["unique_id"]}
    extension = {"bufferView": 0, "attributes": ids}
    root["meshes"][0]["primitives"][0]["extensions"] = {draco.EXTENSION: extension}
    root["accessors"][kept["COLOR_0"]] |= {"componentType": 5121, "normalized": True}
    back = read_glb(joined(root, [({}, data)])).mesh
    assert back.colors is not None
    assert np.unique(back.colors, axis=0).tolist() == [[255, 188, 0]]  # linear light in the file


@needs_draco
def test_more_than_one_primitive_is_refused() -> None:
    root, binary = split(compressed(write_glb(sphere())))
    root["meshes"][0]["primitives"] *= 2
    with pytest.raises(GlbError, match="one primitive"):
        uncompressed(joined(root, [({}, binary)]))


@needs_draco
def test_faces_that_repeat_a_corner_are_left_out() -> None:
    ball = sphere()
    ball.faces = np.concatenate([ball.faces, [[3, 3, 4]]]).astype(np.int32)
    assert len(read_glb(compressed(write_glb(ball))).mesh.faces) == len(ball.faces) - 1


@needs_draco
def test_damage_is_found() -> None:
    small = compressed(write_glb(sphere()))
    at = small.index(b"DRACO")
    broken = small[:at] + b"XXXXX" + small[at + 5 :]
    with pytest.raises(GlbError, match="does not decode"):
        read_glb(broken)
    root, _ = split(small)
    count = root["accessors"][0]["count"]
    wrong = small.replace(f'"count":{count}'.encode(), f'"count":{count - 3}'.encode(), 1)
    with pytest.raises(GlbError, match="the document says"):
        read_glb(wrong)


@needs_draco
def test_an_asset_describes_the_compressed_file() -> None:
    settings = FinishConfig(compression="draco", texture_size=64, lods=(0.5,))
    details: dict[str, Any] = {"item_id": "x", "seed": 0, "provenance": {}, "thumbnail_size": 16}
    asset = finish_mesh(sphere(24, 48), **details, settings=settings)
    assert finish_mesh(sphere(24, 48), **details, settings=settings) == asset
    for glb, said in (
        (asset.glb, asset.mesh_stats),
        (asset.columns["lods"][0]["glb"], asset.columns["lods"][0]),
    ):
        assert b"KHR_draco_mesh_compression" in glb
        mesh = read_glb(glb).mesh
        assert (len(mesh.vertices), len(mesh.faces)) == (said["n_vertices"], said["n_faces"])
    assert asset.mesh_stats["bounds"] == mesh_stats(read_glb(asset.glb).mesh)["bounds"]
    assert asset.mesh_stats["watertight"]


def test_without_the_package_the_error_says_what_to_install(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(draco, "_installed", lambda: False)
    check_finish(FinishConfig())
    with pytest.raises(ConfigError, match=r"finish.compression=draco needs.*pip install dracopy"):
        check_finish(FinishConfig(compression="draco"))
    with pytest.raises(ConfigError, match="DracoPy"):
        compressed(write_glb(box()))
