"""InstantMesh: published names and size."""

from __future__ import annotations

import dataclasses

import torch

from geco_core.config.models import ReconstructorConfig
from geco_core.reconstruct.instantmesh import InstantMesh


def test_published_parameter_counts() -> None:
    large = ReconstructorConfig()
    base = dataclasses.replace(large, transformer_layers=12, triplane_dim=40)
    for config, parameters, tensors in ((large, 378_657_644, 519), (base, 313_352_516, 455)):
        with torch.device("meta"):
            state = InstantMesh(config).state_dict()
        assert len(state) == tensors
        assert sum(value.numel() for value in state.values()) == parameters


def test_grid_resolution_can_be_chosen_per_call(tiny, planes) -> None:
    coarse = tiny.geometry(planes, False, grid_res=8)
    fine = tiny.geometry(planes, False, grid_res=12)
    assert len(coarse.faces[0]) < len(fine.faces[0])
