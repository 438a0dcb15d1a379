"""`geco export`: open a run, write its rows somewhere else, say what was written."""

from __future__ import annotations

import logging
from collections.abc import Sequence

from geco_core.config.run import S3Config
from infra.export import STATUSES, ExportPlan, ExportWish, open_export, write_card, write_file
from infra.export_glbs import write_glbs, write_index
from infra.retry import retried
from infra.run_state import RunState, read_summaries
from infra.storage import Storage, open_storage
from infra.telemetry import log_event
from workflows.card import dataset_card
from workflows.run_access import open_existing_run
from workflows.words import counted

log = logging.getLogger(__name__)


def export_uri(
    uri: str,
    out: str,
    s3: S3Config | None = None,
    *,
    status: str = "done",
    columns: Sequence[str] | None = None,
    rows_per_file: int | None = None,
    glb_folder: bool = False,
) -> str:
    """Export the run at a path or URI.

    Args:
        uri: of the run.
        out: an empty folder or prefix, or this very export, unfinished.
        s3: how `s3://` URIs are reached.
        status: of the rows, or `all`.
        columns: by name; None for all.
        rows_per_file: None for files of 512 MB.
        glb_folder: GLBs also go to `glb/<id>.glb`.

    Returns:
        What was written, as text.

    Raises:
        ConfigError: there is no run, nothing to export, or something else in `out`.
        Fatal, Retryable: the same command goes on.
    """
    run = open_existing_run(uri, s3)
    target = open_storage(out, s3 or S3Config())
    wish = ExportWish(
        statuses=STATUSES if status == "all" else (status,),
        columns=tuple(columns) if columns else None,
        rows_per_file=rows_per_file,
        glb_folder=glb_folder,
    )
    state, summaries = RunState(), list(read_summaries(run.storage))
    for summary in summaries:
        state.add(summary)
    plan = open_export(run.storage, dict(run.record), summaries, target, wish)
    written = _write_files(run.storage, target, plan)
    if plan.glb_folder:
        write_index(run.storage, target, plan)
    card = dataset_card(run.record, state, exported=plan.statuses)
    retried(lambda: write_card(target, card))
    return _text(plan, state, run.plan.rows, out, written)


def _write_files(storage: Storage, target: Storage, plan: ExportPlan) -> int:
    written = 0
    for number in range(plan.files):
        if plan.glb_folder and not target.exists(plan.key(number)):
            write_glbs(storage, target, plan, number)
        written += write_file(storage, target, plan, number)
        log_event(log, "exported", file=number + 1, files=plan.files)
    return written


def _text(plan: ExportPlan, state: RunState, rows: int, out: str, written: int) -> str:
    lines = [
        f"{counted(plan.rows, 'row')} in {counted(plan.files, 'file')}, {written:,} written now",
        f"dataset: {out.rstrip('/')}/data",
    ]
    if plan.glb_folder:
        lines.append(f"meshes:  {out.rstrip('/')}/glb")
    if state.rows_done < rows:
        lines.append(
            f"the run is not complete: {rows - state.rows_done:,} of {counted(rows, 'row')} "
            "are not made yet"
        )
    return "\n".join(lines) + "\n"
