"""`geco evaluate`: score the meshes of a run against reference meshes, by a stated protocol.

Every row of the run ends in exactly one state: scored, or not scored for a reason. The results go
to `<RUN>/evaluation/<protocol>.json`, which says everything that decided the numbers; the same run,
references and protocol give the same file.
"""

from __future__ import annotations

import json
import logging
import posixpath
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from geco_core.config.run import S3Config
from geco_core.errors import BadItem, ConfigError
from geco_core.evaluate.extras import Extras, load_extras
from geco_core.evaluate.fid import Fid
from geco_core.evaluate.mesh_files import read_mesh
from geco_core.evaluate.metric_weights import DEFAULT_FOLDER
from geco_core.evaluate.protocol import Protocol
from geco_core.evaluate.score import METRICS, score_mesh
from geco_core.evaluate.summary import Summary, paired, summarise
from geco_core.render import Rasterizer, get_rasterizer
from infra.retry import retried
from infra.storage import open_storage
from infra.telemetry import log_event
from workflows.evaluate_record import MAX_LISTED, Comparison, Evaluation, evaluation_json
from workflows.evaluate_references import References, open_references
from workflows.evaluate_rows import ItemState, RowOf, choose_rows, read_glbs
from workflows.run_access import OpenRun, open_existing_run

log = logging.getLogger(__name__)

FOLDER = "evaluation"


@dataclass(frozen=True)
class EvaluationWish:
    """What to evaluate, and how.

    Attributes:
        reference: folder or table of references.
        protocol: see `geco_core.evaluate.protocol`.
        limit: how many objects; None for all, 0 for as many as the protocol says.
        extras: names of `geco_core.evaluate.extras.EXTRAS`.
        metric_weights: folder of their weights.
    """

    reference: str
    protocol: Protocol
    limit: int | None = 0
    extras: tuple[str, ...] = ()
    metric_weights: str = DEFAULT_FOLDER

    @property
    def objects(self) -> int | None:
        """How many objects are taken; None for all."""
        return self.protocol.objects if self.limit == 0 else self.limit


def evaluate_uri(
    uri: str, wish: EvaluationWish, s3: S3Config | None = None, *, against: str = "", out: str = ""
) -> tuple[Evaluation, Comparison | None, str]:
    """Evaluate the run at a path or URI and write the results.

    Args:
        uri: of the run.
        wish: what to evaluate.
        s3: how `s3://` is reached.
        against: another run to compare with, on the same references; empty for none.
        out: where to write instead of the run's own folder.

    Returns:
        The result, the comparison, and where it was written.

    Raises:
        ConfigError: no run, no references, nothing of the run has a reference, or the weights of a
            metric are missing.
        Fatal, Retryable: a store failed.
    """
    s3 = s3 or S3Config()
    extras = load_extras(wish.extras, Path(wish.metric_weights))
    run = open_existing_run(uri, s3)
    other_run = open_existing_run(against, s3) if against else None
    references = open_references(wish.reference, s3)
    result = _evaluate(run, references, wish, extras)
    comparison = None
    if other_run is not None:
        if extras.fid is not None:
            extras.fid = extras.fid.fresh()
        other = _evaluate(other_run, references, wish, extras)
        comparison = _compared(result, other, wish.protocol.seed)
    content = evaluation_json(result, comparison, wish.protocol) | {
        "limit": wish.objects,
        "references": {
            "source": references.source,
            "digest": references.digest,
            "count": len(references),
        },
    }
    text = json.dumps(content, indent=1, sort_keys=True)
    written = _write(run, wish.protocol.name, out, s3, text + "\n")
    return result, comparison, written


