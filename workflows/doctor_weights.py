"""The weights that a run will load: are they there, whole, of the configured sizes; licences."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from geco_core.checkpoints.licences import RESTRICTIONS
from geco_core.config.run import RunConfig, model_overrides
from geco_core.errors import ForgeError
from geco_core.systems import chain_config, describe_system, describe_weights
from infra.retry import retried
from infra.weights import cache_folder, local_overrides
from workflows.words import counted

if TYPE_CHECKING:
    from geco_core.checkpoints.check import CheckedPart
    from geco_core.checkpoints.families import ChainConfig

GOOD, NOTE, BAD = "ok", "note", "FAIL"


@dataclass(frozen=True)
class Finding:
    """One checked thing; `remedy` is empty when it is fine."""

    level: str
    name: str
    detail: str
    remedy: str = ""


def weights_findings(run: RunConfig) -> Iterator[Finding]:
    """Open the configured weights and account for every key; what lies in S3 is downloaded first.

    Raises `ConfigError` for an unknown system, preset or key.
    """
    words = model_overrides(run.model)
    resolved = describe_system(run.system, run.preset, words)
    if "weights" not in resolved:
        yield Finding(GOOD, "weights", f"{run.system} has none")
        return
    from geco_core.checkpoints.check import (  # noqa: PLC0415 - torch takes seconds to import
        check_multiview,
        check_reconstructor,
    )

    bound: set[str] = set()
    halves = {"multiview": check_multiview, "reconstructor": check_reconstructor}
    for name, check in halves.items():
        try:
            parts = _checked(run, name, check)
        except ForgeError as error:
            yield Finding(BAD, name, error.message, error.remedy)
            continue
        for part in parts:
            bound.update(part.licences)
            yield Finding(GOOD, name, _described(part))
    for licence in sorted(bound):
        limits = RESTRICTIONS.get(licence)
        yield Finding(NOTE if limits else GOOD, "licence", licence, limits or "")


def _checked(
    run: RunConfig, half: str, check: Callable[[ChainConfig], list[CheckedPart]]
) -> list[CheckedPart]:
    words = model_overrides(run.model)
    resolved = describe_system(run.system, run.preset, words)
    files = describe_weights(run.system, run.preset, words).files
    fields = ("multiview", "white_unet") if half == "multiview" else (half,)
    weights = {name: resolved["weights"][name] for name in fields if name in resolved["weights"]}
    local = retried(lambda: local_overrides(weights, run.s3, cache_folder(), files))
    return check(chain_config(run.system, resolved, local))


def _described(part: CheckedPart) -> str:
    report = part.report
    counts = f"{len(report.renamed)} renamed, {len(report.dropped)} dropped"
    return f"{report.part}: {counted(report.loaded, 'tensor')}, {counts}, sha256 {part.sha256[:12]}"
