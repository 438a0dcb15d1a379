"""CRM's textured export: OBJ, picture and GLB, as another program reads them back."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from geco_core.fields.rolled_planes import unroll_planes
from geco_core.mesh.bake import surface_texels
from geco_core.mesh.export_compat_crm import CrmObj, crm_obj, glb_mesh, obj_text, texture_pixels
from geco_core.mesh.glb import read_glb, write_glb
from geco_core.mesh.unwrap import Unwrapped
from geco_core.render.registry import get_rasterizer
from tests.golden.adapters._crm_reconstructor import build_decoder, sibling
from tests.golden.registry import Adapter, Case, adapter, compare_close

_INSIDE = 0.02


@adapter("mesh_export_tiny")
class CrmMeshExport(Adapter):
    """Vertices and faces come from the geometry case, the texture layout is recorded."""

    @torch.no_grad()
    def run(self, case: Case) -> dict[str, Tensor]:
        """Every stored output."""
        geometry = sibling(case, str(case.meta["triplane_from"]).split()[0])
        vertices, faces = (geometry.outputs[name].numpy() for name in ("verts", "faces"))
        given = {name: value.numpy() for name, value in case.inputs.items()}
        uvs, face_uvs = given["xatlas_uvs"], given["xatlas_indices"]
        cut = Unwrapped(vertices[given["xatlas_vmapping"]], face_uvs, uvs, given["xatlas_vmapping"])
        points, covered = surface_texels(cut, int(case.meta["config"]["res"][0]))
        decoder = build_decoder(case, float(geometry.meta["config"]["radius"]))
        planes = unroll_planes(geometry.inputs["triplane"])
        colors = decoder.rgb(planes, torch.from_numpy(points).view(1, -1, 3)).view(*points.shape)
        texture = texture_pixels(colors.numpy(), covered)
        obj = crm_obj(vertices, faces, uvs, face_uvs)
        read = _read_obj(obj_text(obj, mtl_file="mesh.mtl"))
        mesh = glb_mesh(obj, texture, bound=float(case.meta["config"]["bound"]))
        glb = read_glb(write_glb(mesh)).mesh
        assert glb.uvs is not None
        outputs = {
            "obj_v": read.vertices,
            "obj_vt": read.uvs,
            "obj_faces": np.stack([read.faces, read.face_uvs], axis=-1) + 1,
            "texture": texture,
            "inside_mask": _well_inside(cut, len(covered)),
            "world_pos_s2": points[::2, ::2],
            "glb_positions": glb.vertices,
            "glb_faces": glb.faces,
            "glb_uv": np.stack([glb.uvs[:, 0], 1.0 - glb.uvs[:, 1]], axis=1),
        }
        return {name: torch.from_numpy(np.ascontiguousarray(v)) for name, v in outputs.items()}

    def tolerance(self, case: Case, output: str) -> tuple[float, float]:
        """Texels one level; positions and coordinates as the JSON says; indices exact."""
        return (0.0, 1.0) if output == "texture" else super().tolerance(case, output)

    def compare(
        self, case: Case, output: str, ours: Tensor, theirs: Tensor, rtol: float, atol: float
    ) -> tuple[float, bool]:
        """Texels are compared where they lie well inside of a triangle, as the JSON says."""
        if output == "texture" and ours.shape == theirs.shape:
            inside = case.outputs["inside_mask"].bool()
            ours, theirs = ours[inside], theirs[inside]
        return compare_close(ours, theirs, rtol, atol)


def _well_inside(cut: Unwrapped, size: int) -> np.ndarray:
    """Uint8 [S, S]: texels whose smallest barycentric coordinate is above 0.02."""
    uvs = torch.from_numpy(cut.uvs)
    clip = torch.cat([uvs * 2 - 1, uvs.new_tensor([0.0, 1.0]).expand(len(uvs), 2)], dim=1)
    rast = (
        get_rasterizer("auto", "cpu")
        .rasterize(clip[None], torch.from_numpy(cut.faces).long(), (size, size))
        .rast[0]
    )
    first, second = rast[..., 0], rast[..., 1]
    least = torch.minimum(torch.minimum(first, second), 1.0 - first - second)
    return ((rast[..., 3] > 0) & (least > _INSIDE)).numpy().astype(np.uint8)


def _read_obj(text: bytes) -> CrmObj:
    rows: dict[str, list[list[str]]] = {}
    for line in text.decode().splitlines():
        key, *fields = line.split()
        rows.setdefault(key, []).append(fields)
    pairs = np.array([[field.split("/") for field in row] for row in rows["f"]], dtype=np.int64) - 1
    return CrmObj(
        np.array(rows["v"], dtype=np.float32),
        np.array(rows["vt"], dtype=np.float32),
        pairs[..., 0],
        pairs[..., 1],
    )
