"""The asset written by hand is a sound GLB, and its numbers are those of the mesh in it."""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys

import numpy as np

from geco_core.mesh.glb_read import read_glb
from geco_core.mesh.inspect import mesh_stats
from geco_core.systems import build_system
from geco_core.types import Asset, Condition, Mesh


def made() -> Asset:
    system = build_system("noop", "micro", ["output=asset"])
    result = system.generate([Condition("a", prompt="p")], [1])[0]
    assert isinstance(result, Asset)
    return result


def test_the_file_holds_the_box_and_the_numbers_are_its_own() -> None:
    asset = made()
    assert asset.glb_sha256 == hashlib.sha256(asset.glb).hexdigest()
    document, data = _chunks(asset.glb)
    read_glb(asset.glb)
    points = np.frombuffer(data, "<f4", 24).reshape(8, 3)
    faces = np.frombuffer(data, "<u4", 36, 96).reshape(12, 3).astype(np.int32)
    assert document["buffers"][0]["byteLength"] == len(data)
    assert mesh_stats(Mesh(points, faces)) == asset.mesh_stats


def test_it_needs_no_mesh_library() -> None:
    code = (
        "import sys; from geco_core.systems import build_system;"
        "build_system('noop', 'micro', ['output=asset']);"
        "sys.exit('trimesh' in sys.modules or 'torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def _chunks(glb: bytes) -> tuple[dict, bytes]:
    length = int.from_bytes(glb[12:16], "little")
    return json.loads(glb[20 : 20 + length]), glb[28 + length :]
