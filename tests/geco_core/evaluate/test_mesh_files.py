"""Reference meshes of every kind, and every way they can be wrong."""

from __future__ import annotations

import importlib.util
import io

import numpy as np
import pytest
import trimesh
from PIL import Image
from trimesh.visual.material import PBRMaterial
from trimesh.visual.texture import TextureVisuals

from geco_core.errors import BadItem, ConfigError, ForgeError, Reason, Retryable
from geco_core.evaluate import mesh_files
from geco_core.evaluate.mesh_files import KINDS, read_mesh
from geco_core.mesh import draco
from geco_core.mesh.draco import compressed
from geco_core.mesh.glb import GENERATOR, write_glb
from geco_core.mesh.glb_container import joined, split
from tests.geco_core.evaluate.meshes import as_mesh, box

TEXTURED_OBJ = b"""mtllib cube.mtl
v 0 0 0
v 1 0 0
v 0 1 0
vt 0 0
vt 1 0
vt 0 1
usemtl skin
f 1/1 2/2 3/3
"""
MTL = b"newmtl skin\nKd 1 1 1\nmap_Kd skin.png\n"


def png() -> bytes:
    stream = io.BytesIO()
    Image.new("RGB", (4, 4), (200, 40, 30)).save(stream, format="PNG")
    return stream.getvalue()


def as_file(kind: str) -> bytes:
    made = trimesh.Trimesh(*box(), process=False)
    data = made.export(file_type=kind[1:])
    return data.encode() if isinstance(data, str) else data


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_is_read(kind: str) -> None:
    mesh = read_mesh(as_file(kind), kind)
    assert len(mesh.faces) == 12
    assert np.ptp(mesh.vertices, axis=0).tolist() == [1, 1, 1]
    assert (mesh.vertices.dtype, mesh.faces.dtype) == (np.float32, np.int32)


def test_our_own_glb_keeps_its_colours() -> None:
    mesh = as_mesh(box())
    again = read_mesh(write_glb(mesh), ".glb")
    assert again.colors is not None
    np.testing.assert_allclose(again.colors, mesh.colors, atol=1)


def test_glbs_of_others_keep_colours_and_places(monkeypatch: pytest.MonkeyPatch) -> None:
    mesh = as_mesh(box())
    monkeypatch.setattr(mesh_files, "_own_glb", lambda data: None)  # the road of foreign files
    again = read_mesh(write_glb(mesh), ".glb")
    assert mesh.colors is not None
    assert again.colors is not None
    assert np.abs(again.colors.astype(int) - mesh.colors).max() <= 1
    scene = trimesh.Scene()
    for place in (0.0, 5.0):
        part = trimesh.Trimesh(*box(), process=False, vertex_colors=[255, 55, 0, 255])
        scene.add_geometry(
            part, transform=trimesh.transformations.translation_matrix([place, 0, 0])
        )
    both = read_mesh(scene.export(file_type="glb"), ".glb")
    assert np.ptp(both.vertices, axis=0).tolist() == [6, 1, 1]
    assert both.colors is not None
    assert both.colors[0].tolist() == [255, 128, 0]  # 55 of 255 in linear light is half in sRGB


def test_the_colour_of_a_foreign_material_is_linear_light() -> None:
    made = trimesh.Trimesh(*box(), process=False)
    made.visual = TextureVisuals(material=PBRMaterial(baseColorFactor=[55, 255, 0, 255]))
    colors = read_mesh(made.export(file_type="glb"), ".glb").colors
    assert colors is not None
    assert colors[0].tolist() == [128, 255, 0]


@pytest.mark.skipif(
    importlib.util.find_spec("DracoPy") is None, reason="the extra draco is not installed"
)
def test_compressed_glbs_of_others_keep_their_colours() -> None:
    mesh = as_mesh(box())
    ours = compressed(write_glb(mesh))
    foreign = ours.replace(GENERATOR.encode(), b"Some Other")
    assert len(foreign) == len(ours)
    again, expected = read_mesh(foreign, ".glb"), read_mesh(ours, ".glb")
    assert again.colors is not None
    assert expected.colors is not None
    np.testing.assert_array_equal(again.faces, expected.faces)
    assert np.abs(again.colors.astype(int) - expected.colors).max() <= 1


