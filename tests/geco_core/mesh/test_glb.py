from __future__ import annotations

import io
import json
import os
import struct
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import trimesh
from PIL import Image

from geco_core.mesh.glb import GlbError, read_glb, write_glb
from geco_core.mesh.normals import vertex_normals
from geco_core.types import Mesh
from tests.geco_core.mesh.meshes import box, octahedron, sphere, textured_box

EXTRAS = {
    "item_id": "a b",
    "seed": np.int64(7),
    "licences": ("MIT", "Apache-2.0"),
    "nested": {"x": np.float32(0.5)},
}


def _document(glb: bytes) -> dict:
    (length,) = struct.unpack_from("<I", glb, 12)
    return json.loads(glb[20 : 20 + length])


def _attributes(document: dict) -> dict[str, int]:
    return document["meshes"][0]["primitives"][0]["attributes"]


def _with_document(glb: bytes, document: dict) -> bytes:
    (length,) = struct.unpack_from("<I", glb, 12)
    text = json.dumps(document).encode()
    text += b" " * (-len(text) % 4)
    rest = glb[20 + length :]
    return (
        struct.pack("<4sIIII", b"glTF", 2, 20 + len(text) + len(rest), len(text), 0x4E4F534A)
        + text
        + rest
    )


def test_round_trip_keeps_geometry_colours_and_extras() -> None:
    mesh = sphere()
    mesh.colors = np.random.default_rng(0).integers(0, 256, mesh.vertices.shape).astype(np.uint8)
    back = read_glb(write_glb(mesh, EXTRAS, version="1.2"))
    np.testing.assert_array_equal(back.mesh.vertices, mesh.vertices)
    np.testing.assert_array_equal(back.mesh.faces, mesh.faces)
    np.testing.assert_array_equal(back.mesh.colors, mesh.colors)
    assert back.mesh.uvs is None
    assert back.normals is not None
    assert back.generator == "GECO Forge 1.2"
    assert back.extras == {
        "item_id": "a b",
        "seed": 7,
        "licences": ["MIT", "Apache-2.0"],
        "nested": {"x": 0.5},
    }


def test_every_srgb_level_survives_linear_storage() -> None:
    mesh = sphere(rings=16, segments=32)
    levels = np.arange(len(mesh.vertices)) % 256
    mesh.colors = np.repeat(levels[:, None], 3, axis=1).astype(np.uint8)
    np.testing.assert_array_equal(read_glb(write_glb(mesh)).mesh.colors, mesh.colors)


def test_colours_are_stored_as_linear_light() -> None:
    mesh = box()
    mesh.colors = np.full((8, 3), 188, dtype=np.uint8)  # sRGB 188 is very nearly half the light
    glb = write_glb(mesh)
    document = _document(glb)
    accessor = document["accessors"][_attributes(document)["COLOR_0"]]
    assert accessor["normalized"] is True
    view = document["bufferViews"][accessor["bufferView"]]
    start = len(glb) - document["buffers"][0]["byteLength"] + view["byteOffset"]
    stored = np.frombuffer(glb, dtype="<u2", count=4, offset=start) / 65535
    np.testing.assert_allclose(stored, [0.503, 0.503, 0.503, 1.0], atol=2e-3)


def test_textured_round_trip() -> None:
    mesh = textured_box()
    back = read_glb(write_glb(mesh)).mesh
    np.testing.assert_array_equal(back.texture, mesh.texture)
    assert mesh.uvs is not None
    np.testing.assert_allclose(back.uvs, mesh.uvs, atol=1e-6)


def test_a_texture_that_is_a_bomb_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    glb = write_glb(textured_box())
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 10)
    with pytest.raises(GlbError, match="texture does not decode"):
        read_glb(glb)


@pytest.mark.parametrize("mesh", [box(), sphere(), textured_box()])
def test_same_input_same_bytes(mesh: Mesh) -> None:
    first = write_glb(mesh, {"b": 1, "a": 2})
    assert write_glb(mesh, {"a": 2, "b": 1}) == first
    assert len(first) % 4 == 0


def test_another_library_reads_the_same_mesh() -> None:
    mesh = sphere()
    scene: Any = trimesh.load(io.BytesIO(write_glb(mesh)), file_type="glb", process=False)
    (loaded,) = scene.geometry.values()
    np.testing.assert_array_equal(loaded.vertices, mesh.vertices)
    np.testing.assert_array_equal(loaded.faces, mesh.faces)
    assert loaded.is_watertight
    assert loaded.volume > 0
    linear = np.asarray(loaded.visual.vertex_attributes["color"])
    assert linear.dtype == np.uint16
    assert linear.shape == (len(mesh.vertices), 4)


