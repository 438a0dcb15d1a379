"""`geco verify`: open a run, check it, say what is wrong and what to do about it."""

from __future__ import annotations

import json
import struct

from geco_core.config.run import S3Config
from geco_core.mesh.draco import require_draco
from geco_core.mesh.glb_read import GlbError, read_glb
from infra.findings import Finding, Kind, Verification
from infra.verify import verify_run
from workflows.run_access import open_existing_run
from workflows.words import counted


def verify_uri(
    uri: str, s3: S3Config | None = None, *, fast: bool = False, threads: int = 4
) -> Verification:
    """Check the run at a path or URI; see `infra.verify.verify_run`.

    Raises:
        ConfigError: there is no run.
        ConfigError: ... or its GLBs are compressed, and what reads them is not installed.
        ManifestError: the manifest can not be read.
        Fatal, Retryable: the store failed.
    """
    run = open_existing_run(uri, s3)
    if not fast and run.record["config"].get("finish", {}).get("compression") == "draco":
        require_draco("a run with compressed GLBs")
    return verify_run(
        run.storage,
        run.plan,
        fast=fast,
        threads=threads,
        check_glb=glb_fault,
        s3=s3 or S3Config(),
    )


def glb_fault(data: bytes) -> str:
    """What is wrong with a GLB, or ""."""
    try:
        mesh = read_glb(data).mesh
    except (GlbError, ValueError, KeyError, IndexError, TypeError, struct.error) as error:
        return f"the GLB does not read back: {error}"
    if not len(mesh.vertices) or not len(mesh.faces):
        return "the GLB holds no triangles"
    return ""


def verification_json(result: Verification) -> str:
    """For machines."""
    return json.dumps(result.to_json(), indent=1) + "\n"


def verification_text(result: Verification) -> str:
    """For people: the sum first, then the findings by kind."""
    missing = result.shards - result.shards_done
    state = "complete" if result.complete else "incomplete"
    statuses = ", ".join(f"{count:,} {name}" for name, count in sorted(result.statuses.items()))
    lines = [
        f"run      {state}: {result.rows_found:,} of {counted(result.rows, 'row')}"
        + (f" ({statuses})" if statuses else ""),
        f"shards   {result.shards_done:,} of {result.shards:,} committed"
        + (f"; geco generate makes the other {missing:,}" if missing > 0 else ""),
        f"checked  {'listings and footers' if result.fast else 'every row and every GLB'}",
        f"found    {_verdict(result)}",
    ]
    for kind in Kind:
        if kind in result.found:
            shown = [finding for finding in result.shown if finding.kind is kind]
            lines += _of_kind(kind, result.found[kind], shown)
    return "\n".join(lines) + "\n"


def _verdict(result: Verification) -> str:
    if not result.found:
        return "nothing wrong"
    parts = [counted(result.faults, "fault")] if result.faults else ["nothing wrong"]
    if result.leftovers:
        cost = "costs" if result.leftovers == 1 else "cost"
        parts.append(f"{counted(result.leftovers, 'leftover')} that only {cost} space")
    return ", ".join(parts)


def _of_kind(kind: Kind, count: int, shown: list[Finding]) -> list[str]:
    lines = [f"{kind.value}: {count:,}  (remedy: {shown[0].remedy})"]
    for finding in shown:
        where = "" if finding.row is None else f"row {finding.row}, item {finding.item_id}: "
        at = "" if finding.shard is None else f"shard {finding.shard}: "
        lines.append(f"  {at}{where}{finding.message}")
    if count > len(shown):
        lines.append(f"  and {count - len(shown):,} more")
    return lines
