"""The report of a distillation: read a run folder, write its page.

The page is a function of the run folder and needs nothing but it: no weights, no manifest, no Ray.
"""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from geco_core.config.run import S3Config, model_overrides
from geco_core.errors import ConfigError
from infra.commit import REPORT_KEY, put_report
from infra.storage import Storage, open_storage
from infra.storage.open import DEFAULT_S3
from workflows.dag_record import StepRecord, read_record
from workflows.distill_record import read_distillation
from workflows.distill_report.ablation import ablation
from workflows.distill_report.charts import Box, graph_chart
from workflows.distill_report.page import render_page
from workflows.distill_report.training import TITLES, training
from workflows.report.page import duration

_KINDS = {"failed": "failed", "skipped": "waiting", "stopped": "stopped"}


def build_distill_report(run: Storage | Path | str, *, s3: S3Config = DEFAULT_S3) -> str:
    """Write `report/index.html` of a distillation, finished or not.

    Args:
        run: the run folder, its URI, or its store.
        s3: how a run at an `s3://` URI is reached.

    Returns:
        Path or URI of the page.

    Raises:
        ConfigError: the folder holds no distillation.
        Fatal: a record in it is damaged.
    """
    storage = open_storage(str(run), s3) if isinstance(run, (str, Path)) else run
    record = read_distillation(storage)
    if record is None:
        raise ConfigError(
            f"there is no distillation in {storage.uri}",
            remedy="give the folder that was --out of `geco distill`",
        )
    page = render_page(context(storage, record)).encode("utf-8")
    put_report(storage, page)
    return f"{storage.uri.rstrip('/')}/{REPORT_KEY}"


def context(storage: Storage, record: Mapping[str, Any]) -> dict[str, Any]:
    """What the template reads.

    Args:
        storage: of the run folder.
        record: the content of `workflow.json`.
    """
    config = record["config"]
    done = {step["name"]: _done(storage, step) for step in record["steps"]}
    teacher, updates = config["teacher"], _updates(config)
    prints = {step["name"]: step["fingerprint"] for step in record["steps"]}
    return {
        "title": storage.uri.rstrip("/").rpartition("/")[2] or storage.uri,
        "uri": storage.uri,
        "name": config.get("name", ""),
        "teacher": f"{teacher['system']}-{teacher['preset']}",
        "student": f"{config['student_system']}-{config['student_preset']}",
        "created_at": str(record.get("created_at", "")),
        "complete": all(done.values()),
        "failed": [name for name in done if _last(record, name) == "failed"],
        "seconds": sum(entry.seconds for entry in done.values() if entry),
        "tiles": list(_tiles(config, done)),
        "graph": graph_chart([_box(record, step, done) for step in record["steps"]]),
        "problems": list(_problems(record)),
        "trainings": [
            found
            for name in TITLES
            if name in prints and (found := training(storage, name, prints[name], updates[name]))
        ],
        "ablation": ablation(storage, done.get("evaluate")),
        "command": _command(storage, config, done.get("stage2")),
        "settings": list(_settings(record, done)),
    }


def _done(storage: Storage, step: Mapping[str, Any]) -> StepRecord | None:
    found = read_record(storage, step["name"])
    return found if found is not None and found.fingerprint == step["fingerprint"] else None


def _last(record: Mapping[str, Any], name: str) -> str:
    return record.get("last", {}).get(name, {}).get("state", "")


def _box(
    record: Mapping[str, Any], step: Mapping[str, Any], done: Mapping[str, StepRecord | None]
) -> Box:
    name, found = step["name"], done[step["name"]]
    if found is not None:
        count = found.work.get("count")
        unit = str(found.work.get("unit", ""))
        work = f"{count:,} {unit}{'s' if count != 1 else ''}, " if count else ""
        return Box(name, step["needs"], "done", "done", f"{work}{duration(found.seconds)}")
    last = _last(record, name)
    kind = _KINDS.get(last, "waiting")
    return Box(name, step["needs"], kind, last or "not done", last or "not done yet")


def _problems(record: Mapping[str, Any]) -> Iterator[str]:
    for name, end in record.get("last", {}).items():
        if end.get("error"):
            yield f"{name}: {end['error']}"


def _tiles(
    config: Mapping[str, Any], done: Mapping[str, StepRecord | None]
) -> Iterator[tuple[str, str]]:
    targets, generated = done.get("targets"), done.get("generate")
    if targets is not None:
        renders = config["targets"]["renders"]
        yield "teacher targets", f"{targets.outputs.get('done', 0):,}"
        yield "renders each", f"{renders:,}"
    for name, steps in _updates(config).items():
        yield f"{TITLES[name]} updates", f"{steps:,}"
    if generated is not None:
        yield "held-out meshes", f"{generated.outputs.get('done', 0):,}"


def _updates(config: Mapping[str, Any]) -> dict[str, int]:
    return {name: int(config[f"{name}_train"]["steps"]) for name in TITLES}


def _command(storage: Storage, config: Mapping[str, Any], stage2: StepRecord | None) -> str:
    """How the distilled chain is used; "" while there is none."""
    if stage2 is None:
        return ""
    student: Mapping[str, str] = stage2.outputs.get("student", {})
    weights = {
        name: f"{storage.uri}/{value}" if value.startswith("stages/") else value
        for name, value in student.items()
    }
    model = {**stage2.outputs.get("model", {}), "weights": weights}
    words = [shlex.quote(f"model.{line}") for line in model_overrides(model)]
    head = f"geco generate --system {config['student_system']} --preset {config['student_preset']}"
    return " \\\n  ".join([f"{head} --manifest M --out RUN", *words])


def _settings(
    record: Mapping[str, Any], done: Mapping[str, StepRecord | None]
) -> Iterator[tuple[str, list[tuple[str, str]]]]:
    """Groups of dotted name and value: what the run was made from and with."""
    digests = {
        key: digest
        for found in done.values()
        if found is not None
        for key, digest in found.digests.items()
    }
    yield "Licences", [("teacher's weights", text) for text in record.get("licences", [])]
    yield "Digests", sorted(digests.items())
    prints = {step["name"]: step["fingerprint"] for step in record["steps"]}
    yield "Fingerprints", list(prints.items())
    config = {k: v for k, v in record["config"].items() if k not in {"s3", "cluster"}}
    yield "Configuration", list(_flat(config))
    yield "Environment", list(_flat(record.get("environment", {})))


def _flat(values: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, str]]:
    for key, value in values.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", "" if value is None else str(value)