def test_nothing_is_merged_dropped_reordered_or_rounded() -> None:
    mesh = sphere()
    assert mesh.colors is not None
    odd = [mesh.vertices[0], mesh.vertices[0], (-0.0, 1e-42, 0.1), (1 / 3, 16777217.0, 3e38)]
    vertices = np.concatenate([mesh.vertices, odd]).astype(np.float32)
    count = len(mesh.vertices)
    faces = np.concatenate([mesh.faces, [[0, count, count + 1], [5, 5, 5], mesh.faces[3]]])
    colors = np.concatenate([mesh.colors, mesh.colors[1:5]])
    back = read_glb(write_glb(Mesh(vertices, faces.astype(np.int32), colors=colors)))
    assert back.mesh.vertices.tobytes() == vertices.tobytes()
    np.testing.assert_array_equal(back.mesh.faces, faces)
    np.testing.assert_array_equal(back.mesh.colors, colors)


@pytest.mark.parametrize("kind", ["sphere", "flat", "unused vertex"])
def test_normals_are_ours_to_the_last_bit(kind: str) -> None:
    mesh = sphere(radius=0.3)
    if kind == "flat":
        mesh = Mesh(box().vertices, box().faces[:2])
    if kind == "unused vertex":
        mesh.faces = mesh.faces[1:40]
    back = read_glb(write_glb(mesh))
    assert back.normals is not None
    assert back.normals.tobytes() == vertex_normals(mesh).tobytes()
    assert read_glb(write_glb(mesh, normals=False)).normals is None


def test_equal_attributes_do_not_share_a_buffer_view() -> None:
    mesh = octahedron()  # its smooth normals are its positions
    assert vertex_normals(mesh).tobytes() == mesh.vertices.tobytes()
    glb = write_glb(mesh)
    views = [accessor["bufferView"] for accessor in _document(glb)["accessors"]]
    assert len(set(views)) == len(views) == 3
    np.testing.assert_array_equal(read_glb(glb).normals, mesh.vertices)


@pytest.mark.parametrize("name", ["asset", "world", "", "ü/<&>"])
@pytest.mark.parametrize("kind", ["colours", "texture", "plain", "unused uvs"])
def test_the_document_holds_what_it_should_and_nothing_else(name: str, kind: str) -> None:
    textured = textured_box()
    mesh, attributes = {
        "colours": (sphere(), {"COLOR_0"}),
        "texture": (textured, {"TEXCOORD_0"}),
        "plain": (Mesh(box().vertices, box().faces), set()),
        "unused uvs": (Mesh(textured.vertices, textured.faces, uvs=textured.uvs), {"TEXCOORD_0"}),
    }[kind]
    document = _document(write_glb(mesh, name=name))
    assert document["asset"] == {"version": "2.0", "generator": "GECO Forge"}
    assert document["nodes"] == [{"mesh": 0, "name": name}]
    assert document["scenes"] == [{"nodes": [0]}]
    assert document["meshes"][0].keys() == {"name", "primitives"}
    assert document["meshes"][0]["name"] == name
    assert _attributes(document).keys() == attributes | {"POSITION", "NORMAL"}
    surface: dict[str, Any] = {"metallicFactor": 0.0, "roughnessFactor": 1.0}
    tables = {"asset", "scene", "scenes", "nodes", "meshes", "materials", "accessors"}
    tables |= {"bufferViews", "buffers"}
    if kind == "texture":
        surface["baseColorTexture"] = {"index": 0}
        tables |= {"images", "textures", "samplers"}
        assert document["textures"] == [{"sampler": 0, "source": 0}]
        assert document["samplers"][0]["wrapS"] == document["samplers"][0]["wrapT"] == 33071
    assert document.keys() == tables
    assert document["materials"] == [
        {"name": "surface", "doubleSided": True, "pbrMetallicRoughness": surface}
    ]
    assert document["meshes"][0]["primitives"][0]["material"] == 0


def test_same_bytes_whatever_the_hash_seed() -> None:
    code = (
        "import hashlib; from geco_core.mesh.glb import write_glb;"
        "from tests.geco_core.mesh.meshes import sphere, textured_box;"
        "glbs = [write_glb(m, {'k': {'x', 'y', 'z'}}) for m in (sphere(), textured_box())];"
        "print(hashlib.sha256(b''.join(glbs)).hexdigest())"
    )
    digests = {
        subprocess.run(
            [sys.executable, "-c", code],
            env=os.environ | {"PYTHONHASHSEED": seed},
            cwd=Path(__file__).parents[3],
            capture_output=True,
            check=True,
        ).stdout
        for seed in ("1", "2")
    }
    assert len(digests) == 1


