"""Our GLBs before the Khronos glTF validator. Needs node and `npm install` in this folder."""

from __future__ import annotations

import importlib.util
import json
import shutil
import struct
import subprocess
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from geco_core.config.finish import FinishConfig
from geco_core.mesh.draco import uncompressed
from geco_core.mesh.finish import finish_mesh
from geco_core.mesh.glb import write_glb
from geco_core.types import Mesh
from tests.geco_core.mesh.meshes import box, octahedron, sphere, textured_box

HERE = Path(__file__).parent
NODE = shutil.which("node")

pytestmark = [
    pytest.mark.skipif(NODE is None, reason="node is not installed"),
    pytest.mark.skipif(
        not (HERE / "node_modules" / "gltf-validator").is_dir(),
        reason="the validator is not installed: npm install in tests/gltf",
    ),
]


def _reports(folder: Path, files: dict[str, bytes]) -> dict[str, dict]:
    paths = []
    for name, data in files.items():
        path = folder / f"{name}.glb"
        path.write_bytes(data)
        paths.append(str(path))
    command = [str(NODE), str(HERE / "validate.mjs"), *paths]
    result = subprocess.run(command, capture_output=True, text=True, timeout=100, check=True)
    return {Path(report["file"]).stem: report for report in json.loads(result.stdout)}


def _seams_and_slivers() -> Mesh:
    """A sphere with unused vertices, a face without area and two coincident vertices."""
    mesh = sphere()
    assert mesh.colors is not None
    vertices = np.concatenate([mesh.vertices, mesh.vertices[:1], [[0.1, 0.2, 0.3]]]).astype(
        np.float32
    )
    faces = np.concatenate([mesh.faces, [[0, 1, len(mesh.vertices)], [0, 0, 1]]]).astype(np.int32)
    colors = np.concatenate([mesh.colors, mesh.colors[:2]])
    return Mesh(vertices, faces, colors=colors)


def test_everything_we_write_is_valid(tmp_path: Path) -> None:
    provenance = {"weights_digest": "ab", "licences": ["Apache-2.0"], "code_version": "0.1.0"}
    meshes = {
        "colours": sphere(),
        "texture": textured_box(),
        "plain": Mesh(box().vertices, box().faces),
        "wide": sphere(rings=210, segments=320),
        "awkward": _seams_and_slivers(),
        "tiny": box((1e-4, 2e-4, 1e-4)),
    }
    files = {
        name: finish_mesh(
            mesh, item_id=f"{name} ü/<&>", seed=1, provenance=provenance, thumbnail_size=0
        ).glb
        for name, mesh in meshes.items()
    }
    files["normals are positions"] = write_glb(octahedron())
    files["no normals"] = write_glb(box(), normals=False)
    for name, report in _reports(tmp_path, files).items():
        issues = report["issues"]
        messages = [message for message in issues["messages"] if message["severity"] <= 1]
        assert issues["numErrors"] == 0, (name, messages)
        assert issues["numWarnings"] == 0, (name, messages)
        assert report["info"]["totalTriangleCount"] > 0


@pytest.mark.skipif(
    importlib.util.find_spec("DracoPy") is None, reason="the extra draco is not installed"
)
def test_compressed_files_and_levels_of_detail_are_valid(tmp_path: Path) -> None:
    settings = FinishConfig(texture_size=64, lods=(0.5, 0.1), compression="draco")
    meshes = {"colours": sphere(24, 48), "texture": textured_box(), "awkward": _seams_and_slivers()}
    files: dict[str, bytes] = {}
    for name, mesh in meshes.items():
        for size in (0, 64):
            asset = finish_mesh(
                mesh,
                item_id=name,
                seed=1,
                provenance={},
                thumbnail_size=0,
                settings=replace(settings, texture_size=size),
            )
            glbs = [asset.glb, *(level["glb"] for level in asset.columns.get("lods", ()))]
            files |= {f"{name} {size} {k}": glb for k, glb in enumerate(glbs)}
            files |= {f"{name} {size} {k} undone": uncompressed(g) for k, g in enumerate(glbs)}
    assert len(files) == 2 * 2 * (3 + 1 + 3)
    # The validator knows the extension by its name only: it checks the document, not the data.
    known = {"UNSUPPORTED_EXTENSION", "UNUSED_OBJECT", "IMAGE_NPOT_DIMENSIONS"}
    for name, report in _reports(tmp_path, files).items():
        issues = report["issues"]
        assert issues["numErrors"] == issues["numWarnings"] == 0, (name, issues["messages"])
        assert {message["code"] for message in issues["messages"]} <= known, name
        assert report["info"]["totalTriangleCount"] > 0


def test_the_validator_notices_what_is_wrong(tmp_path: Path) -> None:
    mesh = box()
    glb = bytearray(write_glb(mesh))
    start = glb.index(struct.pack("<3f", *mesh.vertices[0]))
    glb[start : start + 4] = struct.pack("<f", float("nan"))
    report = _reports(tmp_path, {"broken": bytes(glb)})["broken"]
    assert report["issues"]["numErrors"] > 0
