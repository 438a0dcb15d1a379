"""InstantNeRF: volume rendering with the stored random numbers, marching cubes, stage-2 start."""

from __future__ import annotations

import torch
from torch import Tensor

from geco_core.reconstruct.extraction import SurfaceMesh
from geco_core.reconstruct.instantmesh import InstantMesh
from geco_core.reconstruct.instantnerf import Crop, InstantNeRF, VolumeImages, start_mesh_from_nerf
from geco_core.render.volume import Uniforms, activate_density
from tests.golden.adapters._reconstructor import reconstructor_config
from tests.golden.registry import Adapter, Case, adapter, compare_close, compare_point_sets

_MESHINIT = "meshinit/"
_IMAGE_ATOL = 1e-3
_IMAGE_MEAN_ATOL = 1e-4
_COLOUR_ATOL = 1.0
# A polygon of more than three edges is not flat: how it is cut changes area and volume a little.
_MEASURE_TOLERANCE = 0.03


@adapter("instantnerf")
class InstantNeRFAdapter(Adapter):
    """Marching cubes may number vertices and cut polygons otherwise: compared up to that."""

    @torch.no_grad()
    def run(self, case: Case) -> dict[str, Tensor]:
        """Every stored output."""
        config = reconstructor_config("nerf", case.meta["model_config"], case.meta["vit_config"])
        model = InstantNeRF(config)
        model.load_state_dict(case.weights())
        inputs = case.inputs
        planes = model.forward_planes(inputs["images"], inputs["cameras"])
        rgb, sigma = model.decoder(planes, inputs["points"])
        raw = model.raw_density_grid(planes, case.meta["grid_size"])
        outputs = {"planes": planes, "point_rgb": rgb, "point_sigma": activate_density(sigma)}
        outputs["grid_sigma"] = activate_density(raw)[..., None]
        outputs.update(_images("", _render(model, planes, case)))
        outputs.update(_images("crop_", _render_crop(model, planes, case)))
        outputs.update(_mesh(model, planes, case))
        mesh = InstantMesh(config)
        start_mesh_from_nerf(mesh, model)
        outputs.update({_MESHINIT + name: value for name, value in mesh.state_dict().items()})
        return outputs

    def tolerance(self, case: Case, output: str) -> tuple[float, float]:
        """Planes and points 2e-5; images 1e-3 (1e-4 in the mean); stage-2 start exact."""
        if output.startswith(_MESHINIT):
            return 0.0, 0.0
        if output.startswith("mc_"):
            named = {"mc_colors_u8": _COLOUR_ATOL, "mc_faces": _MEASURE_TOLERANCE}
            return 0.0, named.get(output, float(case.meta["rtol"]))
        if "images_" in output:
            return 0.0, _IMAGE_ATOL
        return float(case.meta["rtol"]), 2e-5 if output != "grid_sigma" else float(
            case.meta["atol"]
        )

    def compare(
        self, case: Case, output: str, ours: Tensor, theirs: Tensor, rtol: float, atol: float
    ) -> tuple[float, bool]:
        """Images also in the mean; vertices as a set; faces by their number, area and volume."""
        if output == "mc_vertices":
            return compare_point_sets(ours, theirs, atol)
        if output == "mc_faces":
            vertices = case.outputs["mc_vertices"].double()
            error = float((_measures(vertices, ours) / _measures(vertices, theirs) - 1).abs().max())
            return error, error <= atol
        error, ok = compare_close(ours, theirs, rtol, atol)
        if "images_" in output and ours.shape == theirs.shape:
            ok = ok and float((ours - theirs).abs().mean()) <= _IMAGE_MEAN_ATOL
        return error, ok


def _render(model: InstantNeRF, planes: Tensor, case: Case) -> VolumeImages:
    cameras = case.inputs["render_cameras"]
    uniforms = _uniforms(case, "", len(planes))
    return model.render(planes, cameras, case.meta["render_size"], uniforms)


def _render_crop(model: InstantNeRF, planes: Tensor, case: Case) -> VolumeImages:
    views = case.outputs["crop_images_rgb"].shape[1]
    cameras = case.inputs["render_cameras"][:, :views]
    uniforms = _uniforms(case, "crop_", len(planes))
    crop = Crop(*case.meta["crop_params"])
    return model.render(planes, cameras, case.meta["render_size"], uniforms, crop)


def _uniforms(case: Case, prefix: str, batch: int) -> Uniforms:
    stratified = case.inputs[f"{prefix}rand_stratified"]
    importance = case.inputs[f"{prefix}rand_importance"]
    samples = importance.shape[-1]
    return Uniforms(stratified.view(batch, -1, samples), importance.view(batch, -1, samples))


def _images(prefix: str, images: VolumeImages) -> dict[str, Tensor]:
    return {
        f"{prefix}images_rgb": images.rgb,
        f"{prefix}images_depth": images.depth,
        f"{prefix}images_weight": images.weight,
    }


def _mesh(model: InstantNeRF, planes: Tensor, case: Case) -> dict[str, Tensor]:
    meta = case.meta
    mesh = model.extract(planes[:1], meta["grid_size"], meta["mesh_threshold"])[0]
    assert isinstance(mesh, SurfaceMesh)
    stored = case.outputs["mc_vertices"]
    distance = torch.cdist(mesh.vertices.double(), stored.double())
    return {
        "mc_vertices": mesh.vertices,
        # In the stored numbering.
        "mc_faces": distance.argmin(1)[mesh.faces],
        "mc_colors_u8": (mesh.vertex_rgb * 255).to(torch.uint8)[distance.argmin(0)],
    }


def _measures(vertices: Tensor, faces: Tensor) -> Tensor:
    """[3]: number of faces, area, signed volume about the origin."""
    first, second, third = vertices[faces.long()].unbind(1)
    normals = torch.linalg.cross(second - first, third - first)
    volume = (normals * first).sum() / 6
    count = torch.tensor(float(len(faces)), dtype=torch.float64)
    return torch.stack([count, normals.norm(dim=-1).sum() / 2, volume])