def test_wide_indices_beyond_16_bits() -> None:
    mesh = sphere(rings=210, segments=320)
    assert len(mesh.vertices) > 65535
    back = read_glb(write_glb(mesh))
    np.testing.assert_array_equal(back.mesh.faces, mesh.faces)


def test_positions_carry_exact_bounds() -> None:
    mesh = sphere(radius=0.7)
    document = _document(write_glb(mesh))
    accessor = document["accessors"][_attributes(document)["POSITION"]]
    assert np.array_equal(np.float32(accessor["min"]), mesh.vertices.min(axis=0))
    assert np.array_equal(np.float32(accessor["max"]), mesh.vertices.max(axis=0))


@pytest.mark.parametrize("bad", [float("nan"), object(), "\ud800"])
def test_extras_json_can_not_carry_are_refused(bad: object) -> None:
    with pytest.raises(GlbError, match="extras"):
        write_glb(box(), {"x": bad})


def test_names_json_can_not_carry_are_refused() -> None:
    with pytest.raises(GlbError, match="name"):
        write_glb(box(), name="\ud800")


def test_arrays_the_exporter_would_drop_are_refused() -> None:
    mesh = box()
    with pytest.raises(GlbError, match="7 colours for 8 vertices"):
        write_glb(Mesh(mesh.vertices, mesh.faces, colors=np.zeros((7, 3), np.uint8)))
    with pytest.raises(GlbError, match="7 texture coordinates"):
        write_glb(Mesh(mesh.vertices, mesh.faces, uvs=np.zeros((7, 2), np.float32)))
    with pytest.raises(GlbError, match="empty"):
        write_glb(Mesh(mesh.vertices, mesh.faces[:0]))


@pytest.mark.parametrize("cut", [0, 3, 11, 19, 100, -4, -1])
def test_truncated_files_are_refused(cut: int) -> None:
    with pytest.raises(GlbError):
        read_glb(write_glb(box())[:cut])


def test_every_single_byte_of_the_header_matters() -> None:
    glb = write_glb(box())
    for position in range(20):
        broken = bytearray(glb)
        broken[position] ^= 0x41
        with pytest.raises(GlbError):
            read_glb(bytes(broken))


@pytest.mark.parametrize(
    "path",
    [
        ("asset",),
        ("nodes",),
        ("accessors",),
        ("bufferViews",),
        ("meshes", 0, "primitives", 0, "indices"),
        ("meshes", 0, "primitives", 0, "attributes", "POSITION"),
    ],
)
def test_missing_entries_are_refused(path: tuple) -> None:
    glb = write_glb(box())
    document = _document(glb)
    parent = document
    for key in path[:-1]:
        parent = parent[key]
    del parent[path[-1]]
    with pytest.raises(GlbError):
        read_glb(_with_document(glb, document))


@pytest.mark.parametrize(
    ("table", "index", "field", "value"),
    [
        ("bufferViews", "POSITION", "byteLength", 10**6),
        ("bufferViews", "POSITION", "byteOffset", -4),
        ("accessors", "POSITION", "count", 10**6),
        ("accessors", "POSITION", "count", 4),
        ("accessors", "POSITION", "type", "VEC2"),
        ("accessors", "POSITION", "componentType", 1),
        ("accessors", "indices", "count", 10**6),
        ("accessors", "indices", "count", 4),
        ("accessors", "indices", "type", "VEC2"),
        ("asset", None, "version", "1.0"),
        ("nodes", 0, "scale", [2, 2, 2]),
    ],
)
def test_wrong_references_are_refused(
    table: str, index: int | str | None, field: str, value: object
) -> None:
    glb = write_glb(box())
    document = _document(glb)
    if isinstance(index, str):
        primitive = document["meshes"][0]["primitives"][0]
        index = (primitive["attributes"] | primitive)[index]
        if table == "bufferViews":
            index = document["accessors"][index]["bufferView"]
    entry = document[table] if index is None else document[table][index]
    entry[field] = value
    with pytest.raises(GlbError):
        read_glb(_with_document(glb, document))


def test_values_and_indices_are_checked() -> None:
    mesh = box()
    mesh.vertices[0, 0] = np.nan
    with pytest.raises(GlbError, match="finite"):
        write_glb(mesh, normals=False)
    mesh = box()
    mesh.faces[0, 0] = 200
    with pytest.raises(GlbError, match="index 200"):
        read_glb(write_glb(mesh, normals=False))
