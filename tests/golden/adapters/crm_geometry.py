"""CRM's decoding to meshes and its copy of FlexiCubes.

The stored faces wind inwards and lie in CRM's canonical frame; ours are turned back for comparison.
"""

from __future__ import annotations

import torch
from torch import Tensor

from geco_core.fields.crm_frame import world_to_canonical
from geco_core.fields.rolled_planes import unroll_planes
from geco_core.reconstruct.crm_geometry import deformation_offsets, extract_each, geometry
from geco_core.reconstruct.extraction import SurfaceMesh
from geco_core.surface.flexicubes import flexicubes, split_weights
from geco_core.surface.grid import RegularGrid
from tests.golden.adapters._crm_reconstructor import build_decoder, raw_color, reconstructor_config
from tests.golden.registry import Adapter, Case, adapter

_EVERY_CUBE = 7


@adapter("crm_geometry")
class CrmGeometryAdapter(Adapter):
    """Eval meshes come from the sparse inference path, train meshes from the differentiable one."""

    @torch.no_grad()
    def run(self, case: Case) -> dict[str, Tensor]:
        """Every stored output."""
        config = reconstructor_config(case.meta["config"])
        decoder = build_decoder(case, float(case.meta["config"]["radius"]))
        planes = unroll_planes(case.inputs["triplane"])
        grid = RegularGrid.cubic(config.grid_res, config.grid_scale)
        nodes = grid.points()
        features = decoder.features(planes, nodes[None])
        field, raw = decoder.geometry_of(features, nodes[None])
        cubes = torch.arange(0, grid.num_cubes, _EVERY_CUBE)
        (mesh,) = extract_each(decoder, planes, config, config.extraction())
        assert isinstance(mesh, SurfaceMesh)
        vertices, faces = canonical(mesh.vertices, mesh.faces)
        trained = geometry(decoder, planes, config, training=True)
        plain = geometry(decoder, planes, config, training=False)
        train_vertices, train_faces = canonical(trained.vertices[0], trained.faces[0])
        return {
            "pred_sdf": field,
            "deform_raw": raw,
            "v_deformed": nodes + deformation_offsets(raw, grid.res[0], config.mesh_scale),
            "weight_sel7": decoder.weights(features[:, grid.corners(cubes)].flatten(2)),
            "verts": vertices,
            "faces": faces,
            "train_verts": train_vertices,
            "train_faces": train_faces,
            "flex_surf_loss": plain.surface_reg,
            "flex_weight_loss": plain.weight_reg,
            "vertex_rgb_raw": raw_color(decoder, planes, vertices),
        }


@adapter("crm_flexicubes")
class CrmFlexiCubesAdapter(Adapter):
    """CRM's copy of FlexiCubes on stored cubes."""

    def run(self, case: Case) -> dict[str, Tensor]:
        """Eval and training meshes and their deviations."""
        inputs, config = case.inputs, case.meta["config"]
        rx, ry, rz = config["res"]
        weights = split_weights(inputs["weights"])
        outputs = {}
        for training in (False, True):
            vertices, faces, deviation = flexicubes(
                inputs["grid_verts"] + inputs["verts_offset"],
                inputs["sdf"],
                inputs["cubes"].long(),
                (rx, ry, rz),
                beta=weights["beta"],
                alpha=weights["alpha"],
                gamma=weights["gamma"],
                weight_scale=float(config["weight_scale"]),
                training=training,
                zeros_outside=False,
            )
            prefix = "train_" if training else ""
            outputs[f"{prefix}verts"] = vertices
            outputs[f"{prefix}faces"] = faces
            outputs[f"{prefix}L_dev"] = deviation
        return outputs


def canonical(vertices: Tensor, faces: Tensor) -> tuple[Tensor, Tensor]:
    """A mesh of ours (world, outward faces) as CRM's decoding returns it."""
    return world_to_canonical(vertices), faces.flip(1)
