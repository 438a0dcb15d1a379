"""CRM's reconstruction from twelve image channels and recorded noise to a mesh."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from geco_core.config.crm_reconstructor import CrmReconstructorConfig
from geco_core.config.models import ScheduleConfig
from geco_core.fields.rolled_planes import roll_planes
from geco_core.reconstruct.crm import CrmReconstructor
from geco_core.reconstruct.extraction import SurfaceMesh
from tests.golden.adapters._crm_reconstructor import raw_color, sources, state_of, unet_config
from tests.golden.adapters.crm_geometry import canonical
from tests.golden.registry import Adapter, Case, adapter


@adapter("crm_e2e")
class CrmEndToEndAdapter(Adapter):
    """Noising, U-Net, extraction and colours through the model class."""

    @torch.no_grad()
    def run(self, case: Case) -> dict[str, Tensor]:
        """Every stored output."""
        images, noise = case.inputs["x12"], case.inputs["noise"]
        model = _model(case, images.shape[1])
        planes = model.forward_planes(images, noise)
        (mesh,) = model.extract(planes)
        assert isinstance(mesh, SurfaceMesh)
        vertices, faces = canonical(mesh.vertices, mesh.faces)
        timestep = model.config.timestep
        return {
            f"alphas_cumprod_{timestep}": model.input_noise.alpha_cumprod,
            "noisy_s4": model.input_noise.add(images, noise)[:, :, ::4, ::4],
            "feature_s4": roll_planes(planes)[:, :, ::4, ::4],
            "verts": vertices,
            "faces": faces,
            "vertex_rgb_raw": raw_color(model.decoder, planes, vertices),
        }


def _model(case: Case, image_channels: int) -> CrmReconstructor:
    config = case.meta["config"]
    network = next(s for s in sources(case) if "down_block_types" in s.meta["config"])
    heads = next(s for s in sources(case) if "radius" in s.meta["config"])
    state = state_of(case, "")
    model = CrmReconstructor(
        CrmReconstructorConfig(
            unet=unet_config(network.meta["config"], image_channels),
            hidden_dim=len(state["decoder.geometry_head.0.weight"]),
            timestep=config["timestep"],
            schedule=_schedule(config["add_noise_schedule"]),
            sphere_radius=heads.meta["config"]["radius"],
            grid_res=config["grid"],
        )
    )
    model.load_state_dict(state)
    return model.eval()


def _schedule(published: Mapping[str, Any]) -> ScheduleConfig:
    """The fields that noising depends on; what the original would predict plays no part."""
    known = {f.name for f in dataclasses.fields(ScheduleConfig)} - {"prediction_type"}
    return ScheduleConfig(**{k: v for k, v in published.items() if k in known})
