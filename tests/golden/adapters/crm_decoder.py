"""CRM's triplane sampling and point heads."""

from __future__ import annotations

import torch
from torch import Tensor

from geco_core.fields.rolled_planes import plane_features, unroll_planes
from tests.golden.adapters._crm_reconstructor import build_decoder, raw_color
from tests.golden.registry import Adapter, Case, adapter


@adapter("crm_decoder")
class CrmDecoderAdapter(Adapter):
    """Features and heads at points, weights of selected cubes."""

    @torch.no_grad()
    def run(self, case: Case) -> dict[str, Tensor]:
        """Every stored output."""
        inputs, radius = case.inputs, float(case.meta["config"]["radius"])
        decoder = build_decoder(case, radius)
        planes, points = unroll_planes(inputs["triplane"]), inputs["points"]
        features = decoder.features(planes, points)
        nodes = decoder.features(planes, inputs["grid_verts"][None])[0]
        corners = nodes[inputs["grid_cubes"].long()[inputs["cube_sel"]]].flatten(1)
        return {
            "features": features,
            "features_concat_3planes": plane_features(planes, points).transpose(1, 2).flatten(2),
            "sdf_deform_raw": decoder.geometry_head(features),
            "sdf_with_sphere": decoder.field(planes, points),
            "rgb_raw": raw_color(decoder, planes, points[0])[None],
            "color01": decoder.rgb(planes, points).clamp(0, 1),
            "cube_features_sel": corners[: len(case.outputs["cube_features_sel"])],
            "weight_sel": decoder.weights(corners),
        }
