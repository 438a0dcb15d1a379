"""InstantMesh's export conventions: coloured OBJ, GLB axes, textured OBJ.

Vertices and faces are compared as another program reads them back from the files we write.
"""

from __future__ import annotations

import io
from typing import Any

import numpy as np
import torch
import trimesh
from torch import Tensor

from geco_core.mesh import export_compat
from geco_core.mesh.glb import write_glb
from geco_core.types import Mesh
from tests.golden.registry import Adapter, Case, adapter


@adapter("mesh_export")
class MeshExport(Adapter):
    """`out/{obj,glb}_{vertices,faces}`, `out/mtl_obj_bytes`, `out/mtl_bytes`, `out/texture_png`."""

    def run(self, case: Case) -> dict[str, Tensor]:
        """Write every format from the stored mesh and read it back."""
        given = {name: value.numpy() for name, value in case.inputs.items()}
        vertices, faces, colors = given["vertices"], given["faces"], given["colors"]
        obj = _loaded(export_compat.colored_obj(vertices, faces, colors), "obj")
        turned = Mesh(export_compat.glb_axes(vertices), faces.astype(np.int32), colors)
        glb = _loaded(write_glb(turned), "glb")
        text = export_compat.textured_obj(
            vertices,
            faces,
            given["uvs"],
            given["face_uvs"],
            mtl_file=_file_name(case, "mtl_obj_bytes", "mtllib"),
        )
        mtl = export_compat.material_file(_file_name(case, "mtl_bytes", "map_Kd"))
        return {
            "obj_vertices": torch.from_numpy(obj.vertices.astype(np.float32)),
            "obj_faces": torch.from_numpy(obj.faces.astype(np.int32)),
            "glb_vertices": torch.from_numpy(glb.vertices.astype(np.float32)),
            "glb_faces": torch.from_numpy(glb.faces.astype(np.int32)),
            "mtl_obj_bytes": torch.frombuffer(bytearray(text), dtype=torch.uint8),
            "mtl_bytes": torch.frombuffer(bytearray(mtl), dtype=torch.uint8),
            "texture_png": torch.from_numpy(export_compat.texture_pixels(given["texture"])),
        }


def _loaded(data: bytes, kind: str) -> Any:
    # trimesh reorders and merges vertices unless told not to.
    return trimesh.load(
        io.BytesIO(data), file_type=kind, process=False, maintain_order=True, force="mesh"
    )


def _file_name(case: Case, output: str, key: str) -> str:
    """The name the original was told to use, which only its output records."""
    text = bytes(case.outputs[output].numpy()).decode()
    return next(line.split(maxsplit=1)[1] for line in text.splitlines() if line.startswith(key))
