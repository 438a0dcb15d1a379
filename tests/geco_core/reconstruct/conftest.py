"""A reconstructor small enough for every test, wide enough for six views."""

from __future__ import annotations

import pytest
import torch

from geco_core.config.models import EncoderConfig, ReconstructorConfig
from geco_core.reconstruct.instantmesh import InstantMesh


@pytest.fixture
def tiny_config() -> ReconstructorConfig:
    return ReconstructorConfig(
        encoder=EncoderConfig(
            hidden_size=64,
            num_hidden_layers=2,
            num_attention_heads=2,
            intermediate_size=96,
            image_size=32,
            patch_size=8,
        ),
        input_size=32,
        transformer_dim=64,
        transformer_layers=2,
        transformer_heads=2,
        triplane_low_res=4,
        triplane_high_res=12,
        triplane_dim=6,
        decoder_hidden_dim=16,
        samples_per_ray=16,
        grid_res=12,
        sdf_sphere_radius=0.5,
        sdf_scale=0.2,
    )


@pytest.fixture
def tiny(tiny_config: ReconstructorConfig) -> InstantMesh:
    torch.manual_seed(0)
    return InstantMesh(tiny_config).eval()


@pytest.fixture
def planes() -> torch.Tensor:
    return torch.randn(2, 3, 6, 12, 12, generator=torch.Generator().manual_seed(3))
