"""Adapter of both published diffusion files of CRM, as one model.

`pixel-diffusion.pth` and `ccm-diffusion.pth` hold a network each, and both hold the same towers and
autoencoder: these are read from the first file, and those of the second are left out. Files are
mapped, so what is not read costs no memory. Conversions under the published names load too.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor

from geco_core.checkpoints.adapter import LoadReport, check_complete, skeleton
from geco_core.checkpoints.families import (
    CRM_CCM_FILES,
    CRM_DIFFUSION,
    CRM_VIEWS_FILES,
)
from geco_core.checkpoints.hub import Resolver, find_optional, missing
from geco_core.checkpoints.imagedream import (
    left_out,
    load_encoders,
    load_network,
    published_encoders,
    published_network,
)
from geco_core.checkpoints.licences import licences_of
from geco_core.checkpoints.loaded import LoadedParts
from geco_core.checkpoints.origin import licences_in
from geco_core.checkpoints.state import open_state
from geco_core.config.crm import CrmDiffusionConfig
from geco_core.errors import Fatal
from geco_core.multiview.crm import CrmDiffusion

VIEWS, CCM = "views", "ccm"
_NAMES = {VIEWS: CRM_VIEWS_FILES, CCM: CRM_CCM_FILES}


def load_crm_diffusion(
    reference: str,
    config: CrmDiffusionConfig,
    *,
    pins: Mapping[str, str] | None = None,
    dtype: torch.dtype | None = None,
    resolver: Resolver | None = None,
) -> LoadedParts[CrmDiffusion]:
    """Load both published files.

    Args:
        reference: folder that holds them, or their repository on the hub.
        config: sizes; must be those of the files.
        pins: `views` or `ccm` -> expected hex sha256 of its file.
        dtype: of all weights; the files' when None (the networks float16, the rest float32).
        resolver: for `s3://` references.

    Raises:
        Fatal: a file is missing, damaged, or does not fit.
    """
    model = skeleton(lambda: CrmDiffusion(config))
    reports: list[LoadReport] = []
    digests: dict[str, str] = {}
    licences = set(licences_of([CRM_DIFFUSION]))
    for stage, path in diffusion_files(reference, resolver).items():
        opened = open_state(path, (pins or {}).get(stage, ""))
        first, *rest = fill_stage(model, stage, opened.tensors, dtype=dtype)
        made = [replace(first, dropped=(*first.dropped, *opened.dropped)), *rest]
        digests.update({report.part: opened.sha256 for report in made})
        reports += made
        licences.update(licences_in(opened.metadata))
    check_complete(model, CRM_DIFFUSION)
    families = (CRM_DIFFUSION,)
    return LoadedParts(model.eval(), tuple(reports), digests, families, tuple(sorted(licences)))


def diffusion_files(reference: str, resolver: Resolver | None = None) -> dict[str, Path]:
    """`views` and `ccm` -> its file. Raises `Fatal` naming those that are missing."""
    found = {stage: find_optional(reference, n, resolver) for stage, n in _NAMES.items()}
    if found[VIEWS] is not None and found[VIEWS] == found[CCM]:
        raise Fatal(
            f"{reference} is one file, and CRM's diffusion half was published in two",
            stage="load",
            remedy=f"give the folder that holds {CRM_VIEWS_FILES[-1]} and {CRM_CCM_FILES[-1]}",
        )
    absent = [_NAMES[stage][-1] for stage, path in found.items() if path is None]
    if absent:
        raise missing(reference, absent)
    return {stage: path for stage, path in found.items() if path is not None}


def fill_stage(
    model: CrmDiffusion,
    stage: str,
    state: Mapping[str, Tensor],
    *,
    dtype: torch.dtype | None = None,
) -> list[LoadReport]:
    """Assign the state dict of one file; the network's report is the first.

    Args:
        model: may be on the meta device.
        stage: `views`, which fills the encoders too, or `ccm`.
        state: published names.
        dtype: see `load_crm_diffusion`.

    Raises:
        Fatal: a tensor is missing, unknown or of another shape.
    """
    wanted = stage == VIEWS
    rest = left_out(state, encoders=wanted)
    network = model.views if wanted else model.ccm
    report = load_network(network, state, dtype=dtype, assign=True)
    reports = [replace(report, part=stage, dropped=(*report.dropped, *rest))]
    if wanted:
        reports += load_encoders(model.encoders, state, dtype=dtype, assign=True)
    return reports


def published_files(model: CrmDiffusion) -> dict[str, dict[str, Tensor]]:
    """Published file name -> its tensors, without what is not used here (also on meta)."""
    encoders = published_encoders(model.encoders)
    return {
        CRM_VIEWS_FILES[-1]: {**published_network(model.views), **encoders},
        CRM_CCM_FILES[-1]: {**published_network(model.ccm), **encoders},
    }
