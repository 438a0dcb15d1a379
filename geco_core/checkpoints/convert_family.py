"""Published weights of one family into one safetensors file of our own, under our names.

Goes through the adapter of the family, so every key is accounted for; the report of renamed,
dropped and missing ones lies beside the file. Tensors keep their dtype and bits.
"""

from __future__ import annotations

import dataclasses
import json
import shutil
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from torch import Tensor

from geco_core.checkpoints.adapter import LoadReport, skeleton
from geco_core.checkpoints.convert import check_out, not_written, record_path, scratch_folder
from geco_core.checkpoints.crm import crm_file, load_crm
from geco_core.checkpoints.crm_diffusion import VIEWS, diffusion_files, load_crm_diffusion
from geco_core.checkpoints.families import (
    CRM_DIFFUSION,
    CRM_RECONSTRUCTOR,
    FAMILIES,
    FAMILY,
    PUBLISHED,
    WHITE_UNET,
    WHITE_UNET_FILES,
    ChainConfig,
)
from geco_core.checkpoints.hub import find_file
from geco_core.checkpoints.instantmesh import load_reconstructor, reconstructor_file
from geco_core.checkpoints.licences import licences_of
from geco_core.checkpoints.loaded import LoadedModel, LoadedParts
from geco_core.checkpoints.origin import licences_in, origin_text
from geco_core.checkpoints.state import digest_of, open_state, verify_archive
from geco_core.checkpoints.writer import write_safetensors
from geco_core.checkpoints.zero123plus import load_zero123plus, part_files
from geco_core.config.convert import suggest
from geco_core.config.crm_system import CrmConfig
from geco_core.config.models import InstantMeshConfig
from geco_core.errors import ConfigError
from geco_core.multiview.published import load_part
from geco_core.multiview.zero123plus import Zero123Plus

S = TypeVar("S", InstantMeshConfig, CrmConfig)


@dataclass(frozen=True)
class _Adapted:
    """Tensors under our names, what became of every key, and the digest of each source."""

    tensors: Mapping[str, Tensor]
    reports: tuple[LoadReport, ...]
    sources: Mapping[str, str]
    licences: tuple[str, ...]


def convert_family(
    source: str,
    out: Path,
    family: str,
    config: ChainConfig | None = None,
    *,
    white_unet: str = "",
    sha256: str = "",
) -> dict[str, Any]:
    """Convert published weights; returns the record that also lies at `record_path(out)`.

    Args:
        source: file, folder or hub reference.
        out: a .safetensors file in an existing folder.
        family: one of `families.FAMILIES`.
        config: sizes, of the family's system; those of the family when None.
        white_unet: of a whole pipeline: InstantMesh's U-Net instead of the pipeline's own.
        sha256: expected hex digest of the source; of a pipeline: of its U-Net, of CRM's diffusion
            half: of the file of stage 1.

    Raises:
        ConfigError: unknown family, sizes of another system, or an unusable `out`.
        Fatal: the weights are missing, damaged, or not of this family.
    """
    if family not in FAMILIES:
        raise ConfigError(
            f"there is no family {family!r} of weights",
            remedy=suggest(family, list(FAMILIES), "families"),
        )
    if white_unet and family != FAMILY:
        raise ConfigError(f"{family} has no U-Net to replace", remedy="leave --white-unet out")
    check_out(Path(source), out)
    adapted = _adapt(source, family, config, white_unet, sha256)
    record: dict[str, Any] = {
        "family": family,
        "licences": list(adapted.licences),
        "sources": dict(adapted.sources),
        "tensors": len(adapted.tensors),
        "bytes": sum(t.numel() * t.element_size() for t in adapted.tensors.values()),
        "dtypes": _dtypes(adapted.tensors),
        "parts": [dataclasses.asdict(report) for report in adapted.reports],
    }
    texts = origin_text(adapted.licences, family=family, sources=dict(adapted.sources))
    return _write(out, adapted.tensors, texts, record)


def _adapt(
    source: str, family: str, config: ChainConfig | None, white_unet: str, sha256: str
) -> _Adapted:
    if family in (CRM_DIFFUSION, CRM_RECONSTRUCTOR):
        sizes = _sizes(family, config, CrmConfig())
        if family == CRM_RECONSTRUCTOR:
            verify_archive(crm_file(source))
            return _of_file(load_crm(source, sizes.reconstructor, sha256=sha256), family)
        for path in diffusion_files(source).values():
            verify_archive(path)
        return _of_parts(load_crm_diffusion(source, sizes.diffusion, pins={VIEWS: sha256}))
    published = PUBLISHED.get(family, InstantMeshConfig().reconstructor)
    sizes = _sizes(
        family, config, dataclasses.replace(InstantMeshConfig(), reconstructor=published)
    )
    if family in PUBLISHED:
        verify_archive(reconstructor_file(source, sizes.reconstructor))
        return _of_file(load_reconstructor(source, sizes.reconstructor, sha256=sha256), family)
    if family == WHITE_UNET:
        return _adapt_unet(source, sizes, sha256)
    for path in part_files(source, white_unet).values():
        verify_archive(path)
    pins = {"unet": sha256} if sha256 else None
    return _of_parts(load_zero123plus(source, sizes.multiview, white_unet=white_unet, pins=pins))


def _sizes(family: str, config: ChainConfig | None, published: S) -> S:
    """The given sizes, or the published ones. Raises `ConfigError` for those of another system."""
    if config is None:
        return published
    if not isinstance(config, type(published)):
        raise ConfigError(
            f"{family} is no part of the system {config.system}",
            remedy="give the settings of a run of its system, or leave --config out",
        )
    return config


def _of_file(loaded: LoadedModel[Any], family: str) -> _Adapted:
    report = dataclasses.replace(loaded.report, part=family)
    licences = loaded.licences or tuple(licences_of([family]))
    sources = {"reconstructor": loaded.sha256}
    return _Adapted(loaded.model.state_dict(), (report,), sources, licences)


def _of_parts(loaded: LoadedParts[Any]) -> _Adapted:
    return _Adapted(loaded.model.state_dict(), loaded.reports, loaded.digests, loaded.licences)


def _adapt_unet(source: str, config: InstantMeshConfig, sha256: str) -> _Adapted:
    path = find_file(source, WHITE_UNET_FILES)
    verify_archive(path)
    opened = open_state(path, sha256)
    model = skeleton(lambda: Zero123Plus(config.multiview))
    report = load_part(model, "unet", opened.tensors, assign=True)
    report = dataclasses.replace(report, dropped=(*report.dropped, *opened.dropped))
    licences = licences_in(opened.metadata) or tuple(licences_of([WHITE_UNET]))
    return _Adapted(model.unet.state_dict(), (report,), {"unet": opened.sha256}, licences)


def _dtypes(tensors: Mapping[str, Tensor]) -> dict[str, int]:
    names = Counter(str(t.dtype).removeprefix("torch.") for t in tensors.values())
    return dict(sorted(names.items()))


def _write(
    out: Path, tensors: Mapping[str, Tensor], texts: Mapping[str, str], record: dict[str, Any]
) -> dict[str, Any]:
    """Write both files in a folder beside them, then rename them into place."""
    scratch = scratch_folder(out)
    made, described = scratch / "tensors", scratch / "record"
    try:
        record["non_finite"] = write_safetensors(made, tensors, texts)
        record["sha256"] = digest_of(made)
        described.write_text(json.dumps(record, indent=1, sort_keys=True) + "\n")
        made.replace(out)
        described.replace(record_path(out))
    except OSError as error:
        raise not_written(out, str(error)) from error
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    return record
