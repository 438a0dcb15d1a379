"""The two models of a chain, loaded from wherever their weights are.

A multi-view reference that holds a published pipeline (`model_index.json`) goes through its
adapter, and so does a reconstructor that is not one of our own files; our own weights are strict
safetensors.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch

from geco_core.checkpoints.instantmesh import build_reconstructor, load_reconstructor
from geco_core.checkpoints.licences import licences_of
from geco_core.checkpoints.safe import load_into, load_weights
from geco_core.checkpoints.zero123plus import load_zero123plus
from geco_core.config.models import InstantMeshConfig
from geco_core.errors import Fatal
from geco_core.multiview.zero123plus import Zero123Plus
from geco_core.reconstruct.instantmesh import InstantMesh
from geco_core.reconstruct.instantnerf import InstantNeRF

_SHIPPED, _OWN = "package:", ".safetensors"


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
    views, first, families = _load_multiview(config, dtype)
    reconstructor, second, family = _load_reconstructor(config)
    published = [name for name in (*families, family) if name]
    licences = set(licences_of(published)) if published else set()
    if not families or not family:
        licences.add(config.weights.licence)
    return Chain(views, reconstructor, f"{first}+{second}", tuple(sorted(licences)))


def _load_multiview(
    config: InstantMeshConfig, dtype: torch.dtype
) -> tuple[Zero123Plus, str, tuple[str, ...]]:
    weights = config.weights
    if not weights.multiview.startswith(_SHIPPED) and not weights.multiview.endswith(_OWN):
        if not weights.multiview:
            _missing("multiview")
        pins = {"unet": weights.multiview_sha256} if weights.multiview_sha256 else None
        loaded = load_zero123plus(
            weights.multiview,
            config.multiview,
            white_unet=weights.white_unet,
            pins=pins,
            dtype=dtype,
        )
        return loaded.model, loaded.digest, loaded.families
    model = Zero123Plus(config.multiview)
    own = load_weights(weights.multiview, weights.multiview_sha256)
    load_into(model, own, "the multi-view model")
    return model.to(dtype), own.sha256, ()


def _load_reconstructor(config: InstantMeshConfig) -> tuple[InstantMesh | InstantNeRF, str, str]:
    weights = config.weights
    if not weights.reconstructor:
        _missing("reconstructor")
    if weights.reconstructor.startswith(_SHIPPED):
        model = build_reconstructor(config.reconstructor)
        own = load_weights(weights.reconstructor, weights.reconstructor_sha256)
        load_into(model, own, "the reconstructor")
        return model, own.sha256, ""
    loaded = load_reconstructor(
        weights.reconstructor,
        config.reconstructor,
        sha256=weights.reconstructor_sha256,
        dtype=torch.float32,
    )
    return loaded.model, loaded.sha256, loaded.family


def _missing(name: str) -> None:
    raise Fatal(
        f"no {name} weights are configured",
        stage="load",
        remedy=f"set model.weights.{name}; docs/guide/weights.md says where to get published ones",
    )
