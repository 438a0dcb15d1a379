"""`geco report`: read a run folder, write its page.

The page is a function of the run folder: the same committed shards give the same bytes.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import asdict
from datetime import datetime
from pathlib import Path
from typing import Any

from geco_core.config.run import FetchConfig, S3Config
from infra.commit import REPORT_KEY, put_report
from infra.storage import LocalStorage, Storage
from workflows.report.assets import InputPictures, load_assets
from workflows.report.page import render_page
from workflows.report.survey import Survey, survey_run
from workflows.run_access import open_existing_run

MAX_ASSETS = 48
MAX_GLB_BYTES = 8 * 2**20
MAX_TOTAL_GLB_BYTES = 32 * 2**20


def build_report(
    run: Storage | Path | str,
    out: Path | None = None,
    *,
    s3: S3Config | None = None,
    fetch: FetchConfig | None = None,
    max_assets: int = MAX_ASSETS,
    max_glb_bytes: int = MAX_GLB_BYTES,
    max_total_glb_bytes: int = MAX_TOTAL_GLB_BYTES,
) -> str:
    """Write the report of a run, finished or not.

    Args:
        run: the run folder, its URI, or its store.
        out: file to write; None means `report/index.html` in the run folder.
        s3: how a run at an `s3://` URI is reached.
        fetch: whose `roots` may hold input pictures, beside the manifest's folder.
        max_assets: assets in the gallery, spread evenly over the run; the numbers cover all rows.
        max_glb_bytes: larger GLBs are shown as pictures only.
        max_total_glb_bytes: embedded GLBs together; base64 adds a third in the page.

    Returns:
        Path or URI of the page.

    Raises:
        ConfigError: the folder holds no run.
        Fatal: ... something else.
    """
    opened = open_existing_run(str(run) if isinstance(run, Path) else run, s3)
    storage, record = opened.storage, opened.record
    survey = survey_run(storage, assets=max_assets)
    assets = load_assets(
        storage,
        survey.sample,
        InputPictures(storage, record, fetch or FetchConfig(), s3 or S3Config()),
        max_glb_bytes=max_glb_bytes,
        max_total_glb_bytes=max_total_glb_bytes,
    )
    context = _context(storage.uri, record, survey) | {
        "assets": [asdict(asset) for asset in assets]
    }
    page = render_page(context).encode("utf-8")
    if out is None:
        put_report(storage, page)
        return f"{storage.uri.rstrip('/')}/{REPORT_KEY}"
    LocalStorage(out.parent).put_atomic(out.name, page)
    return str(out)


def _context(uri: str, record: Mapping[str, Any], survey: Survey) -> dict[str, Any]:
    """What the template reads, apart from the assets."""
    state = survey.state
    wall_s = state.seconds.get("wall", 0.0)
    config = record.get("config", {})
    return {
        "title": uri.rstrip("/").rpartition("/")[2] or uri,
        "uri": uri,
        "created_at": str(record.get("created_at", "")),
        "system": f"{config.get('system', '')} / {config.get('preset', '')}",
        "rows": int(record.get("manifest", {}).get("rows", 0)),
        "counts": {name: state.counts.get(name, 0) for name in ("done", "failed", "skipped")},
        "rows_done": state.rows_done,
        "shards": int(record.get("shards", 0)),
        "shards_done": state.shards_done,
        "failure_rate": state.failure_rate,
        "wall_s": wall_s,
        "workers": survey.workers,
        "elapsed_s": _elapsed_s(str(record.get("created_at", "")), survey.finished_at),
        "per_hour": state.attempted / wall_s * 3600 if wall_s > 0 else None,
        "survey": survey,
        "settings": list(_settings(record)),
    }


def _elapsed_s(start: str, end: str) -> float | None:
    """Seconds between two ISO 8601 times, pauses included; None unless both are there."""
    try:
        seconds = (datetime.fromisoformat(end) - datetime.fromisoformat(start)).total_seconds()
    except (ValueError, TypeError):
        return None
    return seconds if seconds >= 0 else None


def _settings(record: Mapping[str, Any]) -> Iterator[tuple[str, list[tuple[str, str]]]]:
    """Groups of dotted name and value: what the run was made from and with."""
    manifest = record.get("manifest", {})
    system = record.get("system", {})
    digests = {
        "config_digest": record.get("config_digest", ""),
        "manifest_digest": manifest.get("digest", ""),
    }
    yield "Provenance", list(_flat({**digests, "weights": system.get("weights", {})}))
    yield "Licences", [("weights", text) for text in system.get("licences", [])]
    yield (
        "Manifest",
        list(
            _flat(
                {
                    k: manifest.get(k, "")
                    for k in ("source", "kind", "rows", "duplicates", "columns")
                }
            )
        ),
    )
    yield "Run", list(_flat(record.get("config", {})))
    yield "System", list(_flat(system.get("config", {})))
    yield "Environment", list(_flat(record.get("environment", {})))


def _flat(values: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, str]]:
    for key, value in values.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", "" if value is None else str(value)
