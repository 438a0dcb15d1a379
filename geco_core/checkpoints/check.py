"""Checking weights before a run: they are opened and every key is accounted for.

Files are mapped, so the check needs almost no memory. It reads every byte, for digests and for the
checksums inside of torch archives.
"""

from __future__ import annotations

from dataclasses import dataclass

from geco_core.checkpoints.adapter import LoadReport, skeleton
from geco_core.checkpoints.families import bound_by, is_own
from geco_core.checkpoints.instantmesh import load_reconstructor, reconstructor_file
from geco_core.checkpoints.safe import load_into, load_weights
from geco_core.checkpoints.state import verify_archive
from geco_core.checkpoints.zero123plus import load_zero123plus, part_files
from geco_core.config.models import InstantMeshConfig
from geco_core.multiview.zero123plus import Zero123Plus


@dataclass(frozen=True)
class CheckedPart:
    """One file that fits: what became of its keys, its sha256, and the licences that bind it."""

    report: LoadReport
    sha256: str
    licences: tuple[str, ...]


def check_multiview(config: InstantMeshConfig) -> list[CheckedPart]:
    """The parts of the configured multi-view weights. Raises `Fatal` as loading them does."""
    weights = config.weights
    if is_own(weights.multiview):
        own = load_weights(weights.multiview, weights.multiview_sha256)
        model = skeleton(lambda: Zero123Plus(config.multiview))
        report = load_into(model, own, "the multi-view model", assign=True)
        return [CheckedPart(report, own.sha256, bound_by(own.licences, (), weights.licence))]
    for path in part_files(weights.multiview, weights.white_unet).values():
        verify_archive(path)
    pins = {"unet": weights.multiview_sha256} if weights.multiview_sha256 else None
    loaded = load_zero123plus(
        weights.multiview, config.multiview, white_unet=weights.white_unet, pins=pins
    )
    return [CheckedPart(r, loaded.digests[r.part], loaded.licences) for r in loaded.reports]


def check_reconstructor(config: InstantMeshConfig) -> list[CheckedPart]:
    """The configured reconstructor. Raises `Fatal` as loading it does."""
    weights = config.weights
    verify_archive(reconstructor_file(weights.reconstructor, config.reconstructor))
    loaded = load_reconstructor(
        weights.reconstructor, config.reconstructor, sha256=weights.reconstructor_sha256
    )
    families = (loaded.family,) if loaded.family else ()
    licences = bound_by(loaded.licences, families, weights.licence)
    return [CheckedPart(loaded.report, loaded.sha256, licences)]
