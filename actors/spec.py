"""The order a worker is built from: plain data that travels to any process, and the function that
builds it there.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import pyarrow as pa

from actors.finishing import ChildFinisher
from actors.shard_worker import Finish, Worker, WorkerSettings
from actors.watchdog import NoWatchdog, Watchdog
from geco_core.config.load import difference, fingerprint
from geco_core.errors import Fatal
from geco_core.mesh.draco import check_finish
from geco_core.systems import build_system, describe_system, describe_weights
from geco_core.types import System
from infra.commit import SYSTEM_KEY, create_once
from infra.dataset import RowContext
from infra.extra_columns import TARGETS, extra_columns
from infra.fetch import Fetcher
from infra.finish_columns import finish_columns
from infra.manifest import Manifest
from infra.plan import load_duplicates
from infra.retry import retried
from infra.rows import RowReader
from infra.storage import open_storage
from infra.targets.place import StoreAddress
from infra.weights import cache_folder, local_overrides

FETCH_SHARE = 0.9


@dataclass(frozen=True)
class WorkerSpec:
    """Everything a worker is built from.

    Attributes:
        run_uri: the run's store.
        manifest: what to make.
        system: name of the system.
        preset: name of its preset.
        overrides: `key.sub=value` lines on top of the preset.
        code_version: recorded in every row.
        settings: of the worker.
        conditional_put: what is known about the store, so that workers need not probe it.
        finish_columns: names of the columns of finishing that the rows of the run have.
        target_store: where targets are kept by content; None for systems that make none.
    """

    run_uri: str
    manifest: Manifest
    system: str
    preset: str
    overrides: tuple[str, ...]
    code_version: str
    settings: WorkerSettings
    conditional_put: bool = False
    finish_columns: tuple[str, ...] = ()
    target_store: StoreAddress | None = None


def build_worker(spec: WorkerSpec, *, name: str = "", watchdog: Watchdog | None = None) -> Worker:
    """Load the system and open the run.

    Raises:
        ConfigError, Fatal: the system can not be built, or its weights are not those the run
        started with.
    """
    s3 = spec.settings.s3
    storage = open_storage(spec.run_uri, s3, conditional_put=spec.conditional_put)
    finish = _finish(spec)  # its process starts while the system loads
    system, digest = _build_system(spec)
    if spec.system == TARGETS:
        from actors.targets import with_store  # noqa: PLC0415 - it reads pictures

        system = with_store(system, spec.target_store, s3)
    provenance: dict[str, Any] = {
        **system.provenance(),
        **digest,
        "system": spec.system,
        "preset": spec.preset,
        "code_version": spec.code_version,
    }
    _check_same_system(create_once(storage, SYSTEM_KEY, provenance), provenance)
    return Worker(
        system=system,
        reader=RowReader(spec.manifest, storage, load_duplicates(spec.manifest, storage, s3), s3),
        storage=storage,
        settings=spec.settings,
        context=RowContext(spec.system, spec.preset, provenance, _columns(spec)),
        finish=finish,
        fetcher=_fetcher(spec),
        device_lock=threading.Lock(),
        watchdog=watchdog or NoWatchdog(),
        name=name,
    )


def _columns(spec: WorkerSpec) -> pa.Schema:
    """What the rows have beside the columns of every run."""
    return pa.schema([*finish_columns(spec.finish_columns), *extra_columns(spec.system)])


def _build_system(spec: WorkerSpec) -> tuple[System, dict[str, str]]:
    """The system, and its configuration's digest where local copies of weights took the place of
    `s3://` ones: rows must not depend on where a machine keeps its cache.
    """
    described = describe_system(spec.system, spec.preset, spec.overrides)
    weights = described.get("weights") or {}
    files = describe_weights(spec.system, spec.preset, spec.overrides).files
    local = retried(lambda: local_overrides(weights, spec.settings.s3, cache_folder(), files))
    system = build_system(spec.system, spec.preset, (*spec.overrides, *local))
    return system, {"config_digest": fingerprint(described)} if local else {}


def finishes_itself(spec: WorkerSpec) -> bool:
    """Whether the system returns finished assets: the one that measures the engine can."""
    described = describe_system(spec.system, spec.preset, spec.overrides)
    return described.get("output") == "asset"


def _finish(spec: WorkerSpec) -> Finish:
    settings = spec.settings
    check_finish(settings.finish)
    if settings.finish_isolation == "child":
        child = ChildFinisher(
            settings.finish_memory_mb,
            thumbnails=settings.thumbnail_size > 0,
            settings=settings.finish,
        )
        if not finishes_itself(spec):
            child.start()
        return child
    from geco_core.mesh.finish import finish_mesh  # noqa: PLC0415 - the driver never needs it

    return partial(finish_mesh, settings=settings.finish)


def _fetcher(spec: WorkerSpec) -> Fetcher:
    """One try must end before the watchdog ends the process over it."""
    settings = spec.settings
    timeout_s = min(settings.fetch.timeout_s, FETCH_SHARE * settings.stage_limit_s("fetch"))
    return Fetcher(
        replace(settings.fetch, timeout_s=timeout_s),
        settings.s3,
        roots=(spec.manifest.base,),
        max_bytes=settings.max_source_bytes,
    )


def _check_same_system(standing: Mapping[str, Any], provenance: Mapping[str, Any]) -> None:
    """The code may be newer on a resume; weights and configuration may not differ."""
    ignored = {"code_version"}
    lines = difference(
        {k: v for k, v in standing.items() if k not in ignored},
        {k: v for k, v in provenance.items() if k not in ignored},
    )
    if lines:
        raise Fatal(
            "the loaded system is not the one this run started with:\n  " + "\n  ".join(lines),
            remedy="restore the weights, or give another --out folder",
            stage="plan",
        )
