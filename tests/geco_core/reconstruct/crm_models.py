"""A CRM reconstructor small enough for every test."""

from __future__ import annotations

import torch

from geco_core.config.crm_reconstructor import CrmReconstructorConfig, CrmUNetConfig
from geco_core.reconstruct.crm import CrmReconstructor

TINY = CrmReconstructorConfig(
    unet=CrmUNetConfig(
        learned_channels=3,
        out_channels=8,
        plane_size=16,
        block_out_channels=(8, 16),
        attention_levels=(False, True),
        layers_per_block=1,
        norm_num_groups=4,
    ),
    hidden_dim=16,
    field_scale=0.5,
    grid_res=12,
)


def tiny_crm(config: CrmReconstructorConfig = TINY) -> CrmReconstructor:
    """With seeded random weights."""
    torch.manual_seed(0)
    return CrmReconstructor(config).eval()


def random_planes(count: int = 2) -> torch.Tensor:
    """Planes [B, 3, 8, 16, 16] whose surfaces cross the grid."""
    return torch.randn(count, 3, 8, 16, 16, generator=torch.Generator().manual_seed(3))
