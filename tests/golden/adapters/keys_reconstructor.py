"""Inventories of the published reconstructor checkpoints, against our models on meta."""

from __future__ import annotations

import dataclasses

import torch

from geco_core.config.models import EncoderConfig, ReconstructorConfig
from geco_core.reconstruct.instantmesh import InstantMesh
from geco_core.reconstruct.instantnerf import InstantNeRF
from tests.golden.registry import Case, InventoryAdapter, adapter


@adapter("keys_instant_mesh", "keys_instant_nerf")
class ReconstructorInventory(InventoryAdapter):
    """`config` holds the published model configuration, `dino` that of its encoder."""

    def shapes(self, case: Case) -> dict[str, tuple[int, ...]]:
        """Name -> shape, without the checkpoint's prefix."""
        nerf = case.name.startswith("keys_instant_nerf")
        with torch.device("meta"):
            model = (InstantNeRF if nerf else InstantMesh)(model_config(case))
        return {name: tuple(value.shape) for name, value in model.state_dict().items()}


def model_config(case: Case) -> ReconstructorConfig:
    """Our configuration with every field that the published one names."""
    published = dict(case.meta["config"])
    published["samples_per_ray"] = published["rendering_samples_per_ray"]
    known = {f.name for f in dataclasses.fields(ReconstructorConfig)}
    encoder = {f.name: case.meta["dino"][f.name] for f in dataclasses.fields(EncoderConfig)}
    return ReconstructorConfig(
        kind="nerf" if case.name.startswith("keys_instant_nerf") else "mesh",
        encoder=EncoderConfig(**encoder),
        **{k: v for k, v in published.items() if k in known},
    )