def _evaluate(
    run: OpenRun, references: References, wish: EvaluationWish, extras: Extras
) -> Evaluation:
    rows = choose_rows(run.storage, references, wish.objects)
    chosen = [row for row in rows if row.state is None]
    if not any(references.find(row.item_id) for row in rows):
        raise ConfigError(
            f"none of the {len(rows):,} rows of {run.storage.uri} has a reference in "
            f"{references.source}",
            remedy="references are matched by item id: <item_id>.glb, or the column item_id",
        )
    rasterizer = get_rasterizer("auto", "cpu")
    scored = {}
    for row, glb, digest in read_glbs(run.storage, chosen):
        scored[row.part, row.offset] = _item(row, glb, references, wish, extras, rasterizer) | {
            "glb_sha256": digest
        }
    result = Evaluation(run.storage.uri)
    result.items = [scored.get((row.part, row.offset)) or _left_out(row) for row in rows]
    result.summary = _summaries(result, wish.protocol.seed)
    result.fid = _fid_value(extras.fid)
    result.record = {
        "manifest_digest": run.record["manifest"]["digest"],
        "config_digest": run.record["config_digest"],
        "rows_not_made_yet": run.plan.rows - len(rows),
        "references_unused": references.unused(row.item_id for row in rows)[:MAX_LISTED],
    }
    return result


def _item(
    row: RowOf,
    glb: bytes,
    references: References,
    wish: EvaluationWish,
    extras: Extras,
    rasterizer: Rasterizer,
) -> dict[str, Any]:
    """The entry of one chosen row."""
    entry = references.find(row.item_id)
    assert entry is not None
    started = time.perf_counter()
    try:
        loaded = references.load(row.item_id, entry, wish.protocol)
    except BadItem as error:
        return _refused(row, ItemState.BAD_REFERENCE, error.reason.value, error.message)
    try:
        mesh = read_mesh(glb, ".glb", item_id=row.item_id)
        found = score_mesh(mesh, loaded.reference, wish.protocol, rasterizer, extras.pairs)
    except BadItem as error:
        return _refused(row, ItemState.BAD_MESH, error.reason.value, error.message)
    except (ValueError, np.linalg.LinAlgError) as error:
        return _refused(row, ItemState.BAD_MESH, "invalid_mesh", str(error))
    if extras.fid is not None:
        extras.fid.add(found.renders.rgb, found.reference_renders.rgb)
    wall_s = round(time.perf_counter() - started, 3)
    shown = {name: round(value, 4) for name, value in found.metrics.items()}
    log_event(log, "scored", item=row.item_id, wall_s=wall_s, metrics=shown)
    return {
        "item_id": row.item_id,
        "state": ItemState.SCORED.value,
        "metrics": dict(found.metrics),
        "details": dict(found.details),
        "alignment": found.aligned.to_json(),
        "reference": entry.mesh,
        "reference_sha256": loaded.sha256,
    }


def _refused(row: RowOf, state: ItemState, reason: str, message: str) -> dict[str, Any]:
    log_event(log, "not_scored", item=row.item_id, state=state.value, reason=reason)
    return {
        "item_id": row.item_id, "state": state.value, "reason": reason, "message": message,
    }  # fmt: skip


def _left_out(row: RowOf) -> dict[str, Any]:
    assert row.state is not None
    entry = {"item_id": row.item_id, "state": row.state.value}
    known = {"reason": row.reason, "message": row.message}
    return entry | {name: text for name, text in known.items() if text}


def _summaries(result: Evaluation, seed: int) -> dict[str, Summary]:
    columns = _columns(list(result.metrics().values()))
    return {name: summarise(values, seed) for name, values in columns.items()}


def _columns(rows: Sequence[Mapping[str, float]]) -> dict[str, list[float]]:
    """Values by metric, in the order of `METRICS`."""
    names = [name for name in METRICS if rows and name in rows[0]]
    return {name: [row[name] for row in rows] for name in names}


def _compared(ours: Evaluation, theirs: Evaluation, seed: int) -> Comparison:
    mine, other = ours.metrics(), theirs.metrics()
    shared = [item_id for item_id in mine if item_id in other]
    left, right = (_columns([side[name] for name in shared]) for side in (mine, other))
    return Comparison(theirs, {k: paired(left[k], right[k], seed) for k in left if k in right})


def _fid_value(fid: Fid | None) -> float | None:
    return fid.value() if fid is not None and fid.images >= 2 else None


def _write(run: OpenRun, protocol: str, out: str, s3: S3Config, text: str) -> str:
    """Put the results where they belong; returns where."""
    storage, key = run.storage, f"{FOLDER}/{protocol}.json"
    if out:
        parent = posixpath.dirname(out)
        storage, key = open_storage(parent or ".", s3), posixpath.basename(out)
    retried(lambda: storage.put_atomic(key, text.encode()))
    return out or posixpath.join(storage.uri, key)
