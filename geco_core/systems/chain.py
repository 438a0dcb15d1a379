"""The two models of a chain, loaded from wherever their weights are.

A multi-view reference is published weights, which go through their adapter, or one safetensors file
of our own. Reconstructors of any origin go through one adapter.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Generic, TypeVar

import torch
from torch import nn

from geco_core.checkpoints.configured import load_diffusion, load_multiview
from geco_core.checkpoints.crm import load_crm
from geco_core.checkpoints.families import ChainConfig, bound_by
from geco_core.checkpoints.instantmesh import load_reconstructor
from geco_core.checkpoints.loaded import LoadedModel, LoadedParts
from geco_core.config.crm_system import CrmConfig
from geco_core.config.models import InstantMeshConfig
from geco_core.errors import Fatal
from geco_core.multiview.crm import CrmDiffusion
from geco_core.multiview.zero123plus import Zero123Plus
from geco_core.reconstruct.crm import CrmReconstructor
from geco_core.reconstruct.instantmesh import InstantMesh
from geco_core.reconstruct.instantnerf import InstantNeRF

V = TypeVar("V", bound=nn.Module)
R = TypeVar("R", bound=nn.Module)


@dataclass(frozen=True)
class Chain(Generic[V, R]):
    """Loaded models, where they came from, and the licences that bind what they make.

    Attributes:
        multiview: views from a condition.
        reconstructor: a surface from views.
        digest: sha256 of the first, `+`, sha256 of the second.
        licences: SPDX identifiers, sorted.
    """

    multiview: V
    reconstructor: R
    digest: str
    licences: tuple[str, ...]


InstantMeshChain = Chain[Zero123Plus, InstantMesh | InstantNeRF]
CrmChain = Chain[CrmDiffusion, CrmReconstructor]


def load_chain(config: InstantMeshConfig, dtype: torch.dtype) -> InstantMeshChain:
    """Load both halves of the InstantMesh chain.

    Args:
        config: sizes and references.
        dtype: of the multi-view weights; the reconstructor keeps float32, because its point heads
            decide where the surface is.

    Raises:
        Fatal: a file is missing, damaged, of another digest, or not the configured model.
    """
    _check_named(config)
    weights = config.weights
    views = load_multiview(config, dtype)
    surface = load_reconstructor(
        weights.reconstructor,
        config.reconstructor,
        sha256=weights.reconstructor_sha256,
        dtype=torch.float32,
    )
    return _chain(config, views, surface)


def load_crm_chain(config: CrmConfig, dtype: torch.dtype) -> CrmChain:
    """Load both halves of CRM; arguments and errors as `load_chain`."""
    _check_named(config)
    weights = config.weights
    views = load_diffusion(config, dtype)
    surface = load_crm(
        weights.reconstructor,
        config.reconstructor,
        sha256=weights.reconstructor_sha256,
        dtype=torch.float32,
    )
    return _chain(config, views, surface)


def _chain(
    config: ChainConfig, views: LoadedModel[V] | LoadedParts[V], surface: LoadedModel[R]
) -> Chain[V, R]:
    licence = config.weights.licence
    families = (surface.family,) if surface.family else ()
    licences = {
        *bound_by(views.licences, (), licence),
        *bound_by(surface.licences, families, licence),
    }
    first = views.sha256 if isinstance(views, LoadedModel) else views.digest
    digest = f"{first}+{surface.sha256}"
    return Chain(views.model, surface.model, digest, tuple(sorted(licences)))


def _check_named(config: ChainConfig) -> None:
    for name in ("multiview", "reconstructor"):
        if not getattr(config.weights, name):
            raise Fatal(
                f"no {name} weights are configured",
                stage="load",
                remedy=f"set model.weights.{name}; "
                "docs/guide/weights.md says where to get published ones",
            )
