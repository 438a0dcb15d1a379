"""The two models of a chain, loaded from wherever their weights are.

A multi-view reference is a published pipeline, which goes through its adapter, or one safetensors
file of our own. Reconstructors of any origin go through one adapter.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch

from geco_core.checkpoints.adapter import check_complete, skeleton
from geco_core.checkpoints.families import bound_by, is_own
from geco_core.checkpoints.instantmesh import load_reconstructor
from geco_core.checkpoints.safe import load_into, load_weights
from geco_core.checkpoints.zero123plus import load_zero123plus
from geco_core.config.models import InstantMeshConfig
from geco_core.errors import Fatal
from geco_core.multiview.zero123plus import Zero123Plus
from geco_core.reconstruct.instantmesh import InstantMesh
from geco_core.reconstruct.instantnerf import InstantNeRF


@dataclass(frozen=True)
class Chain:
    """Loaded models, where they came from, and the licences that bind what they make.

    Attributes:
        multiview: views from a condition.
        reconstructor: a surface from views.
        digest: sha256 of the first, `+`, sha256 of the second.
        licences: SPDX identifiers, sorted.
    """

    multiview: Zero123Plus
    reconstructor: InstantMesh | InstantNeRF
    digest: str
    licences: tuple[str, ...]


def load_chain(config: InstantMeshConfig, dtype: torch.dtype) -> Chain:
    """Load both halves.

    Args:
        config: sizes and references.
        dtype: of the multi-view weights; the reconstructor keeps float32, because its point heads
            decide where the surface is.

    Raises:
        Fatal: a file is missing, damaged, of another digest, or not the configured model.
    """
    weights = config.weights
    for name in ("multiview", "reconstructor"):
        if not getattr(weights, name):
            raise _missing(name)
    views, first, stated = _load_multiview(config, dtype)
    surface = load_reconstructor(
        weights.reconstructor,
        config.reconstructor,
        sha256=weights.reconstructor_sha256,
        dtype=torch.float32,
    )
    families = (surface.family,) if surface.family else ()
    licences = {
        *bound_by(stated, (), weights.licence),
        *bound_by(surface.licences, families, weights.licence),
    }
    digest = f"{first}+{surface.sha256}"
    return Chain(views, surface.model, digest, tuple(sorted(licences)))


def _load_multiview(
    config: InstantMeshConfig, dtype: torch.dtype
) -> tuple[Zero123Plus, str, tuple[str, ...]]:
    """The model, its digest, and the licences that are known of its weights."""
    weights = config.weights
    if is_own(weights.multiview):
        model = skeleton(lambda: Zero123Plus(config.multiview))
        own = load_weights(weights.multiview, weights.multiview_sha256, dtype=dtype)
        load_into(model, own, "the multi-view model", assign=True)
        check_complete(model, "the multi-view model")
        return model, own.sha256, own.licences
    pins = {"unet": weights.multiview_sha256} if weights.multiview_sha256 else None
    loaded = load_zero123plus(
        weights.multiview, config.multiview, white_unet=weights.white_unet, pins=pins, dtype=dtype
    )
    return loaded.model, loaded.digest, loaded.licences


def _missing(name: str) -> Fatal:
    return Fatal(
        f"no {name} weights are configured",
        stage="load",
        remedy=f"set model.weights.{name}; docs/guide/weights.md says where to get published ones",
    )