def test_a_compressed_glb_needs_the_package(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(draco, "_installed", lambda: False)
    root, binary = split(write_glb(as_mesh(box())))
    named = joined(root | {"extensionsRequired": [draco.EXTENSION]}, [({}, binary)])
    with pytest.raises(ConfigError, match="DracoPy"):
        read_mesh(named, ".glb")


def test_places_are_counted_before_they_are_filled(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mesh_files, "MAX_FACES", 40)
    monkeypatch.setattr(trimesh.Scene, "dump", lambda scene: pytest.fail("it was filled"))
    scene = trimesh.Scene()
    part = trimesh.Trimesh(*box(), process=False)
    for number in range(5):
        scene.add_geometry(part, node_name=f"node {number}", geom_name="part")
    with pytest.raises(BadItem, match="60 faces"):
        read_mesh(scene.export(file_type="glb"), ".glb")


def test_an_obj_brings_material_and_texture_through_its_companions() -> None:
    files = {"cube.mtl": MTL, "skin.png": png()}
    asked: list[str] = []

    def companion(name: str) -> bytes:
        asked.append(name)
        return files[name]

    mesh = read_mesh(TEXTURED_OBJ, ".obj", companion)
    assert mesh.texture is not None
    assert mesh.texture[0, 0].tolist() == [200, 40, 30]
    assert mesh.uvs is not None
    assert set(asked) == set(files)
    bare = read_mesh(TEXTURED_OBJ, ".obj")
    assert bare.texture is None


@pytest.mark.parametrize(
    "name", ["/etc/passwd", "../secret.mtl", "~/x.mtl", "s3://bucket/x.mtl", "http://host/x.mtl"]
)
def test_companions_outside_are_never_asked_for(name: str) -> None:
    def companion(name: str) -> bytes:
        raise AssertionError(f"asked for {name}")

    text = TEXTURED_OBJ.replace(b"cube.mtl", name.encode())
    assert read_mesh(text, ".obj", companion).texture is None


@pytest.mark.parametrize("name", ["cube.mtl", "skin.png"])
@pytest.mark.parametrize(
    "error", [Retryable("slow down"), BadItem("too large", reason=Reason.TOO_MANY_BYTES)]
)
def test_a_companion_that_fails_is_not_taken_for_absent(name: str, error: ForgeError) -> None:
    files = {"cube.mtl": MTL, "skin.png": png()}

    def companion(asked: str) -> bytes:
        if asked == name:
            raise error
        return files[asked]

    with pytest.raises(type(error), match=error.message):
        read_mesh(TEXTURED_OBJ, ".obj", companion)


def test_face_colours_split_the_vertices() -> None:
    made = trimesh.Trimesh(*box(), process=False)
    made.visual.face_colors = np.tile([10, 20, 30, 255], (12, 1))
    mesh = read_mesh(made.export(file_type="ply"), ".ply")
    assert len(mesh.vertices) == 36
    assert mesh.colors is not None
    assert mesh.colors[0].tolist() == [10, 20, 30]


@pytest.mark.parametrize(
    ("data", "kind", "reason"),
    [
        (b"hello", ".obj", Reason.EMPTY_MESH),
        (b"not a ply", ".ply", Reason.INVALID_MESH),
        (b"glTF" + b"\0" * 40, ".glb", Reason.INVALID_MESH),
        (b"", ".stl", None),
        (b"solid", ".fbx", Reason.UNSUPPORTED_INPUT),
        (b"v 0 0 0\nv 1 0 0\nv nan 1 0\nf 1 2 3\n", ".obj", Reason.NON_FINITE),
        (b"v 0 0 0\nv 1 0 0\nv 2 0 0\nf 1 2 3\n", ".obj", Reason.EMPTY_MESH),
        (b"v 0 0 0\nv 1 0 0\nv 0 1 0\nf 1 2 9\n", ".obj", Reason.INVALID_MESH),
    ],
)
def test_bad_files_are_bad_items(data: bytes, kind: str, reason: Reason | None) -> None:
    with pytest.raises(BadItem) as caught:
        read_mesh(data, kind, item_id="chair")
    assert caught.value.item_id == "chair"
    assert reason is None or caught.value.reason is reason


def test_sizes_are_limited(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mesh_files, "MAX_FACES", 11)
    with pytest.raises(BadItem, match="12 faces"):
        read_mesh(as_file(".obj"), ".obj")
    monkeypatch.setattr(mesh_files, "MAX_BYTES", 10)
    with pytest.raises(BadItem) as caught:
        read_mesh(as_file(".obj"), ".obj")
    assert caught.value.reason is Reason.TOO_MANY_BYTES
    monkeypatch.setattr(mesh_files, "MAX_BYTES", 1000)
    monkeypatch.setattr(mesh_files, "MAX_TEXTURE_PIXELS", 15)
    with pytest.raises(BadItem, match="4 x 4 pixels"):
        read_mesh(TEXTURED_OBJ, ".obj", {"cube.mtl": MTL, "skin.png": png()}.__getitem__)
