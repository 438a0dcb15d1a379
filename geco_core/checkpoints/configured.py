"""The multi-view weights that a configuration names: published files, or one file of our own."""

from __future__ import annotations

import torch

from geco_core.checkpoints.crm_diffusion import CCM, VIEWS, load_crm_diffusion
from geco_core.checkpoints.families import is_own
from geco_core.checkpoints.loaded import LoadedModel, LoadedParts, load_own
from geco_core.checkpoints.zero123plus import load_zero123plus
from geco_core.config.crm_system import CrmConfig
from geco_core.config.models import InstantMeshConfig
from geco_core.errors import ConfigError
from geco_core.multiview.crm import CrmDiffusion
from geco_core.multiview.zero123plus import Zero123Plus

OWN_VIEWS = "the multi-view model"


def load_multiview(
    config: InstantMeshConfig, dtype: torch.dtype | None = None
) -> LoadedModel[Zero123Plus] | LoadedParts[Zero123Plus]:
    """The configured multi-view model, in the file's precision when None. Raises `Fatal`."""
    weights, pin = config.weights, config.weights.multiview_sha256
    if is_own(weights.multiview):
        return load_own(
            weights.multiview,
            lambda: Zero123Plus(config.multiview),
            OWN_VIEWS,
            sha256=pin,
            dtype=dtype,
        )
    return load_zero123plus(
        weights.multiview,
        config.multiview,
        white_unet=weights.white_unet,
        pins={"unet": pin} if pin else None,
        dtype=dtype,
    )


def load_diffusion(
    config: CrmConfig, dtype: torch.dtype | None = None
) -> LoadedModel[CrmDiffusion] | LoadedParts[CrmDiffusion]:
    """CRM's configured diffusion half, in the files' precision when None.

    Raises:
        ConfigError: the pin of a file that is not read.
        Fatal: see `load_crm_diffusion`.
    """
    weights, pin = config.weights, config.weights.multiview_sha256
    if is_own(weights.multiview):
        if weights.ccm_sha256:
            raise ConfigError(
                f"weights.ccm_sha256 pins nothing: {weights.multiview} holds both stages",
                stage="load",
                remedy="pin the file with weights.multiview_sha256",
            )
        return load_own(
            weights.multiview,
            lambda: CrmDiffusion(config.diffusion),
            OWN_VIEWS,
            sha256=pin,
            dtype=dtype,
        )
    pins = {VIEWS: pin, CCM: weights.ccm_sha256}
    return load_crm_diffusion(weights.multiview, config.diffusion, pins=pins, dtype=dtype)
