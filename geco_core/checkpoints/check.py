"""Checking weights before a run: they are opened and every key is accounted for.

Files are mapped, so the check needs almost no memory. It reads every byte, for digests and for the
checksums inside of torch archives.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from geco_core.checkpoints.adapter import LoadReport
from geco_core.checkpoints.configured import load_diffusion, load_multiview
from geco_core.checkpoints.crm import crm_file, load_crm
from geco_core.checkpoints.crm_diffusion import diffusion_files
from geco_core.checkpoints.families import ChainConfig, bound_by, is_own
from geco_core.checkpoints.instantmesh import load_reconstructor, reconstructor_file
from geco_core.checkpoints.loaded import LoadedModel
from geco_core.checkpoints.state import verify_archive
from geco_core.checkpoints.zero123plus import part_files
from geco_core.config.crm_system import CrmConfig


@dataclass(frozen=True)
class CheckedPart:
    """One file that fits: what became of its keys, its sha256, and the licences that bind it."""

    report: LoadReport
    sha256: str
    licences: tuple[str, ...]


def check_multiview(config: ChainConfig) -> list[CheckedPart]:
    """The parts of the configured multi-view weights. Raises `Fatal` as loading them does."""
    for path in {*_multiview_files(config).values()}:
        verify_archive(path)
    loaded = load_diffusion(config) if isinstance(config, CrmConfig) else load_multiview(config)
    if isinstance(loaded, LoadedModel):
        licences = bound_by(loaded.licences, (), config.weights.licence)
        return [CheckedPart(loaded.report, loaded.sha256, licences)]
    return [CheckedPart(r, loaded.digests[r.part], loaded.licences) for r in loaded.reports]


def check_reconstructor(config: ChainConfig) -> list[CheckedPart]:
    """The configured reconstructor. Raises `Fatal` as loading it does."""
    weights = config.weights
    reference, pin = weights.reconstructor, weights.reconstructor_sha256
    if isinstance(config, CrmConfig):
        verify_archive(crm_file(reference))
        loaded = load_crm(reference, config.reconstructor, sha256=pin)
    else:
        verify_archive(reconstructor_file(reference, config.reconstructor))
        loaded = load_reconstructor(reference, config.reconstructor, sha256=pin)
    families = (loaded.family,) if loaded.family else ()
    licences = bound_by(loaded.licences, families, weights.licence)
    return [CheckedPart(loaded.report, loaded.sha256, licences)]


def _multiview_files(config: ChainConfig) -> dict[str, Path]:
    """The published files; none for one of our own, which has no checksums inside."""
    if is_own(config.weights.multiview):
        return {}
    if isinstance(config, CrmConfig):
        return diffusion_files(config.weights.multiview)
    return part_files(config.weights.multiview, config.weights.white_unet)
